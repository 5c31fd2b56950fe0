//! The one judge of a manifest: [`check`] parses the plan and plans its SQL, called alike by operator, CLI and worker.

mod aggregate;
mod column;
mod dedupe;
mod node;
mod query;
mod sink;
mod validate;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use evp_api::EventPipelineSpec;
use evp_api::plan::{
    Code, NodeName, Plan, StepKind, StepPlan, Violation, WatermarkPlan, digest_input,
};

pub use node::{
    AggregatePlanned, DedupePlanned, Measure, MeasureKind, QueryPlanned, RulePlanned, StepPlanned,
    ValidatePlanned,
};

use crate::decode::{MetaColumns, row_schema};
use crate::protocol::digest::Digest;
use crate::sql::{self, Scope};

/// Steps planned so far.
type Steps = BTreeMap<NodeName, StepPlanned>;

/// A pipeline whose SQL is planned: everything that can be judged without the world.
#[derive(Clone, Debug)]
pub struct CheckedPlan {
    /// The plan.
    pub plan: Plan,
    /// Its name.
    pub digest: Digest,
    /// `_meta` columns that each source must provide.
    pub meta: BTreeMap<NodeName, MetaColumns>,
    /// Planned steps, in the order of [`Plan::steps`].
    pub steps: Vec<StepPlanned>,
    /// Columns of every source and step, `_meta` columns included.
    pub columns: BTreeMap<NodeName, SchemaRef>,
    /// Columns that each sink writes.
    pub sinks: BTreeMap<NodeName, SchemaRef>,
}

/// Judges a manifest; all findings at once.
pub fn check(spec: &EventPipelineSpec) -> Result<CheckedPlan, Vec<Violation>> {
    let plan = Plan::parse(spec)?;
    let meta = meta_columns(&plan);
    let mut columns: BTreeMap<NodeName, SchemaRef> = plan
        .sources
        .iter()
        .map(|s| {
            (
                s.name.clone(),
                row_schema(s, meta.get(&s.name).copied().unwrap_or_default()),
            )
        })
        .collect();
    let (mut steps, mut faults) = (BTreeMap::new(), Vec::new());
    for step in &plan.steps {
        let at = spec.steps.iter().position(|s| s.name == step.name.as_str());
        let path = format!("spec.steps[{}]", at.unwrap_or_default());
        let Some(above) = columns.get(&step.from) else {
            continue;
        };
        match plan_step(&plan, (step, &path), above, &steps) {
            Ok(planned) => {
                columns.insert(step.name.clone(), planned.output());
                steps.insert(step.name.clone(), planned);
            }
            Err(more) => faults.extend(more),
        }
    }
    let sinks = sink::check(&plan, &columns, &steps, &mut faults);
    let ordered = plan
        .steps
        .iter()
        .filter_map(|step| steps.remove(&step.name));
    let steps = ordered.collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(CheckedPlan {
        digest: digest(spec),
        plan,
        meta,
        steps,
        columns,
        sinks,
    })
}

fn plan_step(
    plan: &Plan,
    (step, path): (&StepPlan, &str),
    above: &SchemaRef,
    planned: &Steps,
) -> Result<StepPlanned, Vec<Violation>> {
    let scope = Scope {
        node: step.from.to_string(),
        columns: above.clone(),
    };
    match &step.kind {
        StepKind::Query { select, filter } => {
            let asked = query::Asked {
                select: select.as_deref(),
                filter: filter.as_deref(),
                path: &format!("{path}.query"),
            };
            asked.plan(&scope).map(StepPlanned::Query)
        }
        StepKind::Validate(rules) => {
            validate::plan(rules, &format!("{path}.validate.rules"), &scope)
                .map(StepPlanned::Validate)
        }
        StepKind::Dedupe(dedupe) => {
            let watermark = watermark(plan, (step, path))?;
            let passes = passes(plan, planned, &step.from, &watermark.column);
            let whose = format!("source `{}`", step.source);
            let event_time = column::event_time((&watermark.column, &whose), passes, &scope, path);
            dedupe::plan(dedupe, event_time, path, &scope).map(StepPlanned::Dedupe)
        }
        StepKind::Aggregate(aggregate) => {
            let watermark = watermark(plan, (step, path))?;
            let above = aggregate_above(plan, planned, &step.from);
            let event_time = above.map_or(watermark.column.as_str(), |_| "window_end");
            let asked = aggregate::Asked {
                aggregate,
                source: &step.source,
                watermark,
                event_time_passes: passes(plan, planned, &step.from, event_time),
                above,
                path,
            };
            asked.plan(&scope).map(StepPlanned::Aggregate)
        }
    }
}

fn watermark<'a>(
    plan: &'a Plan,
    (step, path): (&StepPlan, &str),
) -> Result<&'a WatermarkPlan, Vec<Violation>> {
    let source = plan.source(&step.source);
    source.and_then(|s| s.watermark.as_ref()).ok_or_else(|| {
        let message = "the source has no `watermark`";
        vec![Violation::new(Code::WatermarkNeeded, path, message)]
    })
}

/// The nearest aggregate from a node upwards.
fn aggregate_above<'a>(
    plan: &'a Plan,
    planned: &'a Steps,
    node: &NodeName,
) -> Option<(&'a NodeName, &'a AggregatePlanned)> {
    let mut step = plan.step(node)?;
    loop {
        if let Some(StepPlanned::Aggregate(above)) = planned.get(&step.name) {
            return Some((&step.name, above));
        }
        step = plan.step(&step.from)?;
    }
}

/// Whether a column of a node is the very column of that name of the source or aggregate above it.
fn passes(plan: &Plan, planned: &Steps, node: &NodeName, column: &str) -> bool {
    let mut node = node;
    while let Some(step) = plan.step(node) {
        match planned.get(node) {
            Some(StepPlanned::Query(query)) if query.passes(column) => node = &step.from,
            Some(StepPlanned::Validate(_) | StepPlanned::Dedupe(_)) => node = &step.from,
            Some(StepPlanned::Query(_)) | None => return false,
            Some(StepPlanned::Aggregate(_)) => return true,
        }
    }
    true
}

fn digest(spec: &EventPipelineSpec) -> Digest {
    Digest::of(digest_input(spec).to_string().as_bytes())
}

/// What the texts below each source name of `_meta`.
fn meta_columns(plan: &Plan) -> BTreeMap<NodeName, MetaColumns> {
    let mut meta: BTreeMap<NodeName, MetaColumns> = BTreeMap::new();
    for step in &plan.steps {
        let texts: Vec<&str> = match &step.kind {
            StepKind::Query { select, filter } => [select, filter]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            StepKind::Validate(rules) => rules.iter().map(|rule| rule.check.as_str()).collect(),
            StepKind::Dedupe(_) => Vec::new(),
            StepKind::Aggregate(aggregate) => vec![&aggregate.measures],
        };
        let named = texts
            .into_iter()
            .map(sql::meta_columns)
            .fold(MetaColumns::default(), MetaColumns::union);
        let of_source = meta.entry(step.source.clone()).or_default();
        *of_source = of_source.union(named);
    }
    meta
}

#[cfg(test)]
mod tests;
