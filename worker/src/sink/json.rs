//! Rows as JSON, one object a row, as the sources' strict JSON reads it back (semantics 34): all columns in their order, null where
//! there is no value, timestamps in RFC 3339 and UTC, whole numbers and decimals with all their digits, binary as base64.
//! JSON has no NaN and no infinities: they are null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Columns of [`keyed`]: a record's key, which may be null, and its value.
pub(super) fn keyed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, false),
    ]))
}

/// Rows as keys and values. `key`: the column whose text is the key; `None`: no keys.
pub(super) fn keyed(rows: &RecordBatch, key: Option<&str>) -> Result<RecordBatch, ArrowError> {
    let keys = match key {
        None => nulls(rows.num_rows()),
        Some(name) => texts(rows, name)?,
    };
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(objects(rows)?)];
    RecordBatch::try_new(keyed_schema(), columns)
}

/// Rows as lines that hold key and value.
pub(super) fn records(rows: &RecordBatch, key: Option<&str>) -> Result<Vec<u8>, ArrowError> {
    let records = keyed(rows, key)?;
    let [keys, values] = [0, 1].map(|at| records.column(at).as_binary::<i32>());
    let mut lines = Vec::new();
    for (key, value) in keys.iter().zip(values.iter().flatten()) {
        let key = key.map(String::from_utf8_lossy);
        lines.extend_from_slice(b"{\"key\":");
        lines.extend(serde_json::to_vec(&key).map_err(|e| ArrowError::JsonError(e.to_string()))?);
        lines.extend_from_slice(b",\"value\":");
        lines.extend_from_slice(value);
        lines.extend_from_slice(b"}\n");
    }
    Ok(lines)
}

/// One object a row.
fn objects(rows: &RecordBatch) -> Result<BinaryArray, ArrowError> {
    let array = StructArray::from(rows.clone());
    let field: FieldRef = Arc::new(Field::new("row", array.data_type().clone(), false));
    encoded(&field, &array, |text| text)
}

/// The text of a column's values: as in JSON, without the quotes around it.
fn texts(rows: &RecordBatch, name: &str) -> Result<BinaryArray, ArrowError> {
    let at = rows.schema_ref().index_of(name)?;
    let column = rows.column(at);
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Ok(texts.iter().map(|text| text.map(str::as_bytes)).collect());
    }
    let field: FieldRef = Arc::new(rows.schema_ref().field(at).clone());
    let bare = |text: &[u8]| -> usize { usize::from(text.first() == Some(&b'"')) };
    encoded(&field, column, move |text| {
        let quote = bare(text);
        text.get(quote..text.len() - quote).unwrap_or_default()
    })
}

fn encoded(
    field: &FieldRef,
    array: &dyn Array,
    cut: impl Fn(&[u8]) -> &[u8],
) -> Result<BinaryArray, ArrowError> {
    let options = EncoderOptions::default()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(BinaryAsBase64));
    let mut encoder = make_encoder(field, array, &options)?;
    let mut texts = BinaryBuilder::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(cut(&text));
    }
    Ok(texts.finish())
}

fn nulls(rows: usize) -> BinaryArray {
    let mut keys = BinaryBuilder::new();
    keys.append_nulls(rows);
    keys.finish()
}

/// arrow-json writes hexadecimal digits, which nobody reads back.
#[derive(Debug)]
struct BinaryAsBase64;

impl EncoderFactory for BinaryAsBase64 {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let binary = array.as_binary_opt::<i32>();
        Ok(binary.map(|bytes| {
            NullableEncoder::new(Box::new(Base64Encoder(bytes)), bytes.nulls().cloned())
        }))
    }
}

struct Base64Encoder<'a>(&'a BinaryArray);

impl Encoder for Base64Encoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests;
