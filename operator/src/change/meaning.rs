//! Changes that the table calls Incompatible and that are not, looked at closely: another spelling of the same thing, or
//! a field on which no state hangs.

use std::collections::BTreeMap;
use std::time::Duration;

use evp_api::pipeline::EventPipelineSpec;
use evp_api::plan::{NodeName, parse_duration, parse_instant};
use evp_api::step::Step;
use evp_core::check::check;
use evp_core::dataflow::Dataflow;
use jiff::SignedDuration;
use serde_json::Value;

use super::Class;

/// Both sides of a change.
pub(super) struct Specs<'a> {
    /// What the pods run.
    pub(super) old: &'a EventPipelineSpec,
    /// What is wanted.
    pub(super) new: &'a EventPipelineSpec,
}

/// The class of a change that by its path alone is Incompatible.
pub(super) fn refine(
    specs: &Specs<'_>,
    path: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Class {
    let lengths = [
        "tumbling.size",
        "hopping.size",
        "hopping.slide",
        "session.gap",
    ];
    let of_window = |member: &str| path.ends_with(&format!(".window.{member}"));
    let keeps = if lengths.into_iter().any(of_window) || path.ends_with(".dedupe.within") {
        same(|text| parse_duration(text).ok(), old, new)
    } else if of_window("tumbling.origin") || of_window("hopping.origin") {
        instant(old).is_some() && instant(old) == instant(new)
    } else if path.ends_with(".watermark.allowedLateness") {
        let feeds = item(path, "sources").is_some_and(|source| specs.feeds_windows(source));
        !feeds || same(|text| parse_duration(text).ok(), old, new)
    } else if path.ends_with(".aggregate.measures") {
        same(|text| Some(words(text)), old, new)
    } else if let Some(step) = item(path, "steps") {
        let whole = [".from", ".query", ".validate", ".dedupe", ".aggregate"];
        whole.iter().any(|end| path.ends_with(end)) && !specs.bears_state(step)
    } else if path.contains(".schema.fields[") && path.ends_with("].type") && specs.states_fit() {
        true
    } else if let Some(source) = item(path, "sources") {
        path.contains(".schema.fields[") && !specs.feeds_state(source)
    } else {
        false
    };
    if keeps {
        Class::Rolling
    } else {
        Class::Incompatible
    }
}

/// The named item of a list that a path lies in.
fn item<'a>(path: &'a str, list: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(list)?.strip_prefix('[')?;
    rest.split(']').next()
}

fn same<T: PartialEq>(
    read: impl Fn(&str) -> Option<T>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> bool {
    let read = |value: Option<&Value>| read(value?.as_str()?);
    let old = read(old);
    old.is_some() && old == read(new)
}

/// SQL text without regard to white space. Case counts: a quoted name may differ by nothing else.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An origin in microseconds; absent: the Unix epoch.
fn instant(value: Option<&Value>) -> Option<i64> {
    match value {
        None => Some(0),
        Some(value) => parse_instant(value.as_str()?).ok(),
    }
}

/// A length of time as the manifest spells it.
pub(crate) fn spelled(length: Duration) -> String {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let seconds = length.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let given = parts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = given
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if words.is_empty() {
        format!("{}ms", length.subsec_millis())
    } else {
        words.concat()
    }
}

impl Specs<'_> {
    /// Every step on both sides keeps the same kind of state: the changed type does not reach it.
    fn states_fit(&self) -> bool {
        let (Some(old), Some(new)) = (fingerprints(self.old), fingerprints(self.new)) else {
            return false;
        };
        old.iter()
            .all(|(step, old)| new.get(step).is_none_or(|new| new == old))
    }

    /// On either side the step keeps state or one that does hangs on it.
    fn bears_state(&self, step: &str) -> bool {
        [self.old, self.new].iter().any(|spec| {
            let mut steps = spec.steps.iter();
            let itself = steps.any(|s| s.name == step && keeps_state(s));
            itself || feeds(spec, step, keeps_state)
        })
    }

    /// On either side a step that keeps state hangs on the source.
    fn feeds_state(&self, source: &str) -> bool {
        let mut specs = [self.old, self.new].into_iter();
        specs.any(|spec| feeds(spec, source, keeps_state))
    }

    /// On either side an aggregate hangs on the source.
    fn feeds_windows(&self, source: &str) -> bool {
        let mut specs = [self.old, self.new].into_iter();
        specs.any(|spec| feeds(spec, source, |step| step.aggregate.is_some()))
    }
}

/// What the state of each step depends on, as the worker judges it; `None`: the spec is not accepted.
fn fingerprints(spec: &EventPipelineSpec) -> Option<BTreeMap<NodeName, String>> {
    let checked = check(spec).ok()?;
    Some(Dataflow::new(&checked).ok()?.fingerprints())
}

fn keeps_state(step: &Step) -> bool {
    step.aggregate.is_some() || step.dedupe.is_some()
}

/// Such a step reads the node, directly or through other steps. Bounded by the number of steps, so that a cycle ends.
fn feeds(spec: &EventPipelineSpec, node: &str, is_such: impl Fn(&Step) -> bool) -> bool {
    let mut below = vec![node];
    for _ in 0..=spec.steps.len() {
        for step in &spec.steps {
            if below.contains(&step.from.as_str()) && !below.contains(&step.name.as_str()) {
                if is_such(step) {
                    return true;
                }
                below.push(&step.name);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_spelled_as_the_manifest_does() {
        let check =
            |millis: u64, text: &str| assert_eq!(spelled(Duration::from_millis(millis)), text);
        check(1_890_000, "31m30s");
        check(3_600_000, "1h");
        check(250, "250ms");
        check(0, "0ms");
    }
}
