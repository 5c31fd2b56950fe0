//! Dead letters as files (semantics 35), exactly once: staged under `_staging/`, copied to their final name once the epoch
//! is decided, marked in `_commits/`, unstaged.
//!
//! Readers skip names with an underscore. Copies, the marker and the removal are each idempotent, in this order, so a crash
//! anywhere between them is healed by applying again: the marker says that all copies are there.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use bytes::Bytes;
use evp_api::plan::DeadLetterFormat;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::dead_letter::DeadLetter;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::delta::{Target, id8};
use super::parquet_writer::{Encode, FileWriter};
use crate::checkpointer::CommitPermit;
use crate::sink::{Applied, Sink, SinkError};

/// Part of an upload of JSON lines.
const PART_BYTES: usize = 5 << 20;

/// What a dead-letter sink needs to know.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// Who writes: the tag of our files.
    pub identity: SinkIdentity,
    /// Incarnation of the checkpoint, hex.
    pub incarnation: String,
    /// Lane.
    pub lane: String,
    /// The folder.
    pub target: Target,
    /// File format.
    pub format: DeadLetterFormat,
    /// A nonce of this run, in letters that may stand in an object's name: no other run has it.
    pub nonce: String,
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

/// Files of dead letters.
pub struct DeadLetterSink {
    settings: DeadLetterSettings,
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

/// Columns of a dead letter. `time` is the epoch's; `position` is signed 64-bit.
pub fn dead_letter_schema() -> SchemaRef {
    let text = |name, null| Field::new(name, DataType::Utf8, null);
    Arc::new(Schema::new(vec![
        Field::new("raw", DataType::Binary, true),
        text("source", false),
        text("split", false),
        Field::new("position", DataType::Int64, false),
        text("step", false),
        text("code", false),
        text("message", false),
        text("field", true),
        Field::new("epoch", DataType::Int64, false),
        Field::new(
            "time",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
    ]))
}

/// The same columns as JSON lines have them: bytes as base64.
pub fn json_lines_schema() -> SchemaRef {
    let columns = dead_letter_schema();
    let mut fields: Vec<_> = columns.fields().iter().cloned().collect();
    fields[0] = Arc::new(Field::new("raw", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Dead letters as rows of [`dead_letter_schema`].
pub fn dead_letter_batch(letters: &[DeadLetter]) -> RecordBatch {
    let mut raw = BinaryBuilder::new();
    let mut texts: [StringBuilder; 6] = std::array::from_fn(|_| StringBuilder::new());
    let (mut position, mut epoch) = (Int64Builder::new(), Int64Builder::new());
    let mut time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    for letter in letters {
        raw.append_option(letter.raw.as_deref());
        let code = format!("{:?}", letter.code);
        let values = [
            letter.source.as_str(),
            &letter.split.0,
            letter.step.as_str(),
            &code,
            &letter.message,
        ];
        for (column, value) in texts.iter_mut().zip(values) {
            column.append_value(value);
        }
        texts[5].append_option(letter.field.as_deref());
        position.append_value(letter.position.0);
        epoch.append_value(i64::try_from(letter.epoch.0).unwrap_or(i64::MAX));
        time.append_value(letter.time.0);
    }
    let [source, split, step, code, message, field] =
        texts.map(|mut t| -> ArrayRef { Arc::new(t.finish()) });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(raw.finish()),
        source,
        split,
        Arc::new(position.finish()),
        step,
        code,
        message,
        field,
        Arc::new(epoch.finish()),
        Arc::new(time.finish()),
    ];
    // Columns of one length in the schema's types: nothing is left to fail.
    RecordBatch::try_new(dead_letter_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(dead_letter_schema()))
}

impl DeadLetterSink {
    /// Asks the store nothing.
    pub fn new(settings: DeadLetterSettings) -> Self {
        Self {
            settings,
            open: None,
            count: 0,
        }
    }

    fn tag(&self) -> String {
        let DeadLetterSettings {
            identity,
            incarnation,
            lane,
            ..
        } = &self.settings;
        let incarnation = incarnation.get(..8).unwrap_or(incarnation);
        format!("{}-{incarnation}-{lane}", id8(identity))
    }

    fn suffix(&self) -> &'static str {
        match self.settings.format {
            DeadLetterFormat::Parquet => "parquet",
            DeadLetterFormat::JsonLines => "jsonl",
        }
    }

    fn marker(&self, epoch: Epoch) -> Result<Path, SinkError> {
        self.settings
            .target
            .child(&format!("_commits/{}-{epoch}.json", self.tag()))
    }

    fn create(&mut self) -> Result<(String, Open), SinkError> {
        let DeadLetterSettings {
            target,
            identity,
            nonce,
            ..
        } = &self.settings;
        let name = format!(
            "_staging/{}/{nonce}-{}.{}",
            id8(identity),
            self.count,
            self.suffix()
        );
        self.count += 1;
        let location = target.child(&name)?;
        let open = match self.settings.format {
            DeadLetterFormat::Parquet => {
                let file =
                    FileWriter::create(&target.store, location, &Encode::new(dead_letter_schema()));
                Open::Parquet(Box::new(
                    file.map_err(|e| target.unavailable("a dead-letter file", &e))?,
                ))
            }
            DeadLetterFormat::JsonLines => Open::Lines {
                upload: Box::new(BufWriter::with_capacity(
                    Arc::clone(&target.store),
                    location,
                    PART_BYTES,
                )),
                size: 0,
                rows: 0,
            },
        };
        Ok((name, open))
    }

    /// [`Sink::apply`], without asking for the permit.
    async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let target = &self.settings.target;
        let body = serde_json::from_value(intent.body.clone());
        let body: Body =
            body.map_err(|e| target.stop(reason::CHECKPOINT_DAMAGED, &e.to_string()))?;
        let marker = self.marker(intent.epoch)?;
        if !exists(target, &marker).await? {
            for file in &body.files {
                publish(target, file).await?;
            }
            let text = serde_json::to_vec(&body).map_err(|e| target.unavailable("a marker", &e))?;
            let put = target.store.put(&marker, text.into()).await;
            put.map_err(|e| target.unavailable("a marker cannot be written", &e))?;
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

async fn exists(target: &Target, object: &Path) -> Result<bool, SinkError> {
    match target.store.head(object).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(target.unavailable("a marker cannot be looked at", &e)),
    }
}

#[async_trait]
impl Sink for DeadLetterSink {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        let target = self.settings.target.clone();
        let SinkBatch::Rows(rows) = batch else {
            return Err(target.stop(
                reason::PLAN_REFUSED,
                "changes by key were sent to the dead letters",
            ));
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
                written.map_err(|e| target.unavailable("dead letters cannot be written", &e))
            }
            Some((
                _,
                Open::Lines {
                    upload,
                    size,
                    rows: count,
                },
            )) => {
                let text = json_lines(&rows)
                    .map_err(|e| target.stop(reason::PLAN_REFUSED, &e.to_string()))?;
                *size += text.len() as u64;
                *count += rows.num_rows() as u64;
                let put = upload.put(Bytes::from(text)).await;
                put.map_err(|e| target.unavailable("dead letters cannot be written", &e))
            }
            None => Ok(()),
        }
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let target = self.settings.target.clone();
        let Some((staged, open)) = self.open.take() else {
            return Ok(None);
        };
        let (size, rows) = match open {
            Open::Parquet(file) => {
                let file = file.finish().await;
                let file =
                    file.map_err(|e| target.unavailable("dead letters cannot be written", &e))?;
                (file.size, file.rows())
            }
            Open::Lines {
                mut upload,
                size,
                rows,
            } => {
                let ended = upload.shutdown().await;
                ended.map_err(|e| target.unavailable("dead letters cannot be written", &e))?;
                (size, rows)
            }
        };
        let name = format!("{}-{epoch}-0.{}", self.tag(), self.suffix());
        let files = vec![StagedFile {
            staged,
            name,
            size,
            rows,
        }];
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
        for epoch in [Some(intent.epoch), intent.prev].into_iter().flatten() {
            if exists(&self.settings.target, &self.marker(epoch)?).await? {
                return Ok(Some(epoch));
            }
        }
        Ok(None)
    }
}

/// One JSON object a row; bytes as base64.
fn json_lines(rows: &RecordBatch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let raw = rows.column(0).as_binary::<i32>();
    let texts: ArrayRef = Arc::new(
        raw.iter()
            .map(|b| b.map(base64))
            .collect::<arrow::array::StringArray>(),
    );
    let mut columns = rows.columns().to_vec();
    columns[0] = texts;
    let rows = RecordBatch::try_new(json_lines_schema(), columns)?;
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&rows)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { letter } else { b'=' });
        }
    }
    String::from_utf8(text).unwrap_or_default()
}
