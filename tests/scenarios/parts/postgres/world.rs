//! A schema of its own on the bed's server, sinks that write into it, and what other clients read there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use evp_api::plan::{Mode, PostgresPlan, SecretKeyRef, TlsPlan};
use evp_core::dataflow::SinkBatch;
use evp_core::position::{Epoch, Term};
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use evp_tests::bed;
use evp_worker::checkpointer::CrashPoints;
use evp_worker::ids::Ids;
use evp_worker::secrets::Secrets;
use evp_worker::sink::delta::Target;
use evp_worker::sink::outbox::Outbox;
use evp_worker::sink::postgres::{PostgresSettings, PostgresSink, PostgresWriter};
use evp_worker::sink::{Sink, SinkError};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use url::Url;

use super::psql::Psql;

/// How a server is reached.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Place {
    /// The bed's server.
    pub(crate) fn bed() -> Self {
        Self {
            host: bed("EVP_BED_POSTGRES_HOST"),
            port: bed("EVP_BED_POSTGRES_PORT").parse().unwrap(),
            tls: false,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let words = format!(
            "host={} port={} user={} password={} dbname={} options='-c timezone=UTC'",
            self.host,
            self.port,
            bed("EVP_BED_POSTGRES_USER"),
            bed("EVP_BED_POSTGRES_PASSWORD"),
            bed("EVP_BED_POSTGRES_DATABASE"),
        );
        let (client, connection) = tokio_postgres::connect(&words, NoTls).await.unwrap();
        tokio::spawn(async move {
            // A server that is killed ends it.
            connection.await.ok();
        });
        client
    }
}

/// What a sink is asked to be.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) columns: SchemaRef,
    pub(crate) mode: Mode,
    pub(crate) keys: Vec<String>,
    pub(crate) create: Option<Vec<Vec<String>>>,
    pub(crate) term: u64,
    pub(crate) incarnation: String,
    pub(crate) keeps_rejects: bool,
}

impl Ask {
    pub(crate) fn new(columns: SchemaRef, mode: Mode, keys: &[&str]) -> Self {
        Self {
            columns,
            mode,
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            create: Some(Vec::new()),
            term: 1,
            incarnation: "i".repeat(32),
            keeps_rejects: true,
        }
    }
}

/// A schema that goes with its test's database.
pub(crate) struct World {
    pub(crate) schema: String,
    pub(crate) client: Client,
    pub(crate) place: Place,
    store: Arc<dyn ObjectStore>,
    pub(crate) secrets: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at(Place::bed()).await
    }

    pub(crate) async fn at(place: Place) -> Self {
        let client = place.client().await;
        let schema = format!("t{}", Ids::os().nonce());
        let sql = format!("CREATE SCHEMA {schema}; SET search_path = {schema}");
        client.batch_execute(&sql).await.unwrap();
        let world = Self {
            schema,
            client,
            place,
            store: Arc::new(InMemory::new()),
            secrets: tempfile::tempdir().unwrap(),
        };
        world.put_secret("password", &bed("EVP_BED_POSTGRES_PASSWORD"));
        let authority = std::fs::read_to_string(bed("EVP_BED_POSTGRES_CA")).unwrap();
        world.put_secret("ca.crt", &authority);
        world
    }

    pub(crate) fn put_secret(&self, key: &str, value: &str) {
        let dir = self.secrets.path().join("db");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(key), value).unwrap();
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// One text a row.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The table as another client prints it.
    pub(crate) fn psql(&self, sql: &str) -> String {
        Psql {
            host: self.place.host.clone(),
            port: self.place.port,
            options: format!("-c search_path={} -c timezone=UTC", self.schema),
            ..Psql::bed()
        }
        .print(sql)
    }

    pub(crate) fn settings(&self, ask: &Ask, place: &Place) -> PostgresSettings {
        let secret = |key: &str| SecretKeyRef {
            name: "db".to_owned(),
            key: key.to_owned(),
        };
        let prefix = Path::from("checkpoint");
        PostgresSettings {
            plan: PostgresPlan {
                host: place.host.clone(),
                port: place.port,
                database: bed("EVP_BED_POSTGRES_DATABASE"),
                schema: self.schema.clone(),
                table: "t".to_owned(),
                username: bed("EVP_BED_POSTGRES_USER"),
                password: secret("password"),
                tls: place.tls.then(|| TlsPlan {
                    ca: Some(secret("ca.crt")),
                    client: None,
                }),
                create_table: ask.create.clone(),
            },
            secrets: Secrets::new(self.secrets.path()),
            rows: ask.columns.clone(),
            mode: ask.mode,
            keys: ask.keys.clone(),
            null_keys: false,
            keeps_rejects: ask.keeps_rejects,
            writer: PostgresWriter {
                sink: "s".repeat(64),
                name: "gold".to_owned(),
                incarnation: ask.incarnation.clone(),
                added_at: Epoch(0),
                term: Term(ask.term),
            },
            outbox: Outbox {
                checkpoint: Target {
                    store: Arc::clone(&self.store),
                    prefix,
                    url: Url::parse("memory:///checkpoint").unwrap(),
                },
                lane: Lane::default(),
            },
            nonce: Ids::os().nonce(),
            crash: CrashPoints::none(),
        }
    }

    pub(crate) async fn open(&self, ask: &Ask) -> Writes {
        Writes::open(self.settings(ask, &self.place)).await.unwrap()
    }

    /// Why a sink does not open.
    pub(crate) async fn refused(&self, ask: &Ask) -> SinkError {
        Self::refusal(self.settings(ask, &self.place)).await
    }

    pub(crate) async fn refusal(settings: PostgresSettings) -> SinkError {
        match PostgresSink::open(settings).await {
            Ok(_) => panic!("it was opened"),
            Err(error) => error,
        }
    }
}

