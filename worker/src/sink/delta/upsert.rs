//! Rows of a Delta table kept by key: the change set goes to the outbox, and is merged when the epoch has been decided.
//!
//! A merge read the table, so it is good for one snapshot only: if another writer commits first it is made again on the
//! newer one (`max_retries` of its commit is none). It commits even if no row changes: the marker must move.

use std::sync::Arc;

use arrow::array::BooleanArray;
use async_trait::async_trait;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::Intent;
use evp_core::protocol::paths::unique;
use serde_json::json;

use super::actions::{ActiveFile, Commit, CommitInfo};
use super::added::AddedFiles;
use super::append::table_id;
use super::apply::{Attempt, Rolling};
use super::log::TableLog;
use super::merge::{Merge, Merged};
use super::support::{self, Writes};
use super::{DeltaSettings, Shape};
use crate::checkpointer::{CommitPermit, Moment, Step};
use crate::sink::changes::{self, Body, ChangeSet, Changes, Keys};
use crate::sink::data_files::Names;
use crate::sink::outbox::Outbox;
use crate::sink::{Applied, Sink, SinkError};

/// Files whose list is kept between epochs; a longer one is read from the log each time.
const FILES_KEPT: usize = 10_000;

/// A Delta table whose rows are kept by key.
pub struct DeltaUpsert {
    settings: DeltaSettings,
    shape: Shape,
    key_names: Vec<String>,
    keys: Keys,
    outbox: Outbox,
    staged: ChangeSet,
    log: TableLog,
    names: Names,
    known: KnownFiles,
}

impl DeltaUpsert {
    /// Looks at the table, if there is one: what cannot be written is refused now.
    pub async fn open(
        settings: DeltaSettings,
        keys: Vec<String>,
        outbox: Outbox,
    ) -> Result<Self, SinkError> {
        let shape = settings.shape()?;
        let refuse = |why: String| settings.target.stop(reason::TABLE_MISMATCH, &why);
        if !settings.partition_by.is_empty() {
            return Err(refuse("partitionBy goes with mode Append only".to_owned()));
        }
        let found = Keys::new(&shape.schema.arrow, &keys).map_err(refuse)?;
        let mut log = TableLog::new(settings.target.clone());
        if let Some(snapshot) = log.refresh().await? {
            support::check(
                &settings.target,
                &snapshot,
                &shape.schema,
                &[],
                Writes::Upserts,
            )?;
        }
        Ok(Self {
            keys: found,
            key_names: keys,
            outbox,
            staged: ChangeSet::new(&shape.schema.arrow),
            log,
            names: settings.names(),
            known: KnownFiles::default(),
            settings,
            shape,
        })
    }

    /// [`Sink::apply`] for tests against a real store, where no head decides.
    #[doc(hidden)]
    pub async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let target = &self.settings.target;
        let body = serde_json::from_value(intent.body.clone());
        let body: Body =
            body.map_err(|e| target.stop(reason::CHECKPOINT_DAMAGED, &e.to_string()))?;
        let changes = Changes::get(&self.outbox, &body).await?;
        let rolling = Rolling {
            settings: &self.settings,
            shape: &self.shape,
            writes: Writes::Upserts,
            intent,
        };
        let files = AddedFiles::new(
            target.clone(),
            Arc::clone(&self.shape.partitioning),
            &self.key_names,
            self.names.reserve(),
            Arc::clone(&self.settings.clock),
        );
        let mut attempt = MergeAttempt {
            settings: &self.settings,
            shape: &self.shape,
            keys: &self.keys,
            key_names: &self.key_names,
            intent,
            changes: &changes,
            files,
            known: &mut self.known,
            expected: Vec::new(),
        };
        rolling.forward(&mut self.log, &mut attempt).await
    }
}

