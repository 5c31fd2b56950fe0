//! Where reading stands: splits, positions, epochs, terms. Plain values with names.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

/// One split of a source. Kafka and generator: the partition number in decimal.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SplitId(pub String);

impl SplitId {
    /// The split of a numbered partition.
    pub fn partition(number: i32) -> Self {
        Self(number.to_string())
    }

    /// The number of a numbered partition; `None` for other kinds of split.
    pub fn as_partition(&self) -> Option<i32> {
        self.0.parse().ok()
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the next unread record of a split is (Kafka: the next offset, never the last one read).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Position(pub i64);

impl Position {
    /// An end that is no position yet: the source says when it is there.
    pub const OPEN: Self = Self(i64::MAX);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of one split with what identifies the log it counts in (semantics 15, 25).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SplitPosition {
    /// Next unread record.
    pub next: Position,
    /// Kafka: id of the topic, base64 as Kafka prints it. `None`: the source has no such id, or it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Kafka: leader epoch of the last record read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
    /// Generator: when its event 0 was due, from which all its events follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Micros>,
}

/// Positions of one source's splits.
pub type SplitPositions = BTreeMap<SplitId, SplitPosition>;

/// Positions of all sources.
pub type Positions = BTreeMap<NodeName, SplitPositions>;

/// Number of an atomic batch of one lane; 0 holds only the resolved start.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number that fences: each new owner of a lane raises it.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An instant: microseconds since the Unix epoch, UTC (semantics 1).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

/// As many microseconds; a time that is too long is the longest.
impl From<Duration> for Micros {
    fn from(time: Duration) -> Self {
        Self(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }
}
