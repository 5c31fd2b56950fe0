//! A table's log: its newest snapshot without the list of files, our marker in it, one commit, a checkpoint now and then.
//!
//! Owns every request to `_delta_log`. Commits are put-if-absent of exactly the version after the snapshot: whoever rebases
//! or redoes decides that outside. Reads go through Delta's kernel, which holds the log's file names only, never the
//! table's: a table of 200,000 files costs no more here than an empty one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::Int64Type;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::StatsOptions;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::{DeltaResult, Engine};
use deltalake::logstore::LogStore;
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::actions::{ActiveFile, Commit};
use super::target::Target;
use crate::sink::SinkError;
use crate::tasks;

/// Commits between two checkpoints of the log.
const CHECKPOINT_EVERY: u64 = 100;

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Landing {
    /// It is this version.
    Landed(u64),
    /// Not known to have landed: the version is taken (perhaps by us), or the answer was lost. Read the marker.
    Unsure(object_store::Error),
}

/// The log of one table.
pub(super) struct TableLog {
    target: Target,
    engine: Arc<dyn Engine>,
    /// Newest version seen; `None`: no table, or not looked yet.
    snapshot: Option<SnapshotRef>,
    /// Our markers, each as of the version it was read at.
    markers: BTreeMap<String, (u64, Option<u64>)>,
}

impl TableLog {
    /// Looks at nothing yet. Needs to be called on a tokio runtime.
    pub(super) fn new(target: Target) -> Self {
        let engine = target.log_store().engine(None);
        Self {
            target,
            engine,
            snapshot: None,
            markers: BTreeMap::new(),
        }
    }

    /// Where the table is.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The snapshot of the last [`TableLog::refresh`].
    pub(super) fn snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshot.as_ref()
    }

    /// Version of the snapshot.
    pub(super) fn version(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|s| s.version())
    }

    /// Looks for newer versions: one HEAD, one LIST, and a GET for each new commit. `None`: there is no table.
    pub(super) async fn refresh(&mut self) -> Result<Option<SnapshotRef>, SinkError> {
        if let Some(known) = self.snapshot.take()
            && self.is_still_there(&known).await?
        {
            let newer = self.run("its log", move |engine| {
                Snapshot::builder_from(known).build(engine)
            });
            // A log that does not continue what we know (cleaned up, restored) is read anew.
            if let Ok(newer) = newer.await {
                self.snapshot = Some(newer);
                return Ok(self.snapshot.clone());
            }
        }
        self.markers.clear();
        if self.exists().await? {
            let url = self.target.folder_url();
            let fresh = self.run("its log", move |engine| {
                Snapshot::builder_for(url).build(engine)
            });
            self.snapshot = Some(fresh.await?);
        }
        Ok(self.snapshot.clone())
    }

    /// Is the newest commit we know the one in the store? The kernel does not ask: it would take a deleted table for one
    /// without newer commits, and the next commit would go nowhere.
    async fn is_still_there(&self, known: &Snapshot) -> Result<bool, SinkError> {
        let Some(newest) = &known.log_segment().listed.latest_commit_file else {
            return Ok(false);
        };
        let version = known.version();
        let name = self
            .target
            .child(&format!("_delta_log/{version:020}.json"))?;
        match self.target.store.head(&name).await {
            // Whole seconds: that is what a HEAD tells.
            Ok(meta) => Ok(newest.version == version
                && newest.location.size == meta.size
                && newest.location.last_modified.div_euclid(1000)
                    == meta.last_modified.timestamp()),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.target.unavailable("its log cannot be looked at", &e)),
        }
    }

    async fn exists(&self) -> Result<bool, SinkError> {
        let log = self.target.child("_delta_log")?;
        match self.target.store.list(Some(&log)).next().await {
            None | Some(Err(object_store::Error::NotFound { .. })) => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(e)) => Err(self.target.unavailable("its log cannot be listed", &e)),
        }
    }

    /// Newest epoch the snapshot holds for this application; `None`: no table, or no marker in it.
    pub(super) async fn marker(&mut self, app: &str) -> Result<Option<u64>, SinkError> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Ok(None);
        };
        let version = snapshot.version();
        if let Some((at, marker)) = self.markers.get(app)
            && *at == version
        {
            return Ok(*marker);
        }
        let name = app.to_owned();
        let marker = self
            .run("its transaction markers", move |engine| {
                snapshot.get_app_id_version(&name, engine)
            })
            .await?;
        let marker = marker.and_then(|m| u64::try_from(m).ok());
        self.markers.insert(app.to_owned(), (version, marker));
        Ok(marker)
    }

    /// Puts the version after the snapshot (0: no table) if nobody has.
    pub(super) async fn commit(&mut self, commit: Commit) -> Result<Landing, SinkError> {
        let version = self.version().map_or(0, |v| v + 1);
        let name = self
            .target
            .child(&format!("_delta_log/{version:020}.json"))?;
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .target
            .store
            .put_opts(&name, commit.into_bytes().into(), options);
        Ok(match put.await {
            Ok(_) => Landing::Landed(version),
            Err(e) => Landing::Unsure(e),
        })
    }

    /// Remembers that our own commit landed, so that the next look at the marker needs no replay.
    pub(super) fn landed(&mut self, app: &str, version: u64, epoch: u64) {
        self.markers.insert(app.to_owned(), (version, Some(epoch)));
    }

    /// Writes a checkpoint if the last one is old. Nothing depends on it but the speed of readers: failing is only logged.
    pub(super) async fn checkpoint_if_due(&mut self, version: u64) {
        let last = self
            .snapshot
            .as_ref()
            .and_then(|s| s.log_segment().checkpoint_version);
        if version < last.unwrap_or(0) + CHECKPOINT_EVERY {
            return;
        }
        let Ok(Some(snapshot)) = self.refresh().await else {
            return;
        };
        let url = self.target.url.clone();
        let written = self.run("a checkpoint", move |engine| {
            snapshot.checkpoint(engine, None)
        });
        match written.await {
            Ok((_, snapshot)) => self.snapshot = Some(snapshot),
            Err(error) => tracing::warn!(%url, %error, "the table's log was not checkpointed"),
        }
    }

    /// The files of the snapshot, newest first. Memory: one entry a file.
    pub(super) async fn files(&self) -> Result<Vec<ActiveFile>, SinkError> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Ok(Vec::new());
        };
        self.run("its files", move |engine| {
            let scan = snapshot
                .scan_builder()
                .with_stats(StatsOptions::json_only())
                .without_row_transforms()
                .build()?;
            let mut files = Vec::new();
            for part in scan.scan_metadata(engine)? {
                let rows = part?.scan_files.apply_selection_vector()?;
                let rows = ArrowEngineData::try_from_engine_data(rows)?;
                push_files(rows.record_batch(), &mut files);
            }
            Ok(files)
        })
        .await
    }

    /// Runs the kernel's blocking code where blocking is allowed.
    async fn run<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&dyn Engine) -> DeltaResult<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let engine = Arc::clone(&self.engine);
        match tasks::blocking(move || job(engine.as_ref())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(self
                .target
                .unavailable(&format!("{what} cannot be read"), &e)),
            Err(e) => Err(self.target.unavailable(what, &e)),
        }
    }
}

