//! `validate`: named rules over single rows. A row that keeps all of them passes unchanged; any other is one dead letter that
//! names every rule it breaks. It remembers nothing.
//!
//! A rule must be true: null is a breach, unlike in an SQL `CHECK`, since a rule that was never judged holds nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use super::{Compiled, Rows, evaluate};
use crate::check::ValidatePlanned;
use crate::dead_letter::{Reject, RejectCode};
use crate::position::Micros;
use crate::sql;

/// Rules that can run.
#[derive(Debug)]
pub struct Validate {
    plan: ValidatePlanned,
    reads_now: bool,
    checks: Vec<Arc<dyn PhysicalExpr>>,
}

/// What validating gave.
#[derive(Debug)]
pub struct Validated {
    /// Rows that keep all rules.
    pub rows: Rows,
    /// The others, and rows on which SQL failed.
    pub rejects: Vec<Reject>,
}

impl Validate {
    /// Compiles the checks; `now` is any instant where they do not read it.
    pub fn new(plan: ValidatePlanned) -> Result<Self, DataFusionError> {
        let mut validate = Self {
            reads_now: plan.rules.iter().any(|rule| sql::reads_now(&rule.check)),
            checks: Vec::new(),
            plan,
        };
        validate.compile(Micros(0))?;
        Ok(validate)
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
        let rules = self.plan.rules.iter();
        let checks = rules.map(|rule| sql::compile(&rule.check, &self.plan.columns, now));
        self.checks = checks.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Judges rows. A row on which a check cannot be computed is an `ExpressionFailed` that names the rule.
    pub fn push(&self, rows: Rows) -> Result<Validated, DataFusionError> {
        let compiled = Compiled {
            exprs: &self.checks,
            name: &|i| Some(self.plan.rules[i].name.clone()),
        };
        let computed = evaluate(&compiled, rows)?;
        let (rows, mut rejects) = (computed.rows, computed.rejects);
        if computed.values.iter().all(holds) {
            return Ok(Validated { rows, rejects });
        }
        let mut mask = Vec::with_capacity(rows.batch.num_rows());
        for row in 0..rows.batch.num_rows() {
            let broken = self.broken(&computed.values, row);
            mask.push(Some(broken.is_none()));
            rejects.extend(broken.map(|message| Reject {
                record: rows.origin.get(row).copied().unwrap_or_default(),
                code: RejectCode::RuleFailed,
                message,
                field: None,
            }));
        }
        let rows = rows.filter(&BooleanArray::from(mask))?;
        Ok(Validated { rows, rejects })
    }

    /// The rules that a row breaks, with their messages; `None`: it keeps all.
    fn broken(&self, values: &[ArrayRef], row: usize) -> Option<String> {
        let rules = self.plan.rules.iter().zip(values);
        let broken = rules.filter(|(_, values)| !is_true(values.as_boolean(), row));
        let told: Vec<String> = broken
            .map(|(rule, _)| match &rule.message {
                Some(message) => format!("{}: {message}", rule.name),
                None => rule.name.clone(),
            })
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// True for every row.
fn holds(values: &ArrayRef) -> bool {
    values.null_count() == 0 && values.as_boolean().true_count() == values.len()
}

fn is_true(values: &BooleanArray, row: usize) -> bool {
    values.is_valid(row) && values.value(row)
}
