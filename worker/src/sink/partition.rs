//! Rows by partition: values as the log spells them, the folder of each, the columns that stay in the file.
//!
//! Source of the format: the Delta protocol, "Partition Value Serialization" (an empty text is null there). Folder names are
//! for people; readers take values from the log alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use jiff::Timestamp;

/// Folder of a null.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// Values of one partition, in the order of the partition columns.
pub(super) type PartitionValues = Vec<Option<String>>;

/// How a table's rows are split.
#[derive(Clone, Debug)]
pub(super) struct Partitioning {
    /// Partition columns.
    pub columns: Vec<String>,
    /// Columns of the data files: all others.
    pub data: SchemaRef,
    partition_at: Vec<usize>,
    data_at: Vec<usize>,
}

impl Partitioning {
    /// `Err` says which column cannot partition.
    pub(super) fn new(schema: &Schema, columns: &[String]) -> Result<Self, String> {
        let mut partition_at = Vec::new();
        for name in columns {
            let Ok(at) = schema.index_of(name) else {
                return Err(format!(
                    "partitionBy names column '{name}', which the sink does not write"
                ));
            };
            let data_type = schema.field(at).data_type();
            if data_type.is_nested() || matches!(data_type, DataType::Binary) {
                return Err(format!(
                    "partitionBy names column '{name}' of type {data_type}, which cannot partition"
                ));
            }
            partition_at.push(at);
        }
        let data_at: Vec<_> = (0..schema.fields().len())
            .filter(|at| !partition_at.contains(at))
            .collect();
        if data_at.is_empty() {
            return Err("partitionBy names all columns; a file needs one of its own".to_owned());
        }
        let data: Vec<Field> = data_at.iter().map(|&at| schema.field(at).clone()).collect();
        Ok(Self {
            columns: columns.to_vec(),
            data: Arc::new(Schema::new(data)),
            partition_at,
            data_at,
        })
    }

