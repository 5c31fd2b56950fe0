//! Windows of event time (semantics 16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How event time is cut. Exactly one kind must be given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Windows of one size that do not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<Tumbling>,
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
