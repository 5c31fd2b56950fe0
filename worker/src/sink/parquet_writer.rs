//! One Parquet file, written to the object store while rows flow.
//!
//! Owns encoding (on a blocking thread, one batch ahead of the caller), row-group size, upload and what was learned about
//! the content. Does not choose names and knows nothing of tables: [`crate::sink::delta`] and [`crate::sink::files`] do.
//!
//! Memory of one open file: [`ROW_GROUP_BYTES`] being encoded, one finished row group being uploaded in parts of
//! [`PART_BYTES`], and the one batch in flight. An object appears only at [`FileWriter::finish`]; a crash before leaves
//! at most an unfinished multipart upload.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinError, JoinHandle};

use crate::tasks;

/// Encoded bytes at which a row group ends: small enough that its buffers fit a 256 MiB worker beside everything else.
pub const ROW_GROUP_BYTES: usize = 8 << 20;

/// Part of an upload: the least S3 takes. Objects below it are one PUT.
const PART_BYTES: usize = 5 << 20;

/// Parts of one file that may be on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Longest text bound in statistics; Delta's own default.
const STATISTICS_BYTES: usize = 32;

/// Distinct values a bloom filter is laid out for before it is folded to what was seen (1.8 bytes a value at
/// [`BLOOM_ERROR`]: 230 KiB a key column while a row group is open).
const BLOOM_VALUES: u64 = 131_072;

/// Share of absent keys that a bloom filter does not exclude: an epoch of a hundred keys skips nine in ten row groups that
/// hold none of them.
const BLOOM_ERROR: f64 = 0.001;

/// What cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Rows to Parquet.
    #[error("rows cannot be encoded as Parquet")]
    Encode(#[from] ParquetError),
    /// Parquet to the store.
    #[error("{location} cannot be uploaded")]
    Upload {
        /// Object.
        location: Path,
        /// Why.
        source: object_store::Error,
    },
    /// The encoding thread ended early.
    #[error("encoding was interrupted")]
    Interrupted(#[from] JoinError),
    /// Used after it failed.
    #[error("the file has failed before")]
    Failed,
}

/// How files of one table are encoded.
#[derive(Clone, Debug)]
pub struct Encode {
    /// Columns of the file.
    pub schema: SchemaRef,
    /// Columns that get bloom filters.
    pub bloom: Vec<String>,
    /// Columns known to have too many values for a dictionary (learned from earlier files: [`WrittenFile::plain`]).
    pub plain: BTreeSet<String>,
}

impl Encode {
    /// No bloom filters, nothing learned yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            bloom: Vec::new(),
            plain: BTreeSet::new(),
        }
    }

    fn properties(&self) -> WriterProperties {
        let level = ZstdLevel::try_new(1).unwrap_or_default();
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("EventPipeline ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(STATISTICS_BYTES))
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
        for field in self.schema.fields() {
            let column = ColumnPath::new(vec![field.name().clone()]);
            let deltas = packs_deltas(field.data_type());
            if deltas || self.plain.contains(field.name()) {
                properties = properties.set_column_dictionary_enabled(column.clone(), false);
            }
            if deltas {
                let packed = Encoding::DELTA_BINARY_PACKED;
                properties = properties.set_column_encoding(column.clone(), packed);
            }
            if self.bloom.contains(field.name()) {
                properties = properties
                    .set_column_bloom_filter_enabled(column.clone(), true)
                    .set_column_bloom_filter_fpp(column.clone(), BLOOM_ERROR)
                    .set_column_bloom_filter_max_ndv(column, BLOOM_VALUES);
            }
        }
        properties.build()
    }
}

/// Times, offsets and counts: neighbours are near each other, so their differences are short. On orders this saves 40 % of
/// the CPU and 25 % of the bytes against a dictionary that overflows.
fn packs_deltas(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::Timestamp(..))
}

/// A finished file.
#[derive(Debug)]
pub struct WrittenFile {
    /// Object.
    pub location: Path,
    /// Bytes.
    pub size: u64,
    /// Footer.
    pub metadata: ParquetMetaData,
    /// Float columns that hold a NaN, whose largest value Parquet's statistics do not tell.
    pub with_nan: BTreeSet<String>,
}

impl WrittenFile {
    /// Rows.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or_default()
    }

    /// Columns whose dictionary overflowed: it was built in vain and is not tried again in the next file.
    pub fn plain(&self) -> impl Iterator<Item = String> + '_ {
        let chunks = self
            .metadata
            .row_groups()
            .iter()
            .flat_map(RowGroupMetaData::columns);
        chunks
            .filter(|chunk| {
                let pages = chunk.page_encoding_stats();
                chunk.dictionary_page_offset().is_some()
                    && pages.is_some_and(|pages| {
                        pages.iter().any(|p| {
                            p.page_type != PageType::DICTIONARY_PAGE
                                && p.encoding != Encoding::RLE_DICTIONARY
                        })
                    })
            })
            .map(|chunk| chunk.column_path().string())
    }
}

