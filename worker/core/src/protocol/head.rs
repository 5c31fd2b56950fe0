//! The head: the lane's only decision object.

use serde::{Deserialize, Serialize};

use crate::position::Epoch;

/// What a decided epoch wants one sink to do; written in the head before it is done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// The sink, its target and the epoch it was added at.
    pub sink: SinkIdentity,
    /// The epoch that decided it.
    pub epoch: Epoch,
    /// The last epoch before it that had an intent for this sink; `None`: this is the first.
    pub prev: Option<Epoch>,
    /// What to do, in the sink's own words.
    pub body: serde_json::Value,
}

/// Hex digest over checkpoint id, incarnation, lane, sink name, target and the epoch it was added at: the Delta app id, the
/// progress key, the file tag.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SinkIdentity(pub String);
