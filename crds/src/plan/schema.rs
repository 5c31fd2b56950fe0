//! Checked types of a record's fields (semantics 36).

use serde::{Deserialize, Serialize};

use crate::schema::TimeUnit;

/// The declared fields of a source, in column order. Names are unique.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSchema {
    /// At least one.
    pub fields: Vec<PlannedField>,
}

impl RowSchema {
    /// Index and field of that name.
    pub fn field(&self, name: &str) -> Option<(usize, &PlannedField)> {
        self.fields.iter().enumerate().find(|(_, f)| f.name == name)
    }
}

/// One declared field.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedField {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// May be absent or null.
    pub optional: bool,
    /// Zone (IANA name or offset) of timestamp texts without one; `None`: such texts are errors.
    pub zone: Option<String>,
    /// Unit of numeric timestamps; `None`: numbers are errors.
    pub unit: Option<TimeUnit>,
}

/// Type of a field.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum DataType {
    /// UTF-8 text.
    String,
    /// 32-bit signed.
    Int,
    /// 64-bit signed.
    Long,
    /// 32-bit IEEE 754.
    Float,
    /// 64-bit IEEE 754.
    Double,
    /// true or false.
    Boolean,
    /// Fixed point: precision 1..=38, scale 0..=precision.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Of these after the point.
        scale: i8,
    },
    /// Days since the Unix epoch.
    Date,
    /// Microseconds since the Unix epoch, UTC.
    Timestamp,
    /// Bytes; base64 in JSON.
    Binary,
    /// Items may be null.
    List(Box<DataType>),
    /// Keys are strings; values may be null.
    Map(Box<DataType>),
    /// Named members; each may be null.
    Struct(Vec<(String, DataType)>),
}
