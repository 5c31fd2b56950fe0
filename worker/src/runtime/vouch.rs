//! Before an epoch is decided, the sources that it moved on vouch for what they handed over (semantics 25).

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use evp_core::position::SplitPositions;
use tokio_util::sync::CancellationToken;

use super::fill::Open;
use super::{Halt, Runtime};
use crate::reader::RETRY_AFTER;
use crate::report::Reporter;
use crate::source::{SharedSource, SourceError};

/// The sources, by name: a reader polls each.
pub(super) type SharedSources = BTreeMap<NodeName, SharedSource>;

impl Runtime {
    /// Waits until every source that the epoch moved on has vouched. Where one refuses, or does not answer until the worker is
    /// told to stop, the epoch is not decided: its records are read again.
    pub(super) async fn vouched(
        &self,
        open: &Open,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let moved = |name: &&NodeName| open.body.positions.get(*name) != open.committed.get(*name);
        for name in self.sources.keys().filter(moved) {
            let none = SplitPositions::new();
            let positions = open.body.positions.get(name).unwrap_or(&none);
            let source = (&self.sources[name], positions);
            self.vouches(source, reporter, stop).await?;
        }
        Ok(())
    }

    async fn vouches(
        &self,
        (source, positions): (&SharedSource, &SplitPositions),
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let mut told = false;
        loop {
            let vouched = source.lock().await.vouch(positions).await;
            let halt = match vouched {
                Ok(()) => break,
                Err(error @ SourceError::Stop { .. }) => return Err(error.into()),
                Err(error) => Halt::from(error),
            };
            if stop.is_cancelled() {
                return Err(halt);
            }
            tracing::warn!(code = halt.reason, "{}", halt.message);
            reporter.source_trouble(Some((halt.reason, &halt.message)));
            told = true;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(RETRY_AFTER) => {}
            }
        }
        if told {
            reporter.source_trouble(None);
        }
        Ok(())
    }
}
