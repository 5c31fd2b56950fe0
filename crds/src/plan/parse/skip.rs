//! Records that the manifest gives up.

use super::Findings;
use crate::pipeline::{EventPipelineSpec, Skip};
use crate::plan::{Code, NodeName, SkipPlan, Violation};

/// Most records that may be named at once.
const MOST: usize = 256;

pub(super) fn skip(spec: &EventPipelineSpec, findings: &mut Findings) -> Option<Vec<SkipPlan>> {
    let given = spec.skip.len();
    findings.require(given <= MOST, || {
        let message = format!("must have at most {MOST} items; there are {given}");
        Violation::new(Code::OutOfRange, "spec.skip", message)
    });
    findings.require(given == 0 || spec.dead_letter.is_some(), || {
        let message =
            "a record that is skipped becomes a dead letter, and there is no place for it";
        Violation::new(Code::DeadLetterNeeded, "spec.skip", message)
            .help("give the pipeline a `deadLetter`")
    });
    let records = spec.skip.iter().enumerate();
    records
        .map(|(i, raw)| record(i, raw, spec, findings))
        .collect()
}

fn record(
    i: usize,
    raw: &Skip,
    spec: &EventPipelineSpec,
    findings: &mut Findings,
) -> Option<SkipPlan> {
    let is_source = spec.sources.iter().any(|s| s.name == raw.source);
    findings.require(is_source, || {
        let path = format!("spec.skip[{i}].source");
        Violation::new(Code::UnknownSource, path, "must name a source")
    });
    let number = raw.split.parse::<i32>().ok();
    let split = number.filter(|n| *n >= 0 && n.to_string() == raw.split);
    findings.require(split.is_some(), || {
        let path = format!("spec.skip[{i}].split");
        Violation::new(Code::OutOfRange, path, "must be the number of a partition")
    });
    let fits = (0..=9_007_199_254_740_991).contains(&raw.position);
    findings.require(fits, || {
        let path = format!("spec.skip[{i}].position");
        Violation::new(Code::OutOfRange, path, "must be from 0 to 9007199254740991")
    });
    Some(SkipPlan {
        source: NodeName::new(&raw.source).filter(|_| is_source)?,
        split: split?,
        position: raw.position,
    })
}
