//! Where events come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::RecordSchema;
use crate::secret::SecretValue;

/// One input: exactly one kind (`kafka`, `files`, `generator`), a record format, a schema and a watermark.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Name that steps and sinks refer to by `from`; a DNS label.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A Kafka topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// Files in an object store or a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Seeded sample events; event i is a function of seed, start and i.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Generator>,
    /// How a record's bytes are read; absent: `json: {}`.
    #[serde(default)]
    pub format: Format,
    /// The declared fields.
    pub schema: RecordSchema,
    /// Event time; needed below an `aggregate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
}

/// How a record's bytes are read. Exactly one kind, or none for `json`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Format {
    /// One strict JSON document a record (semantics 34).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// One row of comma-separated values a record (RFC 4180).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
}

/// Strict JSON; it has no options.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Json {}

/// Comma-separated values (RFC 4180). A row whose quotes do not fit ends with its line.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Csv {
    /// The first row of each file names its columns, in any order; only for `files`. `false`: columns stand in the order of
    /// the schema's fields.
    #[serde(default = "yes")]
    pub header: bool,
    /// What stands between two values: one ASCII character.
    #[serde(default = "comma")]
    #[schemars(length(min = 1, max = 1))]
    pub delimiter: String,
    /// What a value is enclosed in that holds a delimiter, a line end or a quote (which is then doubled): one ASCII character.
    #[serde(default = "quote")]
    #[schemars(length(min = 1, max = 1))]
    pub quote: String,
    /// A value that is null where it is written without quotes.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub null_text: String,
}

fn yes() -> bool {
    true
}

fn comma() -> String {
    ",".into()
}

fn quote() -> String {
    "\"".into()
}

/// Files below a folder, each read once (semantics 30): in the order of modification time and name among those that are there.
/// JSON is one document a line.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Files {
    /// `s3://bucket/prefix` or `file:///folder`.
    #[schemars(length(min = 1, max = 2048))]
    pub path: String,
    /// Which files below the path: `*` and `?` stand for parts of a name that do not begin with a dot, `**` for any folders.
    #[serde(default = "every_name")]
    #[schemars(length(min = 1, max = 1024))]
    pub glob: String,
    /// How often is looked for new files.
    #[serde(default = "default_poll_interval")]
    #[schemars(length(max = 32))]
    pub poll_interval: String,
    /// A file in a folder counts once it is unchanged for so long. An object of an object store is whole when it is listed.
    #[serde(default = "default_settle")]
    #[schemars(length(max = 32))]
    pub settle: String,
    /// What to do with a file that is another one than it was when it was read.
    #[serde(default)]
    pub on_change: OnChange,
}

impl Files {
    /// All files of a folder, with every other field as it is by itself.
    pub fn of(path: String) -> Self {
        Self {
            path,
            glob: every_name(),
            poll_interval: default_poll_interval(),
            settle: default_settle(),
            on_change: OnChange::default(),
        }
    }
}

fn every_name() -> String {
    "*".into()
}

fn default_poll_interval() -> String {
    "10s".into()
}

fn default_settle() -> String {
    "5s".into()
}

/// What to do with a file that changed after it was read, in part or as a whole.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnChange {
    /// Stop and say so.
    #[default]
    Fail,
    /// Read it as a new file: what it held before is read again where it still holds it.
    Reread,
}

/// A Kafka topic, read by explicit assignment; positions live in the checkpoint, not in the consumer group.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: String,
    /// The topic.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// Where the very first start begins; partitions found later start at their earliest record.
    #[serde(default)]
    pub start_from: StartFrom,
    /// For `startFrom: Time`: first record at or after this instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub start_time: Option<String>,
    /// For `startFrom: Offsets`: one entry a partition; partitions not named start at their earliest record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10_000))]
    pub start_offsets: Option<Vec<StartOffset>>,
    /// Encrypt the connection; `{}` trusts the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// What to do when records were deleted before they were read (semantics 25).
    #[serde(default)]
    pub on_data_loss: OnDataLoss,
}

