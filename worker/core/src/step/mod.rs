//! The steps of a pipeline, one file each.

pub mod aggregate;
pub mod query;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;
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
pub(crate) fn evaluate(
    exprs: &[std::sync::Arc<dyn PhysicalExpr>],
    rows: Rows,
) -> Result<Evaluated, DataFusionError> {
    if let Ok(values) = values(exprs, &rows.batch) {
        Ok(Evaluated {
            rows,
            values,
            rejects: Vec::new(),
        })
    } else {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        bisect(exprs, &rows.batch, 0, &mut good, &mut bad);
        let rejects = bad
            .iter()
            .map(|(row, message)| reject(&rows, *row, message))
            .collect();
        let rows = rows.take(&good)?;
        let values = values(exprs, &rows.batch)?;
        Ok(Evaluated {
            rows,
            values,
            rejects,
        })
    }
}

fn values(
    exprs: &[std::sync::Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    exprs
        .iter()
        .map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()))
        .collect()
}

fn bisect(
    exprs: &[std::sync::Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
    first: u32,
    good: &mut Vec<u32>,
    bad: &mut Vec<(u32, String)>,
) {
    let rows = batch.num_rows();
    match values(exprs, batch) {
        Ok(_) => good.extend(
            (0..rows)
                .filter_map(|i| u32::try_from(i).ok())
                .map(|i| first + i),
        ),
        Err(error) if rows <= 1 => bad.push((first, kind_of(&error).to_owned())),
        Err(_) => {
            let half = rows / 2;
            bisect(exprs, &batch.slice(0, half), first, good, bad);
            let second = first + u32::try_from(half).unwrap_or(u32::MAX);
            bisect(exprs, &batch.slice(half, rows - half), second, good, bad);
        }
    }
}

fn reject(rows: &Rows, row: u32, message: &str) -> Reject {
    let record = rows.origin.get(row as usize).copied().unwrap_or(row);
    Reject {
        record,
        code: RejectCode::ExpressionFailed,
        message: message.to_owned(),
        field: None,
    }
}

/// What went wrong, without the values it went wrong on.
fn kind_of(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero => "division by zero",
            ArrowError::ArithmeticOverflow(_) => "arithmetic overflow",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "a value cannot be cast",
            _ => "an expression cannot be computed",
        },
        _ => "an expression cannot be computed",
    }
}
