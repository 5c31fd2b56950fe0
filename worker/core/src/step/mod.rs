//! The steps of a pipeline, one file each.

pub mod aggregate;
pub mod dedupe;
pub mod query;
pub mod validate;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use crate::dead_letter::{Reject, RejectCode};

/// Rows on their way, each with the record it came from.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// For each row the index of its record in the raw batch; empty where rows come from no record (windows).
    pub origin: Vec<u32>,
}

impl Rows {
    /// The rows for which the mask is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        let kept = |(i, origin): (usize, &u32)| mask.value(i).then_some(*origin);
        let origin = self.origin.iter().enumerate().filter_map(kept).collect();
        Ok(Self {
            batch: compute::filter_record_batch(&self.batch, mask)?,
            origin,
        })
    }

    /// The rows in which none of these columns is null, and a reject for each other one: `told` says what its null is missing
    /// for, by the column's name.
    pub(crate) fn keyed(
        &self,
        columns: &[usize],
        told: impl Fn(&str) -> String,
    ) -> Result<(Cow<'_, Self>, Vec<Reject>), ArrowError> {
        let columns = columns.iter().map(|&at| (at, self.batch.column(at)));
        let with_nulls: Vec<_> = columns.filter(|(_, c)| c.null_count() > 0).collect();
        if with_nulls.is_empty() {
            return Ok((Cow::Borrowed(self), Vec::new()));
        }
        let schema = self.batch.schema();
        let (mut mask, mut rejects) = (Vec::new(), Vec::new());
        for row in 0..self.batch.num_rows() {
            let missing = with_nulls.iter().find(|(_, column)| column.is_null(row));
            mask.push(missing.is_none());
            rejects.extend(missing.map(|(at, _)| {
                let name = schema.field(*at).name();
                Reject {
                    record: self.origin.get(row).copied().unwrap_or_default(),
                    code: RejectCode::NullKey,
                    message: told(name),
                    field: Some(name.clone()),
                }
            }));
        }
        let kept = self.filter(&BooleanArray::from(mask))?;
        Ok((Cow::Owned(kept), rejects))
    }

    /// Only these rows.
    fn take(&self, rows: &[u32]) -> Result<Self, ArrowError> {
        let batch = compute::take_record_batch(&self.batch, &UInt32Array::from(rows.to_vec()))?;
        let origin = if self.origin.is_empty() {
            Vec::new()
        } else {
            rows.iter().map(|&row| self.origin[row as usize]).collect()
        };
        Ok(Self { batch, origin })
    }
}

/// A key column as it is compared: SQL takes `-0.0` and `0.0` for equal, and databases all that are no numbers; arrow's row format
/// tells them apart.
pub fn comparable(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            Arc::new(
                floats.unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
            )
        }
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            Arc::new(
                floats.unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
            )
        }
        _ => Arc::clone(column),
    }
}

/// Expressions with the columns they are for, so that a failure can name one.
pub(crate) struct Compiled<'a> {
    /// The expressions.
    pub(crate) exprs: &'a [Arc<dyn PhysicalExpr>],
    /// What each is for; `None`: it has no name.
    pub(crate) name: &'a dyn Fn(usize) -> Option<String>,
}

/// What evaluating expressions over rows gave: the values of the rows that could be computed, and the rows that could not.
pub(crate) struct Evaluated {
    /// The rows that could be computed.
    pub(crate) rows: Rows,
    /// One array an expression.
    pub(crate) values: Vec<ArrayRef>,
    /// The others.
    pub(crate) rejects: Vec<Reject>,
}

/// Evaluates; where SQL fails, finds the failing rows by bisecting (semantics 38). The message names the failure's kind, no
/// content.
pub(crate) fn evaluate(compiled: &Compiled<'_>, rows: Rows) -> Result<Evaluated, DataFusionError> {
    if let Ok(values) = values(compiled.exprs, &rows.batch) {
        return Ok(Evaluated {
            rows,
            values,
            rejects: Vec::new(),
        });
    }
    let mut search = Search {
        compiled,
        origin: &rows.origin,
        good: Vec::new(),
        rejects: Vec::new(),
    };
    search.bisect(&rows.batch, 0);
    let Search { good, rejects, .. } = search;
    let rows = rows.take(&good)?;
    let values = values(compiled.exprs, &rows.batch)?;
    Ok(Evaluated {
        rows,
        values,
        rejects,
    })
}

fn values(
    exprs: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    exprs
        .iter()
        .map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()))
        .collect()
}

/// What is said of a failure of no known kind.
const OTHER: &str = "an expression cannot be computed";

/// The search for the rows on which SQL fails.
struct Search<'a> {
    compiled: &'a Compiled<'a>,
    origin: &'a [u32],
    good: Vec<u32>,
    rejects: Vec<Reject>,
}

impl Search<'_> {
    fn bisect(&mut self, batch: &RecordBatch, first: u32) {
        let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        match values(self.compiled.exprs, batch) {
            Ok(_) => self.good.extend(first..first + rows),
            Err(error) if rows <= 1 => self.reject(batch, first, &error),
            Err(_) => {
                let half = batch.num_rows() / 2;
                self.bisect(&batch.slice(0, half), first);
                let second = first + rows / 2;
                self.bisect(&batch.slice(half, batch.num_rows() - half), second);
            }
        }
    }

    fn reject(&mut self, batch: &RecordBatch, row: u32, error: &DataFusionError) {
        let fails = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch).is_err();
        let failing = self.compiled.exprs.iter().position(fails);
        self.rejects.push(Reject {
            record: self.origin.get(row as usize).copied().unwrap_or(row),
            code: RejectCode::ExpressionFailed,
            message: kind_of(error).unwrap_or(OTHER).to_owned(),
            field: failing.and_then(self.compiled.name),
        });
    }
}

/// What went wrong, without the values it went wrong on; `None`: nothing that values alone can bring about.
pub(crate) fn kind_of(error: &DataFusionError) -> Option<&'static str> {
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => Some(match arrow.as_ref() {
            ArrowError::DivideByZero => "division by zero",
            ArrowError::ArithmeticOverflow(_) => "arithmetic overflow",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast",
            _ => OTHER,
        }),
        _ => None,
    }
}
