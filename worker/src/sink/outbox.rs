//! The changes of one epoch, folded to one a key, and their object in the outbox: an Arrow IPC file whose first column says
//! which rows are deletes. Written before the epoch is decided, read when it is applied, swept by the checkpointer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::row::{RowConverter, SortField};
use evp_api::reason;
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Intent, StateFile};
use evp_core::protocol::paths::Lane;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::SinkError;
use super::delta::Target;

/// Most bytes of changes that one epoch may hold.
const MOST_BYTES: usize = 64 << 20;

/// Most bytes of rows that are only added: half more than an epoch reads by default, for they may have columns of their own.
const MOST_APPENDED: usize = 96 << 20;

/// The column that says which rows are deletes. Its name holds a character that table columns cannot have.
const DELETE: &str = "delete?;";

/// Where a sink's outbox objects go.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Store whose root is the bucket, or `/`.
    pub store: Arc<dyn ObjectStore>,
    /// Folder of the checkpoint.
    pub checkpoint: Path,
    /// The lane.
    pub lane: Lane,
}

/// An object in the outbox, as the intent names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Stored {
    /// In the lane's outbox.
    name: String,
    length: u64,
    digest: Digest,
}

impl Stored {
    /// The object as a body names files: whole, by length and checksum.
    pub(super) fn file(&self) -> StateFile {
        StateFile {
            name: self.name.clone(),
            length: self.length,
            sha256: self.digest.clone(),
        }
    }
}

/// What the head keeps for one epoch of a sink that stages in the outbox.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Body {
    /// The object.
    pub(super) outbox: Stored,
    /// Rows in it.
    pub(super) changes: usize,
}

/// The outbox object that an intent names. `None`: the intent is of a sink that has none.
pub fn staged(intent: &Intent) -> Option<StateFile> {
    let body: Body = serde_json::from_value(intent.body.clone()).ok()?;
    Some(body.outbox.file())
}

/// One change a key.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    /// Keys and values, in the table's stored types.
    pub rows: RecordBatch,
    /// Which rows only name a key to delete.
    pub delete: BooleanArray,
}

/// Finds rows of the same key. Null equals null.
#[derive(Debug)]
pub(super) struct Keys {
    at: Vec<usize>,
    converter: RowConverter,
}

impl Keys {
    /// `Err` names the key that is no column or has a type that cannot be compared.
    pub(super) fn new(schema: &Schema, keys: &[String]) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("mode Update needs keys".to_owned());
        }
        let at = keys.iter().map(|key| {
            schema
                .index_of(key)
                .map_err(|_| format!("keys names column '{key}', which the sink does not write"))
        });
        let at = at.collect::<Result<Vec<_>, _>>()?;
        let fields = at
            .iter()
            .map(|&i| SortField::new(schema.field(i).data_type().clone()));
        let converter = RowConverter::new(fields.collect())
            .map_err(|e| format!("keys cannot be compared: {e}"))?;
        Ok(Self { at, converter })
    }

    /// Column numbers.
    pub(super) fn columns(&self) -> &[usize] {
        &self.at
    }

    /// The key of each row, as bytes that are equal iff the keys are.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<arrow::row::Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .at
            .iter()
            .map(|&i| Arc::clone(rows.column(i)))
            .collect();
        self.converter.convert_columns(&columns)
    }
}

/// The changes of the open epoch; a later change of a key replaces an earlier one, or is dropped.
#[derive(Debug)]
pub(super) struct ChangeSet {
    schema: SchemaRef,
    first_stays: bool,
    batches: Vec<RecordBatch>,
    bytes: usize,
    newest: HashMap<Box<[u8]>, (usize, usize)>,
}

impl ChangeSet {
    /// No changes of rows like these.
    pub(super) fn new(rows: &SchemaRef) -> Self {
        let mut fields = vec![Arc::new(Field::new(DELETE, DataType::Boolean, false))];
        fields.extend(rows.fields().iter().cloned());
        Self {
            schema: Arc::new(Schema::new(fields)),
            first_stays: false,
            batches: Vec::new(),
            bytes: 0,
            newest: HashMap::new(),
        }
    }

    /// The same, where the first change of a key stays.
    pub(super) fn keeping_first(self) -> Self {
        Self {
            first_stays: true,
            ..self
        }
    }

    /// Takes rows in that have no key: all of them stay, in this order. `Ok(false)`: they are too many for one epoch.
    pub(super) fn append(&mut self, rows: &RecordBatch) -> Result<bool, ArrowError> {
        let delete = BooleanArray::from(vec![false; rows.num_rows()]);
        self.keep(rows, delete)?;
        if self.bytes > MOST_APPENDED {
            self.compact()?;
        }
        Ok(self.bytes <= MOST_APPENDED)
    }

