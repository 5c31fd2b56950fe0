//! Rows into windows: each row counts in every window of it that is open.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;

use super::sessions::Extent;
use super::{Aggregate, Kept, measures};
use crate::position::Micros;
use crate::window;

/// Rows of one batch that go into one window each.
struct Hop {
    starts: Int64Array,
    times: Int64Array,
    values: Vec<ArrayRef>,
    groups: Vec<ArrayRef>,
}

impl Aggregate {
    /// Event time of each row. A window's row is of its last microsecond (semantics 7).
    pub(super) fn times(&self, batch: &RecordBatch) -> Int64Array {
        let times = batch
            .column(self.plan.event_time)
            .as_primitive::<TimestampMicrosecondType>();
        let before = i64::from(self.plan.above.is_some());
        times.unary(|t| t - before)
    }

    /// Start of the newest window of each time; of a session: of its slot.
    pub(super) fn starts(&self, times: &Int64Array) -> Int64Array {
        times.unary(|t| window::start(self.plan.plan.window, t))
    }

    /// The group columns.
    pub(super) fn group_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        let columns = self.plan.groups.iter();
        columns.map(|&i| Arc::clone(batch.column(i))).collect()
    }

    /// Counts each row in every window of it that is open.
    pub(super) fn gather(
        &mut self,
        batch: &RecordBatch,
        values: Vec<ArrayRef>,
        w: Micros,
    ) -> Result<(), DataFusionError> {
        let times = self.times(batch);
        let newest = Hop {
            starts: self.starts(&times),
            times,
            values,
            groups: self.group_columns(batch),
        };
        let plan = self.plan.plan.window;
        for hop in 1..window::hops(plan) {
            let starts = newest.starts.unary(|s| s - hop * window::slide(plan));
            if let Some(older) = newest.in_open(starts, |t, start| {
                t < window::end(plan, start) && self.is_open(start, w)
            })? {
                self.count(&older)?;
            }
        }
        self.count(&newest)
    }

    fn count(&mut self, rows: &Hop) -> Result<(), DataFusionError> {
        let assigned = self.open.groups.assign(&rows.starts, &rows.groups)?;
        let state = match &self.kept {
            Kept::Windows(state) => Some(state),
            Kept::Sessions(_) => {
                let times = rows.times.values().iter();
                let times = assigned.iter().copied().zip(times.copied());
                extend(&mut self.open.extents, times);
                None
            }
        };
        let gathered = measures::Gathered {
            values: &rows.values,
            groups: &assigned,
            starts: &rows.starts,
        };
        self.measures
            .update(&mut self.open.partial, &gathered, &self.open.groups, state)
    }
}

impl Hop {
    /// The same rows in the windows that start there, as far as these hold them and are open; `None`: there is none.
    fn in_open(
        &self,
        starts: Int64Array,
        holds: impl Fn(i64, i64) -> bool,
    ) -> Result<Option<Self>, DataFusionError> {
        let both = self.times.values().iter().zip(starts.values());
        let mask: BooleanArray = both.map(|(&t, &start)| Some(holds(t, start))).collect();
        if mask.true_count() == 0 {
            return Ok(None);
        }
        let kept = |array: &ArrayRef| compute::filter(array, &mask);
        let ints = |array: &Int64Array| {
            compute::filter(array, &mask).map(|kept| kept.as_primitive::<Int64Type>().clone())
        };
        Ok(Some(Self {
            starts: ints(&starts)?,
            times: ints(&self.times)?,
            values: self.values.iter().map(kept).collect::<Result<_, _>>()?,
            groups: self.groups.iter().map(kept).collect::<Result<_, _>>()?,
        }))
    }
}

/// Takes rows of numbered groups in; new groups come in the order of their numbers.
fn extend(extents: &mut Vec<Extent>, rows: impl Iterator<Item = (usize, i64)>) {
    for (group, t) in rows {
        match extents.get_mut(group) {
            Some(extent) => {
                extent.first = extent.first.min(t);
                extent.last = extent.last.max(t);
            }
            None => extents.push(Extent { first: t, last: t }),
        }
    }
}
