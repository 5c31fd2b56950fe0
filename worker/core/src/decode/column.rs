//! Columns that grow value by value and can be cut back to any row, so that a refused record leaves no trace.
//!
//! Arrow's own builders cannot be cut back; these hold the very vectors that become Arrow buffers.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, NullBufferBuilder,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Fields, TimeUnit as ArrowUnit};
use evp_api::plan::{DataType, PlannedField};
use evp_api::schema::TimeUnit;
use std::mem::take;

use super::object::{Member, Object};
use super::time::Zone;

/// One column, or one level of a nested one.
#[derive(Debug)]
pub(super) struct Column {
    /// Declared path, such as `address.city`.
    pub(super) path: String,
    /// Declared type.
    pub(super) data_type: DataType,
    pub(super) nulls: NullBufferBuilder,
    pub(super) data: Data,
}

/// Values of a column; nulls hold a default.
#[derive(Debug)]
pub(super) enum Data {
    Text(Bytes),
    Binary(Bytes),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Boolean(BooleanBufferBuilder),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Date(Vec<i32>),
    Timestamp {
        values: Vec<i64>,
        zone: Option<Zone>,
        unit: Option<TimeUnit>,
    },
    List {
        offsets: Vec<i32>,
        items: Box<Column>,
    },
    Map {
        offsets: Vec<i32>,
        keys: Bytes,
        values: Box<Column>,
    },
    Struct(Object),
}

/// Variable-length values: value i is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "Arrow's words: offsets into bytes"
)]
pub(super) struct Bytes {
    pub(super) offsets: Vec<i32>,
    pub(super) bytes: Vec<u8>,
    /// Bytes that the last batch needed.
    expected: usize,
}

impl Bytes {
    pub(super) fn new() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
            expected: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Ends a value whose bytes were appended; false if the column would exceed 2 GiB.
    #[inline]
    #[must_use]
    pub(super) fn end_value(&mut self) -> bool {
        push_offset(&mut self.offsets, self.bytes.len())
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(last_offset(&self.offsets));
    }

    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
        self.bytes.reserve(self.expected);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        self.expected = self.bytes.len();
        (
            finish_offsets(&mut self.offsets),
            Buffer::from_vec(take(&mut self.bytes)),
        )
    }
}

/// Appends where a value ends; false if that exceeds what Arrow's 32-bit offsets hold.
#[inline]
#[must_use]
pub(super) fn push_offset(offsets: &mut Vec<i32>, end: usize) -> bool {
    match i32::try_from(end) {
        Ok(end) => {
            offsets.push(end);
            true
        }
        Err(_) => false,
    }
}

fn last_offset(offsets: &[i32]) -> usize {
    offsets
        .last()
        .and_then(|&o| usize::try_from(o).ok())
        .unwrap_or(0)
}

fn finish_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])))
}

impl Column {
    /// An empty column of a declared field.
    pub(super) fn of_field(field: &PlannedField, refuse_unknown: bool) -> Self {
        let zone = field.zone.as_deref().and_then(Zone::parse);
        Self::new(
            field.name.clone(),
            &field.data_type,
            &Shape {
                zone,
                unit: field.unit,
                refuse_unknown,
            },
        )
    }

    fn new(path: String, data_type: &DataType, shape: &Shape) -> Self {
        let child = |name: &str, t: &DataType| Self::new(format!("{path}{name}"), t, shape);
        let data = match data_type {
            DataType::String => Data::Text(Bytes::new()),
            DataType::Binary => Data::Binary(Bytes::new()),
            DataType::Int => Data::Int(Vec::new()),
            DataType::Long => Data::Long(Vec::new()),
            DataType::Float => Data::Float(Vec::new()),
            DataType::Double => Data::Double(Vec::new()),
            DataType::Boolean => Data::Boolean(BooleanBufferBuilder::new(0)),
            &DataType::Decimal { precision, scale } => Data::Decimal {
                values: Vec::new(),
                precision,
                scale,
            },
            DataType::Date => Data::Date(Vec::new()),
            DataType::Timestamp => Data::Timestamp {
                values: Vec::new(),
                zone: shape.zone.clone(),
                unit: shape.unit,
            },
            DataType::List(item) => Data::List {
                offsets: vec![0],
                items: Box::new(child("[]", item)),
            },
            DataType::Map(value) => Data::Map {
                offsets: vec![0],
                keys: Bytes::new(),
                values: Box::new(child("{}", value)),
            },
            DataType::Struct(members) => {
                let members = members.iter().map(|(name, t)| Member {
                    name: name.clone(),
                    optional: true,
                    column: child(&format!(".{name}"), t),
                });
                Data::Struct(Object::new(members.collect(), shape.refuse_unknown))
            }
        };
        Self {
            path,
            data_type: data_type.clone(),
            nulls: NullBufferBuilder::new(0),
            data,
        }
    }

