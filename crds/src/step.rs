//! What happens to events on their way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::window::Window;

/// One transformation: exactly one kind (`query`, `validate`, `dedupe`, `aggregate`).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Name that steps and sinks refer to by `from`; a DNS label.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The source or step it reads.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// SQL without memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// Rules that every row must keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Validate>,
    /// Of events with equal keys the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
    /// Aggregation over windows of event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
}

/// A SELECT list and a WHERE condition; at least one of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// SQL SELECT list; absent: all columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub select: Option<String>,
    /// SQL condition; absent: all rows. A row for which it is not true is filtered.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub filter: Option<String>,
}

/// Rules over single rows. A row for which each is true passes unchanged; any other is a dead letter (code `RuleFailed`) that
/// names every rule it breaks.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Validate {
    /// The rules, by name.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<Rule>,
}

/// One rule of a `validate`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Name that the dead letter says; a DNS label.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// SQL condition that must be true. Null is not true: where a column may be null, say so, as in `x IS NULL OR x > 0`.
    #[schemars(length(min = 1, max = 16_384))]
    pub check: String,
    /// What the dead letter says beside the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub message: Option<String>,
}

/// Of rows with equal keys the first passes; the others are dropped and counted. A row whose key is null is a dead letter
/// (code `NullKey`).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dedupe {
    /// Columns that identify an event.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255)))]
    pub keys: Vec<String>,
    /// Two rows of one key that are less than this apart in event time are the same event. Absent: a key is remembered until
    /// the watermark passes the event time of its first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub within: Option<String>,
    /// What happens to a row that is older than the watermark.
    #[serde(default)]
    pub late: DedupeLate,
}

/// What happens to a late row of a `dedupe`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DedupeLate {
    /// It is dropped and counted: whether it repeats another one may be forgotten.
    #[default]
    Count,
    /// It passes unless it repeats a row that is remembered: something below, such as the key of a table, is to judge it.
    Pass,
    /// It is counted and kept with the dead letters.
    DeadLetter,
}

/// Aggregation per window and group. Adds `window_start` and `window_end`; its keys are `window_start` and `groupBy`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aggregate {
    /// The windows.
    pub window: Window,
    /// Columns that make a group; may be empty.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub group_by: Vec<String>,
    /// SQL list of aggregates, each with `AS name`.
    #[schemars(length(min = 1, max = 16_384))]
    pub measures: String,
    /// What happens to a row whose windows have all closed.
    #[serde(default)]
    pub late: Late,
}

/// What happens to a late row of an `aggregate`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Late {
    /// It is counted.
    #[default]
    Count,
    /// It is counted and kept with the dead letters.
    DeadLetter,
}
