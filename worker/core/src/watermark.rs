//! Watermarks of one source: per split, and their minimum (semantics 2-4, 8-10, 15).
//!
//! What an open epoch sees is kept apart until the epoch is decided, so that an abandoned epoch leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::position::{Micros, SplitId};

/// Watermarks as the head keeps them. Idle flags are not kept (semantics 15).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// W; `None`: no split has spoken yet.
    pub watermark: Option<Micros>,
    /// w(s) of every registered split; `None`: registered at −∞, which holds W.
    pub splits: BTreeMap<SplitId, Option<Micros>>,
    /// Newest event time of all rows accepted so far: what a reset begins after. `None`: no row was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Micros>,
}

impl Snapshot {
    /// The split that holds W back: the lowest of those that W has not passed (a head does not tell which were idle).
    /// `None`: W has passed all, or there is no split.
    pub fn holder(&self) -> Option<&SplitId> {
        let waits = |w: &Option<Micros>| *w >= self.watermark;
        let splits = self.splits.iter().filter(|(_, w)| waits(w));
        splits.min_by_key(|(_, w)| **w).map(|(split, _)| split)
    }
}

/// The watermark of one source.
#[derive(Clone, Debug)]
pub struct Watermarks {
    delay: i64,
    decided: Snapshot,
    /// Splits that the head does not name yet. That they are there is no matter of an epoch: it outlives abandoned ones.
    registered: BTreeSet<SplitId>,
    /// Newest event time of accepted rows of the open epoch.
    open: BTreeMap<SplitId, i64>,
    /// What the open epoch heard splits promise: nothing older follows.
    promised: BTreeMap<SplitId, Micros>,
}

/// How a split stands to a watermark that went on without it (semantics 10).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It took part in the watermark.
    Steady,
    /// It was found, or spoke for the first time, when the watermark was already there.
    NewSplit,
    /// The watermark passed it while it was idle.
    AfterIdle,
}

/// The watermark at the close of an epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closing {
    /// What the next head holds.
    pub snapshot: Snapshot,
    /// The split that holds W back: the lowest of those that are not idle. `None`: all are idle, or there is none.
    pub holder: Option<SplitId>,
}

impl Watermarks {
    /// A source whose watermark stays `delay` microseconds behind its newest event.
    pub fn new(delay: i64) -> Self {
        Self {
            delay,
            decided: Snapshot::default(),
            registered: BTreeSet::new(),
            open: BTreeMap::new(),
            promised: BTreeMap::new(),
        }
    }