#[async_trait]
impl Sink for DeltaUpsert {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        let target = &self.settings.target;
        let (rows, delete) = match batch {
            SinkBatch::Rows(rows) => {
                let delete = BooleanArray::from(vec![false; rows.num_rows()]);
                (rows, delete)
            }
            SinkBatch::Changes { rows, delete } => (rows, BooleanArray::from(delete)),
        };
        let rows = self.shape.schema.shape(&rows);
        let rows = rows.map_err(|e| target.stop(reason::TABLE_MISMATCH, &e.to_string()))?;
        match self.staged.push(&self.keys, &rows, delete) {
            Ok(true) => Ok(()),
            Ok(false) => Err(target.stop(
                reason::STATE_TOO_LARGE,
                "one epoch changes more rows than fit 64 MiB; lower checkpoint.maxRecordsPerEpoch or interval",
            )),
            Err(e) => Err(target.unavailable("changes cannot be folded", &e)),
        }
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let target = &self.settings.target;
        let rows = self.staged.take();
        let Some(rows) = rows.map_err(|e| target.unavailable("changes cannot be folded", &e))?
        else {
            return Ok(None);
        };
        let nonce = self.names.reserve().stem;
        let name = unique(epoch, &format!("{nonce}.arrow"));
        let put = changes::put(&self.outbox, &name, &rows, &self.settings.crash);
        Ok(Some(put.await?))
    }

    async fn abandon(&mut self) {
        self.staged.clear();
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

/// The table's files as of a version that we committed. Good for that version only.
#[derive(Debug, Default)]
struct KnownFiles {
    version: Option<u64>,
    files: Vec<ActiveFile>,
}

impl KnownFiles {
    /// The files of the log's snapshot.
    async fn take(&mut self, log: &TableLog) -> Result<Vec<ActiveFile>, SinkError> {
        if self.version.is_some() && mistaken!(StaleFilesMerged) {
            return Ok(self.files.clone());
        }
        let files = std::mem::take(&mut self.files);
        match self.version.take() {
            Some(version) if log.version() == Some(version) => Ok(files),
            _ => log.files().await,
        }
    }
}

/// What the files are once the merge has landed.
fn after(mut files: Vec<ActiveFile>, merged: &Merged) -> Vec<ActiveFile> {
    files.retain(|file| !merged.remove.contains(file));
    files.extend(merged.add.iter().map(|add| ActiveFile {
        path: add.path.clone(),
        partition_values: add.partition_values.clone(),
        size: add.size,
        stats: Some(add.stats.clone()),
        has_deletion_vector: false,
    }));
    files
}

struct MergeAttempt<'a> {
    settings: &'a DeltaSettings,
    shape: &'a Shape,
    keys: &'a Keys,
    key_names: &'a [String],
    intent: &'a Intent,
    changes: &'a Changes,
    files: AddedFiles,
    known: &'a mut KnownFiles,
    /// The table's files if the prepared commit lands.
    expected: Vec<ActiveFile>,
}

#[async_trait]
impl Attempt for MergeAttempt<'_> {
    async fn prepare(&mut self, log: &TableLog) -> Result<Commit, SinkError> {
        let target = &self.settings.target;
        let merge = Merge::new(target, &self.shape.schema, self.keys, self.changes)?;
        let files = self.known.take(log).await?;
        let crash = &self.settings.crash;
        crash.hit(Step::Write, Moment::Before);
        let merged = match merge.run(&files, &mut self.files).await {
            Ok(merged) => merged,
            Err(e) => {
                self.files.abort().await;
                return Err(e);
            }
        };
        crash.hit(Step::Write, Moment::After);
        let now = self.settings.clock.now().0 / 1000;
        let same = |key: &String| format!("target.{key} <=> source.{key}");
        let mut commit = Commit::new(&CommitInfo {
            now,
            operation: "MERGE",
            parameters: json!({"predicate": self.key_names.iter().map(same).collect::<Vec<_>>().join(" AND ")}),
            blind: false,
            read: log.version(),
            app: (&self.intent.sink.0, self.intent.epoch.0),
        });
        if log.snapshot().is_none() {
            commit.create(&table_id(&self.intent.sink.0), &self.shape.schema, &[], now);
        }
        for file in &merged.remove {
            commit.remove(file, now);
        }
        for file in &merged.add {
            commit.add(file);
        }
        #[cfg(test)]
        if mistaken!(EmptyMergeDropsTxn) && merged.add.is_empty() && merged.remove.is_empty() {
            commit.forget_marker();
        }
        self.expected = after(files, &merged);
        Ok(commit)
    }

    fn landed(&mut self, version: u64) {
        let files = std::mem::take(&mut self.expected);
        if files.len() <= FILES_KEPT {
            *self.known = KnownFiles {
                version: Some(version),
                files,
            };
        }
    }
}
