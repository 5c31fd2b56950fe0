//! The changes of one epoch, folded to one a key: rows whose first column says which of them are deletes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// Most bytes of changes that one epoch may hold.
const MOST_BYTES: usize = 64 << 20;

/// The column that says which rows are deletes. Its name holds a character that table columns cannot have.
const DELETE: &str = "delete?;";

/// One change a key.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    /// Keys and values, in the table's stored types.
    pub rows: RecordBatch,
    /// Which rows only name a key to delete.
    pub delete: BooleanArray,
}

/// Finds rows of the same key. Null equals null.
#[derive(Debug)]
pub(super) struct Keys {
    at: Vec<usize>,
    converter: RowConverter,
}

impl Keys {
    /// `Err` names the key that is no column or has a type that cannot be compared.
    pub(super) fn new(schema: &Schema, keys: &[String]) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("mode Update needs keys".to_owned());
        }
        let at = keys.iter().map(|key| {
            schema
                .index_of(key)
                .map_err(|_| format!("keys names column '{key}', which the sink does not write"))
        });
        let at = at.collect::<Result<Vec<_>, _>>()?;
        let fields = at
            .iter()
            .map(|&i| SortField::new(schema.field(i).data_type().clone()));
        let converter = RowConverter::new(fields.collect())
            .map_err(|e| format!("keys cannot be compared: {e}"))?;
        Ok(Self { at, converter })
    }

    /// Column numbers.
    pub(super) fn columns(&self) -> &[usize] {
        &self.at
    }

    /// The key of each row, as bytes that are equal iff the keys are.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<arrow::row::Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .at
            .iter()
            .map(|&i| Arc::clone(rows.column(i)))
            .collect();
        self.converter.convert_columns(&columns)
    }
}

/// The changes of the open epoch; a later change of a key replaces an earlier one.
#[derive(Debug)]
pub(super) struct ChangeSet {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    bytes: usize,
    newest: HashMap<Box<[u8]>, (usize, usize)>,
}

impl ChangeSet {
    /// No changes of rows like these.
    pub(super) fn new(rows: &SchemaRef) -> Self {
        let mut fields = vec![Arc::new(Field::new(DELETE, DataType::Boolean, false))];
        fields.extend(rows.fields().iter().cloned());
        Self {
            schema: Arc::new(Schema::new(fields)),
            batches: Vec::new(),
            bytes: 0,
            newest: HashMap::new(),
        }
    }

    /// Takes changes in. Rows are in stored types. `Ok(false)`: they are too many for one epoch.
    pub(super) fn push(
        &mut self,
        keys: &Keys,
        rows: &RecordBatch,
        delete: BooleanArray,
    ) -> Result<bool, ArrowError> {
        let found = keys.of(rows)?;
        let batch = self.batches.len();
        for (row, key) in found.iter().enumerate() {
            self.newest.insert(key.as_ref().into(), (batch, row));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(delete)];
        columns.extend(rows.columns().iter().cloned());
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows);
        if self.bytes > MOST_BYTES {
            self.compact()?;
        }
        Ok(self.bytes <= MOST_BYTES)
    }

    /// Drops what was replaced.
    fn compact(&mut self) -> Result<(), ArrowError> {
        let batches: Vec<_> = self.batches.iter().collect();
        let live: Vec<_> = self.newest.values().copied().collect();
        let rows = interleave_record_batch(&batches, &live)?;
        for (row, place) in self.newest.values_mut().enumerate() {
            *place = (0, row);
        }
        self.bytes = rows.get_array_memory_size();
        self.batches = vec![rows];
        Ok(())
    }

    /// All changes, folded; the set is empty then. `None`: there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.newest.is_empty() {
            return Ok(None);
        }
        self.compact()?;
        let rows = self.batches.pop();
        self.clear();
        Ok(rows)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.newest.clear();
        self.bytes = 0;
    }
}

impl Changes {
    /// Takes apart what [`ChangeSet::take`] put together.
    pub(super) fn of(mut rows: RecordBatch) -> Result<Self, ArrowError> {
        let delete = rows.remove_column(0);
        let delete = delete.as_boolean_opt().cloned();
        Ok(Self {
            delete: delete.ok_or_else(|| ArrowError::SchemaError("no deletes".to_owned()))?,
            rows,
        })
    }
}
