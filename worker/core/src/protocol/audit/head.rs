//! What must hold between the three objects that every start reads, and within the head beside its body.

use super::alone::Wrong;
use super::{Finding, HELP_DEFECT, HELP_NEEDED, Kind, Objects};
use crate::position::Epoch;
use crate::protocol::head::{Body, Head, Intent, SUPERSEDED, SinkEntry, Unreadable};
use crate::protocol::paths::{self, Lane};

/// Judges owner, head and born.
pub(super) fn objects(lane: &Lane, name: &str, objects: &Objects, findings: &mut Vec<Finding>) {
    let Objects { owner, head, born } = objects;
    let started = matches!(head, Some(Ok(head)) if head.body.epoch > Epoch(0));
    let mut find = |kind, object: &str, message: String| {
        let help = match kind {
            Kind::Contradiction => HELP_DEFECT,
            _ => HELP_NEEDED,
        };
        findings.push(Finding {
            kind,
            object: object.to_owned(),
            epoch: None,
            message: format!("{object} {message}"),
            help,
        });
    };
    if let Some((kind, what)) = unreadable(owner.as_ref(), true) {
        find(kind, paths::OWNER, what);
    }
    if let Some((kind, what)) = unreadable(head.as_ref(), true) {
        find(kind, &lane.head(), what);
    }
    if let Some((kind, what)) = unreadable(born.as_ref(), started) {
        find(kind, &lane.born(), what);
    }
    if let Some(Ok(owner)) = owner
        && owner.name != name
    {
        let what = format!("names pipeline {} as the owner, and not {name}", owner.name);
        find(Kind::Damaged, paths::OWNER, what);
    }
    let Some(Ok(head)) = head else { return };
    if let Some(Ok(owner)) = owner
        && owner.checkpoint != head.body.checkpoint
    {
        let what = "is of another checkpoint than the head".to_owned();
        find(Kind::Damaged, paths::OWNER, what);
    }
    if let Some(Ok(born)) = born
        && (born.checkpoint.as_str(), born.incarnation.as_str())
            != (head.body.checkpoint.as_str(), head.body.born())
    {
        let what = "is of another life than the head".to_owned();
        find(Kind::Damaged, &lane.born(), what);
    }
    for what in beside(head) {
        find(Kind::Contradiction, &lane.head(), what);
    }
}

/// Why an object is not there as it should be; `needed`: it must be there.
fn unreadable<T>(found: Option<&Result<T, Unreadable>>, needed: bool) -> Option<Wrong> {
    match found {
        None => needed.then(|| (Kind::Missing, "is gone".to_owned())),
        Some(Err(e)) => Some((Kind::Damaged, e.to_string())),
        Some(Ok(_)) => None,
    }
}

/// What a head says beside its body, which its digest does not cover.
fn beside(head: &Head) -> Vec<String> {
    let (owner, mut wrong) = (&head.owner, Vec::new());
    let lost = owner.superseded.len();
    if lost > SUPERSEDED || owner.term.0 <= lost as u64 || owner.term.0 <= owner.takeovers.into() {
        wrong.push(format!(
            "has term {}, and {lost} pods lost the lane in {} take-overs",
            owner.term, owner.takeovers
        ));
    }
    for (name, entry) in &head.body.sinks {
        let recorded = head.rolling.applied.get(&entry.identity).copied();
        let expected = match waiting(head, entry) {
            Some(intent) => intent.prev,
            None => entry.prev,
        };
        if recorded != expected {
            wrong.push(format!(
                "records {} as the newest epoch applied to sink {name}, and what was decided says {}",
                super::alone::told(recorded),
                super::alone::told(expected)
            ));
        }
    }
    wrong
}

/// The oldest intent that is not recorded as applied to a sink.
fn waiting<'a>(head: &'a Head, entry: &SinkEntry) -> Option<&'a Intent> {
    let mut intents = head.rolling.undone.iter().flat_map(|u| &u.intents);
    intents.find(|intent| intent.sink == entry.identity && !head.rolling.holds(intent))
}

/// An intent is not recorded as applied.
pub(super) fn waits(head: &Head, intent: &Intent) -> bool {
    let mut intents = head.rolling.undone.iter().flat_map(|u| &u.intents);
    intents.any(|undone| undone == intent) && !head.rolling.holds(intent)
}

/// What to ask a sink about.
pub(super) fn question(head: &Head, entry: &SinkEntry) -> Intent {
    let next = || Intent {
        sink: entry.identity.clone(),
        epoch: head.body.epoch.next(),
        prev: entry.prev,
        body: serde_json::Value::Null,
        apart: None,
    };
    waiting(head, entry).cloned().unwrap_or_else(next)
}

/// An epoch that the head calls undone is the one that was decided.
pub(super) fn undone(head: &Head, body: &Body) -> Option<Wrong> {
    let undone = head.rolling.undone.iter().find(|u| u.epoch == body.epoch)?;
    let same = (&undone.plan, &undone.intents) == (&body.plan, &body.intents);
    (!same).then(|| {
        let message = format!(
            "the head wants something else done for epoch {} than was decided",
            body.epoch
        );
        (Kind::Contradiction, message)
    })
}
