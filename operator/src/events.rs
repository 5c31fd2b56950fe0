//! Which flips of conditions become Kubernetes Events: only what a person should know, one Event a reason.

use std::collections::BTreeMap;

use evp_api::reason;
use evp_api::status::{Condition, EventPipelineStatus, condition};
use kube::runtime::events::{Event, EventType};

use crate::status::figures::is_fault;

/// Longest note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// One thing to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Something is amiss.
    pub warning: bool,
    /// Word from the catalogue.
    pub reason: String,
    /// The condition's message.
    pub note: String,
}

impl From<Told> for Event {
    fn from(told: Told) -> Self {
        let kind = if told.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        Self {
            type_: kind,
            reason: told.reason,
            note: Some(told.note),
            action: "Reconciling".to_owned(),
            secondary: None,
        }
    }
}

/// What a change of status is worth telling.
pub fn of(before: &EventPipelineStatus, after: &EventPipelineStatus) -> Vec<Told> {
    let mut told = BTreeMap::new();
    for now in &after.conditions {
        let then = before.conditions.iter().find(|c| c.kind == now.kind);
        let same = then.is_some_and(|then| then.status == now.status && then.reason == now.reason);
        let Some(warning) = (!same).then(|| weight(now)).flatten() else {
            continue;
        };
        told.entry(now.reason.clone()).or_insert_with(|| Told {
            warning,
            reason: now.reason.clone(),
            note: bounded(&now.message),
        });
    }
    told.into_values().collect()
}

/// `Some(true)`: a warning, `Some(false)`: news, `None`: not worth telling.
fn weight(now: &Condition) -> Option<bool> {
    let bad = match now.kind.as_str() {
        condition::STALLED => now.status == "True",
        condition::RECONCILING => false,
        _ => now.status == "False",
    };
    if bad && is_fault(&now.reason) {
        return Some(true);
    }
    let news = matches!(now.reason.as_str(), reason::COMMITTING | reason::SUSPENDED);
    (now.kind == condition::READY && news).then_some(false)
}

fn bounded(message: &str) -> String {
    let mut end = message.len().min(LONGEST_NOTE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> EventPipelineStatus {
        let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
            kind: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: "m".into(),
            last_transition_time: String::new(),
            observed_generation: 1,
        };
        EventPipelineStatus {
            conditions: conditions.iter().map(condition).collect(),
            ..EventPipelineStatus::default()
        }
    }

    #[track_caller]
    fn check(before: &[(&str, &str, &str)], after: &[(&str, &str, &str)], wanted: &[(bool, &str)]) {
        let told = of(&status(before), &status(after));
        let told: Vec<_> = told
            .iter()
            .map(|told| (told.warning, told.reason.as_str()))
            .collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn becoming_ready_is_news() {
        check(
            &[("Ready", "False", "WorkersStarting")],
            &[("Ready", "True", "Committing")],
            &[(false, "Committing")],
        );
    }

    #[test]
    fn what_stays_is_not_told_again() {
        check(
            &[("Ready", "False", "SecretMissing")],
            &[("Ready", "False", "SecretMissing")],
            &[],
        );
    }

    #[test]
    fn a_fault_is_told_once_even_where_two_conditions_name_it() {
        check(
            &[("Ready", "True", "Committing")],
            &[
                ("Ready", "False", "StateIncompatible"),
                ("Stalled", "True", "StateIncompatible"),
            ],
            &[(true, "StateIncompatible")],
        );
    }

    #[test]
    fn the_way_to_a_goal_is_not_told() {
        check(
            &[],
            &[
                ("Ready", "False", "WorkersStarting"),
                ("Reconciling", "True", "WorkersStarting"),
            ],
            &[],
        );
        check(&[], &[("OnTime", "Unknown", "NothingRead")], &[]);
    }

    #[test]
    fn suspension_is_news_and_no_warning() {
        check(
            &[("Ready", "True", "Committing")],
            &[("Ready", "False", "Suspended")],
            &[(false, "Suspended")],
        );
    }
}
