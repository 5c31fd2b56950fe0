//! What must hold within one decided body.

use super::Kind;
use crate::ledger::Ledger;
use crate::position::{Epoch, Position};
use crate::protocol::head::Body;
use crate::protocol::paths::written_for;

/// What is wrong, and how.
pub(super) type Wrong = (Kind, String);

/// Everything that a body says of itself.
pub(super) fn judge(body: &Body) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    counts(body, &mut wrong);
    first(body, &mut wrong);
    intents(body, &mut wrong);
    places(body, &mut wrong);
    wrong
}

fn counts(body: &Body, wrong: &mut Vec<Wrong>) {
    let epoch = body.epoch;
    if let Err(counts) = body.ledger.balance() {
        let message = format!("the counts of epoch {epoch} do not balance: {counts}");
        wrong.push((Kind::Unbalanced, message));
    }
    if let Err(counts) = body.totals.balance() {
        let message = format!("the totals up to epoch {epoch} do not balance: {counts}");
        wrong.push((Kind::Unbalanced, message));
    }
}

/// Epoch 0 holds only the resolved start.
fn first(body: &Body, wrong: &mut Vec<Wrong>) {
    let epoch = body.epoch;
    if (epoch == Epoch(0)) != body.parent.is_none() {
        let message = format!("epoch {epoch} and its parent do not fit");
        wrong.push((Kind::Contradiction, message));
    }
    let none = Ledger::default();
    if epoch == Epoch(0) && (!body.intents.is_empty() || body.totals != none) {
        let message = "epoch 0 has counts or intents, before anything was read".to_owned();
        wrong.push((Kind::Contradiction, message));
    }
}

fn intents(body: &Body, wrong: &mut Vec<Wrong>) {
    let epoch = body.epoch;
    for intent in &body.intents {
        let known = body.sink_name(&intent.sink).is_some();
        if !known || intent.epoch != epoch || intent.prev >= Some(epoch) {
            let message = format!(
                "an intent of epoch {epoch} for sink identity {} does not fit its epoch and sinks",
                intent.sink.id8()
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
    for (name, entry) in &body.sinks {
        let wanted = body.intents.iter().filter(|i| i.sink == entry.identity);
        let wanted = wanted.count();
        if wanted > 1 || (wanted == 1) != (entry.prev == Some(epoch)) || entry.added_at > epoch {
            let message = format!(
                "sink {name} has {wanted} intents in epoch {epoch}, and its newest epoch is said to be {}",
                told(entry.prev)
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
}

fn places(body: &Body, wrong: &mut Vec<Wrong>) {
    let epoch = body.epoch;
    for (source, splits) in &body.positions {
        for (split, at) in splits.iter().filter(|(_, at)| at.next < Position(0)) {
            let message = format!("source {source} split {split} stands at {}", at.next);
            wrong.push((Kind::WentBack, message));
        }
    }
    for file in body.state_files() {
        if written_for(&file.name).is_none_or(|written| written > epoch) {
            let message = format!(
                "state file {} was not written for epoch {epoch} or before",
                file.name
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
}

/// An epoch for people.
pub(super) fn told(epoch: Option<Epoch>) -> String {
    epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())
}
