//! The declared shape of a source's records (semantics 34, 36).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declared fields of a record and what to do with what does not fit.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordSchema {
    /// The fields, in the order of the columns.
    #[schemars(length(min = 1, max = 512))]
    pub fields: Vec<Field>,
    /// What a field that is not declared means.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// Largest record that is decoded; a larger one is a dead letter. A Kubernetes quantity.
    #[serde(default = "default_max_record_bytes")]
    #[schemars(length(max = 32))]
    pub max_record_bytes: String,
}

fn default_max_record_bytes() -> String {
    "1Mi".into()
}

/// One declared field.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Field {
    /// Name, as in the record; case matters.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// `string, int, long, float, double, boolean, decimal(p,s), date, timestamp, binary, list<…>, map<string,…>, struct<name: …>`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 4096))]
    pub data_type: String,
    /// The field may be absent or null.
    #[serde(default)]
    pub optional: bool,
    /// Time zone (IANA name or offset) of timestamp texts that carry none; such texts are errors without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub zone: Option<String>,
    /// Unit of numeric timestamps; numbers are errors without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<TimeUnit>,
}

/// Unit of a numeric timestamp since the Unix epoch.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TimeUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds; what is below a microsecond is an error, never cut off.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// What a field that the schema does not declare means.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum UnknownFields {
    /// It is not read.
    #[default]
    Ignore,
    /// The record is a dead letter.
    DeadLetter,
}
