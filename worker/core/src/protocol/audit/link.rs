//! What must hold between a decided body and a later one: nothing goes back, nothing is left out, nothing is counted twice.

use evp_api::plan::NodeName;

use super::Kind;
use super::alone::{Wrong, told};
use crate::position::{Epoch, Position, SplitId, SplitPosition, SplitPositions};
use crate::protocol::head::{Body, SinkEntry};
use crate::protocol::paths::written_for;

/// Everything between two bodies. Where epochs between them are gone, only that nothing went back.
pub(super) fn judge(older: &Body, newer: &Body) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    lives(older, newer, &mut wrong);
    positions(older, newer, &mut wrong);
    watermarks(older, newer, &mut wrong);
    if newer.epoch == older.epoch.next() {
        reading(older, newer, &mut wrong);
        totals(older, newer, &mut wrong);
        sinks(older, newer, &mut wrong);
        state(older, newer, &mut wrong);
    }
    wrong
}

/// An incarnation ends by a reset alone, and a reset needs a higher nonce.
fn lives(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    let (from, to) = (older.epoch, newer.epoch);
    let reset = newer.reset_nonce > older.reset_nonce;
    let life = |body: &Body| (body.checkpoint.clone(), body.born().to_owned());
    if life(older) != life(newer) || (older.incarnation != newer.incarnation) != reset {
        let message = format!("epochs {from} and {to} are of different lives of the lane");
        wrong.push((Kind::Contradiction, message));
    }
    if newer.reset_nonce < older.reset_nonce {
        let (before, now) = (older.reset_nonce, newer.reset_nonce);
        let message = format!("epoch {to} honours resetNonce {now}, and epoch {from} {before}");
        wrong.push((Kind::WentBack, message));
    }
}

/// Every split of both, in pairs; `None`: the older body does not know it.
fn splits<'a>(
    older: &'a Body,
    newer: &'a Body,
) -> impl Iterator<
    Item = (
        &'a NodeName,
        &'a SplitId,
        Option<&'a SplitPosition>,
        &'a SplitPosition,
    ),
> {
    newer.positions.iter().flat_map(move |(source, splits)| {
        let before = older.positions.get(source);
        splits
            .iter()
            .map(move |(split, at)| (source, split, before.and_then(|b| b.get(split)), at))
    })
}

fn positions(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    let (from, to) = (older.epoch, newer.epoch);
    for (source, split, before, at) in splits(older, newer) {
        let Some(before) = before else { continue };
        if at.next < before.next {
            let message = format!(
                "source {source} split {split}: epoch {from} ends at {} and epoch {to} at {}: records are read twice",
                before.next, at.next
            );
            wrong.push((Kind::Overlap, message));
        }
        let other_topic = before.topic_id.is_some() && before.topic_id != at.topic_id;
        if other_topic || before.started != at.started {
            let message = format!(
                "source {source} split {split}: epochs {from} and {to} count in different logs"
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
    for (source, before) in &older.positions {
        let Some(now) = newer.positions.get(source) else {
            continue;
        };
        for split in before.keys().filter(|split| !now.contains_key(*split)) {
            let message = format!(
                "source {source} split {split}: epoch {to} no longer knows where epoch {from} ended"
            );
            wrong.push((Kind::Gap, message));
        }
    }
}

fn watermarks(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    for (source, before) in &older.watermarks {
        let Some(now) = newer.watermarks.get(source) else {
            continue;
        };
        let split = before.splits.iter().find(|(split, w)| {
            let now = now.splits.get(*split).copied().flatten();
            now < **w
        });
        let of = match split {
            _ if now.watermark < before.watermark => String::new(),
            Some((split, _)) => format!(" split {split}"),
            None => continue,
        };
        let message = format!(
            "the watermark of source {source}{of} is lower in epoch {} than in epoch {}",
            newer.epoch, older.epoch
        );
        wrong.push((Kind::WentBack, message));
    }
}

/// No source read more records than its positions moved by. A Kafka log has offsets without records, so that only a source
/// whose positions count records (it says when its first one was due) must have read as many.
fn reading(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    let none = SplitPositions::new();
    for (source, now) in &newer.positions {
        let before = older.positions.get(source).unwrap_or(&none);
        let moved = |(split, at): (&SplitId, &SplitPosition)| {
            let from = before.get(split).map_or(Position(0), |b| b.next);
            u64::try_from(at.next.0.saturating_sub(from.0)).unwrap_or(0)
        };
        let moved: u64 = now.iter().map(moved).fold(0, u64::saturating_add);
        let read = newer.ledger.sources.get(source).map_or(0, |c| c.read);
        let dense = now
            .iter()
            .all(|(split, at)| at.started.is_some() && before.contains_key(split));
        let kind = match read {
            read if read > moved => Kind::Overlap,
            read if read < moved && dense => Kind::Gap,
            _ => continue,
        };
        let message = format!(
            "source {source}: epoch {} moved on by {moved} records and counts {read} as read",
            newer.epoch
        );
        wrong.push((kind, message));
    }
}

fn totals(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    let mut sum = older.totals.clone();
    sum.add(&newer.ledger);
    if sum != newer.totals {
        let message = format!(
            "the totals up to epoch {} are not those up to epoch {} and its counts",
            newer.epoch, older.epoch
        );
        wrong.push((Kind::Unbalanced, message));
    }
}

/// What a sink's entry must be, had it no intent in the newer epoch.
fn goes_on(older: &Body, newer: Epoch, entry: &SinkEntry) -> (Epoch, Option<Epoch>) {
    let before = older.sinks.values().find(|e| e.identity == entry.identity);
    before.map_or((newer, None), |before| (before.added_at, before.prev))
}

/// Each intent names the last epoch before it that had one for its sink.
fn sinks(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    for (name, entry) in &newer.sinks {
        let (added_at, prev) = goes_on(older, newer.epoch, entry);
        let mut intents = newer.intents.iter();
        let intent = intents.find(|intent| intent.sink == entry.identity);
        let named = intent.map_or(entry.prev, |intent| intent.prev);
        if named != prev || entry.added_at != added_at {
            let message = format!(
                "sink {name}: epoch {} names {} as the last epoch before it with an intent, and epoch {} says {}",
                newer.epoch,
                told(named),
                older.epoch,
                told(prev)
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
}

/// A state file is first named by the epoch it was written for, and stays what it was.
fn state(older: &Body, newer: &Body, wrong: &mut Vec<Wrong>) {
    for file in newer.state_files() {
        let first = written_for(&file.name) == Some(newer.epoch);
        if !first && !older.state_files().any(|known| known == file) {
            let message = format!(
                "epoch {} names state file {}, which epoch {} does not know",
                newer.epoch, file.name, older.epoch
            );
            wrong.push((Kind::Contradiction, message));
        }
    }
}
