//! An aggregate: its event time, its groups and its measures over the columns above.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{Expr, ExprSchemable, lit};
use evp_api::plan::{AggregatePlan, Code, NodeName, Violation, WatermarkPlan, WindowPlan};

use super::{AggregatePlanned, Measure, MeasureKind, column};
use crate::sql::{self, Scope, Text, instant};
use crate::step::aggregate::Aggregate;

/// State files number measures by one byte.
const MOST_MEASURES: usize = 255;

/// An aggregate with what its source says of event time.
pub(super) struct Asked<'a> {
    pub(super) aggregate: &'a AggregatePlan,
    pub(super) source: &'a NodeName,
    pub(super) watermark: &'a WatermarkPlan,
    /// The event time comes through the steps above untouched.
    pub(super) event_time_passes: bool,
    /// The nearest aggregate above; `None`: rows are of records.
    pub(super) above: Option<(&'a NodeName, &'a AggregatePlanned)>,
    /// Of the step, such as `spec.steps[1]`.
    pub(super) path: &'a str,
}

impl Asked<'_> {
    pub(super) fn plan(&self, scope: &Scope) -> Result<AggregatePlanned, Vec<Violation>> {
        let mut faults = Vec::new();
        let event_time = self.event_time(scope).map_err(|fault| faults.push(fault));
        let groups = self.groups(scope, &mut faults);
        let path = format!("{}.aggregate.measures", self.path);
        let text = Text {
            sql: &self.aggregate.measures,
            path: &path,
        };
        let measures = measures(text, scope).and_then(|measures| self.merge(measures, &path));
        let measures = measures.map_err(|more| faults.extend(more));
        let (Ok(event_time), Ok(measures)) = (event_time, measures) else {
            return Err(faults);
        };
        let mut fields: Vec<FieldRef> = ["window_start", "window_end"]
            .map(|name| Arc::new(Field::new(name, instant(), false)))
            .into();
        fields.extend(groups.iter().map(|&i| scope.columns.fields()[i].clone()));
        fields.extend(measures.iter().map(|m| m.field.clone()));
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|f| f.name() == field.name()) {
                let message = format!("two columns are named `{}`", field.name());
                faults.push(Violation::new(Code::DuplicateColumn, &*path, message));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let lateness = self.watermark.allowed_lateness.as_micros();
        let planned = AggregatePlanned {
            plan: self.aggregate.clone(),
            input: scope.columns.clone(),
            output: Arc::new(Schema::new(fields)),
            event_time,
            above: above(self.above).map_err(|e| fails(&path, &e))?,
            groups,
            measures,
            allowed_lateness: i64::try_from(lateness).unwrap_or(i64::MAX),
        };
        Aggregate::new(planned.clone()).map_err(|e| fails(&path, &e))?;
        Ok(planned)
    }

    fn event_time(&self, scope: &Scope) -> Result<usize, Violation> {
        let (name, whose) = match self.above {
            Some((above, _)) => ("window_end", format!("aggregate `{above}`")),
            None => (
                self.watermark.column.as_str(),
                format!("source `{}`", self.source),
            ),
        };
        column::event_time((name, &whose), self.event_time_passes, scope, self.path)
    }

    /// Distinct values are kept by window, and sessions merge.
    fn merge(&self, measures: Vec<Measure>, path: &str) -> Result<Vec<Measure>, Vec<Violation>> {
        let merges = matches!(self.aggregate.window, WindowPlan::Session { .. });
        let distinct = |m: &&Measure| matches!(m.kind, MeasureKind::Distinct(_));
        let refused = measures.iter().filter(distinct).filter(|_| merges);
        let message = |m: &Measure| {
            format!(
                "`{}`: count(DISTINCT x) over sessions is not built yet",
                m.field.name()
            )
        };
        let faults: Vec<_> = refused
            .map(|m| Violation::new(Code::SqlFunction, path, message(m)))
            .collect();
        if faults.is_empty() {
            Ok(measures)
        } else {
            Err(faults)
        }
    }

    fn groups(&self, scope: &Scope, faults: &mut Vec<Violation>) -> Vec<usize> {
        let mut groups = Vec::new();
        for (i, name) in self.aggregate.group_by.iter().enumerate() {
            match column::by_name(name, scope, "grouped") {
                Ok(index) => groups.push(index),
                Err(mut fault) => {
                    fault.path = format!("{}.aggregate.groupBy[{i}]", self.path);
                    faults.push(fault);
                }
            }
        }
        groups
    }
}

