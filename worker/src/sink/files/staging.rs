//! The files of the open epoch, below `_staging/<tag>/`: invisible to readers, and garbage if the epoch is not decided.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use evp_api::plan::DeadLetterFormat;
use evp_api::reason;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;

use super::{Content, FilesSettings};
use crate::sink::SinkError;
use crate::sink::data_files::{DataFile, DataFiles, Names};
use crate::sink::dead_letters::{dead_letter_schema, json_lines};
use crate::sink::delta::Target;
use crate::sink::json::records;
use crate::sink::partition::Partitioning;

/// Part of an upload of JSON lines.
const PART_BYTES: usize = 5 << 20;

/// Writes staged files.
pub(super) enum Staging {
    Lines(Lines),
    Parquet(Box<Parquet>),
}

/// A complete staged file.
pub(super) struct Staged {
    /// Below the sink's folder.
    pub(super) name: String,
    /// The folder that it goes to, with a slash at its end; empty: the sink's own.
    pub(super) folder: String,
    pub(super) size: u64,
    pub(super) rows: u64,
}

impl Staging {
    /// Asks the store nothing.
    pub(super) fn new(settings: &FilesSettings) -> Result<Self, SinkError> {
        let folder = format!("_staging/{}", settings.identity.id8());
        let parquet = |schema: SchemaRef, by: &[String]| {
            let parquet = Parquet::new(settings, folder.clone(), (schema, by));
            parquet.map(|parquet| Self::Parquet(Box::new(parquet)))
        };
        match &settings.content {
            Content::Rows {
                schema,
                partition_by,
            } => parquet(schema.clone(), partition_by),
            Content::DeadLetters(DeadLetterFormat::Parquet) => parquet(dead_letter_schema(), &[]),
            Content::DeadLetters(DeadLetterFormat::JsonLines) | Content::Records(_) => {
                Ok(Self::Lines(Lines {
                    target: settings.target.clone(),
                    content: settings.content.clone(),
                    stem: format!("{folder}/{}", settings.nonce),
                    count: 0,
                    open: None,
                }))
            }
        }
    }

    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<(), SinkError> {
        match self {
            Self::Lines(lines) => lines.write(&rows).await,
            Self::Parquet(parquet) => parquet.files.write(&rows).await,
        }
    }

    /// Completes all files: what was written since the last call.
    pub(super) async fn finish(&mut self) -> Result<Vec<Staged>, SinkError> {
        match self {
            Self::Lines(lines) => Ok(lines.finish().await?.into_iter().collect()),
            Self::Parquet(parquet) => parquet.finish().await,
        }
    }

    /// Forgets what was written since the last [`Staging::finish`].
    pub(super) async fn abort(&mut self) {
        match self {
            Self::Lines(lines) => lines.abort().await,
            Self::Parquet(parquet) => parquet.files.abort().await,
        }
    }
}

/// Parquet files, by partition.
pub(super) struct Parquet {
    /// `_staging/<tag>`.
    staging: String,
    partitioning: Arc<Partitioning>,
    files: DataFiles,
}

impl Parquet {
    fn new(
        settings: &FilesSettings,
        staging: String,
        (schema, by): (SchemaRef, &[String]),
    ) -> Result<Self, SinkError> {
        let target = &settings.target;
        let partitioning = Partitioning::new(&schema, by);
        let partitioning =
            Arc::new(partitioning.map_err(|why| target.stop(reason::PLAN_REFUSED, &why))?);
        let below = Target {
            prefix: target.child(&staging)?,
            ..target.clone()
        };
        let names = Names {
            stem: settings.nonce.clone(),
            next: 0,
        };
        Ok(Self {
            staging,
            files: DataFiles::new(below, Arc::clone(&partitioning), &[], names),
            partitioning,
        })
    }

    async fn finish(&mut self) -> Result<Vec<Staged>, SinkError> {
        let staged = |file: DataFile| Staged {
            name: format!("{}/{}", self.staging, file.name),
            folder: self.partitioning.folder(&file.values),
            size: file.written.size,
            rows: file.written.rows(),
        };
        Ok(self.files.finish().await?.into_iter().map(staged).collect())
    }
}

/// One file of JSON lines.
pub(super) struct Lines {
    target: Target,
    content: Content,
    /// What names begin with.
    stem: String,
    count: u64,
    open: Option<(Staged, Box<BufWriter>)>,
}

impl Lines {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let text = match &self.content {
            Content::Records(key) => records(rows, key.as_deref()),
            Content::DeadLetters(_) | Content::Rows { .. } => json_lines(rows),
        };
        let text = text.map_err(|e| self.target.stop(reason::PLAN_REFUSED, &e.to_string()))?;
        let (staged, upload) = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("{}-{}.jsonl", self.stem, self.count);
                self.count += 1;
                let store = Arc::clone(&self.target.store);
                let upload = BufWriter::with_capacity(store, self.target.child(&name)?, PART_BYTES);
                let staged = Staged {
                    name,
                    folder: String::new(),
                    size: 0,
                    rows: 0,
                };
                none.insert((staged, Box::new(upload)))
            }
        };
        staged.size += text.len() as u64;
        staged.rows += rows.num_rows() as u64;
        let put = upload.put(Bytes::from(text)).await;
        put.map_err(|e| self.target.unavailable("rows cannot be written", &e))
    }

    async fn finish(&mut self) -> Result<Option<Staged>, SinkError> {
        let Some((staged, mut upload)) = self.open.take() else {
            return Ok(None);
        };
        let ended = upload.shutdown().await;
        ended.map_err(|e| self.target.unavailable("rows cannot be written", &e))?;
        Ok(Some(staged))
    }

    async fn abort(&mut self) {
        if let Some((Staged { name, .. }, mut upload)) = self.open.take()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(name, %error, "an unfinished upload stays behind");
        }
    }
}
