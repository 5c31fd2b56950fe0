//! Which files, and which row groups of them, can hold a changed key: by the log's statistics, then by bloom filters.
//!
//! Only ever errs towards reading: a bound that is absent, of another form or of a type not compared here excludes nothing.

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use jiff::Timestamp;
use jiff::civil::Date;
use parquet::bloom_filter::Sbbf;
use serde_json::Value;

/// Key columns of a change set, in a form that bounds can be compared with.
pub(super) struct ChangedKeys {
    columns: Vec<KeyColumn>,
    rows: usize,
}

struct KeyColumn {
    name: String,
    data_type: DataType,
    values: Values,
}

enum Values {
    Whole(Vec<Option<i64>>),
    Text(StringArray),
    /// Not compared.
    Other,
}

/// What a file's statistics say about one key column.
#[derive(Debug, Eq, PartialEq)]
enum Bounds {
    Whole(i64, i64),
    Text(String, String),
    Unknown,
}

struct ColumnFacts {
    bounds: Bounds,
    /// It may hold a null.
    null: bool,
    /// It may hold a value.
    some: bool,
}

impl ChangedKeys {
    /// Rows of a change set and the places of their keys.
    pub(super) fn new(rows: &RecordBatch, at: &[usize]) -> Self {
        let columns = at.iter().map(|&at| {
            let (field, column) = (rows.schema_ref().field(at), rows.column(at));
            let whole = || {
                let plain = match column.data_type() {
                    // An instant's number, not its text.
                    DataType::Timestamp(unit, _) => {
                        cast(column, &DataType::Timestamp(*unit, None)).ok()?
                    }
                    DataType::Date32 => cast(column, &DataType::Int32).ok()?,
                    _ => column.clone(),
                };
                let numbers = cast(&plain, &DataType::Int64).ok()?;
                Some(Values::Whole(
                    numbers.as_primitive_opt::<Int64Type>()?.iter().collect(),
                ))
            };
            let values = match column.data_type() {
                DataType::Utf8 => column.as_string_opt::<i32>().cloned().map(Values::Text),
                t if is_whole(t) => whole(),
                _ => None,
            };
            KeyColumn {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                values: values.unwrap_or(Values::Other),
            }
        });
        Self {
            columns: columns.collect(),
            rows: rows.num_rows(),
        }
    }

    /// Can a file with these statistics hold one of the keys?
    pub(super) fn may_be_in(&self, stats: Option<&str>) -> bool {
        let Some(stats) = stats.and_then(|s| serde_json::from_str::<Value>(s).ok()) else {
            return true;
        };
        let facts: Vec<_> = self.columns.iter().map(|c| c.facts(&stats)).collect();
        (0..self.rows).any(|row| {
            let mut columns = self.columns.iter().zip(&facts);
            columns.all(|(column, facts)| column.may_be(row, facts))
        })
    }

    /// Can a row group with these bloom filters, one a key column where there is one, hold one of the keys?
    pub(super) fn may_be_under(&self, filters: &[Option<Sbbf>]) -> bool {
        (0..self.rows).any(|row| {
            let mut columns = self.columns.iter().zip(filters);
            columns
                .all(|(column, filter)| filter.as_ref().is_none_or(|f| column.may_be_under(row, f)))
        })
    }
}

fn is_whole(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(..)
    )
}

impl KeyColumn {
    fn facts(&self, stats: &Value) -> ColumnFacts {
        let rows = stats["numRecords"].as_u64();
        let nulls = stats["nullCount"][&self.name].as_u64();
        let (min, max) = (
            &stats["minValues"][&self.name],
            &stats["maxValues"][&self.name],
        );
        ColumnFacts {
            bounds: self.bounds(min, max).unwrap_or(Bounds::Unknown),
            null: nulls != Some(0),
            some: rows.is_none() || nulls.is_none() || nulls != rows,
        }
    }

