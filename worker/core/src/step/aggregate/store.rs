//! The stored state of an aggregate: per window the state rows of its groups and their distinct values, each with the epoch
//! that changed it last. So the rows that any run of a bucket's files holds can be told without reading it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion_common::DataFusionError;
use hashbrown::HashMap;

use super::groups::Groups;
use super::layout::{Layout, Loaded, start_of, start_of_distinct};
use super::measures::{Into, Measures, Partial};
use crate::position::Epoch;
use crate::protocol::head::Bucket;
use crate::state::StateChange;

/// What a group costs beside its bytes: two allocations and its place in the map.
const GROUP: usize = 80;
/// What a distinct value costs beside its bytes.
const VALUE: usize = 48;

/// Groups and distinct values of one window.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) groups: HashMap<Arc<[u8]>, Row>,
    pub(super) distinct: HashMap<Box<[u8]>, Epoch>,
}

/// The state of a group.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) state: Box<[u8]>,
    /// The epoch that changed it last; after a restore, the one that wrote the file it came from.
    pub(super) changed: Epoch,
}

/// The stored state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) layout: Arc<Layout>,
    pub(super) windows: BTreeMap<i64, Window>,
    /// Windows that closed while their bucket stands: files of the bucket may hold rows of them.
    pub(super) closed: BTreeMap<i64, Epoch>,
    bytes: usize,
}

/// The change of one epoch; the stored state is untouched until [`State::apply`].
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) rows: Vec<MergedRow>,
    pub(super) distinct: Vec<Box<[u8]>>,
    pub(super) closed: BTreeSet<i64>,
}

/// A group that an epoch touched.
#[derive(Debug)]
pub(super) struct MergedRow {
    pub(super) key: Arc<[u8]>,
    pub(super) state: Box<[u8]>,
    /// The state differs from the stored one.
    pub(super) changed: bool,
}

impl Merged {
    pub(super) fn changed(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let changed = self.rows.iter().filter(|row| row.changed);
        changed.map(|row| (&*row.key, &*row.state))
    }
}

impl State {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout: Arc::new(layout),
            windows: BTreeMap::new(),
            closed: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_distinct(&self, start: i64, key: &[u8]) -> bool {
        self.windows
            .get(&start)
            .is_some_and(|window| window.distinct.contains_key(key))
    }

    /// Merges what an epoch gathered with the stored rows of the groups it touched.
    pub(super) fn merge(
        &self,
        partial: &mut Partial,
        groups: &Groups,
        measures: &Measures,
    ) -> Result<Merged, DataFusionError> {
        if groups.len() == 0 {
            return Ok(Merged::default());
        }
        let stored: Vec<Option<&[u8]>> = groups.keys().iter().map(|key| self.stored(key)).collect();
        let rows: Vec<usize> = stored
            .iter()
            .enumerate()
            .filter_map(|(i, row)| row.map(|_| i))
            .collect();
        let old = self
            .layout
            .states_to_columns(stored.iter().flatten().copied())?;
        let all: Vec<usize> = (0..groups.len()).collect();
        let into = Into {
            groups: groups.len(),
            gathered: &all,
            old: &rows,
        };
        let columns = measures.merge(partial, &old, into)?;
        let merged = self.layout.states_of(&columns)?;
        let row = |(i, row): (usize, arrow::row::Row<'_>)| MergedRow {
            key: Arc::clone(&groups.keys()[i]),
            state: row.data().into(),
            changed: stored[i] != Some(row.data()),
        };
        let rows = merged.iter().enumerate().map(row).collect();
        Ok(Merged {
            rows,
            distinct: partial.take_distinct(),
            closed: BTreeSet::new(),
        })
    }

    fn stored(&self, key: &Arc<[u8]>) -> Option<&[u8]> {
        let window = self.windows.get(&start_of(key))?;
        window.groups.get(key).map(|row| &*row.state)
    }

    /// Adds the windows that close: stored ones and those of this change.
    pub(super) fn closing(&self, mut merged: Merged, closes: impl Fn(i64) -> bool) -> Merged {
        let stored = self.windows.keys().copied();
        let fresh = merged.rows.iter().map(|row| start_of(&row.key));
        merged.closed = stored.chain(fresh).filter(|&start| closes(start)).collect();
        merged
    }

