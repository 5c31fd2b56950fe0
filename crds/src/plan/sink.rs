//! Checked sinks, and all that must be known of a kind of sink without opening one.

use super::{Delivery, Mode, NodeName, SaslPlan, SecretKeyRef, StoragePath, TlsPlan};

/// One checked sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPlan {
    /// Its name.
    pub name: NodeName,
    /// The source or step it writes.
    pub from: NodeName,
    /// How rows become content.
    pub mode: Mode,
    /// Columns that identify a row, in `Update` mode never empty (inherited from the aggregate above where not given); in
    /// `Append` mode, rows whose key is there already are left out.
    pub keys: Vec<String>,
    /// Where it writes.
    pub kind: SinkKind,
}

/// Where a sink writes.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// A Delta table.
    Delta(DeltaPlan),
    /// A Kafka topic.
    Kafka(KafkaSinkPlan),
    /// A folder of Parquet files.
    Parquet(ParquetPlan),
    /// A PostgreSQL table.
    Postgres(PostgresPlan),
    /// Standard output.
    Stdout,
}

impl SinkKind {
    /// What it writes, as text: a sink whose target is another one is another sink.
    pub fn target(&self) -> String {
        match self {
            Self::Delta(delta) => delta.path.to_string(),
            Self::Parquet(files) => files.path.to_string(),
            // Servers are addresses: the cluster may get others. Another cluster lacks our progress, and is found out by that.
            Self::Kafka(kafka) => format!("kafka:{} {}", kafka.topic, kafka.progress_topic),
            Self::Postgres(postgres) => postgres.target(),
            Self::Stdout => "stdout".to_owned(),
        }
    }

    /// The folder it writes; `None`: it writes no object store.
    pub fn path(&self) -> Option<&StoragePath> {
        match self {
            Self::Delta(delta) => Some(&delta.path),
            Self::Parquet(files) => Some(&files.path),
            Self::Kafka(_) | Self::Postgres(_) | Self::Stdout => None,
        }
    }

    /// How often readers may see a row.
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Delta(_) | Self::Parquet(_) | Self::Postgres(_) => Delivery::ExactlyOnce,
            Self::Kafka(kafka) => kafka.delivery,
            Self::Stdout => Delivery::AtLeastOnce,
        }
    }

    /// Takes over how `other`, which has the same target, is reached: addresses, credentials, and whether its table may be made.
    /// What rows become stays.
    pub fn reach_as(&mut self, other: &Self) {
        match (self, other) {
            (Self::Kafka(kafka), Self::Kafka(now)) => {
                kafka.bootstrap_servers.clone_from(&now.bootstrap_servers);
                (kafka.tls, kafka.sasl) = (now.tls.clone(), now.sasl.clone());
            }
            (Self::Postgres(table), Self::Postgres(now)) => {
                table.username.clone_from(&now.username);
                (table.password, table.tls) = (now.password.clone(), now.tls.clone());
                table.create_table.clone_from(&now.create_table);
            }
            _ => {}
        }
    }

    /// A column that must not be null for it: a row where it is becomes a dead letter.
    pub fn key_column(&self) -> Option<&String> {
        match self {
            Self::Kafka(kafka) => kafka.key_column.as_ref(),
            Self::Delta(_) | Self::Parquet(_) | Self::Postgres(_) | Self::Stdout => None,
        }
    }
}

/// See [`crate::sink::Parquet`].
#[derive(Clone, Debug, PartialEq)]
pub struct ParquetPlan {
    /// The folder.
    pub path: StoragePath,
    /// Columns whose values are folders.
    pub partition_by: Vec<String>,
}

/// See [`crate::sink::Delta`].
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaPlan {
    /// Folder of the table.
    pub path: StoragePath,
    /// Partition columns.
    pub partition_by: Vec<String>,
}

/// See [`crate::sink::Kafka`].
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSinkPlan {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Topic.
    pub topic: String,
    /// Column whose text is a record's key; `None`: records have no keys.
    pub key_column: Option<String>,
    /// How often a record may be seen.
    pub delivery: Delivery,
    /// Topic that remembers the last epoch of each sink.
    pub progress_topic: String,
    /// `None`: not encrypted.
    pub tls: Option<TlsPlan>,
    /// `None`: not authenticated.
    pub sasl: Option<SaslPlan>,
}

/// See [`crate::sink::Postgres`].
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresPlan {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Role.
    pub username: String,
    /// Password.
    pub password: SecretKeyRef,
    /// `None`: not encrypted.
    pub tls: Option<TlsPlan>,
    /// Columns of each further index of a table that is created; `None`: the table must exist.
    pub create_table: Option<Vec<Vec<String>>>,
}

impl PostgresPlan {
    /// The table, with its server: what the sink's target is.
    pub fn target(&self) -> String {
        let Self {
            host,
            port,
            database,
            schema,
            table,
            ..
        } = self;
        format!("postgres://{host}:{port}/{database}/{schema}.{table}")
    }
}
