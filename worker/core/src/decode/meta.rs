//! The `_meta` columns: what a source knows of a record beside its bytes. Only those asked for are made.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use evp_api::plan::DataType as PlannedType;

use super::column::arrow_type;
use crate::record::{RawBatch, RawRecord};

/// Which `_meta` columns are wanted. They stand after the declared fields, in the order of these members.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a set of flags, each with a name"
)]
pub struct MetaColumns {
    /// `_meta.timestamp`: time the source gives the record.
    pub timestamp: bool,
    /// `_meta.partition`: number of the split; null if its source does not number them.
    pub partition: bool,
    /// `_meta.offset`: position of the record.
    pub offset: bool,
    /// `_meta.key`: the record's key; null if it has none.
    pub key: bool,
    /// `_meta.raw`: the record's value, byte for byte.
    pub raw: bool,
    /// `_meta.file`: path of the record's file below the source's; null if its source reads no files.
    pub file: bool,
    /// `_meta.line`: the record's first line in its file, counted from 1; null if its source reads no files.
    pub line: bool,
}

/// One `_meta` column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Timestamp,
    Partition,
    Offset,
    Key,
    Raw,
    File,
    Line,
}

impl MetaColumns {
    /// All of them.
    pub const ALL: Self = Self {
        timestamp: true,
        partition: true,
        offset: true,
        key: true,
        raw: true,
        file: true,
        line: true,
    };

    /// Adds the column of that part (`timestamp`, `partition`, `offset`, `key`, `raw`, `file`,
    /// `line`); false: there is no such part.
    pub fn insert(&mut self, part: &str) -> bool {
        let flag = match part {
            "timestamp" => &mut self.timestamp,
            "partition" => &mut self.partition,
            "offset" => &mut self.offset,
            "key" => &mut self.key,
            "raw" => &mut self.raw,
            "file" => &mut self.file,
            "line" => &mut self.line,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// What either asks for.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            timestamp: self.timestamp || other.timestamp,
            partition: self.partition || other.partition,
            offset: self.offset || other.offset,
            key: self.key || other.key,
            raw: self.raw || other.raw,
            file: self.file || other.file,
            line: self.line || other.line,
        }
    }

    /// Physical column names, in order.
    pub fn names(self) -> Vec<&'static str> {
        self.parts().map(Part::name).collect()
    }

    /// Arrow fields, in order.
    pub fn fields(self) -> Vec<Field> {
        self.parts().map(Part::field).collect()
    }

    /// The columns of those records of a batch, in order.
    pub(super) fn arrays(self, raw: &RawBatch, rows: &[u32]) -> Vec<ArrayRef> {
        self.parts().map(|part| part.array(raw, rows)).collect()
    }

    fn parts(self) -> impl Iterator<Item = Part> {
        let Self {
            timestamp,
            partition,
            offset,
            key,
            raw,
            file,
            line,
        } = self;
        [
            (timestamp, Part::Timestamp),
            (partition, Part::Partition),
            (offset, Part::Offset),
            (key, Part::Key),
            (raw, Part::Raw),
            (file, Part::File),
            (line, Part::Line),
        ]
        .into_iter()
        .filter_map(|(wanted, part)| wanted.then_some(part))
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "_meta.timestamp",
            Self::Partition => "_meta.partition",
            Self::Offset => "_meta.offset",
            Self::Key => "_meta.key",
            Self::Raw => "_meta.raw",
            Self::File => "_meta.file",
            Self::Line => "_meta.line",
        }
    }

    fn field(self) -> Field {
        let (data_type, nullable) = match self {
            Self::Timestamp => (arrow_type(&PlannedType::Timestamp), false),
            Self::Partition => (DataType::Int32, true),
            Self::Offset => (DataType::Int64, false),
            Self::Key => (DataType::Binary, true),
            Self::Raw => (DataType::Binary, false),
            Self::File => (DataType::Utf8, true),
            Self::Line => (DataType::Int64, true),
        };
        Field::new(self.name(), data_type, nullable)
    }

    fn array(self, raw: &RawBatch, rows: &[u32]) -> ArrayRef {
        let records = rows.iter().filter_map(|&i| raw.records.get(i as usize));
        match self {
            Self::Timestamp => {
                let values = records.map(|r| r.timestamp.0).collect::<Vec<_>>();
                Arc::new(TimestampMicrosecondArray::new(values.into(), None).with_timezone("UTC"))
            }
            Self::Partition => {
                let numbers: Vec<_> = raw
                    .splits
                    .iter()
                    .map(crate::position::SplitId::as_partition)
                    .collect();
                let mut values = Int32Builder::with_capacity(rows.len());
                records.for_each(|r| {
                    values.append_option(numbers.get(r.split as usize).copied().flatten());
                });
                Arc::new(values.finish())
            }
            Self::Offset => Arc::new(Int64Array::from(
                records.map(|r| r.position.0).collect::<Vec<_>>(),
            )),
            Self::Key => bytes(records.map(|r| raw.key(r)), rows.len()),
            Self::Raw => bytes(records.map(|r: &RawRecord| raw.value(r)), rows.len()),
            Self::File => {
                let files = rows.iter().map(|&row| raw.in_files.file(row as usize));
                let paths = files.map(|file| file.map(|file| &*file.id.path));
                Arc::new(paths.collect::<StringArray>())
            }
            Self::Line => {
                let places = rows.iter().map(|&row| raw.in_files.place(row as usize));
                let lines = places.map(|at| i64::try_from(at?.line).ok());
                Arc::new(lines.collect::<Int64Array>())
            }
        }
    }
}

fn bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>, rows: usize) -> ArrayRef {
    let mut builder = BinaryBuilder::with_capacity(rows, 0);
    values.for_each(|v| builder.append_option(v));
    Arc::new(builder.finish())
}
