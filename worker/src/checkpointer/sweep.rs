//! Garbage: objects that no decided epoch names and none can name any more (`protocol::retain`), and copies of bodies that the
//! history no longer holds. Nothing depends on it; failures are logged, and the next sweep goes on.
//!
//! Data first: what a copy names is gone before the copy is, so that nothing is left that nobody knows of.

use std::collections::BTreeSet;

use evp_core::position::Epoch;
use evp_core::protocol::head::Body;
use evp_core::protocol::paths::written_for;
use evp_core::protocol::retain;
use futures::{StreamExt, TryStreamExt, stream};

use super::Checkpointer;
use super::crash::{Moment, Step};
use crate::store::StoreError;

/// Epochs between two sweeps.
const EVERY: u64 = 20;
/// Objects that one sweep deletes of a folder at most: what is left is for the next.
const MOST: usize = 1000;
/// Requests under way at the same time.
const IN_FLIGHT: usize = 8;
/// Copies after one that is gone which are asked for its time.
const NEIGHBOURS: u64 = 16;

impl Checkpointer {
    /// Deletes garbage, now and then.
    pub(super) async fn sweep(&mut self) {
        if !self.head.body.epoch.0.is_multiple_of(EVERY) {
            return;
        }
        self.sweep_now().await;
    }

    pub(super) async fn sweep_now(&mut self) {
        if let Err(e) = self.sweep_all().await {
            tracing::warn!(
                "garbage of the checkpoint is left for later: {}",
                e.describe()
            );
        }
    }

    async fn sweep_all(&mut self) -> Result<(), StoreError> {
        let named: BTreeSet<&str> = self.named.iter().flatten().map(String::as_str).collect();
        let garbage = |name: &str| {
            let is_old = |epoch: Epoch| epoch < self.head.body.epoch;
            retain::is_garbage(name, &self.head) && !named.contains(name)
                || mistaken!(LiveFileCollected) && written_for(name).is_some_and(is_old)
        };
        for folder in [
            self.lane.state(""),
            self.lane.outbox(""),
            self.lane.intent(""),
        ] {
            let found = self.list(&folder, garbage).await?;
            self.delete(found).await?;
        }
        self.sweep_history().await?;
        self.rolling.retained = self.first_retained().await?;
        Ok(())
    }

    async fn list(
        &self,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let mut found = self.io.store.list(folder.trim_end_matches('/')).await?;
        found.retain(|path| wanted(path.rsplit('/').next().unwrap_or(path)));
        found.truncate(MOST);
        Ok(found)
    }

    async fn delete(&self, objects: Vec<String>) -> Result<(), StoreError> {
        let deletes = stream::iter(objects).map(|path| async move {
            self.io.crash.hit(Step::GcDelete, Moment::Before);
            self.io.store.delete(&path).await?;
            self.io.crash.hit(Step::GcDelete, Moment::After);
            Ok(())
        });
        deletes.buffered(IN_FLIGHT).try_collect().await
    }

    /// Deletes copies that the head says are no longer kept. The first time what there is is listed, then it is known.
    async fn sweep_history(&mut self) -> Result<(), StoreError> {
        let until = self.head.rolling.retained;
        let Some(from) = self.copies_from else {
            let over = |name: &str| written_for(name).is_some_and(|epoch| epoch < until);
            let found = self.list(&self.lane.epochs(), over).await?;
            let all = found.len() < MOST;
            self.delete(found).await?;
            self.copies_from = all.then_some(until);
            return Ok(());
        };
        let to = until.0.min(from.0 + MOST as u64);
        let copies = (from.0..to).map(|epoch| self.lane.epoch(Epoch(epoch)));
        self.delete(copies.collect()).await?;
        self.copies_from = Some(Epoch(to).max(from));
        Ok(())
    }

    /// The first epoch whose copy is to be kept, for the next head to say. Copies before it are over: epochs ahead are tried
    /// in doubling steps, then the distance is halved.
    async fn first_retained(&self) -> Result<Epoch, StoreError> {
        let mut low = self.rolling.retained.0;
        let mut high = retain::latest_start(&self.head).0.max(low);
        let (mut step, mut halving) = (1, false);
        while low < high {
            let ahead = match halving {
                true => (high - low).div_ceil(2),
                false => step.min(high - low),
            };
            let probe = low + ahead - 1;
            if self.is_over(probe, high).await? {
                low = probe + 1;
                step *= 2;
            } else {
                high = probe;
                halving = true;
            }
        }
        Ok(Epoch(low))
    }

    /// A copy is older than the history goes back. One that is gone is as old as the next one that is there; where there is
    /// none near, nothing is known, and it is not over.
    async fn is_over(&self, epoch: u64, before: u64) -> Result<bool, StoreError> {
        for epoch in epoch..before.min(epoch + NEIGHBOURS) {
            let found = self.io.store.get(&self.lane.epoch(Epoch(epoch))).await?;
            let copy = found.and_then(|(bytes, _)| serde_json::from_slice::<Body>(&bytes).ok());
            if let Some(copy) = copy {
                return Ok(retain::is_over(&copy, &self.head.body, self.history));
            }
        }
        Ok(false)
    }
}