/// A sink and the epochs it was given.
pub(crate) struct Writes {
    pub(crate) sink: PostgresSink,
    pub(crate) prev: Option<Epoch>,
    columns: SchemaRef,
}

impl Writes {
    pub(crate) async fn open(settings: PostgresSettings) -> Result<Self, SinkError> {
        Ok(Self {
            columns: settings.rows.clone(),
            sink: PostgresSink::open(settings).await?,
            prev: None,
        })
    }

    /// Stages rows as the next epoch's.
    pub(crate) async fn decide(&mut self, rows: &[Value]) -> Intent {
        self.decide_changes(SinkBatch::Rows(batch(&self.columns, rows)))
            .await
    }

    pub(crate) async fn decide_changes(&mut self, changes: SinkBatch) -> Intent {
        self.sink.stage(changes).await.unwrap();
        let epoch = self.prev.map_or(Epoch(1), Epoch::next);
        let body = self.sink.seal(epoch).await.unwrap().unwrap();
        let prev = self.prev.replace(epoch);
        Intent {
            sink: SinkIdentity("x".repeat(64)),
            epoch,
            prev,
            body,
            apart: None,
        }
    }

    /// Stages rows as the next epoch's, and applies it.
    pub(crate) async fn commit(&mut self, rows: &[Value]) -> Intent {
        let intent = self.decide(rows).await;
        self.sink.roll_forward(&intent).await.unwrap();
        intent
    }
}

pub(crate) fn batch(columns: &SchemaRef, rows: &[Value]) -> RecordBatch {
    let mut decoder = ReaderBuilder::new(columns.clone()).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    decoder.flush().unwrap().unwrap()
}

/// Rows of `id` and `name`.
pub(crate) fn named(rows: &[(i64, &str)]) -> Vec<Value> {
    let row = |(id, name): &(i64, &str)| json!({"id": id, "name": name});
    rows.iter().map(row).collect()
}

/// The rows of a table as foreign readers of Delta tables print theirs: what oracles compare.
pub(crate) async fn dump(client: &Client, schema: &str, table: &str) -> Vec<Value> {
    let asked = "SELECT column_name::text, data_type::text FROM information_schema.columns \
        WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position";
    let columns = client.query(asked, &[&schema, &table]).await.unwrap();
    let columns: Vec<(String, String)> =
        columns.iter().map(|row| (row.get(0), row.get(1))).collect();
    let text = |(name, kind): &(String, String)| match kind.as_str() {
        "timestamp with time zone" => {
            format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        _ => format!("{name}::text"),
    };
    let list: Vec<_> = columns.iter().map(text).collect();
    let rows = client
        .query(
            &format!("SELECT {} FROM {schema}.{table}", list.join(", ")),
            &[],
        )
        .await
        .unwrap();
    let value = |kind: &str, text: Option<String>| match (kind, text) {
        (_, None) => Value::Null,
        ("integer" | "bigint", Some(text)) => json!(text.parse::<i64>().unwrap()),
        ("real" | "double precision", Some(text)) => json!(text.parse::<f64>().unwrap()),
        (_, Some(text)) => json!(text),
    };
    let row = |row: &tokio_postgres::Row| {
        let fields = columns.iter().enumerate();
        fields
            .map(|(i, (name, kind))| (name.clone(), value(kind, row.get(i))))
            .collect()
    };
    rows.iter().map(row).collect()
}
