//! The six conditions, each by its own rule.

use evp_api::progress::{Progress, SourceProgress};
use evp_api::reason;
use evp_api::status::{Condition, EventPipelineStatus, condition};
use jiff::{SignedDuration, Timestamp};

use super::ready::{has_arrived, ready};
use super::{Facts, PROGRESS_DEADLINE, Verdict, figures, rfc3339};
use crate::change::spelled;
use crate::rollout::{self, Hold};

/// Longest message; what is beyond is cut off.
const LONGEST_MESSAGE: usize = 4096;

/// Status, reason and message of one condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) status: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
}

pub(super) fn finding(status: &'static str, reason: &str, message: impl Into<String>) -> Finding {
    let (reason, message) = (reason.to_owned(), message.into());
    Finding {
        status,
        reason,
        message,
    }
}

/// All six, in the order in which people ask.
pub(super) fn of(facts: &Facts<'_>, figures: &EventPipelineStatus) -> Vec<Condition> {
    let ready = ready(facts);
    let on_the_way = on_the_way(facts, &ready);
    let stalled = stalled(facts, &ready, on_the_way);
    let reconciling = reconciling(facts, &ready, on_the_way, &stalled);
    let found = [
        (condition::ACCEPTED, accepted(facts)),
        (condition::READY, ready),
        (condition::ON_TIME, on_time(facts, figures)),
        (condition::CLEAN, clean(facts)),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
    ];
    found
        .into_iter()
        .map(|(kind, finding)| dated(facts, kind, finding))
        .collect()
}

pub(super) fn previous<'a>(facts: &Facts<'a>, kind: &str) -> Option<&'a Condition> {
    facts.previous.conditions.iter().find(|c| c.kind == kind)
}

/// Its transition time is the one of before unless the status flipped.
fn dated(facts: &Facts<'_>, kind: &str, finding: Finding) -> Condition {
    let before = previous(facts, kind).filter(|before| before.status == finding.status);
    let mut message = finding.message;
    if let Some((cut, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(cut);
    }
    Condition {
        kind: kind.to_owned(),
        status: finding.status.to_owned(),
        reason: finding.reason,
        message,
        last_transition_time: before.map_or_else(
            || rfc3339(facts.now),
            |before| before.last_transition_time.clone(),
        ),
        observed_generation: facts.judged.generation,
    }
}

fn accepted(facts: &Facts<'_>) -> Finding {
    match &facts.judged.verdict {
        Verdict::Held(Hold::NotAccepted(violations)) => {
            let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
            finding("False", reason::SPEC_NOT_ACCEPTED, lines.join("\n"))
        }
        _ => finding(
            "True",
            reason::SPEC_ACCEPTED,
            "the spec is checked and its SQL planned",
        ),
    }
}

/// The generation is accepted and not yet at work. Once it was, a fault of its pods is no reconciling.
fn on_the_way(facts: &Facts<'_>, ready: &Finding) -> bool {
    match facts.judged.verdict {
        Verdict::Waiting => true,
        Verdict::Applied if ready.status == "True" => false,
        Verdict::Applied if ready.reason == reason::ROLLING_OUT => true,
        Verdict::Applied => match facts.current_report() {
            Some(report) => !has_arrived(report),
            None => previous(facts, condition::RECONCILING).is_none_or(|before| {
                before.status != "False"
                    || before.observed_generation != facts.judged.generation
                    || before.reason != reason::AS_EXPECTED
            }),
        },
        _ => false,
    }
}

/// `AsExpected` is said only of a generation that is or was at work: [`on_the_way`] reads it back.
fn reconciling(facts: &Facts<'_>, ready: &Finding, on_the_way: bool, stalled: &Finding) -> Finding {
    if on_the_way && stalled.status == "False" {
        return finding("True", &ready.reason, ready.message.clone());
    }
    match facts.judged.verdict {
        Verdict::Suspended => finding("False", reason::SUSPENDED, "nothing is being changed"),
        Verdict::Applied if !on_the_way => {
            finding("False", reason::AS_EXPECTED, "this generation is in place")
        }
        _ => finding(
            "False",
            &stalled.reason,
            "nothing goes on until a person acts",
        ),
    }
}

/// Must a person act?
fn stalled(facts: &Facts<'_>, ready: &Finding, on_the_way: bool) -> Finding {
    let as_ready = || finding("True", &ready.reason, ready.message.clone());
    match &facts.judged.verdict {
        Verdict::Held(Hold::NotAccepted(_)) => {
            finding("True", reason::SPEC_NOT_ACCEPTED, accepted(facts).message)
        }
        Verdict::Held(_) | Verdict::ChildRefused(_) => as_ready(),
        Verdict::Applied if facts.current_report().is_some_and(needs_a_person) => as_ready(),
        Verdict::Applied | Verdict::Waiting if on_the_way && overdue(facts) => {
            let message = format!(
                "not at work after {}: {}: {}",
                spelled(PROGRESS_DEADLINE),
                ready.reason,
                ready.message
            );
            finding("True", reason::PROGRESS_DEADLINE_EXCEEDED, message)
        }
        _ => finding("False", reason::AS_EXPECTED, "nobody needs to act"),
    }
}

fn needs_a_person(report: &Progress) -> bool {
    report.reason.as_ref().is_some_and(|halt| halt.stalled)
}

/// The rollout began, or the waiting, longer ago than it may take.
fn overdue(facts: &Facts<'_>) -> bool {
    let rolled = facts
        .deployment
        .and_then(rollout::rolled)
        .map(|rolled| rolled.time);
    let began = match facts.judged.verdict {
        Verdict::Applied => rolled,
        _ => previous(facts, condition::RECONCILING)
            .filter(|before| before.status == "True")
            .map(|before| before.last_transition_time.clone()),
    };
    let began = began.and_then(|time| time.parse::<Timestamp>().ok());
    began.is_some_and(|began| older(facts.now, began, PROGRESS_DEADLINE))
}

fn older(now: Timestamp, than: Timestamp, limit: std::time::Duration) -> bool {
    now.duration_since(than) > SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX)
}