    /// Takes changes in. Rows are in stored types. `Ok(false)`: they are too many for one epoch.
    pub(super) fn push(
        &mut self,
        keys: &Keys,
        rows: &RecordBatch,
        delete: BooleanArray,
    ) -> Result<bool, ArrowError> {
        let found = keys.of(rows)?;
        let batch = self.batches.len();
        for (row, key) in found.iter().enumerate() {
            let place = self.newest.entry(key.as_ref().into());
            match place {
                Entry::Occupied(_) if self.first_stays => {}
                Entry::Occupied(mut there) => drop(there.insert((batch, row))),
                Entry::Vacant(free) => drop(free.insert((batch, row))),
            }
        }
        self.keep(rows, delete)?;
        if self.bytes > MOST_BYTES {
            self.compact()?;
        }
        Ok(self.bytes <= MOST_BYTES)
    }

    fn keep(&mut self, rows: &RecordBatch, delete: BooleanArray) -> Result<(), ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(delete)];
        columns.extend(rows.columns().iter().cloned());
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows);
        Ok(())
    }

    /// Drops what was replaced.
    fn compact(&mut self) -> Result<(), ArrowError> {
        let batches: Vec<_> = self.batches.iter().collect();
        let rows = if self.newest.is_empty() {
            concat_batches(&self.schema, batches)?
        } else {
            let live: Vec<_> = self.newest.values().copied().collect();
            interleave_record_batch(&batches, &live)?
        };
        for (row, place) in self.newest.values_mut().enumerate() {
            *place = (0, row);
        }
        self.bytes = rows.get_array_memory_size();
        self.batches = vec![rows];
        Ok(())
    }

    /// All changes, folded; the set is empty then. `None`: there are none.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.batches.iter().all(|rows| rows.num_rows() == 0) {
            self.clear();
            return Ok(None);
        }
        self.compact()?;
        let rows = self.batches.pop();
        self.clear();
        Ok(rows)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.newest.clear();
        self.bytes = 0;
    }
}

impl Outbox {
    fn location(&self, name: &str) -> Result<Path, object_store::path::Error> {
        Path::parse(format!("{}/{}", self.checkpoint, self.lane.outbox(name)))
    }

    /// Makes changes durable under a name that nobody else uses.
    pub(super) async fn put(
        &self,
        target: &Target,
        name: &str,
        rows: &RecordBatch,
    ) -> Result<Stored, SinkError> {
        let bytes =
            encode(rows).map_err(|e| target.unavailable("changes cannot be encoded", &e))?;
        let location = self.location(name);
        let location = location.map_err(|e| target.unavailable("the outbox", &e))?;
        let stored = Stored {
            name: name.to_owned(),
            length: bytes.len() as u64,
            digest: Digest::of(&bytes),
        };
        let put = self.store.put(&location, bytes.into()).await;
        put.map_err(|e| target.unavailable("changes cannot be put into the outbox", &e))?;
        Ok(stored)
    }

    /// Reads them back, whole.
    pub(super) async fn get(&self, target: &Target, stored: &Stored) -> Result<Changes, SinkError> {
        let damaged = |what: &str| {
            target.stop(
                reason::CHECKPOINT_DAMAGED,
                &format!(
                    "the outbox object {} {what}; restore the object",
                    stored.name
                ),
            )
        };
        let location = self
            .location(&stored.name)
            .map_err(|e| damaged(&e.to_string()))?;
        let bytes = match self.store.get(&location).await {
            Ok(found) => found
                .bytes()
                .await
                .map_err(|e| target.unavailable("the outbox", &e))?,
            Err(object_store::Error::NotFound { .. }) => return Err(damaged("is gone")),
            Err(e) => return Err(target.unavailable("the outbox", &e)),
        };
        if bytes.len() as u64 != stored.length || Digest::of(&bytes) != stored.digest {
            return Err(damaged("is not what was written"));
        }
        decode(&bytes).map_err(|e| damaged(&format!("cannot be read: {e}")))
    }
}

fn encode(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    let mut file = FileWriter::try_new(&mut bytes, &rows.schema())?;
    file.write(rows)?;
    file.finish()?;
    drop(file);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Changes, ArrowError> {
    let file = FileReader::try_new(Cursor::new(bytes), None)?;
    let schema = file.schema();
    let batches = file.collect::<Result<Vec<_>, _>>()?;
    let mut rows = concat_batches(&schema, &batches)?;
    let delete = rows.remove_column(0);
    let delete = delete.as_boolean_opt();
    Ok(Changes {
        delete: delete
            .cloned()
            .ok_or_else(|| ArrowError::SchemaError("no deletes".to_owned()))?,
        rows,
    })
}
