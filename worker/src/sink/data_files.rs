//! Parquet files of one folder, by partition: rows in, complete files out. Names and what files mean are their caller's.
//!
//! Bounds: at most [`OPEN_FILES`] files are open; together their open row groups hold at most [`ROW_GROUP_BYTES`], beside
//! one upload part or two each. A file ends at [`TARGET_BYTES`]. Names are unique by the sink's nonce and a count, so that a
//! file that a crash leaves behind is never mistaken for another.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::SinkError;
use super::delta::Target;
use super::parquet_writer::{Encode, Error, FileWriter, ROW_GROUP_BYTES, WrittenFile};
use super::partition::{PartitionValues, Partitioning};

/// Partitions written at the same time; one more ends the file that has waited longest.
const OPEN_FILES: usize = 4;

/// Size at which a file ends.
const TARGET_BYTES: u64 = 128 << 20;

/// Names of one sink's files: `<id8>-<nonce>-<count>`.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// First characters of the sink's identity and a nonce of this run.
    pub stem: String,
    /// The next one's number.
    pub next: u64,
}

impl Names {
    /// Names that no other call gives.
    pub(super) fn reserve(&mut self) -> Self {
        self.next += 1;
        Self {
            stem: format!("{}-{}", self.stem, self.next - 1),
            next: 0,
        }
    }

    fn take(&mut self, folder: &str) -> String {
        self.next += 1;
        format!("{folder}{}-{}.zstd.parquet", self.stem, self.next - 1)
    }
}

/// A complete file.
pub(super) struct DataFile {
    /// Below the target: the partition's folder, then a name of the file's own.
    pub name: String,
    /// Partition.
    pub values: PartitionValues,
    /// What is in it.
    pub written: WrittenFile,
}

/// Writes a folder's files.
pub(super) struct DataFiles {
    target: Target,
    partitioning: Arc<Partitioning>,
    encode: Encode,
    names: Names,
    /// Most recently used last.
    open: VecDeque<(PartitionValues, String, FileWriter)>,
    done: Vec<DataFile>,
    /// [`TARGET_BYTES`], but in tests.
    pub(super) target_bytes: u64,
}

impl DataFiles {
    /// No file is open yet. `bloom`: columns that get bloom filters.
    pub(super) fn new(
        target: Target,
        partitioning: Arc<Partitioning>,
        bloom: &[String],
        names: Names,
    ) -> Self {
        let mut encode = Encode::new(Arc::clone(&partitioning.data));
        encode.bloom = bloom.to_vec();
        Self {
            target,
            partitioning,
            encode,
            names,
            open: VecDeque::new(),
            done: Vec::new(),
            target_bytes: TARGET_BYTES,
        }
    }

    /// Takes rows in, all columns in their stored types.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let parts = self.partitioning.split(batch);
        let parts = parts.map_err(|e| self.target.unavailable("rows cannot be split", &e))?;
        for (values, rows) in parts {
            self.write_part(values, rows).await?;
        }
        Ok(())
    }

    async fn write_part(
        &mut self,
        values: PartitionValues,
        rows: RecordBatch,
    ) -> Result<(), SinkError> {
        let at = self.open.iter().position(|(v, ..)| *v == values);
        let (values, name, mut file) = match at.and_then(|at| self.open.remove(at)) {
            Some(open) => open,
            None => self.create(values).await?,
        };
        let written = file.write(rows).await;
        written.map_err(|e| self.failed(&e))?;
        if file.bytes() >= self.target_bytes {
            return self.finish_one(values, name, file).await;
        }
        self.open.push_back((values, name, file));
        let share = ROW_GROUP_BYTES / self.open.len();
        for (_, _, file) in &mut self.open {
            if file.open_bytes() > share {
                let flushed = file.flush().await;
                flushed
                    .map_err(|e| self.target.unavailable("a data file cannot be written", &e))?;
            }
        }
        Ok(())
    }

    async fn create(
        &mut self,
        values: PartitionValues,
    ) -> Result<(PartitionValues, String, FileWriter), SinkError> {
        if self.open.len() == OPEN_FILES
            && let Some((values, name, file)) = self.open.pop_front()
        {
            self.finish_one(values, name, file).await?;
        }
        let name = self.names.take(&self.partitioning.folder(&values));
        let location = self.target.child(&name)?;
        let file = FileWriter::create(&self.target.store, location, &self.encode);
        Ok((values, name, file.map_err(|e| self.failed(&e))?))
    }

    async fn finish_one(
        &mut self,
        values: PartitionValues,
        name: String,
        file: FileWriter,
    ) -> Result<(), SinkError> {
        let file = file.finish().await.map_err(|e| self.failed(&e))?;
        self.encode.plain.extend(file.plain());
        self.done.push(DataFile {
            name,
            values,
            written: file,
        });
        Ok(())
    }

    /// Completes all files: what was written since the last call.
    pub(super) async fn finish(&mut self) -> Result<Vec<DataFile>, SinkError> {
        while let Some((values, name, file)) = self.open.pop_front() {
            self.finish_one(values, name, file).await?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    /// Forgets what was written since the last [`DataFiles::finish`]; complete files are garbage.
    pub(super) async fn abort(&mut self) {
        while let Some((_, _, file)) = self.open.pop_front() {
            file.abort().await;
        }
        self.done.clear();
    }

    fn failed(&self, error: &Error) -> SinkError {
        self.target
            .unavailable("a data file cannot be written", error)
    }
}