/// Is committed event time within the objective of now?
fn on_time(facts: &Facts<'_>, figures: &EventPipelineStatus) -> Finding {
    if facts
        .report()
        .is_some_and(|report| report.progress.caught_up && report.progress.term > 0)
    {
        return finding(
            "True",
            reason::CAUGHT_UP,
            "everything in the sources is committed",
        );
    }
    let watermark = figures
        .watermark
        .as_ref()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let (Some(watermark), Some(limit)) = (watermark, facts.judged.freshness) else {
        let message = "no event time is committed yet".to_owned() + &held(facts);
        return finding("Unknown", reason::NOTHING_READ, message);
    };
    let limit_text = spelled(limit);
    if older(facts.now, watermark, limit) {
        let message = format!(
            "committed event time is more than {limit_text} behind: at {}{}",
            rfc3339(watermark),
            held(facts),
        );
        return finding("False", reason::BEHIND_OBJECTIVE, message);
    }
    finding(
        "True",
        reason::WITHIN_OBJECTIVE,
        format!("committed event time is less than {limit_text} behind"),
    )
}

/// Why the lowest watermark stands where it stands, to be added to a sentence.
fn held(facts: &Facts<'_>) -> String {
    let report = facts.report().map(|report| &report.progress);
    let sources = report.into_iter().flat_map(|report| &report.sources);
    let of_time = sources.filter(|source| source.hold.is_some());
    let lowest = of_time.min_by_key(|source| source.watermark);
    let explained = lowest.and_then(SourceProgress::explained);
    explained.map_or_else(String::new, |why| format!("; {why}"))
}

/// Are dead letters within the objective?
fn clean(facts: &Facts<'_>) -> Finding {
    let report = facts
        .report()
        .map(|report| &report.progress)
        .filter(|report| report.recent.read > 0);
    let Some(report) = report else {
        let before = previous(facts, condition::CLEAN);
        return before.map_or_else(
            || finding("Unknown", reason::NOTHING_READ, "no record was read yet"),
            |before| {
                finding(
                    known(&before.status),
                    &before.reason,
                    before.message.clone(),
                )
            },
        );
    };
    let allowed = i64::from(facts.spec.objectives.max_dead_letter_percent);
    let recent = &report.recent;
    if recent.dead_lettered.saturating_mul(100) > recent.read.saturating_mul(allowed) {
        return finding(
            "False",
            reason::TOO_MANY_DEAD_LETTERS,
            figures::dead_letter_text(report),
        );
    }
    finding(
        "True",
        reason::WITHIN_OBJECTIVE,
        format!("at most {allowed}% of the records are dead-lettered"),
    )
}

fn known(status: &str) -> &'static str {
    match status {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    }
}