    /// Values held.
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Room for that many more values.
    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.data {
            Data::Text(v) | Data::Binary(v) => v.reserve(rows),
            Data::Int(v) | Data::Date(v) => v.reserve(rows),
            Data::Long(v) | Data::Timestamp { values: v, .. } => v.reserve(rows),
            Data::Float(v) => v.reserve(rows),
            Data::Double(v) => v.reserve(rows),
            Data::Boolean(v) => v.reserve(rows),
            Data::Decimal { values, .. } => values.reserve(rows),
            Data::List { offsets, .. } | Data::Map { offsets, .. } => offsets.reserve(rows),
            Data::Struct(object) => object.reserve(rows),
        }
    }

    /// Cuts back to `len` values, wherever a refused record left the parts.
    pub(super) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.data {
            Data::Text(v) | Data::Binary(v) => v.truncate(len),
            Data::Int(v) | Data::Date(v) => v.truncate(len),
            Data::Long(v) | Data::Timestamp { values: v, .. } => v.truncate(len),
            Data::Float(v) => v.truncate(len),
            Data::Double(v) => v.truncate(len),
            Data::Boolean(v) => v.truncate(len),
            Data::Decimal { values, .. } => values.truncate(len),
            Data::List { offsets, items } => {
                offsets.truncate(len + 1);
                items.truncate(last_offset(offsets));
            }
            Data::Map {
                offsets,
                keys,
                values,
            } => {
                offsets.truncate(len + 1);
                keys.truncate(last_offset(offsets));
                values.truncate(last_offset(offsets));
            }
            Data::Struct(object) => object.truncate(len),
        }
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.data {
            // The last offset once more: it is within bounds, for it was pushed before.
            Data::Text(v) | Data::Binary(v) => v.offsets.extend_from_within(v.offsets.len() - 1..),
            Data::List { offsets, .. } | Data::Map { offsets, .. } => {
                offsets.extend_from_within(offsets.len() - 1..);
            }
            Data::Int(v) | Data::Date(v) => v.push(0),
            Data::Long(v) | Data::Timestamp { values: v, .. } => v.push(0),
            Data::Float(v) => v.push(0.0),
            Data::Double(v) => v.push(0.0),
            Data::Boolean(v) => v.append(false),
            Data::Decimal { values, .. } => values.push(0),
            Data::Struct(object) => object.push_null(),
        }
    }

    /// The values as an Arrow array; the column is empty again.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.data {
            Data::Text(v) => {
                let (offsets, bytes) = v.finish();
                Arc::new(StringArray::new(offsets, bytes, nulls))
            }
            Data::Binary(v) => {
                let (offsets, bytes) = v.finish();
                Arc::new(BinaryArray::new(offsets, bytes, nulls))
            }
            Data::Int(v) => Arc::new(Int32Array::new(take(v).into(), nulls)),
            Data::Long(v) => Arc::new(Int64Array::new(take(v).into(), nulls)),
            Data::Float(v) => Arc::new(Float32Array::new(take(v).into(), nulls)),
            Data::Double(v) => Arc::new(Float64Array::new(take(v).into(), nulls)),
            Data::Boolean(v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Data::Decimal { values, .. } => Arc::new(
                Decimal128Array::new(take(values).into(), nulls)
                    .with_data_type(arrow_type(&self.data_type)),
            ),
            Data::Date(v) => Arc::new(Date32Array::new(take(v).into(), nulls)),
            Data::Timestamp { values, .. } => Arc::new(
                TimestampMicrosecondArray::new(take(values).into(), nulls).with_timezone("UTC"),
            ),
            Data::List { offsets, items } => Arc::new(ListArray::new(
                list_item(&items.data_type),
                finish_offsets(offsets),
                items.finish(),
                nulls,
            )),
            Data::Map {
                offsets,
                keys,
                values,
            } => Arc::new(finish_map(finish_offsets(offsets), keys, values, nulls)),
            Data::Struct(object) => {
                let len = nulls.as_ref().map_or_else(|| object.len(), NullBuffer::len);
                Arc::new(object.finish_struct(len, nulls))
            }
        }
    }
}

/// What a nested level inherits from its field.
struct Shape {
    zone: Option<Zone>,
    unit: Option<TimeUnit>,
    refuse_unknown: bool,
}

fn finish_map(
    offsets: OffsetBuffer<i32>,
    keys: &mut Bytes,
    values: &mut Column,
    nulls: Option<NullBuffer>,
) -> MapArray {
    let fields = entry_fields(&values.data_type);
    let (ends, bytes) = keys.finish();
    let entries = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(StringArray::new(ends, bytes, None)),
            values.finish(),
        ],
        None,
    );
    MapArray::new(map_entries(fields), offsets, entries, nulls, false)
}

/// The Arrow type of a declared type. Names of nested parts are those of Delta and Parquet.
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::String => ArrowType::Utf8,
        DataType::Int => ArrowType::Int32,
        DataType::Long => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Boolean => ArrowType::Boolean,
        &DataType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale),
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp => ArrowType::Timestamp(ArrowUnit::Microsecond, Some("UTC".into())),
        DataType::Binary => ArrowType::Binary,
        DataType::List(item) => ArrowType::List(list_item(item)),
        DataType::Map(value) => ArrowType::Map(map_entries(entry_fields(value)), false),
        DataType::Struct(members) => ArrowType::Struct(struct_fields(members)),
    }
}

fn list_item(item: &DataType) -> Arc<Field> {
    Arc::new(Field::new("element", arrow_type(item), true))
}

fn entry_fields(value: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("key", ArrowType::Utf8, false),
        Field::new("value", arrow_type(value), true),
    ])
}

fn map_entries(fields: Fields) -> Arc<Field> {
    Arc::new(Field::new("key_value", ArrowType::Struct(fields), false))
}

fn struct_fields(members: &[(String, DataType)]) -> Fields {
    members
        .iter()
        .map(|(name, t)| Field::new(name, arrow_type(t), true))
        .collect()
}