    fn bounds(&self, min: &Value, max: &Value) -> Option<Bounds> {
        Some(match self.data_type {
            DataType::Utf8 => Bounds::Text(min.as_str()?.to_owned(), max.as_str()?.to_owned()),
            DataType::Date32 => Bounds::Whole(days(min)?, days(max)?),
            // A reader's duty: the upper bound may have been cut to milliseconds.
            DataType::Timestamp(..) => Bounds::Whole(micros(min)?, micros(max)?.checked_add(999)?),
            ref t if is_whole(t) => Bounds::Whole(min.as_i64()?, max.as_i64()?),
            _ => return None,
        })
    }

    fn may_be(&self, row: usize, facts: &ColumnFacts) -> bool {
        match (&self.values, &facts.bounds) {
            (Values::Whole(values), bounds) => match (values[row], bounds) {
                (None, _) => facts.null,
                (Some(v), Bounds::Whole(min, max)) => facts.some && (*min..=*max).contains(&v),
                (Some(_), _) => facts.some,
            },
            (Values::Text(values), _) if values.is_null(row) => facts.null,
            (Values::Text(values), Bounds::Text(min, max)) => {
                let value = values.value(row);
                facts.some && min.as_str() <= value && value <= max.as_str()
            }
            (Values::Text(_), _) => facts.some,
            (Values::Other, _) => true,
        }
    }

    /// Filters hold the values as Parquet stores them; nulls are not in them.
    fn may_be_under(&self, row: usize, filter: &Sbbf) -> bool {
        match &self.values {
            Values::Whole(values) => match (values[row], &self.data_type) {
                (None, _) => true,
                (Some(v), DataType::Int64 | DataType::Timestamp(..)) => filter.check(&v),
                (Some(v), _) => i32::try_from(v).is_ok_and(|v| filter.check(&v)),
            },
            Values::Text(values) => values.is_null(row) || filter.check(values.value(row)),
            Values::Other => true,
        }
    }
}

fn days(value: &Value) -> Option<i64> {
    let day: Date = value.as_str()?.parse().ok()?;
    Some(
        day.since(Date::constant(1970, 1, 1))
            .ok()?
            .get_days()
            .into(),
    )
}

fn micros(value: &Value) -> Option<i64> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn keys(hours: &[i64], regions: &[Option<&str>]) -> ChangedKeys {
        let hour = |h: &i64| 1_767_225_600_000_000 + h * 3_600_000_000;
        let starts = TimestampMicrosecondArray::from(hours.iter().map(hour).collect::<Vec<_>>());
        let starts: ArrayRef = Arc::new(starts.with_timezone("UTC"));
        let regions: ArrayRef = Arc::new(StringArray::from(regions.to_vec()));
        let rows = RecordBatch::try_from_iter([("start", starts), ("region", regions)]).unwrap();
        ChangedKeys::new(&rows, &[0, 1])
    }

    const STATS: &str = r#"{"numRecords":9,"nullCount":{"start":0,"region":0},
        "minValues":{"start":"2026-01-01T01:00:00.000Z","region":"eu"},
        "maxValues":{"start":"2026-01-01T02:00:00.000Z","region":"us"}}"#;

    #[test]
    fn a_file_is_read_only_if_one_key_lies_within_all_bounds() {
        let check = |hours: &[i64], regions: &[Option<&str>], expected: bool| {
            assert_eq!(
                keys(hours, regions).may_be_in(Some(STATS)),
                expected,
                "{hours:?} {regions:?}"
            );
        };
        check(&[1], &[Some("eu")], true);
        check(&[2], &[Some("us")], true);
        check(&[0], &[Some("eu")], false);
        check(&[3], &[Some("eu")], false);
        check(&[1], &[Some("ap")], false);
        check(&[1], &[None], false);
        check(&[0, 1], &[Some("eu"), Some("ap")], false);
        check(&[0, 1], &[Some("ap"), Some("eu")], true);
    }

    #[test]
    fn without_statistics_every_file_is_read() {
        assert!(keys(&[9], &[None]).may_be_in(None));
        assert!(keys(&[9], &[None]).may_be_in(Some(r#"{"numRecords":1}"#)));
        assert!(
            keys(&[9], &[Some("x")])
                .may_be_in(Some(r#"{"numRecords":1,"minValues":{"start":"?"}}"#))
        );
    }
}
