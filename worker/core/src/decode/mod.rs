//! Bytes to rows: strict JSON or CSV records (semantics 34, 36) straight into Arrow columns, one record at a time to blame.
//!
//! Owns what a record must look like and the words in which it is refused; [`cursor`] owns JSON's grammar, [`csv`] that
//! of a row of CSV, [`value`] the
//! conversions, [`column`] the buffers. Does not own what the time of a row means (future, late): that is the dataflow's.
//! A refused record is cut out of every column again, so its neighbours never notice it. The verdict on a record does not
//! depend on where it breaks first: bytes that are no JSON are `Malformed`, whatever else is wrong with them.

mod column;
mod csv;
mod cursor;
mod meta;
mod number;
mod object;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod time;
mod value;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use evp_api::plan::{FormatPlan, SourcePlan};

pub use column::arrow_type;
pub use meta::MetaColumns;
pub use time::Zone;

use crate::dead_letter::{Reject, RejectCode};
use crate::files::SourceFile;
use crate::record::RawBatch;
use column::Column;
use csv::Rows;
use cursor::{Cursor, Detail, Fault, Keys, Parsed};
use object::{Member, Object};

/// Decodes the records of one source. Its buffers are used again from batch to batch.
#[derive(Debug)]
pub struct Decoder {
    record: Object,
    keys: Keys,
    /// `None`: records are JSON.
    rows: Option<Rows>,
    meta: MetaColumns,
    schema: SchemaRef,
    max_record_bytes: usize,
}

/// What became of a batch: `records = rows + rejects + tombstones`.
#[derive(Debug)]
pub struct Decoded {
    /// The good records, in their order.
    pub rows: RecordBatch,
    /// Row → index into the batch's records.
    pub origin: Vec<u32>,
    /// The bad ones, in their order.
    pub rejects: Vec<Reject>,
    /// Records without a value; they are dropped.
    pub tombstones: u64,
}

/// The declared fields as Arrow fields, then the `_meta` columns asked for.
pub fn row_schema(source: &SourcePlan, meta: MetaColumns) -> SchemaRef {
    let declared = source
        .schema
        .fields
        .iter()
        .map(|f| arrow::datatypes::Field::new(&f.name, arrow_type(&f.data_type), f.optional));
    Arc::new(Schema::new(
        declared.chain(meta.fields()).collect::<Vec<_>>(),
    ))
}

impl Decoder {
    /// A decoder of that source's records, with the `_meta` columns that somebody reads.
    pub fn new(source: &SourcePlan, meta: MetaColumns) -> Self {
        let members = source.schema.fields.iter().map(|field| Member {
            name: field.name.clone(),
            optional: field.optional,
            column: Column::of_field(field, source.refuse_unknown_fields),
        });
        Self {
            rows: match &source.format {
                FormatPlan::Json => None,
                FormatPlan::Csv(csv) => {
                    let names = source.schema.fields.iter().map(|f| f.name.clone());
                    Some(Rows::new(
                        csv,
                        names.collect(),
                        source.refuse_unknown_fields,
                    ))
                }
            },
            record: Object::new(members.collect(), source.refuse_unknown_fields),
            keys: Keys::default(),
            meta,
            schema: row_schema(source, meta),
            max_record_bytes: source.max_record_bytes,
        }
    }

    /// Schema of [`Decoded::rows`].
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Decodes all records of a batch, whose bytes must not exceed 2 GiB (Arrow's offsets).
    pub fn decode(&mut self, raw: &RawBatch) -> Decoded {
        // A panic that somebody caught may have left parts of a row behind.
        self.record.truncate(0);
        self.record.reserve(raw.records.len());
        let mut origin = Vec::with_capacity(raw.records.len());
        let mut rejects = Vec::new();
        let mut tombstones = 0;
        for (index, record) in (0_u32..).zip(&raw.records) {
            let Some(bytes) = raw.value(record) else {
                tombstones += 1;
                continue;
            };
            let file = raw.in_files.file(index as usize);
            match self.read(bytes, file) {
                Ok(()) => origin.push(index),
                Err(fault) => {
                    self.record.truncate(origin.len());
                    rejects.push(fault.reject(index));
                }
            }
        }
        let mut columns = self.record.finish();
        columns.extend(self.meta.arrays(raw, &origin));
        let rows = RecordBatch::try_new(self.schema(), columns)
            .unwrap_or_else(|e| unreachable!("columns are built to this very schema: {e}"));
        Decoded {
            rows,
            origin,
            rejects,
            tombstones,
        }
    }

    /// Appends one record to the columns, or says why not.
    fn read(&mut self, bytes: &[u8], file: Option<&Arc<SourceFile>>) -> Parsed<()> {
        if bytes.len() > self.max_record_bytes {
            return Err(too_large(bytes.len(), self.max_record_bytes));
        }
        if let Some(rows) = &mut self.rows {
            return rows.read(bytes, file, &mut self.record);
        }
        self.keys.clear();
        let done = self.read_record(bytes);
        match done {
            Err(fault) if fault.0.code != RejectCode::Malformed => {
                self.keys.clear();
                Err(grammar(bytes, &mut self.keys).err().unwrap_or(fault))
            }
            done => done,
        }
    }

    fn read_record(&mut self, bytes: &[u8]) -> Parsed<()> {
        let mut cursor = Cursor::new(bytes)?;
        let first = cursor.next_token();
        if first != Some(b'{') {
            return Err(not_an_object(first, cursor.at()));
        }
        self.record.read(&mut cursor, 1, &mut self.keys)?;
        cursor.finish()
    }
}

/// Is that one JSON document at all?
fn grammar(bytes: &[u8], keys: &mut Keys) -> Parsed<()> {
    let mut cursor = Cursor::new(bytes)?;
    cursor.skip_value(0, keys)?;
    cursor.finish()
}

#[cold]
fn too_large(len: usize, limit: usize) -> Fault {
    let what = format!("{len} bytes, schema.maxRecordBytes is {limit}");
    Fault::new(RejectCode::TooLarge, None, what, None)
}

#[cold]
fn not_an_object(first: Option<u8>, at: usize) -> Fault {
    let what = format!(
        "the record is {}, an object is expected",
        value::kind_name(first)
    );
    Fault::new(RejectCode::WrongType, Some(at), what, None)
}

impl Fault {
    fn reject(self, record: u32) -> Reject {
        let Detail {
            code,
            at,
            what,
            field,
        } = *self.0;
        let message = match at {
            Some(at) => format!("byte {at}: {what}"),
            None => what,
        };
        Reject {
            record,
            code,
            message,
            field,
        }
    }
}
