//! Statistics of a data file as the Delta log keeps them, from the footer of the Parquet file that was just written.
//!
//! Source of the format: the Delta protocol, "Per-file Statistics". Bounds must hold, they need not be tight: texts are cut
//! by the writer (which rounds the upper one up), times are rounded outwards to milliseconds, since readers expect no more.

use arrow::datatypes::{DataType, Field};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use parquet::data_type::ByteArray;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Number, Value, json};

use crate::sink::parquet_writer::WrittenFile;

/// Columns with statistics: Delta's default for `delta.dataSkippingNumIndexedCols`.
const COLUMNS: usize = 32;

/// Decimals of more digits are not exact as JSON numbers: they get no bounds.
const EXACT_DIGITS: u8 = 15;

/// `add.stats` of a file with these top-level columns.
pub(super) fn of_file(file: &WrittenFile, columns: &[impl AsRef<Field>]) -> String {
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in columns.iter().map(AsRef::as_ref).take(COLUMNS) {
        let name = field.name();
        let Some(column) = Column::of(file, name) else {
            continue;
        };
        if let Some(count) = column.nulls {
            nulls.insert(name.clone(), json!(count));
        }
        if let Some((min, max)) = column.bounds {
            if let Some(value) = value(field.data_type(), &min, Side::Least) {
                least.insert(name.clone(), value);
            }
            let max = Some(max).filter(|_| !file.with_nan.contains(name));
            if let Some(value) = max.and_then(|m| value(field.data_type(), &m, Side::Most)) {
                most.insert(name.clone(), value);
            }
        }
    }
    json!({"numRecords": file.rows(), "minValues": least, "maxValues": most, "nullCount": nulls})
        .to_string()
}

/// One leaf column over all row groups.
struct Column {
    nulls: Option<u64>,
    bounds: Option<(Bound, Bound)>,
}

/// A physical value.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Boolean(bool),
    Whole(i64),
    Single(f32),
    Double(f64),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy)]
enum Side {
    Least,
    Most,
}

impl Column {
    /// `None`: the column is nested, or the file is empty.
    fn of(file: &WrittenFile, name: &str) -> Option<Self> {
        let groups = file.metadata.row_groups();
        let find = |c: &&ColumnChunkMetaData| c.column_path().parts() == [name];
        let at = groups.first()?.columns().iter().position(|c| find(&c))?;
        let chunks: Vec<_> = groups.iter().map(|g| g.column(at)).collect();
        let nulls = chunks
            .iter()
            .map(|c| c.statistics()?.null_count_opt())
            .sum();
        let mut bounds: Option<(Bound, Bound)> = None;
        for chunk in chunks {
            let statistics = chunk.statistics()?;
            let values = u64::try_from(chunk.num_values()).unwrap_or_default();
            if statistics.null_count_opt() == Some(values) {
                continue;
            }
            let Some((min, max)) = bounds_of(statistics) else {
                return Some(Self {
                    nulls,
                    bounds: None,
                });
            };
            bounds = Some(match bounds {
                None => (min, max),
                Some((least, most)) => (
                    if min < least { min } else { least },
                    if max > most { max } else { most },
                ),
            });
        }
        Some(Self { nulls, bounds })
    }
}

fn bounds_of(statistics: &Statistics) -> Option<(Bound, Bound)> {
    let bytes = |v: &ByteArray| Bound::Bytes(v.data().to_vec());
    Some(match statistics {
        Statistics::Boolean(s) => (Bound::Boolean(*s.min_opt()?), Bound::Boolean(*s.max_opt()?)),
        Statistics::Int32(s) => (
            Bound::Whole((*s.min_opt()?).into()),
            Bound::Whole((*s.max_opt()?).into()),
        ),
        Statistics::Int64(s) => (Bound::Whole(*s.min_opt()?), Bound::Whole(*s.max_opt()?)),
        Statistics::Float(s) => (Bound::Single(*s.min_opt()?), Bound::Single(*s.max_opt()?)),
        Statistics::Double(s) => (Bound::Double(*s.min_opt()?), Bound::Double(*s.max_opt()?)),
        Statistics::ByteArray(s) => (bytes(s.min_opt()?), bytes(s.max_opt()?)),
        Statistics::Int96(_) | Statistics::FixedLenByteArray(_) => return None,
    })
}

/// A bound as JSON; `None`: it cannot be told without harm.
fn value(data_type: &DataType, bound: &Bound, side: Side) -> Option<Value> {
    match (data_type, bound) {
        (DataType::Boolean, Bound::Boolean(v)) => Some(json!(v)),
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, Bound::Whole(v)) => {
            Some(json!(v))
        }
        (DataType::Float32, Bound::Single(v)) => {
            // Through text, so that 0.1f32 is 0.1 and not its neighbour among the doubles.
            v.to_string()
                .parse()
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number)
        }
        (DataType::Float64, Bound::Double(v)) => Number::from_f64(*v).map(Value::Number),
        (DataType::Utf8, Bound::Bytes(v)) => std::str::from_utf8(v).ok().map(|v| json!(v)),
        (DataType::Date32, Bound::Whole(days)) => {
            let epoch = Date::constant(1970, 1, 1);
            let day = epoch.checked_add(i32::try_from(*days).ok()?.days()).ok()?;
            (day.year() >= 0).then(|| json!(day.to_string()))
        }
        (DataType::Timestamp(..), Bound::Whole(micros)) => time(*micros, side).map(|v| json!(v)),
        (DataType::Decimal128(precision, scale), Bound::Whole(v)) if *precision <= EXACT_DIGITS => {
            decimal(*v, u32::from(scale.unsigned_abs()))
        }
        _ => None,
    }
}

/// Microseconds as Delta's readers take them: whole milliseconds, outwards.
fn time(micros: i64, side: Side) -> Option<String> {
    let millis = match side {
        Side::Least => micros.div_euclid(1000),
        Side::Most => micros.checked_add(999)?.div_euclid(1000),
    };
    let time = Timestamp::from_millisecond(millis).ok()?;
    (time.as_second() >= -62_167_219_200).then(|| format!("{time:.3}"))
}

fn decimal(unscaled: i64, scale: u32) -> Option<Value> {
    let sign = if unscaled < 0 { "-" } else { "" };
    let power = 10u64.checked_pow(scale)?;
    let (whole, part) = (
        unscaled.unsigned_abs() / power,
        unscaled.unsigned_abs() % power,
    );
    let width = usize::try_from(scale).ok()?;
    let text = match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part:0width$}"),
    };
    text.parse()
        .ok()
        .and_then(Number::from_f64)
        .map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_outwards_to_milliseconds() {
        let check =
            |micros, side, text: &str| assert_eq!(time(micros, side).as_deref(), Some(text));
        check(1_500, Side::Least, "1970-01-01T00:00:00.001Z");
        check(1_500, Side::Most, "1970-01-01T00:00:00.002Z");
        check(-1, Side::Least, "1969-12-31T23:59:59.999Z");
        check(-1, Side::Most, "1970-01-01T00:00:00.000Z");
        check(
            1_767_225_600_000_000,
            Side::Most,
            "2026-01-01T00:00:00.000Z",
        );
    }

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(decimal(-1205, 2).unwrap().to_string(), "-12.05");
        assert_eq!(decimal(7, 0).unwrap().to_string(), "7.0");
    }
}