/// Where the very first start of a Kafka source begins.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum StartFrom {
    /// At the oldest record kept.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
    /// At `startTime`.
    Time,
    /// At `startOffsets`.
    Offsets,
}

/// First offset to read of one partition.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartOffset {
    /// Partition number.
    #[schemars(range(min = 0))]
    pub partition: i32,
    /// Offset of the first record to read; a string, for offsets may exceed 2^53.
    #[schemars(length(min = 1, max = 19))]
    pub offset: String,
}

/// TLS of a connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// PEM bundle of the authorities to trust; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretValue>,
    /// PEM client certificate. Given with `key` or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretValue>,
    /// PEM private key. Given with `cert` or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValue>,
}

/// SASL authentication.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sasl {
    /// Mechanism the broker offers.
    pub mechanism: SaslMechanism,
    /// User name.
    #[schemars(length(min = 1, max = 1024))]
    pub username: String,
    /// Password.
    pub password: SecretValue,
}

/// SASL mechanism.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SaslMechanism {
    /// PLAIN.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// What to do when a position lies below the oldest record kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnDataLoss {
    /// Stop and say so.
    #[default]
    Fail,
    /// Go on at the oldest record and leave a gap row in the dead letters.
    RecordGap,
}

/// Seeded sample events. `format` must be what the template writes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Generator {
    /// Which events.
    pub template: Template,
    /// Events a second.
    #[serde(default = "default_rate")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rate: i64,
    /// Same seed, same events.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub seed: i64,
    /// Ends after this many events; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub limit: Option<i64>,
}

fn default_rate() -> i64 {
    5
}

/// A kind of sample events.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Template {
    /// Orders of a small shop: JSON.
    Orders,
    /// What visitors of a shop do: rows of CSV, without a header.
    Shop,
    /// What users do: JSON.
    Activity,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Shop, Self::Activity];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Shop => "shop",
            Self::Activity => "activity",
        }
    }

    /// What the values of its rows are; `None`: its records are JSON documents.
    pub fn columns(self) -> Option<&'static [&'static str]> {
        const SHOP: &[&str] = &[
            "event_id",
            "user_id",
            "product_id",
            "product_name",
            "category",
            "price",
            "event_type",
            "timestamp",
        ];
        match self {
            Self::Shop => Some(SHOP),
            Self::Orders | Self::Activity => None,
        }
    }

    /// The format that reads its records.
    pub fn format(self) -> Format {
        let rows = || Csv {
            header: false,
            delimiter: comma(),
            quote: quote(),
            null_text: String::new(),
        };
        Format {
            json: None,
            csv: self.columns().map(|_| rows()),
        }
    }
}

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL
            .into_iter()
            .find(|template| template.name() == text);
        named.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no generator template `{text}`; there are: {names}")
        })
    }
}

/// Event time of a source and how long to wait for late events (semantics 1-13).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermark {
    /// The timestamp field that is event time.
    #[schemars(length(min = 1, max = 255))]
    pub column: String,
    /// How far the watermark stays behind the newest event of a split.
    #[schemars(length(max = 32))]
    pub delay: String,
    /// How long a closed window still takes late rows in.
    #[serde(default = "zero")]
    #[schemars(length(max = 32))]
    pub allowed_lateness: String,
    /// A split at its end for this long no longer holds the watermark.
    #[serde(default = "default_idle_timeout")]
    #[schemars(length(max = 32))]
    pub idle_timeout: String,
    /// An event further ahead of the epoch's time than this is a dead letter.
    #[serde(default = "default_max_future")]
    #[schemars(length(max = 32))]
    pub max_future: String,
}

fn zero() -> String {
    "0s".into()
}

fn default_idle_timeout() -> String {
    "1m".into()
}

fn default_max_future() -> String {
    "1h".into()
}
