//! How a path becomes ours: `owner.json`, created once, or taken over from the owner that the plan names.

use evp_core::protocol::decide::{Found, Identity};
use evp_core::protocol::head::{FORMAT, OwnerFile, parse};
use evp_core::protocol::paths;

use super::{Objects, Owned, Start, bytes_of};
use crate::checkpointer::crash::{Moment, Step};
use crate::checkpointer::stop::Stop;
use crate::checkpointer::swap::Written;
use crate::store::Condition;

impl Start {
    /// Makes the path ours: the checkpoint id. `None`: somebody else was faster.
    pub(super) async fn claim(&self, there: Found<OwnerFile>) -> Result<Option<String>, Stop> {
        if let Some(Ok(owner)) = there {
            return Ok(Some(owner.checkpoint));
        }
        let checkpoint = self.io.ids.random128();
        let ours = self.own(&checkpoint, &Condition::Absent).await?;
        Ok(ours.then_some(checkpoint))
    }

    /// Makes the path ours that was another's, under the same checkpoint id. Whatever is there then is judged anew: the lane is
    /// not ours yet, and a crash here leaves a path that is.
    pub(super) async fn adopt(&self, objects: Objects) -> Result<Option<Owned>, Stop> {
        if let (Some(Ok(owner)), Some(tag)) = (objects.owner, objects.owner_tag) {
            let ours = self
                .own(&owner.checkpoint, &Condition::Matches(tag))
                .await?;
            if ours {
                let (name, uid) = (owner.name, owner.uid);
                tracing::info!(name, uid, "the checkpoint is taken over from this pipeline");
            }
        }
        Ok(None)
    }

    /// Writes `owner.json` with our identity. `false`: somebody else was faster.
    async fn own(&self, checkpoint: &str, condition: &Condition) -> Result<bool, Stop> {
        let Identity {
            name,
            uid,
            namespace_uid,
            pod: _,
        } = self.setup.identity.clone();
        let owner = OwnerFile {
            format: FORMAT,
            write: self.io.ids.nonce(),
            checkpoint: checkpoint.to_owned(),
            namespace_uid,
            name,
            uid,
        };
        let bytes = bytes_of(&self.io, paths::OWNER, &owner)?;
        self.io.crash.hit(Step::OwnerCreate, Moment::Before);
        let written = self
            .io
            .put_once(paths::OWNER, bytes, condition, |there| {
                parse(there).as_ref() == Ok(&owner)
            })
            .await?;
        self.io.crash.hit(Step::OwnerCreate, Moment::After);
        Ok(matches!(written, Written::Ours(_)))
    }
}
