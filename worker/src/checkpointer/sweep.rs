//! Garbage: objects that no decided epoch names and none can name any more. Nothing depends on it; failures are logged.
//!
//! Every name begins with the epoch it was written for, and an object is first named by that epoch or never. So an object
//! of an epoch up to the head's that the head does not name is garbage, whoever wrote it; the last epochs are spared for
//! whoever still reads them.

use std::collections::BTreeSet;

use evp_core::protocol::head::{HISTORY, KEPT};
use evp_core::protocol::paths::written_for;

use super::Checkpointer;
use super::crash::{Moment, Step};
use crate::store::StoreError;

/// Epochs between two sweeps.
const EVERY: u64 = 20;

impl Checkpointer {
    /// Deletes garbage, now and then.
    pub(super) async fn sweep(&self) {
        let epoch = self.head.body.epoch.0;
        if !epoch.is_multiple_of(EVERY) {
            return;
        }
        let swept = self.sweep_folders().await;
        if let Err(e) = swept {
            tracing::warn!(
                "garbage of the checkpoint is left for later: {}",
                e.describe()
            );
        }
    }

    async fn sweep_folders(&self) -> Result<(), StoreError> {
        let head = self.head.body.epoch;
        let undone = self.rolling.undone.first().map_or(head, |u| u.epoch);
        let oldest = head.0.saturating_sub(KEPT).min(undone.0);
        let named: BTreeSet<&str> = self.named.iter().flatten().map(String::as_str).collect();
        let stale = |name: &str, before: u64| written_for(name).is_some_and(|e| e.0 < before);
        for folder in [
            self.lane.state(""),
            self.lane.outbox(""),
            self.lane.intent(""),
        ] {
            let garbage = |name: &str| stale(name, oldest) && !named.contains(name);
            self.delete(&folder, garbage).await?;
        }
        if head.0.is_multiple_of(EVERY * 50) {
            let folder = self.lane.epochs();
            self.delete(&folder, |name| stale(name, head.0.saturating_sub(HISTORY)))
                .await?;
        }
        Ok(())
    }

    async fn delete(&self, folder: &str, garbage: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for path in self.io.store.list(folder.trim_end_matches('/')).await? {
            let name = path.rsplit('/').next().unwrap_or(&path);
            if garbage(name) {
                self.io.crash.hit(Step::GcDelete, Moment::Before);
                self.io.store.delete(&path).await?;
                self.io.crash.hit(Step::GcDelete, Moment::After);
            }
        }
        Ok(())
    }
}
