//! What an epoch writes of an aggregate's state: for each bucket that it touched one run of files, with the rows that changed
//! since the runs that stay. Rows come in the order of their keys, so that equal states make equal files.

use std::collections::HashSet;

use datafusion_common::DataFusionError;

use super::layout::{FileRows, Layout, start_of, start_of_distinct};
use super::store::{Merged, State};
use crate::position::Epoch;
use crate::protocol::head::{Bucket, Run, StepState};
use crate::state::tiers::{self, Plan};
use crate::state::{RunAt, StateChange, StateWrite};

/// Bytes of rows that one file holds, about: the unit in which state is in flight when it is written and read. Small in laws,
/// so that runs of several files are ordinary there.
const PART: usize = if cfg!(test) { 8 << 10 } else { 2 << 20 };

/// Which rows of a bucket a run holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Since {
    /// All of them.
    Ever,
    /// Those that changed after this epoch.
    After(Epoch),
    /// Those that the open epoch changed.
    Now,
}

impl Since {
    /// A stored row that changed at that epoch is held.
    pub(super) fn counts(self, changed: Epoch) -> bool {
        match self {
            Self::Ever => true,
            Self::After(epoch) => changed > epoch,
            Self::Now => false,
        }
    }
}

/// State with a change upon it.
pub(super) trait After<'a>: Copy + Send + 'a {
    /// How its rows lie in files.
    fn layout(self) -> &'a Layout;
    /// The rows of a bucket as they are after the change.
    fn select(self, bucket: Bucket, since: Since) -> FileRows<'a>;
}

type Bytes = Result<Vec<u8>, DataFusionError>;

/// A bucket's rows as files.
struct Parts<'a> {
    layout: &'a Layout,
    rows: FileRows<'a>,
    groups: usize,
    distinct: usize,
    begun: bool,
}

/// The files of a change, beside what `held` names; made one after the other, as they are asked for.
pub(super) fn writes<'a>(
    after: impl After<'a>,
    change: &'a StateChange,
    held: &'a StepState,
) -> impl Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a {
    change.changed.iter().flat_map(move |bucket| {
        let runs = held.buckets.get(bucket).map_or(&[][..], Vec::as_slice);
        let (plan, parts) = write_bucket(after, *bucket, runs);
        let at = RunAt {
            bucket: *bucket,
            kept: plan.kept,
            tier: plan.tier,
        };
        parts.map(move |bytes| Ok(StateWrite { at, bytes: bytes? }))
    })
}

/// Decides which runs of a bucket stay, by the size of the change.
fn write_bucket<'a>(
    after: impl After<'a>,
    bucket: Bucket,
    runs: &[Run],
) -> (Plan, Box<dyn Iterator<Item = Bytes> + Send + 'a>) {
    let (most, mut bytes, mut delta) = (tiers::most(runs), 0, Vec::new());
    if !runs.is_empty() {
        // What is too much for a delta is not held to the end.
        for part in parts(after, bucket, Since::Now) {
            bytes += part.as_ref().map_or(0, |part| part.len() as u64);
            delta.push(part);
            if bytes > most {
                break;
            }
        }
    }
    let plan = tiers::plan(runs, bytes);
    let since = match plan.kept.checked_sub(1) {
        None => Since::Ever,
        Some(_) if plan.kept == runs.len() => return (plan, Box::new(delta.into_iter())),
        Some(newest) => Since::After(runs[newest].epoch),
    };
    drop(delta);
    (plan, Box::new(parts(after, bucket, since)))
}

fn parts<'a>(after: impl After<'a>, bucket: Bucket, since: Since) -> Parts<'a> {
    Parts {
        layout: after.layout(),
        rows: after.select(bucket, since),
        groups: 0,
        distinct: 0,
        begun: false,
    }
}

impl<'a> After<'a> for (&'a State, &'a Merged) {
    fn layout(self) -> &'a Layout {
        &self.0.layout
    }

    fn select(self, bucket: Bucket, since: Since) -> FileRows<'a> {
        let (state, merged) = self;
        let starts = state.layout.starts(bucket);
        let counts = |changed: Epoch| since.counts(changed);
        let is_open = |start: i64| starts.contains(&start) && !merged.closed.contains(&start);
        let mut rows = FileRows::default();
        let fresh = merged.changed().filter(|(key, _)| is_open(start_of(key)));
        rows.groups.extend(fresh);
        let replaced: HashSet<&[u8]> = rows.groups.iter().map(|(key, _)| *key).collect();
        let values = merged.distinct.iter().map(AsRef::as_ref);
        let open_value = |key: &&[u8]| start_of_distinct(key).is_some_and(is_open);
        rows.distinct.extend(values.filter(open_value));
        if since != Since::Now {
            for (start, window) in state.windows.range(starts.clone()) {
                if merged.closed.contains(start) {
                    continue;
                }
                let groups = window.groups.iter().filter(|(_, row)| counts(row.changed));
                let kept = groups.filter(|(key, _)| !replaced.contains(&***key));
                rows.groups
                    .extend(kept.map(|(key, row)| (&**key, &*row.state)));
                let values = window.distinct.iter().filter(|(_, at)| counts(**at));
                rows.distinct.extend(values.map(|(key, _)| &**key));
            }
        }
        rows.groups.sort_unstable();
        rows.distinct.sort_unstable();
        if since != Since::Ever {
            let closing = merged.closed.range(starts.clone()).copied();
            rows.closed
                .extend(closing.filter(|start| state.windows.contains_key(start)));
            let before = state.closed.range(starts.clone());
            rows.closed.extend(
                before
                    .filter(|(_, at)| counts(**at))
                    .map(|(start, _)| start),
            );
            rows.closed.sort_unstable();
            rows.closed.dedup();
        }
        rows
    }
}

impl Iterator for Parts<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (mut bytes, mut part) = (0, FileRows::default());
        if !std::mem::replace(&mut self.begun, true) {
            part.closed = std::mem::take(&mut self.rows.closed);
            part.gone = std::mem::take(&mut self.rows.gone);
        }
        let groups = &self.rows.groups[self.groups..];
        let fit = fitting(
            groups.iter().map(|(key, state)| key.len() + state.len()),
            &mut bytes,
        );
        part.groups.extend(&groups[..fit]);
        self.groups += fit;
        let distinct = &self.rows.distinct[self.distinct..];
        let fit = fitting(distinct.iter().map(|key| key.len()), &mut bytes);
        part.distinct.extend(&distinct[..fit]);
        self.distinct += fit;
        let ends = part.closed.is_empty() && part.gone.is_empty();
        let is_empty = ends && part.groups.is_empty() && part.distinct.is_empty();
        (!is_empty).then(|| self.layout.encode(&part))
    }
}

/// How many rows go into a part that holds `bytes` already.
fn fitting(rows: impl Iterator<Item = usize>, bytes: &mut usize) -> usize {
    let fits = |length: &usize| {
        let fits = *bytes < PART;
        *bytes += if fits { *length } else { 0 };
        fits
    };
    rows.take_while(fits).count()
}

#[cfg(test)]
mod tests;
