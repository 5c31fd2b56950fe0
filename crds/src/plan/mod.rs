//! The checked pipeline: what everything below the manifest works with.
//!
//! [`Plan::parse`] judges all that needs no SQL: names, references, kinds, durations, sizes, types, keys. It reports all
//! findings at once. After it, building is infallible. SQL texts are planned by the core.

mod parse;
pub mod schema;
mod sink;
pub mod violation;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use parse::{parse_duration, parse_instant, parse_quantity};
pub use schema::{DataType, PlannedField, RowSchema};
pub use sink::{DeltaPlan, KafkaSinkPlan, ParquetPlan, PostgresPlan, SinkKind, SinkPlan};
pub use violation::{Code, Violation};

pub use crate::secret::SecretKeyRef;
pub use crate::sink::{Delivery, Mode};
pub use crate::source::{OnChange, OnDataLoss, SaslMechanism, Template};
pub use crate::step::{DedupeLate, Late};
pub use crate::storage::DeadLetterFormat;

/// Name of the dead letters' own sink in checkpoints, logs and metrics; no node of a manifest may have it.
pub const DEAD_LETTERS: &str = "dead-letters";

/// Name of a source, step or sink: a DNS label, unique among all nodes of the pipeline.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Accepts a DNS label (`[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63 characters).
    pub fn new(name: &str) -> Option<Self> {
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let ok = (1..=63).contains(&bytes.len())
            && edge(bytes[0])
            && edge(bytes[bytes.len() - 1])
            && bytes.iter().all(|&b| edge(b) || b == b'-');
        ok.then(|| Self(name.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where and how often progress is made durable.
    pub checkpoint: CheckpointPlan,
    /// Credentials and address of the object store; `None`: ambient.
    pub s3: Option<S3Plan>,
    /// Where records that cannot be processed go; `None`: the first one stops the pipeline.
    pub dead_letter: Option<DeadLetterPlan>,
    /// Consents to dropping incompatible state, once for each time that it grows.
    pub reset_nonce: u64,
    /// Records that become dead letters without being computed.
    pub skip: Vec<SkipPlan>,
    /// Inputs, in the order of the manifest.
    pub sources: Vec<SourcePlan>,
    /// Transformations, in an order in which each comes after what it reads.
    pub steps: Vec<StepPlan>,
    /// Outputs, in the order of the manifest.
    pub sinks: Vec<SinkPlan>,
}

/// A folder in an object store or on disk, without a trailing slash.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub enum StoragePath {
    /// `s3://bucket/prefix`.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key prefix without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `file:///absolute/path`.
    Local(String),
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Local(path) => write!(f, "file://{path}"),
        }
    }
}

impl From<StoragePath> for String {
    fn from(path: StoragePath) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for StoragePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// See [`crate::storage::Checkpoint`].
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointPlan {
    /// Identity of the state.
    pub path: StoragePath,
    /// How long an epoch may stay open.
    pub interval: Duration,
    /// Records that close an epoch at once; `None`: no bound.
    pub max_records: Option<u64>,
    /// Raw bytes that close an epoch at once.
    pub max_bytes: u64,
    /// UID of the owner from whom the path may be taken over; `None`: from nobody.
    pub adopt_from: Option<String>,
    /// How long copies of epochs are kept.
    pub history: Duration,
}

/// See [`crate::pipeline::Skip`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkipPlan {
    /// A source of the plan.
    pub source: NodeName,
    /// Number of the partition.
    pub split: i32,
    /// Position of the record.
    pub position: i64,
}

/// See [`crate::storage::S3`].
#[derive(Clone, Debug, PartialEq)]
pub struct S3Plan {
    /// Region.
    pub region: String,
    /// Service address; `None`: AWS.
    pub endpoint: Option<String>,
    /// An `http://` endpoint is allowed.
    pub allow_http: bool,
    /// PEM bundle; `None`: the system's authorities.
    pub ca: Option<SecretKeyRef>,
    /// Access key id and secret access key; `None`: ambient.
    pub keys: Option<(SecretKeyRef, SecretKeyRef)>,
}

/// See [`crate::storage::DeadLetterFiles`].
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterPlan {
    /// Folder.
    pub path: StoragePath,
    /// File format.
    pub format: DeadLetterFormat,
    /// Keep the record's bytes.
    pub raw: bool,
}

/// One checked source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePlan {
    /// Its name.
    pub name: NodeName,
    /// What it reads.
    pub kind: SourceKind,
    /// How a record's bytes are read.
    pub format: FormatPlan,
    /// The declared fields.
    pub schema: RowSchema,
    /// A field that is not declared makes the record a dead letter.
    pub refuse_unknown_fields: bool,
    /// Larger records are dead letters. Bytes.
    pub max_record_bytes: usize,
    /// Event time; `None`: the source has none.
    pub watermark: Option<WatermarkPlan>,
}

/// What a source reads.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// A Kafka topic.
    Kafka(KafkaPlan),
    /// Files below a folder.
    Files(FilesPlan),
    /// Sample events.
    Generator(GeneratorPlan),
}

/// How a record's bytes are read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum FormatPlan {
    /// One strict JSON document.
    #[default]
    Json,
    /// One row of separated values.
    Csv(CsvPlan),
}

/// See [`crate::source::Csv`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CsvPlan {
    /// The first row of a file names the columns.
    pub header: bool,
    /// Between two values; ASCII, no line end, not the quote.
    pub delimiter: u8,
    /// Around a value; ASCII, no line end.
    pub quote: u8,
    /// Null where it stands without quotes.
    pub null_text: String,
}