/// Rows of the kernel's scan metadata (its `scan_row_schema`) as files.
fn push_files(rows: &RecordBatch, files: &mut Vec<ActiveFile>) {
    let text = |name: &str, row: usize| {
        let column = rows.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let sizes = rows
        .column_by_name("size")
        .and_then(|c| c.as_primitive_opt::<Int64Type>());
    let vectors = rows
        .column_by_name("deletionVector")
        .and_then(|c| c.as_struct_opt());
    let constants = rows
        .column_by_name("fileConstantValues")
        .and_then(|c| c.as_struct_opt());
    for row in 0..rows.num_rows() {
        let Some(path) = text("path", row) else {
            continue;
        };
        let vector =
            vectors.and_then(|v| v.column_by_name("storageType").filter(|_| v.is_valid(row)));
        files.push(ActiveFile {
            path,
            partition_values: partition_values(constants, row),
            size: sizes.map_or(0, |s| u64::try_from(s.value(row)).unwrap_or_default()),
            stats: text("stats", row),
            has_deletion_vector: vector.is_some_and(|kind| kind.is_valid(row)),
        });
    }
}

fn partition_values(
    constants: Option<&StructArray>,
    row: usize,
) -> BTreeMap<String, Option<String>> {
    let map = constants
        .and_then(|c| c.column_by_name("partitionValues"))
        .and_then(|c| c.as_map_opt())
        .filter(|map| map.is_valid(row));
    let Some(map) = map else {
        return BTreeMap::new();
    };
    let pairs = map.value(row);
    let (Some(keys), Some(values)) = (
        pairs.column(0).as_string_opt::<i32>(),
        pairs.column(1).as_string_opt::<i32>(),
    ) else {
        return BTreeMap::new();
    };
    let value = |i: usize| values.is_valid(i).then(|| values.value(i).to_owned());
    (0..pairs.len())
        .map(|i| (keys.value(i).to_owned(), value(i)))
        .collect()
}
