//! Open sessions (semantics 17): of each group intervals that lie `gap` or more apart, each with its state row, whose first
//! column is the time of its last row.
//!
//! An epoch gathers per (slot, group), since what lies in a slot is always one session; at its close slots and stored sessions
//! that lie less than `gap` apart become one. A session that was joined to an earlier one is gone under its old start.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use datafusion_common::DataFusionError;
use hashbrown::HashMap;

use super::files::{After, Since};
use super::groups::Groups;
use super::layout::{FileRows, Layout, Loaded, group_of, key_at, start_of};
use super::measures::{Into, Measures, Partial};
use super::store::{MergedRow, Row};
use crate::position::Epoch;
use crate::protocol::head::Bucket;
use crate::state::StateChange;

/// What a session costs beside its bytes: three allocations and its places in both maps.
const SESSION: usize = 160;
/// What a session that is gone costs beside its key.
const GONE: usize = 56;

type Key = Arc<[u8]>;

/// The stored state.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) layout: Arc<Layout>,
    gap: i64,
    /// By start, then group: those of a bucket lie together.
    rows: BTreeMap<Key, Row>,
    /// Starts of the sessions of each group.
    starts: HashMap<Box<[u8]>, Vec<i64>>,
    /// Sessions that are gone while their bucket stands: its files may hold them.
    gone: BTreeMap<Key, Epoch>,
    bytes: usize,
}

/// Times of the first and the last row of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// The change of one epoch; the stored state is untouched until [`Sessions::apply`].
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Sessions that took rows in and stay open.
    rows: Vec<MergedRow>,
    /// Stored sessions that closed or were joined to an earlier one.
    gone: BTreeSet<Key>,
    /// Sessions that closed: keys and states.
    closed: BTreeMap<Key, Box<[u8]>>,
}

impl Joined {
    pub(super) fn closed(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.closed.iter().map(|(key, state)| (&**key, &**state))
    }

    fn changed(&self) -> impl Iterator<Item = &MergedRow> {
        self.rows.iter().filter(|row| row.changed)
    }
}

/// Rows of one group that are one session as far as they go.
struct Piece<'a> {
    extent: Extent,
    of: Of<'a>,
}

enum Of<'a> {
    Slot(usize),
    Stored(&'a Key, &'a Row),
}

/// Which session each slot and each stored session goes into.
#[derive(Default)]
struct Plan<'a> {
    sessions: Vec<(Key, i64)>,
    slots: Vec<usize>,
    old: Vec<&'a [u8]>,
    old_into: Vec<usize>,
    gone: BTreeSet<Key>,
}

/// Time of a session's last row: the first column of its state.
pub(super) fn last_of(state: &[u8]) -> i64 {
    start_of(state)
}

impl Sessions {
    pub(super) fn new(layout: Layout, gap: i64) -> Self {
        Self {
            layout: Arc::new(layout),
            gap,
            rows: BTreeMap::new(),
            starts: HashMap::new(),
            gone: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Times of the first and the last row of the sessions that started first.
    pub(super) fn first(&self, most: usize) -> impl Iterator<Item = (i64, i64)> {
        let rows = self.rows.iter().take(most);
        rows.map(|(key, row)| (start_of(key), last_of(&row.state)))
    }

    /// A stored session of the group takes a row at that time in.
    pub(super) fn takes_in(&self, group: &[u8], t: i64) -> bool {
        let mut stored = self.stored(group);
        stored.any(|piece| self.touch(piece.extent, Extent { first: t, last: t }))
    }

    /// Less than `gap` apart.
    fn touch(&self, a: Extent, b: Extent) -> bool {
        a.first < b.last.saturating_add(self.gap) && b.first < a.last.saturating_add(self.gap)
    }

    fn stored<'a>(&'a self, group: &'a [u8]) -> impl Iterator<Item = Piece<'a>> {
        let starts = self.starts.get(group).into_iter().flatten();
        starts.filter_map(move |&start| {
            let (key, row) = self.rows.get_key_value(&*key_at(start, group))?;
            Some(Piece {
                extent: Extent {
                    first: start,
                    last: last_of(&row.state),
                },
                of: Of::Stored(key, row),
            })
        })
    }

    /// Joins what an epoch gathered, by slots, with stored sessions.
    pub(super) fn join(
        &self,
        partial: &mut Partial,
        (groups, extents): (&Groups, &[Extent]),
        measures: &Measures,
    ) -> Result<Joined, DataFusionError> {
        if groups.len() == 0 {
            return Ok(Joined::default());
        }
        let mut plan = Plan {
            slots: vec![0; groups.len()],
            ..Plan::default()
        };
        let mut slots: BTreeMap<&[u8], Vec<Piece<'_>>> = BTreeMap::new();
        for (i, (key, &extent)) in groups.keys().iter().zip(extents).enumerate() {
            let of = Of::Slot(i);
            slots
                .entry(group_of(key))
                .or_default()
                .push(Piece { extent, of });
        }
        for (group, mut pieces) in slots {
            pieces.extend(self.stored(group));
            pieces.sort_unstable_by_key(|piece| piece.extent.first);
            let mut rest = pieces.as_slice();
            while let Some((session, others)) = self.first_of(rest) {
                plan.session(group, session);
                rest = others;
            }
        }
        let mut old = self.layout.states_to_columns(plan.old.iter().copied())?;
        old.remove(0);
        let into = Into {
            groups: plan.sessions.len(),
            gathered: &plan.slots,
            old: &plan.old_into,
        };
        let lasts = plan.sessions.iter().map(|session| session.1);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(lasts))];
        columns.extend(measures.merge(partial, &old, into)?);
        let states = self.layout.states_of(&columns)?;
        let row = |((key, _), state): (&(Key, i64), arrow::row::Row<'_>)| MergedRow {
            key: Arc::clone(key),
            state: state.data().into(),
            changed: self
                .rows
                .get(key)
                .is_none_or(|row| &*row.state != state.data()),
        };
        Ok(Joined {
            rows: plan.sessions.iter().zip(states.iter()).map(row).collect(),
            gone: plan.gone,
            closed: BTreeMap::new(),
        })
    }

