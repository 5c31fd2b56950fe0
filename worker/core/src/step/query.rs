//! `query`: a SELECT list and a WHERE condition over single rows. It remembers nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_physical_expr::PhysicalExpr;

use super::{Compiled, Rows, evaluate};
use crate::check::QueryPlanned;
use crate::dead_letter::Reject;
use crate::position::Micros;
use crate::sql;

/// A query that can run.
#[derive(Debug)]
pub struct Query {
    plan: QueryPlanned,
    reads_now: bool,
    select: Option<Vec<Arc<dyn PhysicalExpr>>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What a query gave.
#[derive(Debug)]
pub struct Passed {
    /// Rows that passed, projected.
    pub rows: Rows,
    /// Rows that `where` refused.
    pub filtered: u64,
    /// Rows on which SQL failed.
    pub rejects: Vec<Reject>,
}

impl Query {
    /// Compiles the texts; `now` is any instant where they do not read it.
    pub fn new(plan: QueryPlanned) -> Result<Self, DataFusionError> {
        let reads_now = plan
            .select
            .iter()
            .flatten()
            .chain(&plan.filter)
            .any(sql::reads_now);
        let mut query = Self {
            plan,
            reads_now,
            select: None,
            filter: None,
        };
        query.compile(Micros(0))?;
        Ok(query)
    }

    /// Columns it gives out.
    pub fn output(&self) -> &SchemaRef {
        &self.plan.output
    }

    /// An epoch opens: `now()` is its time (semantics 37).
    pub fn open(&mut self, now: Micros) -> Result<(), DataFusionError> {
        if self.reads_now {
            self.compile(now)
        } else {
            Ok(())
        }
    }

    fn compile(&mut self, now: Micros) -> Result<(), DataFusionError> {
        let one = |expr| sql::compile(expr, &self.plan.input, now);
        self.select = self
            .plan
            .select
            .as_ref()
            .map(|list| list.iter().map(one).collect())
            .transpose()?;
        self.filter = self.plan.filter.as_ref().map(one).transpose()?;
        Ok(())
    }

    /// Filters, then projects. Nothing is copied where neither does anything.
    pub fn push(&self, rows: Rows) -> Result<Passed, DataFusionError> {
        let before = rows.batch.num_rows();
        let (mut rows, mut rejects) = self.filtered(rows)?;
        let filtered = before - rows.batch.num_rows() - rejects.len();
        if let Some(select) = &self.select {
            let name = |i: usize| Some(self.plan.output.field(i).name().clone());
            let compiled = Compiled {
                exprs: select,
                name: &name,
            };
            let computed = evaluate(&compiled, rows)?;
            rejects.extend(computed.rejects);
            let options =
                RecordBatchOptions::new().with_row_count(Some(computed.rows.batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(
                self.plan.output.clone(),
                computed.values,
                &options,
            )?;
            rows = Rows {
                batch,
                origin: computed.rows.origin,
            };
        }
        Ok(Passed {
            rows,
            filtered: filtered as u64,
            rejects,
        })
    }

    fn filtered(&self, rows: Rows) -> Result<(Rows, Vec<Reject>), DataFusionError> {
        let Some(filter) = &self.filter else {
            return Ok((rows, Vec::new()));
        };
        let compiled = Compiled {
            exprs: std::slice::from_ref(filter),
            name: &|_| None,
        };
        let computed = evaluate(&compiled, rows)?;
        let mask = mask(computed.values[0].as_boolean());
        let rows = if mask.true_count() == mask.len() {
            computed.rows
        } else {
            computed.rows.filter(&mask)?
        };
        Ok((rows, computed.rejects))
    }

    /// For changes (semantics 18): every row is projected, and marked whether it stays: neither deleted above nor refused by
    /// `where`.
    pub fn changes(
        &self,
        batch: &RecordBatch,
        delete: &[bool],
    ) -> Result<(RecordBatch, BooleanArray), DataFusionError> {
        let mut stays: BooleanArray = delete.iter().map(|gone| Some(!gone)).collect();
        if let Some(filter) = &self.filter {
            let passes = filter.evaluate_selection(batch, &stays)?;
            let passes = passes.into_array(batch.num_rows())?;
            stays = compute::and(&stays, &mask(passes.as_boolean()))?;
        }
        let Some(select) = &self.select else {
            return Ok((batch.clone(), stays));
        };
        let columns = select.iter().map(|expr| change(expr, batch, &stays));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let output = self.plan.output.clone();
        Ok((
            RecordBatch::try_new_with_options(output, columns, &options)?,
            stays,
        ))
    }
}

/// A column of changes. A row that goes needs its key alone, which is a plain column: where a value of such a row cannot be
/// computed, it is the type's default.
fn change(
    expr: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    stays: &BooleanArray,
) -> Result<ArrayRef, DataFusionError> {
    let rows = batch.num_rows();
    if let Ok(values) = expr.evaluate(batch).and_then(|v| v.into_array(rows)) {
        return Ok(values);
    }
    let values = expr.evaluate_selection(batch, stays)?.into_array(rows)?;
    let nothing = ScalarValue::new_default(values.data_type())?.to_scalar()?;
    Ok(zip(stays, &values, &nothing)?)
}

/// Null is not true.
fn mask(values: &BooleanArray) -> BooleanArray {
    if values.null_count() == 0 {
        values.clone()
    } else {
        compute::prep_null_mask_filter(values)
    }
}
