//! Rolling the sinks of a decided epoch forward, and telling of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evp_api::plan::NodeName;
use evp_core::check::CheckedPlan;
use evp_core::dataflow::StateFacts;

use super::Halt;
use crate::checkpointer::{Checkpointer, CommitPermit};
use crate::job::Sinks;
use crate::report::{Decided, Letters, Reporter};

/// The owner of the lane, with sinks of its own to apply to.
pub(super) struct Applier {
    pub(super) checked: Arc<CheckedPlan>,
    pub(super) checkpointer: Checkpointer,
    pub(super) sinks: Sinks,
    pub(super) versions: BTreeMap<NodeName, u64>,
    /// The decided epoch that is not applied yet.
    pub(super) pending: Option<Pending>,
    /// Sinks may hold rows of the newest epoch that their targets refused and that are no dead letters yet.
    pub(super) rejects_due: bool,
}

/// A decided epoch, and what is told once its sinks hold it.
pub(super) struct Pending {
    pub(super) permit: CommitPermit,
    pub(super) state: BTreeMap<NodeName, StateFacts>,
    pub(super) letters: Letters,
}

impl Applier {
    /// Applies what is decided, if it is not applied yet. Dropped in the middle, the next start rolls it forward.
    pub(super) async fn apply(&mut self, reporter: &Reporter) -> Result<(), Halt> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let Pending {
            permit,
            state,
            letters,
        } = pending;
        let applied = self.checkpointer.apply(permit, &mut self.sinks).await?;
        self.rejects_due = applied.values().any(|applied| applied.rejected > 0);
        let versions = applied
            .into_iter()
            .filter_map(|(name, a)| Some((name, a.version?)));
        self.versions.extend(versions);
        reporter.decided(self.newest(&state, letters));
        Ok(())
    }

    /// Applies what is decided and records it, so that whoever reads the head of a stopped pipeline sees nothing undone.
    pub(super) async fn finish(&mut self, reporter: &Reporter) -> Result<(), Halt> {
        self.apply(reporter).await?;
        Ok(self.checkpointer.record_quietly().await?)
    }

    /// The newest epoch, as reports see it.
    pub(super) fn newest<'a>(
        &'a self,
        state: &'a BTreeMap<NodeName, StateFacts>,
        letters: Letters,
    ) -> Decided<'a> {
        Decided {
            checked: &self.checked,
            body: self.checkpointer.body(),
            term: self.checkpointer.term(),
            state,
            versions: &self.versions,
            letters,
        }
    }
}