    /// Adds the sessions that close, by the time of their last row: stored ones and those of this change.
    pub(super) fn closing(&self, mut joined: Joined, closes: impl Fn(i64) -> bool) -> Joined {
        let touched: HashSet<&[u8]> = joined.rows.iter().map(|row| &*row.key).collect();
        let stored = self.rows.iter().filter(|(key, row)| {
            closes(last_of(&row.state)) && !touched.contains(&***key) && !joined.gone.contains(*key)
        });
        let mut closed: BTreeMap<Key, Box<[u8]>> = stored
            .map(|(key, row)| (Arc::clone(key), row.state.clone()))
            .collect();
        joined.gone.extend(closed.keys().cloned());
        let (ends, open) = joined
            .rows
            .into_iter()
            .partition(|row| closes(last_of(&row.state)));
        joined.rows = open;
        for MergedRow { key, state, .. } in ends {
            if self.rows.contains_key(&key) {
                joined.gone.insert(Arc::clone(&key));
            }
            closed.insert(key, state);
        }
        joined.closed = closed;
        joined
    }

    /// Of pieces in the order of their first rows, those that are one session with the first of them; then the others.
    fn first_of<'p, 'a>(
        &self,
        pieces: &'p [Piece<'a>],
    ) -> Option<(&'p [Piece<'a>], &'p [Piece<'a>])> {
        let (first, rest) = pieces.split_first()?;
        let mut end = first.extent.last.saturating_add(self.gap);
        let joined = rest.iter().take_while(|piece| {
            let joins = piece.extent.first < end;
            end = end.max(piece.extent.last.saturating_add(self.gap));
            joins
        });
        Some(pieces.split_at(1 + joined.count()))
    }

    /// What the change does to the buckets of files.
    pub(super) fn change(&self, joined: &Joined) -> StateChange {
        let bucket = |key: &Key| self.layout.bucket(start_of(key));
        let changed = joined.changed().map(|row| &row.key);
        let touched: BTreeSet<Bucket> = changed.chain(&joined.gone).map(bucket).collect();
        let fresh: BTreeSet<Bucket> = joined.rows.iter().map(|row| bucket(&row.key)).collect();
        let stands = |at: &Bucket| {
            let mut stored = self.rows.range::<[u8], _>(self.keys(*at).bounds());
            fresh.contains(at) || stored.any(|(key, _)| !joined.gone.contains(key))
        };
        let (changed, gone) = touched.into_iter().partition(stands);
        StateChange { changed, gone }
    }

    fn keys(&self, bucket: Bucket) -> Keys {
        let starts = self.layout.starts(bucket);
        Keys(key_at(starts.start, &[]), key_at(starts.end, &[]))
    }

    /// The change of this epoch becomes the stored state.
    pub(super) fn apply(&mut self, joined: Joined, epoch: Epoch) {
        let change = self.change(&joined);
        joined.gone.into_iter().for_each(|key| self.end(key, epoch));
        for row in joined.rows.into_iter().filter(|row| row.changed) {
            self.put(row.key, row.state, epoch);
        }
        for bucket in change.gone {
            let keys = self.keys(bucket);
            let forgotten = self.gone.range::<[u8], _>(keys.bounds());
            let forgotten: Vec<Key> = forgotten.map(|(key, _)| Arc::clone(key)).collect();
            forgotten.iter().for_each(|key| self.forget(key));
        }
    }

    /// Takes in what a file holds that `epoch` wrote; within a bucket, older runs come first.
    pub(super) fn take_in(&mut self, loaded: Loaded, epoch: Epoch) {
        loaded.gone.into_iter().for_each(|key| self.end(key, epoch));
        loaded
            .groups
            .into_iter()
            .for_each(|(key, state)| self.put(key, state, epoch));
    }

    fn put(&mut self, key: Key, state: Box<[u8]>, changed: Epoch) {
        self.forget(&key);
        let (start, group) = (start_of(&key), group_of(&key));
        let state_len = state.len();
        let added = key.len() + group.len() + SESSION;
        if let Some(row) = self.rows.get_mut(&key) {
            self.bytes = (self.bytes + state_len).saturating_sub(row.state.len());
            *row = Row { state, changed };
            return;
        }
        self.starts.entry_ref(group).or_default().push(start);
        self.bytes += added + state_len;
        self.rows.insert(key, Row { state, changed });
    }

    /// A session goes, and stays gone in the files of its bucket.
    fn end(&mut self, key: Key, epoch: Epoch) {
        let (start, group) = (start_of(&key), group_of(&key));
        if let Some(row) = self.rows.remove(&key) {
            let removed = key.len() + group.len() + SESSION + row.state.len();
            self.bytes = self.bytes.saturating_sub(removed);
        }
        if let Some(starts) = self.starts.get_mut(group) {
            starts.retain(|at| *at != start);
            if starts.is_empty() {
                self.starts.remove(group);
            }
        }
        let added = key.len() + GONE;
        if self.gone.insert(key, epoch).is_none() {
            self.bytes += added;
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if self.gone.remove(key).is_some() {
            self.bytes = self.bytes.saturating_sub(key.len() + GONE);
        }
    }
}

