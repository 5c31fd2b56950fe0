//! Staged files and markers in the folder: each question and each act idempotent.

use evp_api::reason;
use evp_core::protocol::head::Intent;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{StagedFile, Target};
use crate::sink::SinkError;

/// Copies a staged file to its final name, unless a former attempt has; checks what is there then.
pub(super) async fn publish(target: &Target, file: &StagedFile) -> Result<(), SinkError> {
    let (from, to) = (target.child(&file.staged)?, target.child(&file.name)?);
    match target.store.copy(&from, &to).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(e) => return Err(target.unavailable("a staged file cannot be copied", &e)),
    }
    let lost = |what: String| {
        target.stop(
            reason::STAGED_FILE_MISSING,
            &format!("the staged file {from} {what}; restore the object"),
        )
    };
    match target.store.head(&to).await {
        Ok(meta) if meta.size == file.size => Ok(()),
        Ok(meta) => Err(lost(format!(
            "was copied with {} bytes instead of {}",
            meta.size, file.size
        ))),
        Err(object_store::Error::NotFound { .. }) => Err(lost("is gone".to_owned())),
        Err(e) => Err(target.unavailable("a copied file cannot be looked at", &e)),
    }
}

/// The marker of the intent's epoch is there. One that speaks of other files is of an epoch that the head has forgotten.
pub(super) async fn holds(
    target: &Target,
    marker: &Path,
    intent: &Intent,
) -> Result<bool, SinkError> {
    let failed = |e| target.unavailable("a marker cannot be read", &e);
    let found = match target.store.get(marker).await {
        Ok(found) => found.bytes().await.map_err(failed)?,
        Err(object_store::Error::NotFound { .. }) => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    let held: Option<serde_json::Value> = serde_json::from_slice(&found).ok();
    if intent.body.is_null() || held.as_ref() == Some(&intent.body) {
        return Ok(true);
    }
    let what = format!(
        "{marker} speaks of other files than epoch {} of the checkpoint: the checkpoint was rolled back; restore its \
         newest objects",
        intent.epoch
    );
    Err(target.stop(reason::CHECKPOINT_BEHIND_SINK, &what))
}

/// What was applied before must still be there: a folder that was emptied is not written on.
pub(super) async fn check_prev(target: &Target, marker: &Path) -> Result<(), SinkError> {
    if mistaken!(NoMarkerTakenAsNothing) || exists(target, marker).await? {
        return Ok(());
    }
    let what = format!(
        "{marker} is gone, though its epoch was applied: restore the folder's objects, or use a new one"
    );
    Err(target.stop(reason::SINK_HISTORY_LOST, &what))
}

pub(super) async fn exists(target: &Target, object: &Path) -> Result<bool, SinkError> {
    match target.store.head(object).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(target.unavailable("a marker cannot be looked at", &e)),
    }
}
