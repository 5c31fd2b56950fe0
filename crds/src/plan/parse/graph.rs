//! Names and references: who reads whom, in an order in which each step comes after what it reads.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::pipeline::EventPipelineSpec;
use crate::plan::{Code, DEAD_LETTERS, NodeName, Violation};

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Node {
    Source(usize),
    Step(usize),
}

/// Nodes that can be read, by name. Duplicate names are findings.
pub(super) fn names<'a>(
    spec: &'a EventPipelineSpec,
    findings: &mut Findings,
) -> BTreeMap<&'a str, Node> {
    let mut nodes = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let sources = spec
        .sources
        .iter()
        .enumerate()
        .map(|(i, s)| ("sources", i, &s.name, Some(Node::Source(i))));
    let steps = spec
        .steps
        .iter()
        .enumerate()
        .map(|(i, s)| ("steps", i, &s.name, Some(Node::Step(i))));
    let sinks = spec
        .sinks
        .iter()
        .enumerate()
        .map(|(i, s)| ("sinks", i, &s.name, None));
    for (list, i, name, node) in sources.chain(steps).chain(sinks) {
        let taken = match name.as_str() {
            DEAD_LETTERS => Some("is the name of the dead letters' own sink"),
            name if !seen.insert(name) => Some("is the name of another source, step or sink"),
            _ => None,
        };
        if let Some(taken) = taken {
            let path = format!("spec.{list}[{i}].name");
            let message = format!("`{name}` {taken}");
            findings.add(Violation::new(Code::DuplicateName, path, message));
        }
        if let Some(node) = node {
            nodes.entry(name.as_str()).or_insert(node);
        }
    }
    nodes
}

fn unknown(
    spec: &EventPipelineSpec,
    nodes: &BTreeMap<&str, Node>,
    path: String,
    from: &str,
) -> Violation {
    let known: Vec<_> = nodes.keys().map(|name| format!("`{name}`")).collect();
    let message = if spec.sinks.iter().any(|sink| sink.name == from) {
        format!("`{from}` is a sink, and a sink cannot be read")
    } else {
        format!("no source or step named `{from}`")
    };
    Violation::new(Code::UnknownFrom, path, message)
        .note(format!("there are: {}", known.join(", ")))
        .did_you_mean(from, nodes.keys().copied())
}

/// The resolved references.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    spec: &'a EventPipelineSpec,
    nodes: &'a BTreeMap<&'a str, Node>,
    /// Steps in an order in which each comes after what it reads.
    pub(super) order: Vec<usize>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(
        spec: &'a EventPipelineSpec,
        nodes: &'a BTreeMap<&'a str, Node>,
        findings: &mut Findings,
    ) -> Self {
        let froms = spec
            .steps
            .iter()
            .enumerate()
            .map(|(i, s)| (format!("spec.steps[{i}].from"), s.from.as_str()));
        let reads = spec
            .sinks
            .iter()
            .enumerate()
            .map(|(i, s)| (format!("spec.sinks[{i}].from"), s.from.as_str()));
        for (path, from) in froms.chain(reads) {
            findings.require(nodes.contains_key(from), || {
                unknown(spec, nodes, path, from)
            });
        }
        let mut graph = Self {
            spec,
            nodes,
            order: Vec::new(),
        };
        graph.sort(findings);
        graph
    }

    fn sort(&mut self, findings: &mut Findings) {
        let mut left: Vec<usize> = (0..self.spec.steps.len()).collect();
        while !left.is_empty() {
            let (ready, waiting): (Vec<usize>, Vec<usize>) = left.iter().partition(|&&i| {
                !matches!(self.nodes.get(self.spec.steps[i].from.as_str()), Some(Node::Step(up)) if left.contains(up))
            });
            if ready.is_empty() {
                self.circles(&waiting, findings);
                self.order.extend(waiting);
                return;
            }
            self.order.extend(ready);
            left = waiting;
        }
    }

    /// One finding a circle; steps below one are not part of it.
    fn circles(&self, waiting: &[usize], findings: &mut Findings) {
        for &first in waiting {
            let chain = self.above(&self.spec.steps[first].from);
            let steps = chain.iter().filter_map(|node| match node {
                Node::Step(i) => Some(*i),
                Node::Source(_) => None,
            });
            let members: BTreeSet<usize> = steps.collect();
            // Only a member comes to itself; the first of them speaks for all.
            if members.first() != Some(&first) {
                continue;
            }
            let names: Vec<_> = members
                .iter()
                .map(|&i| format!("`{}`", self.spec.steps[i].name))
                .collect();
            let message = match names.as_slice() {
                [name] => format!("{name} reads itself"),
                _ => format!("{} read each other in a circle", names.join(", ")),
            };
            let path = format!("spec.steps[{first}].from");
            findings.add(Violation::new(Code::Cycle, path, message));
        }
    }

    /// The nodes from here up to the source, nearest first. Ends early at an unknown name or in a circle.
    pub(super) fn above(&self, from: &str) -> Vec<Node> {
        let mut chain = Vec::new();
        let mut from = from;
        while let Some(&node) = self.nodes.get(from) {
            if chain.contains(&node) {
                break;
            }
            chain.push(node);
            match node {
                Node::Step(i) => from = &self.spec.steps[i].from,
                Node::Source(_) => break,
            }
        }
        chain
    }

    /// The source at the root of a chain.
    pub(super) fn root(&self, from: &str) -> Option<NodeName> {
        match self.above(from).last()? {
            Node::Source(i) => NodeName::new(&self.spec.sources[*i].name),
            Node::Step(_) => None,
        }
    }

    /// The spec.
    pub(super) fn spec(&self) -> &'a EventPipelineSpec {
        self.spec
    }
}
