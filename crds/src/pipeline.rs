//! The `EventPipeline` kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sink::Sink;
use crate::source::Source;
use crate::step::Step;
use crate::storage::{Checkpoint, DeadLetter, ObjectStore};

/// API group of all kinds.
pub const GROUP: &str = "eventpipeline.dev";
/// Served version.
pub const VERSION: &str = "v1alpha1";
/// The kind.
pub const KIND: &str = "EventPipeline";

/// Where events come from, what happens to them, where they go.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[cfg_attr(feature = "kube", derive(kube::CustomResource))]
#[cfg_attr(
    feature = "kube",
    kube(
        group = "eventpipeline.dev",
        version = "v1alpha1",
        kind = "EventPipeline",
        shortname = "evp",
        category = "eventpipeline",
        namespaced,
        status = "crate::status::EventPipelineStatus",
        derive = "PartialEq",
        doc = "Where events come from, what happens to them, where they go."
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventPipelineSpec {
    /// Commit, stop reading, scale to zero, keep the state.
    #[serde(default)]
    pub suspend: bool,
    /// Where and how often progress is made durable.
    pub checkpoint: Checkpoint,
    /// Access to the object store; absent: ambient credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStore>,
    /// Where records that cannot be processed are kept; absent: the first one stops the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Raise it to consent, once, to dropping the state of steps whose meaning changed. It may only grow.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub reset_nonce: i64,
    /// Records that become dead letters without being computed: those that kill the worker, each of which the condition
    /// `RecordKillsWorker` names. A record that is passed already is not called back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub skip: Vec<Skip>,
    /// What `OnTime` and `Clean` are measured against.
    #[serde(default)]
    pub objectives: Objectives,
    /// The pods that run it.
    #[serde(default)]
    pub workers: Workers,
    /// Inputs.
    #[schemars(length(min = 1, max = 16))]
    pub sources: Vec<Source>,
    /// Transformations.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub steps: Vec<Step>,
    /// Outputs.
    #[schemars(length(min = 1, max = 32))]
    pub sinks: Vec<Sink>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(nonce: &i64) -> bool {
    *nonce == 0
}

/// One record.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Skip {
    /// The source that reads it.
    #[schemars(length(min = 1, max = 63))]
    pub source: String,
    /// Its split: the number of the partition, as text.
    #[schemars(length(min = 1, max = 10))]
    pub split: String,
    /// Its position in the split (Kafka: offset).
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub position: i64,
}

/// What `OnTime` and `Clean` are measured against.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objectives {
    /// How far the committed watermark may be behind now; absent: 3 × (delay + interval).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub freshness: Option<String>,
    /// Dead-lettered share of the records read that is still clean, in percent.
    #[serde(default = "default_max_dead_letter_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub max_dead_letter_percent: i32,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            freshness: None,
            max_dead_letter_percent: default_max_dead_letter_percent(),
        }
    }
}

fn default_max_dead_letter_percent() -> i32 {
    1
}

/// The pods that run a pipeline.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// CPU and memory of a worker; what is absent comes from the operator's defaults.
    #[serde(default)]
    pub resources: Resources,
}

/// Requests and limits; Kubernetes quantities.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default)]
    pub requests: ResourceAmounts,
    /// What may not be exceeded; the worker takes its memory budget from it.
    #[serde(default)]
    pub limits: ResourceAmounts,
}

/// CPU and memory; Kubernetes quantities.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceAmounts {
    /// Such as `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cpu: Option<String>,
    /// Such as `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
}