    /// Goes on from a head.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.decided = snapshot;
        self.registered.clear();
        self.abandon();
    }

    /// W of the last decided epoch: what lateness is judged by (semantics 6).
    pub fn decided(&self) -> Option<Micros> {
        self.decided.watermark
    }

    /// A split is known, though nothing of it was read: it holds the watermark until it speaks (semantics 4).
    pub fn register(&mut self, split: &SplitId) {
        if !self.decided.splits.contains_key(split) {
            self.registered.insert(split.clone());
        }
    }

    /// How a split stood to W when the open epoch began.
    pub fn standing(&self, split: &SplitId) -> Standing {
        let reached = self.decided.splits.get(split).copied().flatten();
        match (self.decided.watermark, reached) {
            (Some(_), None) => Standing::NewSplit,
            (Some(w), Some(reached)) if reached < w => Standing::AfterIdle,
            _ => Standing::Steady,
        }
    }

    /// Rows of a split were accepted; `newest` is their latest event time.
    pub fn accept(&mut self, split: &SplitId, newest: i64) {
        let seen = self.open.entry(split.clone()).or_insert(newest);
        *seen = newest.max(*seen);
    }

    /// Nothing older than this follows in a split, whatever its delay. It counts like rows: at the close of the epoch, if that is
    /// decided.
    pub fn promise(&mut self, split: &SplitId, time: Micros) {
        let seen = self.promised.entry(split.clone()).or_insert(time);
        *seen = time.max(*seen);
    }

    /// The watermark if the epoch closed now. W is the minimum over the splits that are not idle and never goes back; a
    /// split below W (new, or back from idleness) does not pull it down (semantics 3, 10).
    pub fn close(&self, idle: &BTreeSet<SplitId>) -> Closing {
        let mut splits = self.decided.splits.clone();
        for split in &self.registered {
            splits.entry(split.clone()).or_default();
        }
        for (split, newest) in &self.open {
            let w = splits.entry(split.clone()).or_default();
            *w = (*w).max(Some(Micros(newest.saturating_sub(self.delay))));
        }
        for (split, time) in &self.promised {
            let w = splits.entry(split.clone()).or_default();
            *w = (*w).max(Some(*time));
        }
        let lowest = splits
            .iter()
            .filter(|(split, _)| !idle.contains(split))
            .min_by_key(|(_, w)| **w);
        let mut floor = lowest.and_then(|(_, w)| *w);
        if mistaken!(WatermarkByMax) {
            floor = splits.values().max().copied().flatten();
        }
        let watermark = self.decided.watermark.max(floor);
        Closing {
            holder: lowest.map(|(split, _)| split.clone()),
            snapshot: Snapshot {
                watermark,
                splits,
                newest: self
                    .decided
                    .newest
                    .max(self.open.values().max().copied().map(Micros)),
            },
        }
    }

    /// The epoch was decided with this closing.
    pub fn commit(&mut self, closing: Closing) {
        self.decided = closing.snapshot;
        self.registered
            .retain(|split| !self.decided.splits.contains_key(split));
        self.abandon();
    }

    /// The open epoch is forgotten.
    pub fn abandon(&mut self) {
        self.open.clear();
        self.promised.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn split(n: i32) -> SplitId {
        SplitId::partition(n)
    }

    fn source(splits: i32) -> Watermarks {
        let mut watermarks = Watermarks::new(10 * MINUTE);
        (0..splits).for_each(|n| watermarks.register(&split(n)));
        watermarks
    }

    fn closes_at(watermarks: &mut Watermarks, idle: &[i32]) -> Option<i64> {
        let closing = watermarks.close(&idle.iter().map(|&n| split(n)).collect());
        watermarks.commit(closing);
        watermarks.decided().map(|w| w.0)
    }

    #[test]
    fn rule_2_a_fast_split_does_not_make_a_slow_one_late() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        source.accept(&split(1), 50 * MINUTE);
        assert_eq!(closes_at(&mut source, &[]), Some(40 * MINUTE));
    }

    #[test]
    fn rule_3_the_watermark_never_moves_back() {
        let mut source = source(1);
        source.accept(&split(0), 100 * MINUTE);
        closes_at(&mut source, &[]);
        source.accept(&split(0), 20 * MINUTE);
        assert_eq!(closes_at(&mut source, &[]), Some(90 * MINUTE));
    }

    #[test]
    fn rule_4_a_split_not_seen_yet_holds_the_watermark() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        assert_eq!(source.close(&BTreeSet::new()).holder, Some(split(1)));
        assert_eq!(closes_at(&mut source, &[]), None);
    }

    #[test]
    fn rule_8_an_idle_split_does_not_hold_the_watermark() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        assert_eq!(closes_at(&mut source, &[1]), Some(90 * MINUTE));
    }

    #[test]
    fn rule_9_when_all_are_idle_the_watermark_holds() {
        let mut source = source(1);
        source.accept(&split(0), 100 * MINUTE);
        assert_eq!(closes_at(&mut source, &[0]), None);
    }

    #[test]
    fn rule_10_a_new_split_enters_at_the_watermark() {
        let mut source = source(1);
        source.accept(&split(0), 100 * MINUTE);
        closes_at(&mut source, &[]);
        source.accept(&split(1), 30 * MINUTE);
        assert_eq!(closes_at(&mut source, &[]), Some(90 * MINUTE));
    }

    #[test]
    fn rule_10_late_rows_say_whether_their_split_was_new_or_idle() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        source.accept(&split(1), 100 * MINUTE);
        assert_eq!(source.standing(&split(2)), Standing::Steady);
        closes_at(&mut source, &[]);
        source.accept(&split(0), 200 * MINUTE);
        closes_at(&mut source, &[1]);
        assert_eq!(source.standing(&split(0)), Standing::Steady);
        assert_eq!(source.standing(&split(1)), Standing::AfterIdle);
        assert_eq!(source.standing(&split(2)), Standing::NewSplit);
    }

    #[test]
    fn rule_4_a_split_stays_registered_when_the_epoch_is_abandoned() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        source.abandon();
        source.accept(&split(0), 100 * MINUTE);
        assert_eq!(closes_at(&mut source, &[]), None);
    }

    #[test]
    fn rule_15_a_restored_watermark_goes_on_where_it_was() {
        let mut first = source(2);
        first.accept(&split(0), 100 * MINUTE);
        first.accept(&split(1), 90 * MINUTE);
        let closing = first.close(&BTreeSet::new());
        let mut second = source(0);
        second.restore(closing.snapshot.clone());
        assert_eq!(second.decided(), Some(Micros(80 * MINUTE)));
        assert_eq!(second.close(&BTreeSet::new()).snapshot, closing.snapshot);
    }

    #[test]
    fn a_promise_of_every_split_lifts_the_watermark_without_a_row_and_never_pulls_it_down() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        source.promise(&split(0), Micros(50 * MINUTE));
        source.promise(&split(1), Micros(50 * MINUTE));
        assert_eq!(closes_at(&mut source, &[]), Some(50 * MINUTE));
        source.promise(&split(0), Micros(20 * MINUTE));
        source.promise(&split(1), Micros(95 * MINUTE));
        source.promise(&split(1), Micros(93 * MINUTE));
        assert_eq!(closes_at(&mut source, &[]), Some(90 * MINUTE));
        assert_eq!(source.decided.splits[&split(1)], Some(Micros(95 * MINUTE)));
        assert_eq!(source.decided.newest, Some(Micros(100 * MINUTE)));
    }

    #[test]
    fn an_abandoned_epoch_leaves_no_trace() {
        let mut source = source(1);
        source.accept(&split(0), 100 * MINUTE);
        source.promise(&split(0), Micros(100 * MINUTE));
        source.abandon();
        assert_eq!(closes_at(&mut source, &[]), None);
    }
}
