//! The one judge of a manifest: [`check`] parses the plan and plans its SQL, called alike by operator, CLI and worker.

mod node;
mod sink;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use evp_api::EventPipelineSpec;
use evp_api::plan::{NodeName, Plan, StepKind, Violation, digest_input};

pub use node::{AggregatePlanned, Measure, MeasureKind, QueryPlanned, StepPlanned};

use crate::decode::{MetaColumns, row_schema};
use crate::protocol::digest::Digest;
use crate::sql;

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
    let (mut steps, mut faults) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        let index = spec
            .steps
            .iter()
            .position(|s| s.name == step.name.as_str())
            .unwrap_or_default();
        let Some(above) = columns.get(&step.from) else {
            continue;
        };
        match node::plan(&plan, step, above, index) {
            Ok(planned) => {
                columns.insert(step.name.clone(), planned.output());
                steps.push(planned);
            }
            Err(more) => faults.extend(more),
        }
    }
    let sinks = sink::check(&plan, &columns, &mut faults);
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
