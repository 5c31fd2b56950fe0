//! Dead letters as rows (semantics 35), and those rows as JSON lines.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use evp_core::dead_letter::DeadLetter;

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

/// One JSON object a row; bytes as base64.
pub(crate) fn json_lines(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let raw = rows.column(0).as_binary::<i32>();
    let texts: ArrayRef = Arc::new(raw.iter().map(|b| b.map(base64)).collect::<StringArray>());
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