/// See [`crate::source::Files`].
#[derive(Clone, Debug, PartialEq)]
pub struct FilesPlan {
    /// Folder.
    pub path: StoragePath,
    /// Names below it.
    pub glob: String,
    /// Between two looks.
    pub poll_interval: Duration,
    /// How long a file in a folder must be unchanged.
    pub settle: Duration,
    /// Changed files.
    pub on_change: OnChange,
}

/// See [`crate::source::Kafka`].
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaPlan {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Topic.
    pub topic: String,
    /// Where the first start begins.
    pub start: KafkaStart,
    /// `None`: not encrypted.
    pub tls: Option<TlsPlan>,
    /// `None`: not authenticated.
    pub sasl: Option<SaslPlan>,
    /// Records deleted before they were read.
    pub on_data_loss: OnDataLoss,
}

/// Where the very first start of a Kafka source begins.
#[derive(Clone, Debug, PartialEq)]
pub enum KafkaStart {
    /// At the oldest record kept.
    Earliest,
    /// After the newest record.
    Latest,
    /// At the first record at or after this instant, microseconds since the Unix epoch.
    Time(i64),
    /// (partition, offset) pairs; others start at their earliest record.
    Offsets(Vec<(i32, i64)>),
}

/// See [`crate::source::Tls`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsPlan {
    /// PEM authorities; `None`: the system's.
    pub ca: Option<SecretKeyRef>,
    /// Client certificate and key.
    pub client: Option<(SecretKeyRef, SecretKeyRef)>,
}

/// See [`crate::source::Sasl`].
#[derive(Clone, Debug, PartialEq)]
pub struct SaslPlan {
    /// Mechanism.
    pub mechanism: SaslMechanism,
    /// User.
    pub username: String,
    /// Password.
    pub password: SecretKeyRef,
}

/// See [`crate::source::Generator`].
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorPlan {
    /// Which events.
    pub template: Template,
    /// Events a second.
    pub rate: u64,
    /// Seed.
    pub seed: u64,
    /// Number of events; `None`: endless.
    pub limit: Option<u64>,
}

/// See [`crate::source::Watermark`].
#[derive(Clone, Debug, PartialEq)]
pub struct WatermarkPlan {
    /// The event-time field: a required `timestamp` of the schema.
    pub column: String,
    /// How far the watermark stays behind.
    pub delay: Duration,
    /// How long a closed window still takes rows in.
    pub allowed_lateness: Duration,
    /// When a split at its end stops to hold the watermark.
    pub idle_timeout: Duration,
    /// Events further ahead are dead letters.
    pub max_future: Duration,
}

/// One checked step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPlan {
    /// Its name.
    pub name: NodeName,
    /// The source or step it reads.
    pub from: NodeName,
    /// The source at the root of its chain: its watermark is the step's.
    pub source: NodeName,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does. SQL texts are not yet planned.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// SELECT list and WHERE condition, at least one of them.
    Query {
        /// `None`: all columns.
        select: Option<String>,
        /// `None`: all rows.
        filter: Option<String>,
    },
    /// Rules that rows must keep, at least one.
    Validate(Vec<RulePlan>),
    /// The first row of each key.
    Dedupe(DedupePlan),
    /// Aggregation over windows.
    Aggregate(AggregatePlan),
}

/// See [`crate::step::Rule`].
#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// Its name.
    pub name: String,
    /// SQL condition.
    pub check: String,
    /// What is said of a row that breaks it, beside the name.
    pub message: Option<String>,
}

/// See [`crate::step::Dedupe`].
#[derive(Clone, Debug, PartialEq)]
pub struct DedupePlan {
    /// Columns that identify an event, at least one.
    pub keys: Vec<String>,
    /// Microseconds, positive; `None`: until the watermark passes the first row.
    pub within: Option<i64>,
    /// Late rows.
    pub late: DedupeLate,
}

/// See [`crate::step::Aggregate`].
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatePlan {
    /// Windows.
    pub window: WindowPlan,
    /// Group columns.
    pub group_by: Vec<String>,
    /// SQL list of aggregates.
    pub measures: String,
    /// Late rows.
    pub late: Late,
}

/// Most windows that hold one instant.
pub const MOST_HOPS: i64 = 1440;

/// How event time is cut. Microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WindowPlan {
    /// `[start, start + size)`.
    Tumbling {
        /// Length; positive.
        size: i64,
        /// An instant at which a window starts.
        origin: i64,
    },
    /// `[start, start + size)`, one every `slide`.
    Hopping {
        /// Length; positive, at most [`MOST_HOPS`] times `slide`.
        size: i64,
        /// From one start to the next; positive, at most `size`.
        slide: i64,
        /// An instant at which a window starts.
        origin: i64,
    },
    /// `[first row, last row + gap)` of a group.
    Session {
        /// Positive.
        gap: i64,
    },
}

impl Plan {
    /// The source of that name.
    pub fn source(&self, name: &NodeName) -> Option<&SourcePlan> {
        self.sources.iter().find(|s| &s.name == name)
    }

    /// The step of that name.
    pub fn step(&self, name: &NodeName) -> Option<&StepPlan> {
        self.steps.iter().find(|s| &s.name == name)
    }

    /// An aggregate stands above what reads this node: its keys may be null and are compared as values.
    pub fn aggregate_above(&self, node: &NodeName) -> bool {
        let mut node = node;
        while let Some(step) = self.step(node) {
            if matches!(step.kind, StepKind::Aggregate(_)) {
                return true;
            }
            node = &step.from;
        }
        false
    }
}

/// What decides an epoch's meaning: the spec without what the operator alone uses, keys sorted. Its digest names a plan.
pub fn digest_input(spec: &crate::EventPipelineSpec) -> serde_json::Value {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        for field in ["suspend", "workers", "objectives"] {
            map.remove(field);
        }
    }
    value.sort_all_objects();
    value
}
