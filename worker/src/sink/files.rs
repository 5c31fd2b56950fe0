//! Files, exactly once: dead letters (semantics 35), and on a laptop what a Kafka sink would send. Staged under `_staging/`, copied to their final name once the epoch
//! is decided, marked in `_commits/`, unstaged.
//!
//! Readers skip names with an underscore. Copies, the marker and the removal are each idempotent, in this order, so a crash
//! anywhere between them is healed by applying again: the marker says that all copies are there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use evp_api::plan::DeadLetterFormat;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::dead_letters::{dead_letter_schema, json_lines};
use super::delta::Target;
use super::json::records;
use super::parquet_writer::{Encode, FileWriter};
use crate::checkpointer::{CommitPermit, CrashPoints, Moment, Step};
use crate::sink::{Applied, Sink, SinkError};

/// Part of an upload of JSON lines.
const PART_BYTES: usize = 5 << 20;

/// What is in the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Dead letters.
    DeadLetters(DeadLetterFormat),
    /// Records of a topic as JSON lines, `{"key": …, "value": {…}}`, with this column as their key.
    Records(Option<String>),
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
    /// The open file: its name below the folder.
    open: Option<(String, Open)>,
    count: u64,
}

enum Open {
    Parquet(Box<FileWriter>),
    Lines {
        upload: Box<BufWriter>,
        size: u64,
        rows: u64,
    },
}

impl FilesSink {
    /// Asks the store nothing.
    pub fn new(settings: FilesSettings) -> Self {
        Self {
            settings,
            open: None,
            count: 0,
        }
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

    fn suffix(&self) -> &'static str {
        match self.settings.content {
            Content::DeadLetters(DeadLetterFormat::Parquet) => "parquet",
            Content::DeadLetters(DeadLetterFormat::JsonLines) | Content::Records(_) => "jsonl",
        }
    }

    fn marker(&self, epoch: Epoch) -> Result<Path, SinkError> {
        self.settings
            .target
            .child(&format!("_commits/{}-{epoch}.json", self.tag()))
    }

    fn create(&mut self) -> Result<(String, Open), SinkError> {
        let FilesSettings {
            target,
            identity,
            nonce,
            ..
        } = &self.settings;
        let name = format!(
            "_staging/{}/{nonce}-{}.{}",
            identity.id8(),
            self.count,
            self.suffix()
        );
        self.count += 1;
        let location = target.child(&name)?;
        let open = match self.settings.content {
            Content::DeadLetters(DeadLetterFormat::Parquet) => {
                let file =
                    FileWriter::create(&target.store, location, &Encode::new(dead_letter_schema()));
                Open::Parquet(Box::new(
                    file.map_err(|e| target.unavailable("a file cannot be begun", &e))?,
                ))
            }
            Content::DeadLetters(DeadLetterFormat::JsonLines) | Content::Records(_) => {
                Open::Lines {
                    upload: Box::new(BufWriter::with_capacity(
                        Arc::clone(&target.store),
                        location,
                        PART_BYTES,
                    )),
                    size: 0,
                    rows: 0,
                }
            }
        };
        Ok((name, open))
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

/// Copies a staged file to its final name, unless a former attempt has; checks what is there then.
async fn publish(target: &Target, file: &StagedFile) -> Result<(), SinkError> {
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
async fn holds(target: &Target, marker: &Path, intent: &Intent) -> Result<bool, SinkError> {
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
async fn check_prev(target: &Target, marker: &Path) -> Result<(), SinkError> {
    if mistaken!(NoMarkerTakenAsNothing) || exists(target, marker).await? {
        return Ok(());
    }
    let what = format!(
        "{marker} is gone, though its epoch was applied: restore the folder's objects, or use a new one"
    );
    Err(target.stop(reason::SINK_HISTORY_LOST, &what))
}

async fn exists(target: &Target, object: &Path) -> Result<bool, SinkError> {
    match target.store.head(object).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(target.unavailable("a marker cannot be looked at", &e)),
    }
}

#[async_trait]
impl Sink for FilesSink {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        let target = self.settings.target.clone();
        let rows = match (batch, &self.settings.content) {
            (SinkBatch::Rows(rows), _) => rows,
            (SinkBatch::Changes { rows, delete }, Content::Records(_))
                if !delete.contains(&true) =>
            {
                rows
            }
            (SinkBatch::Changes { .. }, _) => {
                let what = "files are added to, and a row was to be replaced or taken back";
                return Err(target.stop(reason::PLAN_REFUSED, what));
            }
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            self.open = Some(self.create()?);
        }
        match &mut self.open {
            Some((_, Open::Parquet(file))) => {
                let written = file.write(rows).await;
                written.map_err(|e| target.unavailable("rows cannot be written", &e))
            }
            Some((
                _,
                Open::Lines {
                    upload,
                    size,
                    rows: count,
                },
            )) => {
                let text = match &self.settings.content {
                    Content::DeadLetters(_) => json_lines(&rows),
                    Content::Records(key) => records(&rows, key.as_deref()),
                };
                let text = text.map_err(|e| target.stop(reason::PLAN_REFUSED, &e.to_string()))?;
                *size += text.len() as u64;
                *count += rows.num_rows() as u64;
                let put = upload.put(Bytes::from(text)).await;
                put.map_err(|e| target.unavailable("rows cannot be written", &e))
            }
            None => Ok(()),
        }
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let target = self.settings.target.clone();
        let Some((staged, open)) = self.open.take() else {
            return Ok(None);
        };
        let crash = self.settings.crash.clone();
        crash.hit(Step::StagePut, Moment::Before);
        let (size, rows) = match open {
            Open::Parquet(file) => {
                let file = file.finish().await;
                let file = file.map_err(|e| target.unavailable("rows cannot be written", &e))?;
                (file.size, file.rows())
            }
            Open::Lines {
                mut upload,
                size,
                rows,
            } => {
                let ended = upload.shutdown().await;
                ended.map_err(|e| target.unavailable("rows cannot be written", &e))?;
                (size, rows)
            }
        };
        crash.hit(Step::StagePut, Moment::After);
        let name = format!("{}-{epoch}-0.{}", self.tag(), self.suffix());
        let files = vec![StagedFile {
            staged,
            name,
            size,
            rows,
        }];
        if mistaken!(LettersBeforeDecision) {
            publish(&target, &files[0]).await?;
        }
        Ok(Some(json!(Body { files })))
    }

    async fn abandon(&mut self) {
        match self.open.take() {
            Some((_, Open::Parquet(file))) => file.abort().await,
            Some((name, Open::Lines { mut upload, .. })) => {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(name, %error, "an unfinished upload stays behind");
                }
            }
            None => {}
        }
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
