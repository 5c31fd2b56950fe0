//! The groups that the open epoch touched: (window start, group columns) to dense numbers.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use hashbrown::HashMap;

use crate::check::AggregatePlanned;
use crate::step::comparable;

/// Keys in arrow's row format; equal rows are equal bytes, nulls included.
#[derive(Debug)]
pub(super) struct Groups {
    converter: RowConverter,
    numbers: HashMap<Arc<[u8]>, usize>,
    keys: Vec<Arc<[u8]>>,
    bytes: usize,
}

/// A converter of keys: window start, then the group columns.
pub(super) fn key_converter(plan: &AggregatePlanned) -> Result<RowConverter, DataFusionError> {
    let groups = plan
        .groups
        .iter()
        .map(|&i| SortField::new(plan.input.field(i).data_type().clone()));
    Ok(RowConverter::new(
        std::iter::once(SortField::new(DataType::Int64))
            .chain(groups)
            .collect(),
    )?)
}

impl Groups {
    pub(super) fn new(plan: &AggregatePlanned) -> Result<Self, DataFusionError> {
        Ok(Self {
            converter: key_converter(plan)?,
            numbers: HashMap::new(),
            keys: Vec::new(),
            bytes: 0,
        })
    }

    /// The number of each row's group; new groups get the next ones.
    pub(super) fn assign(
        &mut self,
        starts: &Int64Array,
        columns: &[ArrayRef],
    ) -> Result<Vec<usize>, DataFusionError> {
        let start: ArrayRef = Arc::new(starts.clone());
        let arrays: Vec<ArrayRef> = std::iter::once(start)
            .chain(columns.iter().map(comparable))
            .collect();
        let rows = self.converter.convert_columns(&arrays)?;
        Ok(rows.iter().map(|row| self.number(row.data())).collect())
    }

    fn number(&mut self, key: &[u8]) -> usize {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        let (number, key) = (self.keys.len(), Arc::<[u8]>::from(key));
        self.bytes += 2 * key.len() + 48;
        self.keys.push(Arc::clone(&key));
        self.numbers.insert(key, number);
        number
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys, in the order of their numbers.
    pub(super) fn keys(&self) -> &[Arc<[u8]>] {
        &self.keys
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
