//! Rows that a sink's target refused after their epoch was decided: dead letters of the very next epoch.
//!
//! Which these are needs no memory: the target keeps them with the epoch's marker, and no epoch is decided before the one
//! before it is applied. So the rejects of the newest epoch are not routed yet, and all older ones are.

use evp_api::plan::NodeName;
use evp_core::dead_letter::{DeadLetter, RejectCode};
use evp_core::position::{Epoch, Position, SplitId};
use evp_core::protocol::head::Body;

use super::fill::Open;
use super::{Halt, Runtime};
use crate::sink::RejectedRow;

impl Runtime {
    /// Stages what sinks refused of the newest decided epoch. `true`: there was something.
    pub(super) async fn route_rejects(&mut self, open: &mut Open) -> Result<bool, Halt> {
        let due = std::mem::take(&mut self.applier.rejects_due);
        // Without a place for dead letters the sinks themselves stop at what is refused.
        if !due || self.filler.checked.plan.dead_letter.is_none() {
            return Ok(false);
        }
        let refused_in = self.applier.checkpointer.body().epoch;
        let mut routed = false;
        for (name, sink) in &mut self.applier.sinks {
            let Some(source) = source_of(&self.filler.checked.plan, name) else {
                continue;
            };
            let mut after = None;
            loop {
                let rows = sink.rejected(refused_in, after).await?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = Some(last.number);
                routed = true;
                let count = rows.len() as u64;
                let reason = (name.clone(), RejectCode::SinkRejected);
                *open.letters.entry(reason).or_default() += count;
                let letters = rows
                    .into_iter()
                    .map(|row| letter(row, (name, &source), (refused_in, &open.body)));
                self.filler.keep(letters.collect()).await?;
            }
        }
        Ok(routed)
    }
}

/// The source at the root of what a sink writes.
fn source_of(plan: &evp_api::plan::Plan, sink: &NodeName) -> Option<NodeName> {
    let from = &plan.sinks.iter().find(|s| &s.name == sink)?.from;
    let step = plan.step(from);
    Some(step.map_or(from, |step| &step.source).clone())
}

/// The row takes the place of the record's bytes, its epoch and number that of split and position: a row of a window comes
/// from no record.
fn letter(
    row: RejectedRow,
    (sink, source): (&NodeName, &NodeName),
    (refused_in, body): (Epoch, &Body),
) -> DeadLetter {
    let RejectedRow {
        number,
        row,
        message,
    } = row;
    DeadLetter {
        raw: Some(row.into_bytes()),
        source: source.clone(),
        split: SplitId(format!("epoch {refused_in}")),
        position: Position(number),
        step: sink.clone(),
        code: RejectCode::SinkRejected,
        message: format!("refused in epoch {refused_in}: {message}"),
        field: None,
        epoch: body.epoch,
        time: body.epoch_time,
    }
}
