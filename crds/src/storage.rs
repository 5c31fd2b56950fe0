//! Where objects live: the checkpoint, the object store's credentials, dead letters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretValue;

/// Where and how often progress is made durable. The path is the identity of the state: the same path resumes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// Object-store folder of this pipeline's checkpoint, such as `s3://lake/_checkpoints/orders`. Immutable.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How long an epoch may stay open.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32))]
    pub interval: String,
    /// Closes an epoch at once when this many records were read. Absent: only the interval and the byte bound close it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub max_records_per_epoch: Option<i64>,
    /// Closes an epoch at once when this many raw bytes were read; a Kubernetes quantity.
    #[serde(default = "default_max_bytes_per_epoch")]
    #[schemars(length(max = 32))]
    pub max_bytes_per_epoch: String,
    /// How long the copy of each epoch is kept for audits. What the newest epochs need is kept however old it is.
    #[serde(default = "default_history")]
    #[schemars(length(max = 32))]
    pub history: String,
    /// Consents to going on from a checkpoint that another resource owns, by that resource's UID; its owner must be stopped for
    /// good. Where the path is free, or this resource's already, it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub adopt_from: Option<String>,
}

fn default_history() -> String {
    "168h".into()
}

fn default_interval() -> String {
    "30s".into()
}

fn default_max_bytes_per_epoch() -> String {
    "64Mi".into()
}

/// Access to the object store. Absent: ambient credentials (web identity, pod identity, environment).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStore {
    /// An S3 service. Exactly one kind must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// An S3 service or one that speaks its protocol with conditional writes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3 {
    /// Region; absent: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Service address such as `https://minio.lake.svc:9000`; absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// Allow an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// PEM bundle of the authorities that signed the endpoint's certificate; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretValue>,
    /// Access key id. Given with `secretAccessKey` or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretValue>,
    /// Secret access key. Given with `accessKeyId` or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretValue>,
}

/// Where records that cannot be processed are kept. Absent: the first bad record stops the pipeline.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetter {
    /// Files in the object store. Exactly one kind must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<DeadLetterFiles>,
}

/// Dead letters as files, in the same epoch as the good rows (columns: semantics 35).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterFiles {
    /// Object-store folder.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// File format.
    #[serde(default)]
    pub format: DeadLetterFormat,
    /// Keep the record's bytes.
    #[serde(default = "yes")]
    pub raw: bool,
}

fn yes() -> bool {
    true
}

/// Format of dead-letter files.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeadLetterFormat {
    /// Parquet, zstd-compressed.
    #[default]
    Parquet,
    /// One JSON object a line; bytes as base64.
    JsonLines,
}
