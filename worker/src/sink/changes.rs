//! The changes of one epoch, folded to one a key: rows whose first column says which of them are deletes. They lie in the
//! outbox as one object.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use evp_core::step::comparable;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::SinkError;
use super::outbox::{Outbox, Stored};
use crate::checkpointer::{CrashPoints, Moment, Step};

/// Most bytes of changes that one epoch may hold.
const MOST_BYTES: usize = 64 << 20;

/// Most bytes of rows that are only added: half more than an epoch reads by default, for they may have columns of their own.
const MOST_APPENDED: usize = 96 << 20;

/// Bytes with which a set is full: an epoch that reads on closes then, so that a backlog is many epochs and not one too large.
const FULL: usize = 24 << 20;

/// What a key costs in the table of newest changes beside its bytes.
const KEY: usize = 64;

/// The column that says which rows are deletes. Its name holds a character that table columns cannot have.
const DELETE: &str = "delete?;";

/// What the head keeps for one epoch of a sink that stages in the outbox.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Body {
    /// The object.
    pub(super) outbox: Stored,
    /// Rows in it.
    pub(super) changes: usize,
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

    fn has_null(&self, rows: &RecordBatch, row: usize) -> bool {
        self.at.iter().any(|&i| rows.column(i).is_null(row))
    }

    /// The key of each row, as bytes that are equal iff the keys are.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<arrow::row::Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .at
            .iter()
            .map(|&i| comparable(rows.column(i)))
            .collect();
        self.converter.convert_columns(&columns)
    }
}

/// The changes of the open epoch; a later change of a key replaces an earlier one, or is dropped.
#[derive(Debug)]
pub(super) struct ChangeSet {
    schema: SchemaRef,
    first_stays: bool,
    /// Rows with a null in their key that are kept apart; `None`: null equals null.
    apart: Option<u64>,
    batches: Vec<RecordBatch>,
    bytes: usize,
    /// Of the keys in `newest`.
    key_bytes: usize,
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
            apart: None,
            batches: Vec::new(),
            bytes: 0,
            key_bytes: 0,
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

    /// The same, where a null equals nothing: rows with one in their key replace no others.
    pub(super) fn keeping_nulls(self) -> Self {
        Self {
            apart: Some(0),
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
            let mut key = key.as_ref().to_vec();
            if let Some(count) = self.apart.as_mut().filter(|_| keys.has_null(rows, row)) {
                *count += 1;
                key.extend(count.to_be_bytes());
            }
            let place = self.newest.entry(key.into());
            match place {
                Entry::Occupied(_) if self.first_stays => {}
                Entry::Occupied(mut there) => drop(there.insert((batch, row))),
                Entry::Vacant(free) => {
                    self.key_bytes += free.key().len() + KEY;
                    free.insert((batch, row));
                }
            }
        }
        self.keep(rows, delete)?;
        if self.bytes + self.key_bytes > MOST_BYTES {
            self.compact()?;
        }
        Ok(self.bytes + self.key_bytes <= MOST_BYTES)
    }

    /// Much is staged; what it takes is known to a batch or two.
    pub(super) fn is_full(&self) -> bool {
        self.bytes + self.key_bytes >= FULL
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
        (self.bytes, self.key_bytes) = (0, 0);
    }
}

/// Makes what [`ChangeSet::take`] gave durable; what the head is to keep of it.
pub(super) async fn put(
    outbox: &Outbox,
    name: &str,
    rows: &RecordBatch,
    crash: &CrashPoints,
) -> Result<serde_json::Value, SinkError> {
    crash.hit(Step::OutboxPut, Moment::Before);
    let stored = outbox.put(name, rows).await?;
    crash.hit(Step::OutboxPut, Moment::After);
    let body = Body {
        outbox: stored,
        changes: rows.num_rows(),
    };
    Ok(json!(body))
}

impl Changes {
    /// Reads back what an intent names.
    pub(super) async fn get(outbox: &Outbox, body: &Body) -> Result<Self, SinkError> {
        let rows = outbox.get(&body.outbox).await?;
        Self::of(rows).map_err(|e| outbox.damaged(&body.outbox, &format!("is odd: {e}")))
    }

    /// Takes apart what [`ChangeSet::take`] put together.
    fn of(mut rows: RecordBatch) -> Result<Self, ArrowError> {
        let delete = rows.remove_column(0);
        let delete = delete.as_boolean_opt().cloned();
        Ok(Self {
            delete: delete.ok_or_else(|| ArrowError::SchemaError("no deletes".to_owned()))?,
            rows,
        })
    }
}
