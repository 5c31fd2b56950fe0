//! Rows as the server's COPY text format has them, and as JSON.

use std::fmt::Write as _;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// The server's type of a column. `None`: it has none.
pub(super) fn sql_type(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Utf8 => "text".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Binary => "bytea".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => "jsonb".to_owned(),
        _ => return None,
    })
}

/// Rows that can be written one by one.
pub(super) struct Rows<'a> {
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Boolean(&'a BooleanArray),
    Int(&'a PrimitiveArray<Int32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Date(&'a PrimitiveArray<Date32Type>),
    Instant(&'a PrimitiveArray<TimestampMicrosecondType>),
    Decimal(&'a Decimal128Array),
    Json(NullableEncoder<'a>),
}

impl<'a> Rows<'a> {
    /// Rows of [`sql_type`]'s types. `fields`: those of the batch.
    pub(super) fn new(
        rows: &'a RecordBatch,
        fields: &'a [FieldRef],
        options: &'a EncoderOptions,
    ) -> Result<Self, ArrowError> {
        let columns = rows.columns().iter().zip(fields);
        let columns = columns.map(|(array, field)| column(array, field, options));
        Ok(Self {
            columns: columns.collect::<Result<_, _>>()?,
        })
    }

    /// Is there a byte `\0` in any text? Of rows without one none needs to be looked at.
    pub(super) fn may_have_zero(&self) -> bool {
        self.columns.iter().any(|column| match column {
            Column::Text(array) => array.value_data().contains(&0),
            _ => false,
        })
    }

    /// The first column that holds a character which the server has none of: `\0`.
    pub(super) fn zero(&self, row: usize) -> Option<usize> {
        self.columns.iter().position(|column| match column {
            Column::Text(array) => !array.is_null(row) && array.value(row).contains('\0'),
            _ => false,
        })
    }

    /// Appends the values of a row, with tabs between.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        for (at, column) in self.columns.iter_mut().enumerate() {
            if at > 0 {
                out.push(b'\t');
            }
            if column.is_null(row) {
                out.extend_from_slice(b"\\N");
            } else {
                column.write(row, out);
            }
        }
    }
}

fn column<'a>(
    array: &'a dyn Array,
    field: &'a FieldRef,
    options: &'a EncoderOptions,
) -> Result<Column<'a>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Utf8 => Column::Text(array.as_string()),
        DataType::Binary => Column::Bytes(array.as_binary()),
        DataType::Boolean => Column::Boolean(array.as_boolean()),
        DataType::Int32 => Column::Int(array.as_primitive()),
        DataType::Int64 => Column::Long(array.as_primitive()),
        DataType::Float32 => Column::Float(array.as_primitive()),
        DataType::Float64 => Column::Double(array.as_primitive()),
        DataType::Date32 => Column::Date(array.as_primitive()),
        DataType::Timestamp(..) => Column::Instant(array.as_primitive()),
        DataType::Decimal128(..) => Column::Decimal(array.as_primitive::<Decimal128Type>()),
        _ => Column::Json(make_encoder(field, array, options)?),
    })
}

impl Column<'_> {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Text(array) => array.is_null(row),
            Column::Bytes(array) => array.is_null(row),
            Column::Boolean(array) => array.is_null(row),
            Column::Int(array) => array.is_null(row),
            Column::Long(array) => array.is_null(row),
            Column::Float(array) => array.is_null(row),
            Column::Double(array) => array.is_null(row),
            Column::Date(array) => array.is_null(row),
            Column::Instant(array) => array.is_null(row),
            Column::Decimal(array) => array.is_null(row),
            Column::Json(encoder) => encoder.is_null(row),
        }
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = match self {
            Column::Text(array) => return escape(array.value(row).as_bytes(), out),
            Column::Json(encoder) => {
                let mut json = Vec::new();
                encoder.encode(row, &mut json);
                return escape(&json, out);
            }
            Column::Bytes(array) => hex(array.value(row)),
            Column::Boolean(array) => array.value(row).to_string(),
            Column::Int(array) => array.value(row).to_string(),
            Column::Long(array) => array.value(row).to_string(),
            Column::Float(array) => float(array.value(row).into(), &array.value(row)),
            Column::Double(array) => float(array.value(row), &array.value(row)),
            Column::Date(array) => {
                let (date, era) = date(array.value(row).into());
                format!("{date}{era}")
            }
            Column::Instant(array) => instant(array.value(row)),
            Column::Decimal(array) => array.value_as_string(row),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// COPY's own characters behind a backslash (PostgreSQL, COPY, Text Format).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(byte),
        }
    }
}

