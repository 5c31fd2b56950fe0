//! Files, exactly once: rows as Parquet, dead letters (semantics 35), and on a laptop what a Kafka sink would send. Staged under
//! `_staging/`, copied to their final name once the epoch is decided, marked in `_commits/`, unstaged.
//!
//! Readers skip names with an underscore. Copies, the marker and the removal are each idempotent, in this order, so a crash
//! anywhere between them is healed by applying again: the marker says that all copies are there.

mod publish;
mod staging;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use evp_api::plan::DeadLetterFormat;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::publish::{check_prev, exists, holds, publish};
use self::staging::Staging;
use super::delta::Target;
use crate::checkpointer::{CommitPermit, CrashPoints, Moment, Step};
use crate::sink::{Applied, Sink, SinkError};

/// What is in the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Dead letters.
    DeadLetters(DeadLetterFormat),
    /// Records of a topic as JSON lines, `{"key": …, "value": {…}}`, with this column as their key.
    Records(Option<String>),
    /// Rows as Parquet.
    Rows {
        /// Their columns.
        schema: SchemaRef,
        /// Columns whose values are folders.
        partition_by: Vec<String>,
    },
}

impl Content {
    fn suffix(&self) -> &'static str {
        match self {
            Self::DeadLetters(DeadLetterFormat::Parquet) | Self::Rows { .. } => "parquet",
            Self::DeadLetters(DeadLetterFormat::JsonLines) | Self::Records(_) => "jsonl",
        }
    }
}

/// What the sink needs to know.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    /// Who writes: the tag of our files.
    pub identity: SinkIdentity,
    /// Incarnation of the checkpoint, hex.
    pub incarnation: String,
    /// Lane.
    pub lane: Lane,
    /// The folder.
    pub target: Target,
    /// What is in the files.
    pub content: Content,
    /// A nonce of this run, in letters that may stand in an object's name: no other run has it.
    pub nonce: String,
    /// For crash tests, this sink's.
    pub crash: CrashPoints,
}

/// What the head keeps for one epoch of this sink.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    files: Vec<StagedFile>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StagedFile {
    /// Below the folder.
    staged: String,
    /// Below the folder.
    name: String,
    size: u64,
    rows: u64,
}

/// A folder of files.
pub struct FilesSink {
    settings: FilesSettings,
    staging: Staging,
}

impl FilesSink {
    /// Asks the store nothing. `Stop`: a column cannot partition.
    pub fn new(settings: FilesSettings) -> Result<Self, SinkError> {
        Ok(Self {
            staging: Staging::new(&settings)?,
            settings,
        })
    }

    fn tag(&self) -> String {
        let FilesSettings {
            identity,
            incarnation,
            lane,
            ..
        } = &self.settings;
        let incarnation = incarnation.get(..8).unwrap_or(incarnation);
        format!("{}-{incarnation}-{lane}", identity.id8())
    }

    fn marker(&self, epoch: Epoch) -> Result<Path, SinkError> {
        self.settings
            .target
            .child(&format!("_commits/{}-{epoch}.json", self.tag()))
    }

    /// [`Sink::apply`] for tests against a real store, where no head decides.
    #[doc(hidden)]
    pub async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let target = &self.settings.target;
        let body = serde_json::from_value(intent.body.clone());
        let body: Body =
            body.map_err(|e| target.stop(reason::CHECKPOINT_DAMAGED, &e.to_string()))?;
        let marker = self.marker(intent.epoch)?;
        let crash = &self.settings.crash;
        crash.hit(Step::Begin, Moment::Before);
        if !holds(target, &marker, intent).await? {
            if let Some(prev) = intent.prev {
                check_prev(target, &self.marker(prev)?).await?;
            }
            crash.hit(Step::Begin, Moment::After);
            let text = serde_json::to_vec(&body).map_err(|e| target.unavailable("a marker", &e))?;
            if mistaken!(MarkerBeforeCopy) {
                let put = target.store.put(&marker, text.clone().into()).await;
                put.map_err(|e| target.unavailable("a marker cannot be written", &e))?;
            }
            crash.hit(Step::Write, Moment::Before);
            for file in &body.files {
                publish(target, file).await?;
            }
            crash.hit(Step::Write, Moment::After);
            crash.hit(Step::CommitSend, Moment::Before);
            let put = target.store.put(&marker, text.into()).await;
            put.map_err(|e| target.unavailable("a marker cannot be written", &e))?;
            crash.hit(Step::CommitSend, Moment::After);
        }
        for file in &body.files {
            let staged = target.child(&file.staged)?;
            match target.store.delete(&staged).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::debug!(%staged, %error, "a staged file stays behind"),
            }
        }
        Ok(Applied::default())
    }
}

#[async_trait]
impl Sink for FilesSink {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        let rows = match (batch, &self.settings.content) {
            (SinkBatch::Rows(rows), _) => rows,
            (SinkBatch::Changes { rows, delete }, Content::Records(_))
                if !delete.contains(&true) =>
            {
                rows
            }
            (SinkBatch::Changes { .. }, _) => {
                let what = "files are added to, and a row was to be replaced or taken back";
                return Err(self.settings.target.stop(reason::PLAN_REFUSED, what));
            }
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.staging.write(rows).await
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let crash = self.settings.crash.clone();
        crash.hit(Step::StagePut, Moment::Before);
        let staged = self.staging.finish().await?;
        crash.hit(Step::StagePut, Moment::After);
        if staged.is_empty() {
            return Ok(None);
        }
        let (tag, suffix) = (self.tag(), self.settings.content.suffix());
        let file = |(i, staged): (usize, staging::Staged)| StagedFile {
            name: format!("{}{tag}-{epoch}-{i}.{suffix}", staged.folder),
            staged: staged.name,
            size: staged.size,
            rows: staged.rows,
        };
        let files: Vec<_> = staged.into_iter().enumerate().map(file).collect();
        if mistaken!(LettersBeforeDecision) {
            for file in &files {
                publish(&self.settings.target, file).await?;
            }
        }
        Ok(Some(json!(Body { files })))
    }

    async fn abandon(&mut self) {
        self.staging.abort().await;
    }

    async fn apply(
        &mut self,
        intent: &Intent,
        _permit: &CommitPermit,
    ) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }

    /// Asks for the two markers that matter, this epoch's and the one before it: nothing depends on listing.
    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        let marker = self.marker(intent.epoch)?;
        if holds(&self.settings.target, &marker, intent).await? {
            return Ok(Some(intent.epoch));
        }
        match intent.prev {
            Some(prev) if exists(&self.settings.target, &self.marker(prev)?).await? => {
                Ok(Some(prev))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
