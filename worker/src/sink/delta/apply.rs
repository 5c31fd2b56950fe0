//! Committing one decided epoch exactly once, whatever other writers, lost replies and crashes do.
//!
//! Each round looks at the newest version first: what does our marker say, and is the table still one we may write? Marker at
//! or beyond the epoch: done. Marker at the intent's `prev`: due. Anything else: the table's history is not the head's, stop.
//! Then one put-if-absent of the very next version. Whatever it answers but success is a doubt, and a doubt is settled by
//! the next round's look, never by the error: the version may be ours. A put that is still on its way when we look can
//! only land on the version we try next, and there only one of the two can.

use std::time::Duration;

use async_trait::async_trait;
use evp_api::reason;
use evp_core::protocol::head::Intent;

use super::actions::Commit;
use super::log::{Landing, TableLog};
use super::support::{self, Writes};
use super::{DeltaSettings, Shape};
use crate::checkpointer::{Moment, Step};
use crate::clock::SharedClock;
use crate::sink::{Applied, SinkError};

/// Rounds after which a contended table is reported as such, and tried again by the caller.
const ROUNDS: u32 = 12;

/// Rounds after which contention is worth a line in the log.
const PATIENT_ROUNDS: u32 = 3;

/// One sink's way to make a commit.
#[async_trait]
pub(super) trait Attempt: Send {
    /// What to commit on the log's snapshot. It may read and stage; a commit made on another snapshot is not used again.
    async fn prepare(&mut self, log: &TableLog) -> Result<Commit, SinkError>;

    /// The commit that was prepared last is this version.
    fn landed(&mut self, _version: u64) {}
}

/// What is fixed while an intent is rolled forward.
pub(super) struct Rolling<'a> {
    /// The sink's settings.
    pub settings: &'a DeltaSettings,
    /// The shape the table must have.
    pub shape: &'a Shape,
    /// How the sink changes the table.
    pub writes: Writes,
    /// What was decided.
    pub intent: &'a Intent,
}

impl Rolling<'_> {
    /// Commits, or finds that it was committed.
    pub(super) async fn forward(
        &self,
        log: &mut TableLog,
        attempt: &mut dyn Attempt,
    ) -> Result<Applied, SinkError> {
        let mut round = 0;
        let mut doubt = None;
        let crash = &self.settings.crash;
        loop {
            crash.hit(Step::Begin, Moment::Before);
            log.refresh().await?;
            let rebased = doubt.is_some() && mistaken!(ConflictRebased);
            if standing(log, self.intent).await? == Standing::Done && !rebased {
                return Ok(Applied {
                    version: log.version(),
                    rejected: 0,
                });
            }
            self.check_table(log)?;
            crash.hit(Step::Begin, Moment::After);
            if let Some(error) = doubt.take() {
                go_on(log, round, &error)?;
            }
            let commit = attempt.prepare(log).await?;
            crash.hit(Step::CommitSend, Moment::Before);
            match log.commit(commit).await? {
                Landing::Landed(version) => {
                    crash.hit(Step::CommitSend, Moment::After);
                    log.landed(&self.intent.sink.0, version, self.intent.epoch.0);
                    attempt.landed(version);
                    log.checkpoint_if_due(version).await;
                    return Ok(Applied {
                        version: Some(version),
                        rejected: 0,
                    });
                }
                Landing::Unsure(error) => {
                    pause(&self.settings.clock, round).await;
                    doubt = Some(error);
                    round += 1;
                }
            }
        }
    }

    fn check_table(&self, log: &TableLog) -> Result<(), SinkError> {
        match log.snapshot() {
            None => Ok(()),
            Some(snapshot) => support::check(
                log.target(),
                snapshot,
                &self.shape.schema,
                &self.settings.partition_by,
                self.writes,
            ),
        }
    }
}

/// The commit did not land: `Err` ends the rounds.
fn go_on(log: &TableLog, round: u32, error: &object_store::Error) -> Result<(), SinkError> {
    if !is_conflict(error) {
        return Err(log.target().unavailable("a commit failed", error));
    }
    if round >= ROUNDS {
        return Err(SinkError::Unavailable {
            reason: reason::TABLE_CONTENDED,
            message: format!(
                "{}: other writers committed first {round} times in a row; retried, nothing is lost; space out \
                 their commits",
                log.target().url
            ),
        });
    }
    if round >= PATIENT_ROUNDS {
        tracing::warn!(code = reason::TABLE_CONTENDED, table = %log.target().url, round, "other writers keep committing first");
    }
    Ok(())
}

/// Where our marker stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The epoch is in the table.
    Done,
    /// The epoch before it is; this one is next.
    Due,
}

async fn standing(log: &mut TableLog, intent: &Intent) -> Result<Standing, SinkError> {
    let marker = log.marker(&intent.sink.0).await?;
    let (epoch, prev) = (intent.epoch.0, intent.prev.map(|e| e.0));
    match (marker, prev) {
        (Some(marker), _) if marker >= epoch => Ok(Standing::Done),
        (marker, prev) if marker == prev => Ok(Standing::Due),
        (None, Some(_)) if mistaken!(NoMarkerTakenAsNothing) => Ok(Standing::Due),
        (None, Some(prev)) => Err(log.target().stop(
            reason::SINK_HISTORY_LOST,
            &format!(
                "epoch {prev} was committed here and the table does not say so any more; restore the table, or start \
                 anew with another path and another checkpoint"
            ),
        )),
        (Some(marker), Some(prev)) if marker < prev => Err(log.target().stop(
            reason::SINK_HISTORY_LOST,
            &format!(
                "epoch {prev} was committed here and the table ends at epoch {marker}; restore the table's newer \
                 version, or start anew with another path and another checkpoint"
            ),
        )),
        (marker, prev) => Err(log.target().stop(
            reason::CHECKPOINT_BEHIND_SINK,
            &format!(
                "it holds epoch {}, which the checkpoint does not know of (it says {}); restore the newest \
                 checkpoint",
                marker.unwrap_or_default(),
                prev.map_or_else(|| "none".to_owned(), |p| format!("epoch {p}"))
            ),
        )),
    }
}

/// Somebody has that version, or is just about to.
fn is_conflict(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
    )
}

/// Waits 0-100 ms, doubled each round up to 1.6 s, so that two writers do not meet again.
async fn pause(clock: &SharedClock, round: u32) {
    let jitter = u64::try_from(clock.now().0.rem_euclid(100)).unwrap_or_default();
    clock
        .sleep(Duration::from_millis(jitter << round.min(4)))
        .await;
}
