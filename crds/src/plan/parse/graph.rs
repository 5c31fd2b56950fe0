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
    let reserved = DEAD_LETTERS.to_owned();
    let mut seen = BTreeSet::from([&reserved]);
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
        findings.require(seen.insert(name), || {
            let message = format!("`{name}` is the name of another source, step or sink, or reserved");
            Violation::new(
                Code::DuplicateName,
                format!("spec.{list}[{i}].name"),
                message,
            )
        });
        if let Some(node) = node {
            nodes.entry(name.as_str()).or_insert(node);
        }
    }
    nodes
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
                let known = nodes
                    .keys()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ");
                Violation::new(
                    Code::UnknownFrom,
                    path,
                    format!("no source or step named `{from}`"),
                )
                .note(format!("there are: {known}"))
                .did_you_mean(from, nodes.keys().copied())
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
                let names = waiting
                    .iter()
                    .map(|&i| format!("`{}`", self.spec.steps[i].name))
                    .collect::<Vec<_>>();
                let message = format!("{} read each other in a circle", names.join(", "));
                findings.add(Violation::new(
                    Code::Cycle,
                    format!("spec.steps[{}].from", waiting[0]),
                    message,
                ));
                return;
            }
            self.order.extend(ready);
            left = waiting;
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
