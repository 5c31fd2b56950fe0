//! One task a source: polls it and hands batches over a bounded queue, so that reading goes on while the loop computes.
//!
//! The queue holds at most [`READ_AHEAD`] batches; a full queue stops polling, and the source's own buffers are bounded by
//! its settings (semantics 39).

use std::time::Duration;

use evp_api::plan::NodeName;
use evp_core::position::SplitPositions;
use evp_core::record::RawBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::source::{Budget, Source, SourceError};

/// Batches read ahead over all sources. With the one in the loop's hands: 3 × the batch budget of raw bytes.
pub const READ_AHEAD: usize = 2;

/// How long a poll waits for the first record: also how stale "reached" facts may be.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How long a source that cannot be reached is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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

/// Reads one source until told to stop. `start`: the positions to read on from.
pub struct Reader {
    /// Name of the source.
    pub name: NodeName,
    /// The source.
    pub source: Box<dyn Source>,
    /// Where to read on.
    pub start: SplitPositions,
    /// Most that one batch may hold.
    pub budget: Budget,
    /// Where batches go.
    pub batches: mpsc::Sender<Read>,
    /// Waits between attempts.
    pub clock: SharedClock,
}

impl Reader {
    /// Polls until `stop`, a refusal, or until nobody listens.
    pub async fn run(mut self, stop: CancellationToken) {
        let reading = self.read();
        tokio::select! {
            () = stop.cancelled() => {}
            () = reading => {}
        }
    }

    async fn read(&mut self) {
        while let Err(error) = self.source.seek(&self.start).await {
            if self.failed(error).await.is_none() {
                return;
            }
        }
        loop {
            match self.source.poll(self.budget, POLL_WAIT).await {
                Ok(batch)
                    if batch.records.is_empty()
                        && batch.reached.is_empty()
                        && batch.gaps.is_empty() => {}
                Ok(batch) => {
                    if self
                        .batches
                        .send(Read::Batch(self.name.clone(), batch))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                Err(error) => {
                    if self.failed(error).await.is_none() {
                        return;
                    }
                }
            }
        }
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