/// Keys from one on to below another.
struct Keys(Key, Key);

impl Keys {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&*self.0), Bound::Excluded(&*self.1))
    }

    fn hold(&self, key: &[u8]) -> bool {
        (&*self.0..&*self.1).contains(&key)
    }
}

impl<'a> Plan<'a> {
    /// Pieces that touch each other are one session. One of stored rows alone stays as it is.
    fn session(&mut self, group: &[u8], pieces: &[Piece<'a>]) {
        let is_slot = |piece: &Piece<'_>| matches!(piece.of, Of::Slot(_));
        if !pieces.iter().any(is_slot) {
            return;
        }
        let (number, first) = (self.sessions.len(), pieces[0].extent.first);
        let last = pieces.iter().map(|piece| piece.extent.last).max();
        self.sessions
            .push((key_at(first, group), last.unwrap_or(first)));
        for piece in pieces {
            match piece.of {
                Of::Slot(slot) => self.slots[slot] = number,
                Of::Stored(key, row) => {
                    self.old.push(&row.state);
                    self.old_into.push(number);
                    if start_of(key) != first {
                        self.gone.insert(Arc::clone(key));
                    }
                }
            }
        }
    }
}

impl<'a> After<'a> for (&'a Sessions, &'a Joined) {
    fn layout(self) -> &'a Layout {
        &self.0.layout
    }

    fn select(self, bucket: Bucket, since: Since) -> FileRows<'a> {
        let (sessions, joined) = self;
        let keys = sessions.keys(bucket);
        let mut rows = FileRows::default();
        let fresh = joined.changed().filter(|row| keys.hold(&row.key));
        rows.groups
            .extend(fresh.map(|row| (&*row.key, &*row.state)));
        let replaced: HashSet<&[u8]> = rows.groups.iter().map(|(key, _)| *key).collect();
        if since != Since::Now {
            let stored = sessions.rows.range::<[u8], _>(keys.bounds());
            let kept = stored.filter(|(key, row)| {
                since.counts(row.changed)
                    && !replaced.contains(&***key)
                    && !joined.gone.contains(*key)
            });
            rows.groups
                .extend(kept.map(|(key, row)| (&**key, &*row.state)));
        }
        rows.groups.sort_unstable();
        if since != Since::Ever {
            let ending = joined.gone.iter().filter(|key| keys.hold(key));
            rows.gone.extend(ending.map(|key| &**key));
            let before = sessions.gone.range::<[u8], _>(keys.bounds());
            let before =
                before.filter(|(key, at)| since.counts(**at) && !replaced.contains(&***key));
            rows.gone.extend(before.map(|(key, _)| &**key));
            rows.gone.sort_unstable();
            rows.gone.dedup();
        }
        rows
    }
}
