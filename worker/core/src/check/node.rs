//! One step: its texts planned over the columns of what it reads.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::DFSchema;
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable, lit};
use evp_api::plan::{AggregatePlan, Code, NodeName, Plan, StepKind, StepPlan, Violation};

use crate::sql::{self, Scope, Text};

/// A planned step.
#[derive(Clone, Debug)]
pub enum StepPlanned {
    /// SQL without memory.
    Query(QueryPlanned),
    /// Aggregation over windows.
    Aggregate(AggregatePlanned),
}

impl StepPlanned {
    /// Columns it gives out.
    pub fn output(&self) -> SchemaRef {
        match self {
            Self::Query(query) => query.output.clone(),
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

/// A planned aggregate.
#[derive(Clone, Debug)]
pub struct AggregatePlanned {
    /// What was asked for.
    pub plan: AggregatePlan,
    /// Columns in.
    pub input: SchemaRef,
    /// `window_start`, `window_end`, the groups, the measures.
    pub output: SchemaRef,
    /// Index of the event-time column in the input.
    pub event_time: usize,
    /// Indices of the group columns in the input.
    pub groups: Vec<usize>,
    /// The measures, in order.
    pub measures: Vec<Measure>,
    /// How long a closed window still takes rows in, microseconds.
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

pub(super) fn plan(
    plan: &Plan,
    step: &StepPlan,
    above: &SchemaRef,
    index: usize,
) -> Result<StepPlanned, Vec<Violation>> {
    let scope = Scope {
        node: step.from.to_string(),
        columns: above.clone(),
    };
    match &step.kind {
        StepKind::Query { select, filter } => {
            let path = format!("spec.steps[{index}].query");
            query(select.as_deref(), filter.as_deref(), &scope, &path).map(StepPlanned::Query)
        }
        StepKind::Aggregate(aggregate) => {
            let source = plan.source(&step.source).and_then(|s| s.watermark.as_ref());
            let lateness = source.map_or(0, |w| {
                i64::try_from(w.allowed_lateness.as_micros()).unwrap_or(i64::MAX)
            });
            let column = source.map(|w| w.column.as_str()).unwrap_or_default();
            let asked = Asked {
                aggregate,
                event_time: column,
                source: &step.source,
            };
            let mut planned = asked.plan(&scope, &format!("spec.steps[{index}]"))?;
            planned.allowed_lateness = lateness;
            Ok(StepPlanned::Aggregate(planned))
        }
    }
}

fn query(
    select: Option<&str>,
    filter: Option<&str>,
    scope: &Scope,
    path: &str,
) -> Result<QueryPlanned, Vec<Violation>> {
    let (select_path, where_path) = (format!("{path}.select"), format!("{path}.where"));
    let selected = select
        .map(|sql| {
            sql::select(
                Text {
                    sql,
                    path: &select_path,
                },
                scope,
            )
        })
        .transpose();
    let filter = filter
        .map(|sql| {
            sql::condition(
                Text {
                    sql,
                    path: &where_path,
                },
                scope,
            )
        })
        .transpose();
    let (selected, filter) = match (selected, filter) {
        (Ok(selected), Ok(filter)) => (selected, filter),
        (selected, filter) => {
            return Err(selected
                .err()
                .into_iter()
                .chain(filter.err())
                .flatten()
                .collect());
        }
    };
    for (expr, path) in selected
        .iter()
        .flatten()
        .map(|c| (&c.expr, &select_path))
        .chain(filter.iter().map(|f| (f, &where_path)))
    {
        if sql::has_aggregate(expr) {
            let message = "an aggregate has no meaning over single rows";
            return Err(vec![
                Violation::new(Code::SqlFunction, path.clone(), message)
                    .help("use an `aggregate` step"),
            ]);
        }
    }
    let output = match &selected {
        None => scope.columns.clone(),
        Some(columns) => {
            let fields = columns
                .iter()
                .map(|c| field(&c.name, &c.expr, scope, &select_path));
            Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?))
        }
    };
    let select = selected.map(|columns| columns.into_iter().map(|c| c.expr).collect());
    Ok(QueryPlanned {
        input: scope.columns.clone(),
        output,
        select,
        filter,
    })
}

fn field(name: &str, expr: &Expr, scope: &Scope, path: &str) -> Result<Field, Vec<Violation>> {
    let typed = DFSchema::try_from(scope.columns.clone())
        .and_then(|schema| Ok((expr.get_type(&schema)?, expr.nullable(&schema)?)))
        .map_err(|e| vec![Violation::new(Code::SqlPlan, path, e.strip_backtrace())])?;
    Ok(Field::new(name, typed.0, typed.1))
}

/// An aggregate with what its source says of event time.
struct Asked<'a> {
    aggregate: &'a AggregatePlan,
    event_time: &'a str,
    source: &'a NodeName,
}

impl Asked<'_> {
    fn plan(&self, scope: &Scope, path: &str) -> Result<AggregatePlanned, Vec<Violation>> {
        let mut faults = Vec::new();
        let event_time = self
            .event_time_column(scope, path)
            .map_err(|fault| faults.push(fault))
            .ok();
        let groups = self.group_columns(scope, path, &mut faults);
        let measures = measures(
            &self.aggregate.measures,
            scope,
            &format!("{path}.aggregate.measures"),
        )
        .map_err(|more| faults.extend(more))
        .ok();
        let (Some(event_time), Some(measures)) = (event_time, measures) else {
            return Err(faults);
        };
        let mut fields: Vec<FieldRef> = ["window_start", "window_end"]
            .iter()
            .map(|name| instant(name))
            .collect();
        fields.extend(groups.iter().map(|&i| scope.columns.fields()[i].clone()));
        fields.extend(measures.iter().map(|m| m.field.clone()));
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|f| f.name() == field.name()) {
                let message = format!("two columns are named `{}`", field.name());
                faults.push(Violation::new(
                    Code::DuplicateColumn,
                    format!("{path}.aggregate.measures"),
                    message,
                ));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(AggregatePlanned {
            plan: self.aggregate.clone(),
            input: scope.columns.clone(),
            output: Arc::new(Schema::new(fields)),
            event_time,
            groups,
            measures,
            allowed_lateness: 0,
        })
    }