/// One open file.
#[derive(Debug)]
pub struct FileWriter {
    location: Path,
    upload: BufWriter,
    encoder: State,
    uploaded: u64,
    /// Encoded bytes of the open row group, as of the last batch that was taken in.
    open_bytes: usize,
    rows: u64,
}

#[derive(Debug)]
enum State {
    /// Waits for rows.
    Idle(Box<Encoder>),
    /// Encodes the last batch.
    Busy(JoinHandle<Encoded>),
    /// Failed: nothing more can be done with it.
    Failed,
}

#[derive(Debug)]
struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    with_nan: BTreeSet<String>,
}

type Encoded = (Box<Encoder>, Result<(), ParquetError>);

impl FileWriter {
    /// Opens a file; nothing is in the store yet.
    pub fn create(
        store: &Arc<dyn ObjectStore>,
        location: Path,
        encode: &Encode,
    ) -> Result<Self, Error> {
        let options = ArrowWriterOptions::new()
            .with_properties(encode.properties())
            .with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&encode.schema), options)?;
        let upload = BufWriter::with_capacity(Arc::clone(store), location.clone(), PART_BYTES)
            .with_max_concurrency(PARTS_IN_FLIGHT);
        Ok(Self {
            location,
            upload,
            encoder: State::Idle(Box::new(Encoder {
                writer,
                with_nan: BTreeSet::new(),
            })),
            uploaded: 0,
            open_bytes: 0,
            rows: 0,
        })
    }

    /// Takes rows in: waits until the batch before is encoded, uploads what that completed, then encodes this one while the
    /// caller goes on. An error may belong to the batch before.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows() as u64;
        self.work(move |encoder| encoder.write(&batch)).await
    }

    /// Ends the row group, so that its memory is free.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.work(|encoder| encoder.writer.flush()).await?;
        self.encoder = State::Idle(self.settle().await?);
        Ok(())
    }

    /// Rows taken in.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Encoded bytes held for the open row group.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Encoded bytes so far.
    pub fn bytes(&self) -> u64 {
        self.uploaded + self.open_bytes as u64
    }

    /// Completes the object.
    pub async fn finish(mut self) -> Result<WrittenFile, Error> {
        let Encoder {
            mut writer,
            with_nan,
        } = *self.settle().await?;
        let ended = tasks::blocking(move || {
            let metadata = writer.finish()?;
            Ok::<_, ParquetError>((metadata, std::mem::take(writer.inner_mut())))
        });
        let (metadata, rest) = ended.await??;
        self.send(rest).await?;
        let ended = self.upload.shutdown().await;
        ended.map_err(|e| {
            self.failed(object_store::Error::Generic {
                store: "upload",
                source: Box::new(e),
            })
        })?;
        Ok(WrittenFile {
            location: self.location,
            size: self.uploaded,
            metadata,
            with_nan,
        })
    }

    /// Gives the file up. What was uploaded is removed where the store can; what cannot be removed is garbage.
    pub async fn abort(mut self) {
        if let Ok(encoder) = self.settle().await {
            drop(encoder);
            if let Err(error) = self.upload.abort().await {
                tracing::debug!(location = %self.location, %error, "an unfinished upload stays behind");
            }
        }
    }

    /// Waits for the encoder, then gives it this to do.
    async fn work(
        &mut self,
        job: impl FnOnce(&mut Encoder) -> Result<(), ParquetError> + Send + 'static,
    ) -> Result<(), Error> {
        let mut encoder = self.settle().await?;
        self.encoder = State::Busy(tasks::blocking(move || {
            let done = job(&mut encoder);
            (encoder, done)
        }));
        Ok(())
    }

    /// Waits for the encoder and uploads what it has completed. Leaves [`State::Failed`] behind unless put back.
    async fn settle(&mut self) -> Result<Box<Encoder>, Error> {
        let mut encoder = match std::mem::replace(&mut self.encoder, State::Failed) {
            State::Idle(encoder) => encoder,
            State::Busy(job) => {
                let (encoder, done) = job.await?;
                done?;
                encoder
            }
            State::Failed => return Err(Error::Failed),
        };
        self.open_bytes = encoder.writer.in_progress_size();
        let complete = std::mem::take(encoder.writer.inner_mut());
        self.send(complete).await?;
        Ok(encoder)
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.uploaded += bytes.len() as u64;
        let sent = self.upload.put(Bytes::from(bytes)).await;
        sent.map_err(|e| self.failed(e))
    }

    fn failed(&self, source: object_store::Error) -> Error {
        Error::Upload {
            location: self.location.clone(),
            source,
        }
    }
}

impl Encoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if !self.with_nan.contains(field.name()) && has_nan(column.as_ref()) {
                self.with_nan.insert(field.name().clone());
            }
        }
        self.writer.write(batch)
    }
}

fn has_nan(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Float32 => {
            let column = column.as_primitive::<Float32Type>();
            column.values().iter().any(|v| v.is_nan())
        }
        DataType::Float64 => {
            let column = column.as_primitive::<Float64Type>();
            column.values().iter().any(|v| v.is_nan())
        }
        _ => false,
    }
}
