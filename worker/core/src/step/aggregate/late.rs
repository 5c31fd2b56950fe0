//! Which rows come too late for an aggregate (semantics 5, 6, 17), and which windows are closed.

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use datafusion_common::DataFusionError;
use std::sync::Arc;

use super::groups::key_converter;
use super::layout::{group_of, start_of};
use super::{Aggregate, Kept, Sessions};
use crate::dead_letter::{Reject, RejectCode};
use crate::position::Micros;
use crate::step::Rows;
use crate::window;

/// Rows that were judged.
pub(super) struct Judged {
    /// Those that come in time.
    pub(super) rows: Rows,
    /// How many do not.
    pub(super) late: u64,
    /// Those of them that are of records.
    pub(super) late_records: Vec<Reject>,
}

/// Why a row does not count.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Late {
    Closed,
    AfterReset,
}

impl Aggregate {
    /// A row is late iff all its windows are closed at the last decided watermark: `window_end + allowedLateness ≤ W`. Equal
    /// is late for the window, not for the row's own time.
    pub(super) fn on_time(&self, rows: Rows, w: Micros) -> Result<Judged, DataFusionError> {
        let late = self.late(&rows, w)?;
        if late.iter().all(Option::is_none) || mistaken!(LateReopensWindow) {
            return Ok(Judged {
                rows,
                late: 0,
                late_records: Vec::new(),
            });
        }
        let mask: BooleanArray = late.iter().map(|late| Some(late.is_none())).collect();
        let records = rows.origin.iter().zip(&late);
        let records = records.filter_map(|(&record, late)| Some(self.told(record, (*late)?)));
        Ok(Judged {
            late: late.iter().flatten().count() as u64,
            late_records: records.collect(),
            rows: rows.filter(&mask)?,
        })
    }

    /// For each row why it is late; `None`: it is not.
    fn late(&self, rows: &Rows, w: Micros) -> Result<Vec<Option<Late>>, DataFusionError> {
        let times = self.times(&rows.batch);
        let Kept::Sessions(sessions) = &self.kept else {
            let starts = self.starts(&times);
            let late = |&start: &i64| match self.is_closed(start, w) {
                true => Some(Late::Closed),
                false => (start < self.from).then_some(Late::AfterReset),
            };
            return Ok(starts.values().iter().map(late).collect());
        };
        let alone = |&t: &i64| match self.is_closed(t, w) {
            true => Some(Late::Closed),
            false => (t < self.from).then_some(Late::AfterReset),
        };
        let mut late: Vec<_> = times.values().iter().map(alone).collect();
        if late.contains(&Some(Late::Closed)) {
            self.readmit(sessions, (rows, &times), &mut late)?;
        }
        Ok(late)
    }

    /// A row that would be late alone counts where a session that is open takes it in. Sessions of the decided state are
    /// asked, so that the order of rows within an epoch does not matter.
    fn readmit(
        &self,
        sessions: &Sessions,
        (rows, times): (&Rows, &Int64Array),
        late: &mut [Option<Late>],
    ) -> Result<(), DataFusionError> {
        let times: ArrayRef = Arc::new(times.clone());
        let columns: Vec<ArrayRef> = std::iter::once(times)
            .chain(self.group_columns(&rows.batch))
            .collect();
        let keys = key_converter(&self.plan)?.convert_columns(&columns)?;
        for (late, key) in late.iter_mut().zip(keys.iter()) {
            let (t, group) = (start_of(key.data()), group_of(key.data()));
            if *late == Some(Late::Closed) && t >= self.from && sessions.takes_in(group, t) {
                *late = None;
            }
        }
        Ok(())
    }

    fn told(&self, record: u32, late: Late) -> Reject {
        let message = match (late, &self.kept) {
            (Late::Closed, Kept::Windows(_)) => "the row came after its window had closed",
            (Late::Closed, Kept::Sessions(_)) => {
                "the row came when a session of it would have closed"
            }
            (Late::AfterReset, Kept::Windows(_)) => {
                "AfterReset: the row's window had begun before the step was reset"
            }
            (Late::AfterReset, Kept::Sessions(_)) => {
                "AfterReset: the row is of before the step was reset"
            }
        };
        Reject {
            record,
            code: RejectCode::Late,
            message: message.into(),
            field: None,
        }
    }

    /// The window that starts there takes rows in.
    pub(super) fn is_open(&self, start: i64, w: Micros) -> bool {
        start >= self.from && !self.is_closed(start, w)
    }

    /// The window that starts there, or the session whose last row is there, is closed.
    pub(super) fn is_closed(&self, start: i64, w: Micros) -> bool {
        self.closes_at(start) <= w
    }

    /// The watermark that closes the window that starts there, or the session whose last row is there.
    pub(super) fn closes_at(&self, start: i64) -> Micros {
        let end = window::end(self.plan.plan.window, start);
        Micros(end.saturating_add(self.plan.allowed_lateness))
    }

    /// A session that cannot be the rest of one that a reset dropped.
    pub(super) fn is_whole(&self, key: &[u8]) -> bool {
        let gap = window::length(self.plan.plan.window);
        self.from == i64::MIN || start_of(key) >= self.from.saturating_add(gap - 1)
    }
}
