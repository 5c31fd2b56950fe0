//! The head of the graph: a source's records decoded, too-new ones refused, the watermark fed.

use std::collections::BTreeSet;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion_common::DataFusionError;
use evp_api::plan::SourcePlan;

use crate::dead_letter::{Reject, RejectCode};
use crate::decode::{Decoder, MetaColumns};
use crate::ledger::SourceCounts;
use crate::position::{Micros, SplitId};
use crate::record::RawBatch;
use crate::step::Rows;
use crate::watermark::{Snapshot, Standing, Watermarks};

/// One source of the graph.
#[derive(Debug)]
pub(super) struct Input {
    decoder: Decoder,
    time: Option<EventTime>,
}

#[derive(Debug)]
struct EventTime {
    column: usize,
    name: String,
    max_future: i64,
    watermarks: Watermarks,
}

impl Input {
    pub(super) fn new(source: &SourcePlan, meta: MetaColumns) -> Self {
        let micros = |time| Micros::from(time).0;
        let time = source.watermark.as_ref().and_then(|watermark| {
            let (column, _) = source.schema.field(&watermark.column)?;
            Some(EventTime {
                column,
                name: watermark.column.clone(),
                max_future: micros(watermark.max_future),
                watermarks: Watermarks::new(micros(watermark.delay)),
            })
        });
        Self {
            decoder: Decoder::new(source, meta),
            time,
        }
    }

    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        if let Some(time) = &mut self.time {
            time.watermarks.restore(snapshot);
        }
    }

    pub(super) fn register(&mut self, split: &SplitId) {
        if let Some(time) = &mut self.time {
            time.watermarks.register(split);
        }
    }

    pub(super) fn promise(&mut self, split: &SplitId, time: Micros) {
        if let Some(of) = &mut self.time {
            of.watermarks.promise(split, time);
        }
    }

    pub(super) fn decided(&self) -> Option<Micros> {
        self.time
            .as_ref()
            .and_then(|time| time.watermarks.decided())
    }

    /// How a split stood to the watermark when the epoch opened.
    pub(super) fn standing(&self, split: &SplitId) -> Standing {
        let standing = |time: &EventTime| time.watermarks.standing(split);
        self.time.as_ref().map_or(Standing::Steady, standing)
    }

    pub(super) fn close(&self, idle: &BTreeSet<SplitId>, at: Micros) -> Option<Snapshot> {
        let time = self.time.as_ref()?;
        Some(time.watermarks.close(idle, at))
    }

    pub(super) fn commit(&mut self, closing: Snapshot) {
        if let Some(time) = &mut self.time {
            time.watermarks.commit(closing);
        }
    }

    pub(super) fn abandon(&mut self) {
        if let Some(time) = &mut self.time {
            time.watermarks.abandon();
        }
    }

    /// Decodes and judges; every record is counted.
    pub(super) fn take_in(
        &mut self,
        raw: &RawBatch,
        now: Micros,
        counts: &mut SourceCounts,
    ) -> Result<(Rows, Vec<Reject>), DataFusionError> {
        let decoded = self.decoder.decode(raw);
        let mut rejects = decoded.rejects;
        let mut rows = Rows {
            batch: decoded.rows,
            origin: decoded.origin,
        };
        if let Some(time) = &mut self.time {
            rows = time.refuse_future(rows, now, &mut rejects)?;
            time.accept(&rows, raw);
        }
        counts.read += raw.records.len() as u64;
        counts.decoded += rows.batch.num_rows() as u64;
        counts.tombstones += decoded.tombstones;
        counts.dead_lettered += rejects.len() as u64;
        counts.gaps += raw.gaps.len() as u64;
        Ok((rows, rejects))
    }
}

impl EventTime {
    /// One bad clock must not close every window (semantics 12).
    fn refuse_future(
        &self,
        rows: Rows,
        now: Micros,
        rejects: &mut Vec<Reject>,
    ) -> Result<Rows, DataFusionError> {
        let bound = now.0.saturating_add(self.max_future);
        let times = rows
            .batch
            .column(self.column)
            .as_primitive::<TimestampMicrosecondType>();
        if times.values().iter().all(|&t| t <= bound) || mistaken!(FutureAccepted) {
            return Ok(rows);
        }
        let mask: BooleanArray = times.values().iter().map(|&t| Some(t <= bound)).collect();
        let future = rows
            .origin
            .iter()
            .zip(times.values())
            .filter(|(_, t)| **t > bound);
        rejects.extend(future.map(|(&record, _)| Reject {
            record,
            code: RejectCode::FutureEventTime,
            message: format!(
                "`{}` is further ahead of the epoch's time than maxFuture",
                self.name
            ),
            field: Some(self.name.clone()),
        }));
        Ok(rows.filter(&mask)?)
    }

    fn accept(&mut self, rows: &Rows, raw: &RawBatch) {
        let times = rows
            .batch
            .column(self.column)
            .as_primitive::<TimestampMicrosecondType>();
        let mut newest = vec![None; raw.splits.len()];
        for (&t, &record) in times.values().iter().zip(&rows.origin) {
            let split = raw.records[record as usize].split as usize;
            newest[split] = newest[split].max(Some(t));
        }
        for (split, newest) in raw.splits.iter().zip(newest) {
            newest
                .into_iter()
                .for_each(|t| self.watermarks.accept(split, t));
        }
    }
}
