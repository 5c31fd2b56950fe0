//! What users see in `kubectl`: the status of an `EventPipeline`.
//!
//! Six condition types answer three questions; every other name is a [`crate::reason`], so that
//! operator, worker and reference docs speak the same words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition types. No other type is ever written.
pub mod condition {
    /// The spec was checked, its SQL planned, the objects it names exist.
    pub const ACCEPTED: &str = "Accepted";
    /// Data is moving and being committed.
    pub const READY: &str = "Ready";
    /// Committed event time is within the objective of now, or everything is read.
    pub const ON_TIME: &str = "OnTime";
    /// Dead letters are within the objective.
    pub const CLEAN: &str = "Clean";
    /// kstatus: work towards the spec is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: a person must act.
    pub const STALLED: &str = "Stalled";
}

/// The observed state of a pipeline.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventPipelineStatus {
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Lowest watermark of the sources, never after now; RFC 3339. Without a watermark: time of the last committed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// When the newest epoch was decided; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_time: Option<String>,
    /// Records that are in the sources and not yet committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<i64>,
    /// Records read a second, over the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_per_second: Option<i64>,
    /// The newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// Totals since the pipeline's first epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// One entry a source.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// One entry a step that keeps state.
    #[serde(default)]
    pub steps: Vec<StepStatus>,
    /// One entry a sink.
    #[serde(default)]
    pub sinks: Vec<SinkStatus>,
    /// What `kubectl get -o wide` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// See [`condition`].
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One condition; all six fields are always written.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of [`condition`].
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Word from the catalogue.
    pub reason: String,
    /// What, where and what to do, for a person. Never a secret, never record content.
    pub message: String,
    /// When the status last flipped; RFC 3339.
    pub last_transition_time: String,
    /// The generation it speaks of.
    pub observed_generation: i64,
}

/// The newest checkpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Newest decided epoch.
    pub epoch: i64,
    /// Term of its owner.
    pub term: i64,
    /// Which start or reset the epochs belong to.
    pub incarnation: String,
    /// Bytes of state the head names.
    pub state_bytes: i64,
    /// Where it is.
    pub path: String,
    /// Digest of the plan the newest epoch was decided under.
    pub plan: String,
}

/// The pods of a pipeline.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersStatus {
    /// Wanted.
    pub replicas: i32,
    /// Ready.
    pub ready: i32,
    /// Label selector, for the scale subresource.
    pub selector: String,
}

/// Totals since the pipeline's first epoch (semantics 28).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Records read from the sources.
    pub read: i64,
    /// Rows a query's `where` refused.
    pub filtered: i64,
    /// Rows that came after their windows had closed.
    pub late: i64,
    /// Rows that repeated one that had come.
    pub duplicate: i64,
    /// Records that were dead-lettered.
    pub dead_lettered: i64,
    /// Every epoch's counts balance.
    pub balanced: bool,
}

/// One source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Records not yet committed.
    pub lag_records: i64,
    /// Its watermark; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// The split that holds the watermark back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Splits known.
    pub splits: i32,
    /// Of these idle.
    pub idle: i32,
}

/// One step that keeps state.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Its name.
    pub name: String,
    /// Windows not yet closed.
    pub open_windows: i64,
    /// Bytes of its state.
    pub state_bytes: i64,
    /// Keys that a `dedupe` remembers.
    pub keys: i64,
    /// Late rows since the first epoch.
    pub late: i64,
    /// Rows that repeated one that had come, since the first epoch.
    pub duplicate: i64,
    /// Of these not the same in every column.
    pub conflict: i64,
}

/// One sink.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `ExactlyOnce` or `AtLeastOnce`.
    pub delivery: String,
    /// Version of the table it last committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Rows or changes handed to it since the first epoch.
    pub rows: i64,
}

/// What `kubectl get -o wide` prints: a printer column is a plain path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Number of sources.
    pub sources: i32,
    /// Number of sinks.
    pub sinks: i32,
    /// State size as a quantity, such as `18Mi`.
    pub state: String,
    /// Message of the worst condition, or what goes on.
    pub message: String,
}
