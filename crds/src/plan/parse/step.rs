//! Steps: queries, rules, deduplication and aggregates.

use super::graph::{Graph, Node};
use super::{Findings, exactly_one, named_once, node_name};
use crate::pipeline::EventPipelineSpec;
use crate::plan::{
    AggregatePlan, Code, DedupeLate, DedupePlan, Late, NodeName, RulePlan, StepKind, StepPlan,
    Violation,
};
use crate::step::{Aggregate, Dedupe, Query, Validate};

mod window;

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
        ("validate", raw.validate.is_some()),
        ("dedupe", raw.dedupe.is_some()),
        ("aggregate", raw.aggregate.is_some()),
    ];
    let one = exactly_one(&path, &kinds, findings);
    let query = raw.query.as_ref();
    let query = query.map(|raw| self::query(raw, &format!("{path}.query"), findings));
    let validate = raw.validate.as_ref().and_then(|raw| {
        reads_records(index, "validate", graph, findings);
        rules(raw, &format!("{path}.validate.rules"), findings).map(StepKind::Validate)
    });
    let dedupe = raw.dedupe.as_ref().and_then(|raw| {
        reads_records(index, "dedupe", graph, findings);
        let path = format!("{path}.dedupe");
        let why = "so no key would ever be forgotten";
        has_a_watermark(index, (&path, why), graph, findings);
        late_rows_have_a_place(raw.late == DedupeLate::DeadLetter, routes, &path, findings);
        dedupe(raw, &path, findings).map(StepKind::Dedupe)
    });
    let aggregate = raw.aggregate.as_ref().and_then(|raw| {
        let why = "so no window would ever close";
        let window = format!("{path}.aggregate.window");
        has_a_watermark(index, (&window, why), graph, findings);
        late_rows_are_records(index, &path, graph, findings);
        let path = format!("{path}.aggregate");
        late_rows_have_a_place(raw.late == Late::DeadLetter, routes, &path, findings);
        aggregate(raw, &path, findings).map(StepKind::Aggregate)
    });
    let kind = query.or(validate).or(dedupe).or(aggregate);
    Some(StepPlan {
        name: name?,
        from: NodeName::new(&raw.from)?,
        source: graph.root(&raw.from)?,
        kind: kind.filter(|_| one)?,
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

fn rules(raw: &Validate, path: &str, findings: &mut Findings) -> Option<Vec<RulePlan>> {
    let mut rules = Vec::new();
    for (i, rule) in raw.rules.iter().enumerate() {
        let name = node_name(&rule.name, &format!("{path}[{i}]"), findings);
        findings.require(raw.rules[..i].iter().all(|r| r.name != rule.name), || {
            let message = format!("`{}` is the name of another rule", rule.name);
            Violation::new(Code::DuplicateName, format!("{path}[{i}].name"), message)
        });
        rules.push(name.map(|name| RulePlan {
            name: name.as_str().to_owned(),
            check: rule.check.clone(),
            message: rule.message.clone(),
        }));
    }
    rules.into_iter().collect()
}

/// The nearest aggregate above a step; `None` also in a circle, which has its own finding.
fn aggregate_above<'a>(index: usize, graph: &Graph<'a>) -> Option<&'a str> {
    let steps = &graph.spec().steps;
    let above = graph.above(&steps[index].from);
    let aggregate = above.iter().find_map(|node| match node {
        Node::Step(i) if steps[*i].aggregate.is_some() => Some(steps[*i].name.as_str()),
        _ => None,
    });
    aggregate.filter(|_| !above.contains(&Node::Step(index)))
}

/// A step that judges records needs records: the rows of an aggregate come from none that could be kept.
fn reads_records(index: usize, kind: &str, graph: &Graph<'_>, findings: &mut Findings) {
    if let Some(name) = aggregate_above(index, graph) {
        let message = format!(
            "`{kind}` reads records, and rows of the aggregate `{name}` come from no single one"
        );
        let path = format!("spec.steps[{index}].{kind}");
        let fault = Violation::new(Code::Misplaced, path, message);
        findings.add(fault.help(format!(
            "put it above `{name}`, or use a `query` with `where`"
        )));
    }
}

fn aggregate(raw: &Aggregate, path: &str, findings: &mut Findings) -> Option<AggregatePlan> {
    let window = window::window(&raw.window, &format!("{path}.window"), findings);
    let has_key = raw.window.session.is_none() || !raw.group_by.is_empty();
    findings.require(has_key, || {
        let message = "a session needs a key: rows of whom follow each other";
        Violation::new(Code::OutOfRange, format!("{path}.groupBy"), message)
            .help("name at least one column, or use `tumbling` or `hopping` windows")
    });
    named_once(&raw.group_by, &format!("{path}.groupBy"), findings);
    Some(AggregatePlan {
        window: window?,
        group_by: raw.group_by.clone(),
        measures: raw.measures.clone(),
        late: raw.late,
    })
}

fn dedupe(raw: &Dedupe, path: &str, findings: &mut Findings) -> Option<DedupePlan> {
    named_once(&raw.keys, &format!("{path}.keys"), findings);
    let within = raw.within.as_deref();
    let within = within.map(|text| window::micros(text, &format!("{path}.within"), findings));
    Some(DedupePlan {
        keys: raw.keys.clone(),
        within: match within {
            Some(within) => Some(within?),
            None => None,
        },
        late: raw.late,
    })
}

/// A step that forgets needs a watermark above it.
fn has_a_watermark(
    index: usize,
    (path, why): (&str, &str),
    graph: &Graph<'_>,
    findings: &mut Findings,
) {
    let above = graph.above(&graph.spec().steps[index].from);
    if above.contains(&Node::Step(index)) {
        return; // A circle has its own finding.
    }
    let source = above.iter().find_map(|node| match node {
        Node::Source(i) => Some(&graph.spec().sources[*i]),
        Node::Step(_) => None,
    });
    if let Some(source) = source.filter(|source| source.watermark.is_none()) {
        let name = &source.name;
        let message = format!("source `{name}` has no `watermark`, {why}");
        findings.add(
            Violation::new(Code::WatermarkNeeded, path, message).help(format!(
                "give source `{name}` a `watermark: {{column: …, delay: …}}`"
            )),
        );
    }
}

/// Rows of an aggregate are of closed windows: they come once, and in time.
fn late_rows_are_records(index: usize, path: &str, graph: &Graph<'_>, findings: &mut Findings) {
    let late = |raw: &Aggregate| raw.late == Late::DeadLetter;
    let steps = &graph.spec().steps;
    if let Some(name) = aggregate_above(index, graph)
        && steps[index].aggregate.as_ref().is_some_and(late)
    {
        let message = format!("rows of the aggregate `{name}` are never late");
        let fault = Violation::new(Code::Misplaced, format!("{path}.aggregate.late"), message);
        findings.add(fault.help(format!("take it out, or give it to `{name}`")));
    }
}

/// `late: DeadLetter` needs a place to route to.
fn late_rows_have_a_place(kept: bool, routes: bool, path: &str, findings: &mut Findings) {
    findings.require(!kept || routes, || {
        let message = "`late: DeadLetter` keeps late rows with the dead letters, and `deadLetter` is not given";
        Violation::new(Code::DeadLetterNeeded, format!("{path}.late"), message)
    });
}
