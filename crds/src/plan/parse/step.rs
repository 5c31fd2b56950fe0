//! Steps: queries and aggregates.

use super::graph::{Graph, Node};
use super::text::{instant, positive};
use super::{Findings, exactly_one, node_name};
use crate::pipeline::EventPipelineSpec;
use crate::plan::{AggregatePlan, Code, Late, NodeName, StepKind, StepPlan, Violation, WindowPlan};
use crate::step::{Aggregate, Query};
use crate::window::Window;

pub(super) fn step(
    index: usize,
    spec: &EventPipelineSpec,
    graph: &Graph<'_>,
    routes: bool,
    findings: &mut Findings,
) -> Option<StepPlan> {
    let raw = &spec.steps[index];
    let path = format!("spec.steps[{index}]");
    let name = node_name(&raw.name, &path, findings);
    let kinds = [
        ("query", raw.query.is_some()),
        ("aggregate", raw.aggregate.is_some()),
    ];
    let one = exactly_one(&path, &kinds, findings);
    let query = raw.query.as_ref();
    let query = query.map(|raw| self::query(raw, &format!("{path}.query"), findings));
    let aggregate = raw.aggregate.as_ref().and_then(|raw| {
        stands_above_rows(index, &path, graph, findings);
        let path = format!("{path}.aggregate");
        late_rows_have_a_place(raw, routes, &path, findings);
        aggregate(raw, &path, findings).map(StepKind::Aggregate)
    });
    let kind = query.or(aggregate).filter(|_| one);
    Some(StepPlan {
        name: name?,
        from: NodeName::new(&raw.from)?,
        source: graph.root(&raw.from)?,
        kind: kind?,
    })
}

fn query(raw: &Query, path: &str, findings: &mut Findings) -> StepKind {
    findings.require(raw.select.is_some() || raw.filter.is_some(), || {
        Violation::new(
            Code::ExactlyOne,
            path,
            "at least one of `select`, `where` must be given",
        )
    });
    StepKind::Query {
        select: raw.select.clone(),
        filter: raw.filter.clone(),
    }
}

fn aggregate(raw: &Aggregate, path: &str, findings: &mut Findings) -> Option<AggregatePlan> {
    let window = window(&raw.window, &format!("{path}.window"), findings);
    for (i, column) in raw.group_by.iter().enumerate() {
        findings.require(!raw.group_by[..i].contains(column), || {
            Violation::new(
                Code::DuplicateColumn,
                format!("{path}.groupBy[{i}]"),
                format!("`{column}` is named twice"),
            )
        });
    }
    Some(AggregatePlan {
        window: window?,
        group_by: raw.group_by.clone(),
        measures: raw.measures.clone(),
        late: raw.late,
    })
}

fn window(raw: &Window, path: &str, findings: &mut Findings) -> Option<WindowPlan> {
    if !exactly_one(path, &[("tumbling", raw.tumbling.is_some())], findings) {
        return None;
    }
    let tumbling = raw.tumbling.as_ref()?;
    let size = positive(&tumbling.size, &format!("{path}.tumbling.size"), findings);
    let origin = match &tumbling.origin {
        Some(origin) => instant(origin, &format!("{path}.tumbling.origin"), findings),
        None => Some(0),
    };
    Some(WindowPlan::Tumbling {
        size: i64::try_from(size?.as_micros()).ok()?,
        origin: origin?,
    })
}

/// An aggregate needs a watermark above it, and no other aggregate.
fn stands_above_rows(index: usize, path: &str, graph: &Graph<'_>, findings: &mut Findings) {
    let above = graph.above(&graph.spec().steps[index].from);
    if above.contains(&Node::Step(index)) {
        return; // A circle has its own finding.
    }
    for node in above {
        match node {
            Node::Step(i) if graph.spec().steps[i].aggregate.is_some() => {
                let message = format!(
                    "an aggregate over the aggregate `{}` is not built yet",
                    graph.spec().steps[i].name
                );
                findings.add(Violation::new(
                    Code::NotBuilt,
                    format!("{path}.from"),
                    message,
                ));
            }
            Node::Source(i) if graph.spec().sources[i].watermark.is_none() => {
                let name = &graph.spec().sources[i].name;
                let message =
                    format!("source `{name}` has no `watermark`, so no window would ever close");
                findings.add(
                    Violation::new(
                        Code::WatermarkNeeded,
                        format!("{path}.aggregate.window"),
                        message,
                    )
                    .help(format!(
                        "give source `{name}` a `watermark: {{column: …, delay: …}}`"
                    )),
                );
            }
            _ => {}
        }
    }
}

/// `late: DeadLetter` needs a place to route to.
fn late_rows_have_a_place(raw: &Aggregate, routes: bool, path: &str, findings: &mut Findings) {
    findings.require(raw.late != Late::DeadLetter || routes, || {
        let message = "`late: DeadLetter` keeps late rows with the dead letters, and `deadLetter` is not given";
        Violation::new(Code::DeadLetterNeeded, format!("{path}.late"), message)
    });
}