/// `\x…`, its backslash escaped.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\\\x".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The shortest text that is read as the same number.
fn float(value: f64, shown: &dyn std::fmt::LowerExp) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v == f64::INFINITY => "Infinity".to_owned(),
        v if v == f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{shown:e}"),
    }
}

/// Year-month-day of days since 1970 in the proleptic Gregorian calendar, and ` BC` where that is due. After Hinnant's
/// `civil_from_days`: eras of 400 years that begin on a 1 March.
fn date(days: i64) -> (String, &'static str) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year + era * 400 + i64::from(month <= 2);
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

fn instant(micros: i64) -> String {
    let (day, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (date, era) = date(day);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{date} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}+00{era}")
}

/// Some rows as one JSON object each, for a `jsonb`: the character `\0`, which it cannot hold, is told as the six letters of
/// its escape.
pub(super) fn json(rows: &RecordBatch, which: &[usize]) -> Result<Vec<String>, ArrowError> {
    let all = StructArray::from(rows.clone());
    let field: FieldRef = Field::new("row", all.data_type().clone(), false).into();
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, &all, &options)?;
    let objects = which.iter().map(|&row| {
        let mut text = Vec::new();
        encoder.encode(row, &mut text);
        without_zero(&String::from_utf8_lossy(&text))
    });
    Ok(objects.collect())
}

/// A backslash more before each `\u0000` that is an escape.
fn without_zero(json: &str) -> String {
    const ESCAPE: &str = "\\u0000";
    let mut parts = json.split(ESCAPE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let before = out.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if before % 2 == 0 {
            out.push('\\');
        }
        out += ESCAPE;
        out += part;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_as_the_server_reads_them_on_both_sides_of_every_era() {
        let check = |micros, text: &str| assert_eq!(instant(micros), text);
        check(0, "1970-01-01 00:00:00.000000+00");
        check(-1, "1969-12-31 23:59:59.999999+00");
        check(951_782_400_000_000, "2000-02-29 00:00:00.000000+00");
        check(253_402_300_800_000_000, "10000-01-01 00:00:00.000000+00");
        check(-62_135_596_800_000_000, "0001-01-01 00:00:00.000000+00");
        check(-62_135_596_800_000_001, "0001-12-31 23:59:59.999999+00 BC");
    }

    #[test]
    fn copys_own_characters_stand_behind_a_backslash() {
        let mut out = Vec::new();
        escape(b"a\tb\\N\r\n", &mut out);
        assert_eq!(out, b"a\\tb\\\\N\\r\\n");
        assert_eq!(hex(&[0, 255]), "\\\\x00ff");
    }

    #[test]
    fn a_zero_character_is_told_and_a_text_that_looks_like_one_stays() {
        assert_eq!(
            without_zero(r#"{"a":"x\u0000\u0000"}"#),
            r#"{"a":"x\\u0000\\u0000"}"#
        );
        assert_eq!(without_zero(r#"{"a":"\\u0000"}"#), r#"{"a":"\\u0000"}"#);
        assert_eq!(without_zero(r#"{"a":"\\\u0000"}"#), r#"{"a":"\\\\u0000"}"#);
    }

    #[test]
    fn floats_have_the_shortest_text_and_the_servers_words() {
        let check = |value: f64, text: &str| assert_eq!(float(value, &value), text);
        check(0.1, "1e-1");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        assert_eq!(float(f64::from(0.1_f32), &0.1_f32), "1e-1");
    }
}
