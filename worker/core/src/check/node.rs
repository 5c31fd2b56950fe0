//! Planned steps: what checking a step gives, and what running it starts from.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion_expr::{AggregateUDF, Expr};
use evp_api::plan::{AggregatePlan, DedupePlan};

/// A planned step.
#[derive(Clone, Debug)]
pub enum StepPlanned {
    /// SQL without memory.
    Query(QueryPlanned),
    /// Rules that rows must keep.
    Validate(ValidatePlanned),
    /// The first row of each key.
    Dedupe(DedupePlanned),
    /// Aggregation over windows.
    Aggregate(AggregatePlanned),
}

impl StepPlanned {
    /// Columns it gives out.
    pub fn output(&self) -> SchemaRef {
        match self {
            Self::Query(query) => query.output.clone(),
            Self::Validate(validate) => validate.columns.clone(),
            Self::Dedupe(dedupe) => dedupe.columns.clone(),
            Self::Aggregate(aggregate) => aggregate.output.clone(),
        }
    }
}

/// A planned query.
#[derive(Clone, Debug)]
pub struct QueryPlanned {
    /// Columns in.
    pub input: SchemaRef,
    /// Columns out.
    pub output: SchemaRef,
    /// One expression a column; `None`: all columns pass.
    pub select: Option<Vec<Expr>>,
    /// Which rows pass; `None`: all.
    pub filter: Option<Expr>,
}

/// Planned rules.
#[derive(Clone, Debug)]
pub struct ValidatePlanned {
    /// Columns in and out.
    pub columns: SchemaRef,
    /// The rules, in order; at least one.
    pub rules: Vec<RulePlanned>,
}

/// A planned rule.
#[derive(Clone, Debug)]
pub struct RulePlanned {
    /// Its name.
    pub name: String,
    /// What is said of a row that breaks it, beside the name.
    pub message: Option<String>,
    /// What must be true.
    pub check: Expr,
}

/// A planned `dedupe`.
#[derive(Clone, Debug)]
pub struct DedupePlanned {
    /// What was asked for.
    pub plan: DedupePlan,
    /// Columns in and out.
    pub columns: SchemaRef,
    /// Index of the event-time column.
    pub event_time: usize,
    /// Indices of the key columns, in order; at least one.
    pub keys: Vec<usize>,
}

/// A planned aggregate.
#[derive(Clone, Debug)]
pub struct AggregatePlanned {
    /// What was asked for.
    pub plan: AggregatePlan,
    /// Columns in.
    pub input: SchemaRef,
    /// `window_start`, `window_end`, the groups, the measures.
    pub output: SchemaRef,
    /// Index of the event-time column in the input; below an aggregate `window_end`, whose rows are of the microsecond
    /// before it (semantics 7).
    pub event_time: usize,
    /// Fingerprint of the nearest aggregate above; `None`: rows are of records.
    pub above: Option<String>,
    /// Indices of the group columns in the input.
    pub groups: Vec<usize>,
    /// The measures, in order.
    pub measures: Vec<Measure>,
    /// How long a closed window still takes rows in, microseconds. It counts once, however many aggregates follow each
    /// other: the output watermark of one is behind by it, and what one gives out is never late for the next.
    pub allowed_lateness: i64,
}

/// One measure.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Its column.
    pub field: FieldRef,
    /// How it is computed.
    pub kind: MeasureKind,
}

/// How a measure is computed.
#[derive(Clone, Debug)]
pub enum MeasureKind {
    /// An aggregate function over argument expressions, by its partial states.
    Function {
        /// The function.
        function: Arc<AggregateUDF>,
        /// Its arguments.
        arguments: Vec<Expr>,
    },
    /// Exact count of distinct values, which are state rows of their own (semantics 19).
    Distinct(Expr),
}

impl QueryPlanned {
    /// Whether a column of the input comes out under its own name, untouched.
    pub(super) fn passes(&self, column: &str) -> bool {
        let Some(select) = &self.select else {
            return true;
        };
        let is_itself = |(expr, field): (&Expr, &FieldRef)| {
            field.name() == column && matches!(expr, Expr::Column(c) if c.name == column)
        };
        select.iter().zip(self.output.fields()).any(is_itself)
    }
}
