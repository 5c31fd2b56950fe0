//! Rows added to a Delta table: files at their final path while rows flow, their `add` actions in the intent, one commit.
//!
//! An append reads nothing, so other writers' commits do not matter to it (they matter only if they change the table's shape):
//! the same files are committed on whatever version is newest.

use std::sync::Arc;

use async_trait::async_trait;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::Intent;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actions::{AddFile, Commit, CommitInfo};
use super::added::AddedFiles;
use super::apply::{Attempt, Rolling};
use super::log::TableLog;
use super::support::{self, Writes};
use super::target::Target;
use super::{DeltaSettings, Shape};
use crate::checkpointer::{CommitPermit, Moment, Step};
use crate::sink::{Applied, Sink, SinkError};

/// Staged files asked for at the same time.
const HEADS_IN_FLIGHT: usize = 8;

/// What the head keeps for one epoch of this sink.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    add: Vec<AddFile>,
}

/// A Delta table that rows are added to.
pub struct DeltaAppend {
    settings: DeltaSettings,
    shape: Shape,
    log: TableLog,
    files: AddedFiles,
}

impl DeltaAppend {
    /// Looks at the table, if there is one: what cannot be written is refused now.
    pub async fn open(settings: DeltaSettings) -> Result<Self, SinkError> {
        let shape = settings.shape()?;
        let mut log = TableLog::new(settings.target.clone());
        if let Some(snapshot) = log.refresh().await? {
            support::check(
                &settings.target,
                &snapshot,
                &shape.schema,
                &settings.partition_by,
                Writes::Appends,
            )?;
        }
        let files = AddedFiles::new(
            settings.target.clone(),
            Arc::clone(&shape.partitioning),
            &[],
            settings.names(),
            Arc::clone(&settings.clock),
        );
        Ok(Self {
            settings,
            shape,
            log,
            files,
        })
    }

    /// [`Sink::apply`] for tests against a real store, where no head decides.
    #[doc(hidden)]
    pub async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let body = serde_json::from_value(intent.body.clone());
        let body: Body = body.map_err(|e| {
            self.settings
                .target
                .stop(reason::CHECKPOINT_DAMAGED, &e.to_string())
        })?;
        let rolling = Rolling {
            settings: &self.settings,
            shape: &self.shape,
            writes: Writes::Appends,
            intent,
        };
        let mut attempt = AppendAttempt {
            settings: &self.settings,
            shape: &self.shape,
            intent,
            files: &body.add,
            seen: false,
        };
        rolling.forward(&mut self.log, &mut attempt).await
    }
}

#[async_trait]
impl Sink for DeltaAppend {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        let target = &self.settings.target;
        let SinkBatch::Rows(rows) = batch else {
            return Err(target.stop(
                reason::PLAN_REFUSED,
                "changes by key were sent to a sink that only adds rows",
            ));
        };
        let rows = self.shape.schema.shape(&rows);
        let rows = rows.map_err(|e| target.stop(reason::TABLE_MISMATCH, &e.to_string()))?;
        self.files.write(&rows).await
    }

    async fn seal(&mut self, _epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let crash = &self.settings.crash;
        crash.hit(Step::StagePut, Moment::Before);
        let add = self.files.finish().await?;
        crash.hit(Step::StagePut, Moment::After);
        Ok((!add.is_empty()).then(|| json!(Body { add })))
    }

    async fn abandon(&mut self) {
        self.files.abort().await;
    }

    async fn apply(
        &mut self,
        intent: &Intent,
        _permit: &CommitPermit,
    ) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }

    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        self.log.refresh().await?;
        Ok(self.log.marker(&intent.sink.0).await?.map(Epoch))
    }
}

struct AppendAttempt<'a> {
    settings: &'a DeltaSettings,
    shape: &'a Shape,
    intent: &'a Intent,
    files: &'a [AddFile],
    /// The files have been found in the store.
    seen: bool,
}

#[async_trait]
impl Attempt for AppendAttempt<'_> {
    async fn prepare(&mut self, log: &TableLog) -> Result<Commit, SinkError> {
        if !self.seen {
            check_staged(log.target(), self.files).await?;
            self.seen = true;
        }
        let now = self.settings.clock.now().0 / 1000;
        let mut commit = Commit::new(&CommitInfo {
            now,
            operation: "WRITE",
            parameters: json!({"mode": "Append", "partitionBy": json!(self.settings.partition_by).to_string()}),
            blind: true,
            read: log.version(),
            app: (&self.intent.sink.0, self.intent.epoch.0),
        });
        if log.snapshot().is_none() {
            let id = table_id(&self.intent.sink.0);
            commit.create(&id, &self.shape.schema, &self.settings.partition_by, now);
        }
        for file in self.files {
            commit.add(file);
        }
        Ok(commit)
    }
}

/// Are the staged files still there, whole? A foreign VACUUM may have taken them.
async fn check_staged(target: &Target, files: &[AddFile]) -> Result<(), SinkError> {
    let mut heads = Vec::with_capacity(files.len());
    for file in files {
        let location = target.data_file(&file.path)?;
        heads.push(head(target, location, file.size));
    }
    futures::stream::iter(heads)
        .buffer_unordered(HEADS_IN_FLIGHT)
        .try_collect()
        .await
}

async fn head(target: &Target, location: Path, size: u64) -> Result<(), SinkError> {
    let lost = |what: &str| {
        target.stop(
            reason::STAGED_FILE_MISSING,
            &format!(
                "the staged file {location} {what}; was the table vacuumed? restore the object"
            ),
        )
    };
    match target.store.head(&location).await {
        Ok(meta) if meta.size == size => Ok(()),
        Ok(meta) => Err(lost(&format!("has {} bytes instead of {size}", meta.size))),
        Err(object_store::Error::NotFound { .. }) => Err(lost("is gone")),
        Err(e) => Err(target.unavailable("a staged file cannot be looked at", &e)),
    }
}

/// A UUID (RFC 9562, version 8) for a table that this sink creates: the same whenever it is tried again.
pub(super) fn table_id(app: &str) -> String {
    let hex = Digest::of(format!("table {app}").as_bytes()).0;
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!(
        "{}-{}-8{}-8{}-{}",
        part(0..8),
        part(8..12),
        part(12..15),
        part(15..18),
        part(18..30)
    )
}
