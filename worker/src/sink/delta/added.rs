//! Complete files as a table's log adds them. Nothing of it is in the log yet.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::actions::AddFile;
use super::stats;
use super::target::Target;
use crate::clock::SharedClock;
use crate::sink::SinkError;
use crate::sink::data_files::{DataFile, DataFiles, Names};
use crate::sink::partition::Partitioning;

/// Writes a table's files at their final path.
pub(super) struct AddedFiles {
    pub(super) files: DataFiles,
    partitioning: Arc<Partitioning>,
    clock: SharedClock,
}

impl AddedFiles {
    /// No file is open yet. `bloom`: columns that get bloom filters.
    pub(super) fn new(
        target: Target,
        partitioning: Arc<Partitioning>,
        bloom: &[String],
        names: Names,
        clock: SharedClock,
    ) -> Self {
        Self {
            files: DataFiles::new(target, Arc::clone(&partitioning), bloom, names),
            partitioning,
            clock,
        }
    }

    /// Takes rows in, all columns in their stored types.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.files.write(batch).await
    }

    /// Completes all files: what was written since the last call.
    pub(super) async fn finish(&mut self) -> Result<Vec<AddFile>, SinkError> {
        let done = self.files.finish().await?;
        Ok(done.iter().map(|file| self.added(file)).collect())
    }

    /// Forgets what was written since the last [`AddedFiles::finish`]; complete files are garbage.
    pub(super) async fn abort(&mut self) {
        self.files.abort().await;
    }

    fn added(&self, file: &DataFile) -> AddFile {
        AddFile {
            // An object's name as a URL path.
            path: file.name.replace('%', "%25"),
            partition_values: self.partitioning.named(&file.values),
            size: file.written.size,
            modification_time: self.clock.now().0 / 1000,
            stats: stats::of_file(&file.written, self.partitioning.data.fields()),
        }
    }
}