    /// One batch a partition, without the partition columns. Rows keep their order.
    pub(super) fn split(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<(PartitionValues, RecordBatch)>, ArrowError> {
        let data = batch.project(&self.data_at)?;
        if self.columns.is_empty() {
            return Ok(vec![(Vec::new(), data)]);
        }
        let columns = self
            .partition_at
            .iter()
            .map(|&at| Texts::of(batch.column(at).as_ref()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut rows: BTreeMap<Vec<Option<&str>>, Vec<u32>> = BTreeMap::new();
        let mut last: Option<(Vec<Option<&str>>, Vec<u32>)> = None;
        for row in 0..batch.num_rows() {
            let number = u32::try_from(row).map_err(|e| ArrowError::ComputeError(e.to_string()))?;
            let same = |values: &[Option<&str>]| {
                columns.iter().zip(values).all(|(c, v)| c.value(row) == *v)
            };
            match &mut last {
                Some((values, run)) if same(values) => run.push(number),
                _ => {
                    let values: Vec<_> = columns.iter().map(|c| c.value(row)).collect();
                    let run = rows.remove(&values).unwrap_or_default();
                    if let Some((values, run)) = last.replace((values, run)) {
                        rows.insert(values, run);
                    }
                    if let Some((_, run)) = &mut last {
                        run.push(number);
                    }
                }
            }
        }
        rows.extend(last);
        if rows.len() == 1 {
            let values = rows.into_keys().map(owned);
            return Ok(values.map(|values| (values, data.clone())).collect());
        }
        rows.into_iter()
            .map(|(values, run)| {
                Ok((
                    owned(values),
                    take_record_batch(&data, &UInt32Array::from(run))?,
                ))
            })
            .collect()
    }

    /// `a=1/b=__HIVE_DEFAULT_PARTITION__/`; empty without partition columns. It is the name of objects: the log holds it
    /// percent-encoded once more.
    pub(super) fn folder(&self, values: &PartitionValues) -> String {
        let mut folder = String::new();
        for (column, value) in self.columns.iter().zip(values) {
            escape(&mut folder, column);
            folder.push('=');
            match value {
                // A text that is spelled like a null is none.
                Some(value) if value == NULL_FOLDER => {
                    folder.push_str("%5F");
                    escape(&mut folder, &value[1..]);
                }
                Some(value) => escape(&mut folder, value),
                None => folder.push_str(NULL_FOLDER),
            }
            folder.push('/');
        }
        folder
    }

    /// As the log keeps them.
    pub(super) fn named(&self, values: &PartitionValues) -> BTreeMap<String, Option<String>> {
        self.columns
            .iter()
            .cloned()
            .zip(values.iter().cloned())
            .collect()
    }
}

fn owned(values: Vec<Option<&str>>) -> PartitionValues {
    values.into_iter().map(|v| v.map(str::to_owned)).collect()
}

/// Texts of one partition column: distinct runs are found by comparing them.
enum Texts {
    Cast(arrow::array::StringArray),
    Own(Vec<Option<String>>),
}

impl Texts {
    fn of(column: &dyn Array) -> Result<Self, ArrowError> {
        if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
            let text =
                |micros: Option<i64>| Timestamp::from_microsecond(micros?).ok().map(spell_time);
            return Ok(Self::Own(times.iter().map(text).collect()));
        }
        if let Some(flags) = column.as_any().downcast_ref::<BooleanArray>() {
            return Ok(Self::Own(
                flags.iter().map(|f| f.map(|f| f.to_string())).collect(),
            ));
        }
        Ok(Self::Cast(
            cast(column, &DataType::Utf8)?.as_string::<i32>().clone(),
        ))
    }

    fn value(&self, row: usize) -> Option<&str> {
        let text = match self {
            Self::Cast(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Own(texts) => texts[row].as_deref(),
        };
        text.filter(|t| !t.is_empty())
    }
}

/// `2026-01-01 12:00:00.000000`, UTC: the form that every reader knows.
fn spell_time(time: Timestamp) -> String {
    let text = format!("{time:.6}");
    text.trim_end_matches('Z').replace('T', " ")
}

fn escape(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// Values that a folder names; the inverse of [`Partitioning::folder`].
pub(crate) fn values(folder: &str) -> Vec<Option<String>> {
    let value = |part: &str| {
        let (_, value) = part.split_once('=')?;
        (value != NULL_FOLDER).then(|| unescape(value))
    };
    let parts = folder.split('/').filter(|part| !part.is_empty());
    parts.map(value).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.split_at_checked(2)).flatten();
        let code = escaped.and_then(|(code, rest)| {
            let code = std::str::from_utf8(code).ok()?;
            Some((u8::from_str_radix(code, 16).ok()?, rest))
        });
        let (byte, next) = code.unwrap_or((first, after));
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray};

    fn batch() -> RecordBatch {
        let region: ArrayRef = Arc::new(StringArray::from(vec![
            Some("eu/west"),
            None,
            Some("eu/west"),
            Some(""),
        ]));
        let day: ArrayRef = Arc::new(Date32Array::from(vec![20454, 20454, 20454, 20454]));
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        RecordBatch::try_from_iter([("region", region), ("day", day), ("id", id)]).unwrap()
    }

    #[test]
    fn rows_go_to_their_partition_in_order() {
        let by = Partitioning::new(&batch().schema(), &["day".into(), "region".into()]).unwrap();
        let parts: Vec<_> = by
            .split(&batch())
            .unwrap()
            .into_iter()
            .map(|(values, rows)| {
                let ids = rows
                    .column(0)
                    .as_primitive::<arrow::datatypes::Int64Type>()
                    .values()
                    .to_vec();
                (by.folder(&values), values, ids)
            })
            .collect();
        let day = || Some("2026-01-01".to_owned());
        assert_eq!(
            parts,
            vec![
                (
                    "day=2026-01-01/region=__HIVE_DEFAULT_PARTITION__/".into(),
                    vec![day(), None],
                    vec![2, 4]
                ),
                (
                    "day=2026-01-01/region=eu%2Fwest/".into(),
                    vec![day(), Some("eu/west".into())],
                    vec![1, 3]
                ),
            ]
        );
    }

    #[test]
    fn a_value_is_read_back_from_its_folder_whatever_it_is() {
        let by = Partitioning::new(&batch().schema(), &["region".into()]).unwrap();
        for value in ["eu/west", "a=b", NULL_FOLDER, "_", "%5F", "ü", "."] {
            let written = vec![Some(value.to_owned())];
            assert_eq!(values(&by.folder(&written)), written);
        }
        assert_eq!(values(&by.folder(&vec![None])), [None]);
    }

    #[test]
    fn times_are_spelled_as_the_protocol_has_them() {
        let time = Timestamp::from_microsecond(1_767_225_600_000_001).unwrap();
        assert_eq!(spell_time(time), "2026-01-01 00:00:00.000001");
    }
}