    /// Keys and newest states of all groups of the windows that close.
    pub(super) fn closed_rows<'a>(&'a self, merged: &'a Merged) -> BTreeMap<&'a [u8], &'a [u8]> {
        let stored = merged.closed.iter().filter_map(|s| self.windows.get(s));
        let mut rows: BTreeMap<&[u8], &[u8]> = stored
            .flat_map(|window| &window.groups)
            .map(|(key, row)| (&**key, &*row.state))
            .collect();
        let fresh = merged
            .rows
            .iter()
            .filter(|row| merged.closed.contains(&start_of(&row.key)));
        rows.extend(fresh.map(|row| (&*row.key, &*row.state)));
        rows
    }

    /// What the change does to the buckets of files.
    pub(super) fn change(&self, merged: &Merged) -> StateChange {
        let open = |start: &i64| !merged.closed.contains(start);
        let rows = merged.changed().map(|(key, _)| start_of(key));
        let values = merged
            .distinct
            .iter()
            .filter_map(|key| start_of_distinct(key));
        let gone = merged.closed.iter().copied();
        let touched = rows
            .chain(values)
            .filter(open)
            .chain(gone.filter(|start| self.windows.contains_key(start)));
        let touched: BTreeSet<Bucket> = touched.map(|start| self.layout.bucket(start)).collect();
        let fresh = merged.rows.iter().map(|row| start_of(&row.key));
        let fresh: BTreeSet<Bucket> = fresh.filter(open).map(|s| self.layout.bucket(s)).collect();
        let stands = |bucket: &Bucket| {
            let mut stored = self.windows.range(self.layout.starts(*bucket));
            fresh.contains(bucket) || stored.any(|(start, _)| open(start))
        };
        let (changed, gone) = touched.into_iter().partition(stands);
        StateChange { changed, gone }
    }

    /// The change of this epoch becomes the stored state.
    pub(super) fn apply(&mut self, merged: Merged, epoch: Epoch) {
        let Merged {
            rows,
            distinct,
            closed,
        } = merged;
        let open = |start: &i64| !closed.contains(start);
        for row in rows.into_iter().filter(|row| row.changed) {
            if open(&start_of(&row.key)) {
                self.put(row.key, row.state, epoch);
            }
        }
        for key in distinct {
            if start_of_distinct(&key).is_some_and(|start| open(&start)) {
                self.put_distinct(key, epoch);
            }
        }
        for start in closed {
            if self.remove(start) {
                self.closed.insert(start, epoch);
            }
            let bucket = self.layout.starts(self.layout.bucket(start));
            if self.windows.range(bucket.clone()).next().is_none() {
                self.closed.retain(|start, _| !bucket.contains(start));
            }
        }
    }

    /// Takes in what a file holds that `epoch` wrote; within a bucket, older runs come first.
    pub(super) fn take_in(&mut self, loaded: Loaded, epoch: Epoch) {
        let Loaded {
            closed,
            groups,
            distinct,
            gone: _, // Only sessions go one by one.
        } = loaded;
        for start in closed {
            self.remove(start);
            self.closed.insert(start, epoch);
        }
        groups
            .into_iter()
            .for_each(|(key, state)| self.put(key, state, epoch));
        distinct
            .into_iter()
            .for_each(|key| self.put_distinct(key, epoch));
    }

    fn put(&mut self, key: Arc<[u8]>, state: Box<[u8]>, changed: Epoch) {
        let window = self.windows.entry(start_of(&key)).or_default();
        let (key_len, state_len) = (key.len(), state.len());
        match window.groups.insert(key, Row { state, changed }) {
            None => self.bytes += key_len + state_len + GROUP,
            Some(old) => self.bytes = (self.bytes + state_len).saturating_sub(old.state.len()),
        }
    }

    fn put_distinct(&mut self, key: Box<[u8]>, changed: Epoch) {
        let Some(start) = start_of_distinct(&key) else {
            return;
        };
        let window = self.windows.entry(start).or_default();
        let added = key.len() + VALUE;
        if window.distinct.insert(key, changed).is_none() {
            self.bytes += added;
        }
    }

    /// The window's rows go. `false`: there are none.
    fn remove(&mut self, start: i64) -> bool {
        let Some(window) = self.windows.remove(&start) else {
            return false;
        };
        let groups = window.groups.iter();
        let groups: usize = groups
            .map(|(key, row)| key.len() + row.state.len() + GROUP)
            .sum();
        let distinct: usize = window.distinct.keys().map(|key| key.len() + VALUE).sum();
        self.bytes = self.bytes.saturating_sub(groups + distinct);
        true
    }
}
