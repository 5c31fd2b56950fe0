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
    /// When the epoch opened that moved W last: about since then it stands. `None`: it never moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Micros>,
}

impl Snapshot {
    /// The split that holds W back: the lowest of those that are not idle. `None`: all are idle, or there is none.
    pub fn holder(&self, idle: &BTreeSet<SplitId>) -> Option<&SplitId> {
        let awake = self
            .splits
            .iter()
            .filter(|(split, _)| !idle.contains(split));
        awake.min_by_key(|(_, w)| **w).map(|(split, _)| split)
    }

    /// As far as it can be told without knowing which splits are idle: the lowest of those that W has not passed. `None`: W has
    /// passed all, or there is no split.
    pub fn likely_holder(&self) -> Option<&SplitId> {
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

    /// The watermark if the epoch, which is of this time, closed now. W is the minimum over the splits that are not idle and
    /// never goes back; a split below W (new, or back from idleness) does not pull it down (semantics 3, 10).
    pub fn close(&self, idle: &BTreeSet<SplitId>, at: Micros) -> Snapshot {
        let mut closing = self.decided.clone();
        for split in &self.registered {
            closing.splits.entry(split.clone()).or_default();
        }
        for (split, newest) in &self.open {
            let w = closing.splits.entry(split.clone()).or_default();
            *w = (*w).max(Some(Micros(newest.saturating_sub(self.delay))));
        }
        for (split, time) in &self.promised {
            let w = closing.splits.entry(split.clone()).or_default();
            *w = (*w).max(Some(*time));
        }
        let holder = closing.holder(idle);
        let mut floor = holder.and_then(|split| closing.splits[split]);
        if mistaken!(WatermarkByMax) {
            floor = closing.splits.values().max().copied().flatten();
        }
        if floor > closing.watermark {
            (closing.watermark, closing.since) = (floor, Some(at));
        }
        let newest = self.open.values().max().copied().map(Micros);
        closing.newest = closing.newest.max(newest);
        closing
    }

    /// The epoch was decided with this closing.
    pub fn commit(&mut self, closing: Snapshot) {
        self.decided = closing;
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

    fn none() -> BTreeSet<SplitId> {
        BTreeSet::new()
    }

    fn closes_at(watermarks: &mut Watermarks, idle: &[i32]) -> Option<i64> {
        let closing = watermarks.close(&idle.iter().map(|&n| split(n)).collect(), Micros(0));
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
        let closing = source.close(&none(), Micros(0));
        assert_eq!(closing.holder(&none()), Some(&split(1)));
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
        let closing = first.close(&none(), Micros(1));
        let mut second = source(0);
        second.restore(closing.clone());
        assert_eq!(second.decided(), Some(Micros(80 * MINUTE)));
        assert_eq!(second.close(&none(), Micros(2)), closing);
    }

    #[test]
    fn a_watermark_stands_since_the_epoch_that_moved_it_last() {
        let mut source = source(2);
        let mut since = |accepted: &[(i32, i64)], at: i64| {
            for &(n, t) in accepted {
                source.accept(&split(n), t * MINUTE);
            }
            let closing = source.close(&none(), Micros(at));
            source.commit(closing.clone());
            closing.since.map(|since| since.0)
        };
        assert_eq!(since(&[(0, 100)], 1), None);
        assert_eq!(since(&[(1, 50)], 2), Some(2));
        assert_eq!(since(&[(0, 200)], 3), Some(2));
        assert_eq!(since(&[(1, 60)], 4), Some(4));
    }

    #[test]
    fn an_idle_split_holds_nothing_and_a_new_one_does() {
        let mut source = source(2);
        source.accept(&split(0), 100 * MINUTE);
        let closing = source.close(&none(), Micros(0));
        assert_eq!(closing.holder(&[split(1)].into()), Some(&split(0)));
        assert_eq!(closing.holder(&[split(0), split(1)].into()), None);
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
