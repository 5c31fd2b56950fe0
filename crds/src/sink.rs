//! Where rows go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One output: exactly one kind (`delta`, `stdout`).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Name; a DNS label. `evp query` uses it as the table's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The source or step it writes.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// How rows become content.
    #[serde(default)]
    pub mode: Mode,
    /// Columns that identify a row; absent below an `aggregate` in `Update` mode: its window and groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub keys: Vec<String>,
    /// A Delta table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// Standard output, one JSON object a row; for local runs, at least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Stdout>,
}

/// How rows become content.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// Rows are added. Below an `aggregate`: each window once, when it has closed.
    #[default]
    Append,
    /// Rows are upserted by key; an aggregate's open windows are kept up to date.
    Update,
}

/// A Delta table, created if absent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delta {
    /// Object-store folder of the table.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Partition columns; only with `mode: Append`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    pub partition_by: Vec<String>,
}

/// Standard output; it has no options.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stdout {}
