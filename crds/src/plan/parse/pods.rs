//! What only the operator uses, checked with the rest: objectives, and the pods' resources.

use super::Findings;
use super::text::{positive, quantity};
use crate::pipeline::{Objectives, Workers};
use crate::plan::{Code, Violation};

pub(super) fn objectives(raw: &Objectives, findings: &mut Findings) {
    if let Some(freshness) = &raw.freshness {
        positive(freshness, "spec.objectives.freshness", findings);
    }
    findings.require((0..=100).contains(&raw.max_dead_letter_percent), || {
        Violation::new(
            Code::OutOfRange,
            "spec.objectives.maxDeadLetterPercent",
            "must be 0 to 100",
        )
    });
}

pub(super) fn workers(raw: &Workers, findings: &mut Findings) {
    let (requests, limits) = (&raw.resources.requests, &raw.resources.limits);
    let mut amount = |list: &str, name: &str, text: &Option<String>| {
        let path = format!("spec.workers.resources.{list}.{name}");
        let text = text.as_deref()?;
        match name {
            "cpu" => cpu(text, &path, findings),
            _ => quantity(text, &path, findings),
        }
    };
    let pairs = [
        (
            "cpu",
            amount("requests", "cpu", &requests.cpu),
            amount("limits", "cpu", &limits.cpu),
        ),
        (
            "memory",
            amount("requests", "memory", &requests.memory),
            amount("limits", "memory", &limits.memory),
        ),
    ];
    for (name, request, limit) in pairs {
        let fits = request.is_none_or(|request| limit.is_none_or(|limit| request <= limit));
        findings.require(fits, || {
            let path = format!("spec.workers.resources.requests.{name}");
            let message = format!("a request of {name} must not be more than its limit");
            Violation::new(Code::OutOfRange, path, message)
        });
    }
}

/// A quantity of CPU, in thousandths.
fn cpu(text: &str, path: &str, findings: &mut Findings) -> Option<u64> {
    let amount = match text.strip_suffix('m') {
        Some(thousandths) => whole(thousandths),
        None => match text.split_once('.') {
            Some((cores, part)) if (1..=3).contains(&part.len()) => {
                let scale = [100, 10, 1][part.len() - 1];
                let part = whole(part).map(|part| part * scale);
                whole(cores).and_then(|cores| cores.checked_mul(1000)?.checked_add(part?))
            }
            Some(_) => None,
            None => whole(text).and_then(|cores| cores.checked_mul(1000)),
        },
    };
    findings.require(amount.is_some(), || {
        let message = format!("`{text}` must be a quantity of CPU such as `500m` or `2`");
        Violation::new(Code::Quantity, path, message)
    });
    amount
}

fn whole(digits: &str) -> Option<u64> {
    let digits_only = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| digits_only)
}
