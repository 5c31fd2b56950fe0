//! One task a source: polls it and hands batches over a bounded queue, so that reading goes on while the loop computes.
//!
//! The queue holds at most [`READ_AHEAD`] batches; a full queue stops polling, and the source's own buffers are bounded by
//! its settings (semantics 39).

use std::time::Duration;

use evp_api::plan::NodeName;
use evp_core::position::SplitPositions;
use evp_core::record::{RawBatch, Reached};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::checkpointer::{CrashPoints, Moment, Step};
use crate::clock::SharedClock;
use crate::source::{Budget, SharedSource, SourceError};

/// Batches read ahead over all sources. With the one in the loop's hands: 3 × the batch budget of raw bytes.
pub const READ_AHEAD: usize = 2;

/// How long a poll waits for the first record: also how stale "reached" facts may be.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long a source that cannot be reached is left alone.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a source is asked for splits that came since (semantics 24).
pub const LOOK_EVERY: Duration = Duration::from_mins(1);

/// What a reader has to say.
#[derive(Debug)]
pub enum Read {
    /// Records, or only news of what was reached.
    Batch(NodeName, RawBatch),
    /// The source cannot be read now; the reader tries again by itself. Nothing is lost.
    Unavailable(NodeName, SourceError),
    /// The source cannot be read; the reader has ended.
    Stopped(NodeName, SourceError),
}

/// Reads one source until told to stop.
pub struct Reader {
    /// Name of the source.
    pub name: NodeName,
    /// The source.
    pub source: SharedSource,
    /// Where to read on, then where each split stands after the batches handed over.
    pub positions: SplitPositions,
    /// Most that one batch may hold.
    pub budget: Budget,
    /// Where batches go.
    pub batches: mpsc::Sender<Read>,
    /// Waits between attempts.
    pub clock: SharedClock,
    /// For crash tests.
    pub crash: CrashPoints,
}

impl Reader {
    /// Polls until `stop`, a refusal, or until nobody listens.
    pub async fn run(mut self, stop: CancellationToken) {
        let reading = self.read();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = reading => {}
        }
    }

    async fn read(&mut self) {
        self.crash.hit(Step::SourceSeek, Moment::Before);
        while let Err(error) = self.seek().await {
            if self.failed(error).await.is_none() {
                return;
            }
        }
        self.crash.hit(Step::SourceSeek, Moment::After);
        let mut looked = self.clock.elapsed();
        loop {
            let is_due = self.clock.elapsed().saturating_sub(looked) >= LOOK_EVERY;
            let read = if is_due {
                looked = self.clock.elapsed();
                self.look_for_splits().await
            } else {
                self.poll().await
            };
            let heard = match read {
                Ok(batch) => self.hand_over(batch).await,
                Err(error) => self.failed(error).await,
            };
            if heard.is_none() {
                return;
            }
        }
    }

    async fn seek(&self) -> Result<(), SourceError> {
        let mut source = self.source.lock().await;
        source.seek(&self.positions).await
    }

    async fn poll(&self) -> Result<RawBatch, SourceError> {
        let mut source = self.source.lock().await;
        source.poll(self.budget, POLL_WAIT).await
    }

    /// Takes splits that came since into the assignment. Their start is told before anything of them is read, so that the
    /// epoch that reads them first holds where they began.
    async fn look_for_splits(&mut self) -> Result<RawBatch, SourceError> {
        let mut source = self.source.lock().await;
        let new = source.splits(Some(&self.positions)).await?;
        if new.is_empty() {
            return Ok(RawBatch::default());
        }
        let mut all = self.positions.clone();
        all.extend(new.clone());
        source.seek(&all).await?;
        let reached = new.into_iter().map(|(split, position)| Reached {
            split,
            position,
            end: None,
        });
        Ok(RawBatch {
            reached: reached.collect(),
            ..RawBatch::default()
        })
    }

    /// `None`: nobody listens.
    async fn hand_over(&mut self, batch: RawBatch) -> Option<()> {
        let says_nothing = batch.reached.is_empty() && batch.promises.is_empty();
        if batch.records.is_empty() && batch.gaps.is_empty() && says_nothing {
            return Some(());
        }
        for reached in &batch.reached {
            let position = reached.position.clone();
            self.positions.insert(reached.split.clone(), position);
        }
        let read = Read::Batch(self.name.clone(), batch);
        self.batches.send(read).await.ok()
    }

    /// Reports; `None`: the reader ends.
    async fn failed(&mut self, error: SourceError) -> Option<()> {
        if matches!(error, SourceError::Stop { .. }) {
            let _ = self
                .batches
                .send(Read::Stopped(self.name.clone(), error))
                .await;
            return None;
        }
        self.batches
            .send(Read::Unavailable(self.name.clone(), error))
            .await
            .ok()?;
        self.clock.sleep(RETRY_AFTER).await;
        Some(())
    }
}

#[cfg(test)]
mod tests;