    /// Queries above must pass the event-time column unchanged in name and type.
    fn event_time_column(&self, scope: &Scope, path: &str) -> Result<usize, Violation> {
        let found = scope.columns.column_with_name(self.event_time);
        match found {
            Some((index, field)) if field.data_type() == instant("").data_type() => Ok(index),
            _ => {
                let message = format!(
                    "`{}` must pass `{}`, the event time of source `{}`",
                    scope.node, self.event_time, self.source
                );
                Err(
                    Violation::new(Code::UnknownColumn, format!("{path}.from"), message)
                        .help(format!("select `{}` in `{}`", self.event_time, scope.node)),
                )
            }
        }
    }

    fn group_columns(&self, scope: &Scope, path: &str, faults: &mut Vec<Violation>) -> Vec<usize> {
        let names = || {
            scope
                .columns
                .fields()
                .iter()
                .map(|f| f.name().as_str())
                .filter(|n| !n.starts_with("_meta."))
        };
        let mut groups = Vec::new();
        for (i, name) in self.aggregate.group_by.iter().enumerate() {
            match scope.columns.column_with_name(name) {
                Some((index, field)) if !field.data_type().is_nested() => groups.push(index),
                Some((_, field)) => {
                    let message = format!(
                        "`{name}` is {}, by which rows cannot be grouped",
                        field.data_type()
                    );
                    faults.push(Violation::new(
                        Code::ColumnType,
                        format!("{path}.aggregate.groupBy[{i}]"),
                        message,
                    ));
                }
                None => faults.push(
                    Violation::new(
                        Code::UnknownColumn,
                        format!("{path}.aggregate.groupBy[{i}]"),
                        format!("no column named `{name}`"),
                    )
                    .note(format!(
                        "`{}` has: {}",
                        scope.node,
                        names().collect::<Vec<_>>().join(", ")
                    ))
                    .did_you_mean(name, names()),
                ),
            }
        }
        groups
    }
}

fn instant(name: &str) -> FieldRef {
    Arc::new(Field::new(
        name,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    ))
}

fn measures(text: &str, scope: &Scope, path: &str) -> Result<Vec<Measure>, Vec<Violation>> {
    let columns = sql::select(Text { sql: text, path }, scope)?;
    let (mut measures, mut faults) = (Vec::new(), Vec::new());
    for column in columns {
        match measure(&column, scope, path) {
            Ok(measure) => measures.push(measure),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(measures)
    } else {
        Err(faults)
    }
}

fn measure(column: &sql::Column, scope: &Scope, path: &str) -> Result<Measure, Violation> {
    let fault = |message: String| Violation::new(Code::SqlFunction, path, message);
    let Expr::AggregateFunction(AggregateFunction { func, params }) = column.expr.clone().unalias() else {
        return Err(fault(format!(
            "`{}` must be one aggregate, such as sum(x)",
            column.expr
        )));
    };
    if params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Err(fault(format!(
            "`{}`: FILTER, ORDER BY and null treatment are not built yet",
            column.expr
        )));
    }
    if column.name.contains('(') {
        let fault = Violation::new(
            Code::MeasureName,
            path,
            format!("`{}` needs a name", column.name),
        );
        return Err(fault.help(format!("write `{} AS name`", column.name)));
    }
    let field =
        field(&column.name, &column.expr, scope, path).map_err(|mut faults| faults.remove(0))?;
    #[expect(deprecated, reason = "the planner still gives a wildcard for count(*)")]
    let arguments: Vec<Expr> = params
        .args
        .iter()
        .map(|a| {
            if matches!(a, Expr::Wildcard { .. }) {
                lit(1_i64)
            } else {
                a.clone()
            }
        })
        .collect();
    let kind = match (params.distinct, func.name(), arguments.as_slice()) {
        (false, ..) => MeasureKind::Function {
            function: func,
            arguments,
        },
        (true, "count", [one]) => MeasureKind::Distinct(one.clone()),
        (true, ..) => {
            return Err(fault(format!(
                "`{}`: DISTINCT is built for count(DISTINCT x) alone",
                column.expr
            )));
        }
    };
    Ok(Measure {
        field: Arc::new(field),
        kind,
    })
}
