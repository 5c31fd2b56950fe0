//! Where rows go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretValue;
use crate::source::{Sasl, Tls};

/// One output: exactly one kind (`delta`, `parquet`, `kafka`, `postgres`, `stdout`).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Name; a DNS label. `evp query` uses it as the table's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The source or step it writes.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// How rows become content.
    #[serde(default)]
    pub mode: Mode,
    /// Columns that identify a row; absent below an `aggregate` in `Update` mode: its window and groups. `Append` with keys
    /// inserts what is not there yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub keys: Vec<String>,
    /// A Delta table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// A folder of Parquet files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<Parquet>,
    /// A Kafka topic, one JSON object a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// A PostgreSQL table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// Standard output, one JSON object a row; for local runs, at least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Stdout>,
}

impl Sink {
    /// The fields that name a kind.
    pub const KINDS: [&str; 5] = ["delta", "parquet", "kafka", "postgres", "stdout"];

    /// Which of [`Self::KINDS`] are given.
    pub fn given(&self) -> [bool; 5] {
        [
            self.delta.is_some(),
            self.parquet.is_some(),
            self.kafka.is_some(),
            self.postgres.is_some(),
            self.stdout.is_some(),
        ]
    }

    /// Folder and partition columns of the kinds that write files, by kind.
    pub fn folders(&self) -> impl Iterator<Item = (&'static str, &str, &[String])> {
        let delta = self.delta.as_ref();
        let delta = delta.map(|d| ("delta", d.path.as_str(), d.partition_by.as_slice()));
        let parquet = self.parquet.as_ref();
        let parquet = parquet.map(|p| ("parquet", p.path.as_str(), p.partition_by.as_slice()));
        delta.into_iter().chain(parquet)
    }
}

/// How rows become content.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Mode {
    /// Rows are added. Below an `aggregate`: each window once, when it has closed.
    #[default]
    Append,
    /// Rows are upserted by key; an aggregate's open windows are kept up to date.
    Update,
}

/// A Delta table, created if absent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delta {
    /// Object-store folder of the table.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Partition columns; only with `mode: Append`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    pub partition_by: Vec<String>,
}

/// A folder of Parquet files (zstd); only with `mode: Append`. Each epoch adds complete files, and with them a marker below
/// `_commits/` that names them all: readers that skip names with an underscore see each row once, and most readers do.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parquet {
    /// Object-store folder.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Columns whose values are folders, as in `day=2026-01-01/`; they are not in the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 255)))]
    pub partition_by: Vec<String>,
}

/// A Kafka topic. With `mode: Append` each row is one record; with `mode: Update` (below an `aggregate`) each change of a window
/// is one, as the window stands then. A record's value is a JSON object of all columns but `_meta`: timestamps in RFC 3339, UTC;
/// whole numbers and decimals as numbers with all their digits; binary as base64; null, NaN and infinities as null. Its headers
/// `evp-sink`, `evp-epoch` and `evp-row` are together the record's own: a record with the same three is the same record again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: String,
    /// The topic; it must exist.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// Column whose text is the record's key: records of one key stay in order. A row where it is null is a dead letter. Absent: no
    /// keys. Needed with `mode: Update`, where it should be one of the window's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub key_column: Option<String>,
    /// What readers with `isolation.level=read_committed` see.
    #[serde(default)]
    pub delivery: Delivery,
    /// Topic of the same cluster that remembers the last epoch of each sink: one partition, compacted. Created if it is missing.
    #[serde(default = "default_progress_topic")]
    #[schemars(length(min = 1, max = 249))]
    pub progress_topic: String,
    /// Encrypt the connection; `{}` trusts the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// How often a record may be seen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Delivery {
    /// Once: each epoch is one transaction, with the record of its progress.
    #[default]
    ExactlyOnce,
    /// At least once: no transactions; after a crash the records of one epoch may come again.
    AtLeastOnce,
}

fn default_progress_topic() -> String {
    "eventpipeline-progress".into()
}

/// A PostgreSQL table. `mode: Append` inserts, with `keys` only what is not there yet; `mode: Update` upserts by `keys`.
///
/// Types of columns: string `text`, int `integer`, long `bigint`, float `real`, double `double precision`, boolean `boolean`,
/// decimal `numeric`, date `date`, timestamp `timestamptz`, binary `bytea`, and lists, maps and structs `jsonb`. Beside the
/// table, in the same schema, the sink keeps `eventpipeline_progress` (one row a sink) and `eventpipeline_rejects` (rows that
/// the database refused), and creates them if they are absent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Postgres {
    /// Name or address of the server.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port of the server.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Database.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// Schema of the table, which must exist.
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Table, by its exact name.
    #[schemars(length(min = 1, max = 63))]
    pub table: String,
    /// Role that logs in.
    #[schemars(length(min = 1, max = 63))]
    pub username: String,
    /// Its password, read anew for each connection.
    pub password: SecretValue,
    /// Encrypt the connection, and verify certificate and host name; `{}` trusts the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Create the table if it is absent, with a unique index on `keys`; absent: it must exist and fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_table: Option<CreateTable>,
}

/// How an absent table is created.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTable {
    /// Columns of each further index, such as `[[user_id], [event_type, timestamp]]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 32), inner(length(min = 1, max = 255)))
    )]
    pub indexes: Vec<Vec<String>>,
}

fn default_port() -> i32 {
    5432
}

fn default_schema() -> String {
    "public".to_owned()
}

/// Standard output; it has no options.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stdout {}