fn above(
    aggregate: Option<(&NodeName, &AggregatePlanned)>,
) -> Result<Option<String>, DataFusionError> {
    let fingerprint = |above: &AggregatePlanned| {
        Aggregate::new(above.clone()).map(|above| above.fingerprint().to_owned())
    };
    aggregate.map(|(_, above)| fingerprint(above)).transpose()
}

fn fails(path: &str, error: &DataFusionError) -> Vec<Violation> {
    vec![Violation::new(Code::SqlPlan, path, error.strip_backtrace())]
}

fn measures(text: Text<'_>, scope: &Scope) -> Result<Vec<Measure>, Vec<Violation>> {
    let columns = sql::select(text, scope)?;
    if columns.len() > MOST_MEASURES {
        let message = format!("more than {MOST_MEASURES} measures");
        return Err(vec![Violation::new(Code::OutOfRange, text.path, message)]);
    }
    let (mut measures, mut faults) = (Vec::new(), Vec::new());
    for column in columns {
        match measure(&column, scope) {
            Ok(measure) => measures.push(measure),
            Err(mut fault) => {
                text.path.clone_into(&mut fault.path);
                fault.span = column.place;
                faults.push(fault);
            }
        }
    }
    if faults.is_empty() {
        Ok(measures)
    } else {
        Err(faults)
    }
}

fn measure(column: &sql::Column, scope: &Scope) -> Result<Measure, Violation> {
    let refused = |message: String| Violation::new(Code::SqlFunction, "", message);
    let Expr::AggregateFunction(AggregateFunction { func, params }) = column.expr.clone().unalias()
    else {
        let message = format!("`{}` must be one aggregate, such as sum(x)", column.expr);
        return Err(refused(message).help(
            "compute with its result in a `query` step below, with its arguments in one above",
        ));
    };
    if params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
        let message = format!(
            "`{}`: FILTER, ORDER BY and null treatment are not built yet",
            column.expr
        );
        return Err(refused(message));
    }
    if column.name.contains('(') {
        let message = format!("`{}` needs a name", column.name);
        let fault = Violation::new(Code::MeasureName, "", message);
        return Err(fault.help(format!("write `{} AS name`", column.name)));
    }
    #[expect(deprecated, reason = "the planner still gives a wildcard for count(*)")]
    let argument = |a: &Expr| {
        if matches!(a, Expr::Wildcard { .. }) {
            lit(1_i64)
        } else {
            a.clone()
        }
    };
    let arguments: Vec<Expr> = params.args.iter().map(argument).collect();
    let kind = match (params.distinct, func.name(), arguments.as_slice()) {
        (false, ..) => MeasureKind::Function {
            function: func,
            arguments,
        },
        (true, "count", [one]) => MeasureKind::Distinct(one.clone()),
        (true, ..) => {
            let message = format!(
                "`{}`: DISTINCT is built for count(DISTINCT x) alone",
                column.expr
            );
            return Err(refused(message));
        }
    };
    let typed = DFSchema::try_from(scope.columns.clone()).and_then(|schema| {
        Ok((
            column.expr.get_type(&schema)?,
            column.expr.nullable(&schema)?,
        ))
    });
    let (data_type, nullable) =
        typed.map_err(|e| Violation::new(Code::SqlPlan, "", e.strip_backtrace()))?;
    Ok(Measure {
        field: Arc::new(Field::new(&column.name, data_type, nullable)),
        kind,
    })
}
