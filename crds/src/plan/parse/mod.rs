//! Raw spec to [`Plan`]: every check that needs no SQL, all findings at once.

mod address;
mod bounds;
mod data_type;
mod files;
mod format;
mod generator;
mod graph;
mod kafka;
mod paths;
mod pods;
mod record;
mod sink;
mod skip;
mod source;
mod step;
mod storage;
mod text;

use super::{Code, NodeName, Plan, Violation};
use crate::pipeline::EventPipelineSpec;

pub use text::{parse_duration, parse_instant, parse_quantity};

/// Findings so far. A check that fails leaves a finding and yields `None`.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, violation: Violation) {
        self.0.push(violation);
    }

    /// The value, or `None` and the finding.
    fn take<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        result.map_err(|violation| self.add(violation)).ok()
    }

    /// A finding where the condition does not hold.
    fn require(&mut self, holds: bool, violation: impl FnOnce() -> Violation) {
        if !holds {
            self.add(violation());
        }
    }
}

impl Plan {
    /// Checks a spec; all findings at once, in the order of the manifest.
    pub fn parse(spec: &EventPipelineSpec) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        let plan = parse(spec, &mut findings);
        match plan {
            Some(plan) if findings.0.is_empty() => Ok(plan),
            _ => Err(findings.0),
        }
    }
}

fn parse(spec: &EventPipelineSpec, findings: &mut Findings) -> Option<Plan> {
    let checkpoint = storage::checkpoint(&spec.checkpoint, findings);
    let s3 = storage::object_store(spec.object_store.as_ref(), findings);
    let dead_letter = storage::dead_letter(spec.dead_letter.as_ref(), findings);
    let reset_nonce = storage::reset_nonce(spec.reset_nonce, findings);
    let skip = skip::skip(spec, findings);
    pods::objectives(&spec.objectives, findings);
    pods::workers(&spec.workers, findings);
    bounds::hold(spec, findings);
    let routes = spec.dead_letter.is_some();
    let names = graph::names(spec, findings);
    let sources: Vec<_> = spec
        .sources
        .iter()
        .enumerate()
        .map(|(i, s)| source::source(i, s, routes, findings))
        .collect();
    let graph = graph::Graph::new(spec, &names, findings);
    let mut steps: Vec<_> = (0..spec.steps.len())
        .map(|i| step::step(i, spec, &graph, routes, findings))
        .collect();
    let sinks: Vec<_> = spec
        .sinks
        .iter()
        .enumerate()
        .map(|(i, s)| sink::sink(i, s, &graph, findings))
        .collect();
    paths::apart(spec, findings);
    Some(Plan {
        checkpoint: checkpoint?,
        s3: s3?,
        dead_letter: dead_letter?,
        reset_nonce: reset_nonce?,
        skip: skip?,
        sources: sources.into_iter().collect::<Option<_>>()?,
        steps: graph
            .order
            .iter()
            .map(|&i| steps[i].take())
            .collect::<Option<_>>()?,
        sinks: sinks.into_iter().collect::<Option<_>>()?,
    })
}

/// The name, or a finding.
fn node_name(name: &str, path: &str, findings: &mut Findings) -> Option<NodeName> {
    findings.take(NodeName::new(name).ok_or_else(|| {
        Violation::new(
            Code::Name,
            format!("{path}.name"),
            format!("`{name}` must be a DNS label: lower-case letters, digits and `-`, at most 63 characters"),
        )
    }))
}

/// A list of columns holds none twice.
fn named_once(columns: &[String], path: &str, findings: &mut Findings) {
    for (i, column) in columns.iter().enumerate() {
        findings.require(!columns[..i].contains(column), || {
            let message = format!("`{column}` is named twice");
            Violation::new(Code::DuplicateColumn, format!("{path}[{i}]"), message)
        });
    }
}

/// The one member of a union that is given, or a finding that names them all.
fn exactly_one(path: &str, members: &[(&str, bool)], findings: &mut Findings) -> bool {
    let given: Vec<_> = members
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    let all = members
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    findings.require(given.len() == 1, || {
        let message = match given.len() {
            0 => format!("exactly one of {all} must be given; none is"),
            _ => format!(
                "exactly one of {all} must be given; there are {}",
                given.join(" and ")
            ),
        };
        Violation::new(Code::ExactlyOne, path, message)
    });
    given.len() == 1
}

#[cfg(test)]
mod tests;
