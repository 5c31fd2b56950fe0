//! Windows of event time (semantics 16, 17).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How event time is cut. Exactly one kind must be given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Windows of one size that do not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<Tumbling>,
    /// Windows of one size that overlap: a row counts in each that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hopping: Option<Hopping>,
    /// One window for rows of a group that follow each other closely. Needs `groupBy`; its sinks are `Append`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// `[start, start + size)` with `start = origin + floor((t - origin) / size) * size`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tumbling {
    /// Length of a window.
    #[schemars(length(max = 32))]
    pub size: String,
    /// An instant (RFC 3339) at which a window starts; absent: the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub origin: Option<String>,
}

/// `[start, start + size)` for every start that is `origin` plus or minus a multiple of `slide`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hopping {
    /// Length of a window; at most 1440 times `slide`.
    #[schemars(length(max = 32))]
    pub size: String,
    /// From the start of one window to that of the next; at most `size`.
    #[schemars(length(max = 32))]
    pub slide: String,
    /// An instant (RFC 3339) at which a window starts; absent: the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub origin: Option<String>,
}

/// `[first row, last row + gap)`: a row that comes `gap` or more after the last one of its group begins another session.
/// A session closes when the watermark reaches its end; until then a row between two joins them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Session {
    /// Time without rows that ends a session.
    #[schemars(length(max = 32))]
    pub gap: String,
}
