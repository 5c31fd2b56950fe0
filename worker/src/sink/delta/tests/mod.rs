//! Laws of the Delta sinks against a store in memory and deltalake as the other writer and the reader.

mod append;
mod faults;
mod files;
pub(crate) mod upsert;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use deltalake::DeltaTable;
use evp_core::dataflow::SinkBatch;
use evp_core::position::{Epoch, Micros};
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use self::faults::Faults;
use super::{DeltaAppend, DeltaSettings, DeltaUpsert, Target};
use crate::checkpointer::CrashPoints;
use crate::cli::query::{Written, ask, open_tables};
use crate::clock::Clock;
use crate::sink::outbox::Outbox;
use crate::sink::{Applied, Sink, SinkError};

const APP: &str = "0123456789abcdef0123456789abcdef";

/// Stands still and never waits.
struct StillClock;

#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> Micros {
        Micros(1_767_225_600_000_000)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}

/// One table in memory, and what may go wrong with it.
struct World {
    faults: Arc<Faults>,
    target: Target,
}

impl World {
    fn new() -> Self {
        let faults = Arc::new(Faults::new(Arc::new(InMemory::new())));
        Self {
            target: Target {
                store: Arc::clone(&faults) as Arc<dyn ObjectStore>,
                prefix: Path::from("lake/t"),
                url: Url::parse("memory:///lake/t").unwrap(),
            },
            faults,
        }
    }

    fn settings(&self, rows: SchemaRef, nonce: &str) -> DeltaSettings {
        DeltaSettings {
            identity: SinkIdentity(APP.to_owned()),
            target: self.target.clone(),
            rows,
            partition_by: Vec::new(),
            nonce: nonce.to_owned(),
            clock: Arc::new(StillClock),
            crash: CrashPoints::none(),
        }
    }

    async fn append(&self, nonce: &str) -> DeltaAppend {
        DeltaAppend::open(self.settings(schema(), nonce))
            .await
            .unwrap()
    }

    async fn upsert(&self, nonce: &str) -> DeltaUpsert {
        let outbox = Outbox {
            store: Arc::clone(&self.target.store),
            checkpoint: Path::from("lake/checkpoint"),
            lane: Lane::default(),
        };
        let keys = vec!["id".to_owned()];
        DeltaUpsert::open(self.settings(schema(), nonce), keys, outbox)
            .await
            .unwrap()
    }

    /// The table as another writer has it.
    async fn foreign(&self) -> DeltaTable {
        let mut table = DeltaTable::new(self.target.log_store());
        table.load().await.unwrap();
        table
    }

    /// (id, name) of all rows, sorted.
    async fn rows(&self) -> Vec<(i64, Option<String>)> {
        let written = Written {
            tables: vec![("t".to_owned(), self.target.clone())],
            dead_letters: None,
        };
        let tables = open_tables(&written).await.unwrap();
        let (batches, _) = ask(&tables.session, "SELECT id, name FROM t ORDER BY id, name")
            .await
            .unwrap();
        batches.iter().flat_map(pairs).collect()
    }

    /// Active files, by path.
    async fn files(&self) -> Vec<String> {
        let table = self.foreign().await;
        let mut files: Vec<_> = table.get_file_uris().unwrap().collect();
        files.sort();
        files
    }

    /// Takes the log away.
    async fn delete_log(&self) {
        let folder = self.target.child("_delta_log").unwrap();
        let found: Vec<_> = self
            .target
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .unwrap();
        for object in found {
            self.target.store.delete(&object.location).await.unwrap();
        }
    }

    /// A commit of the log, by line.
    async fn commit(&self, version: u64) -> Vec<serde_json::Value> {
        let name = self
            .target
            .child(&format!("_delta_log/{version:020}.json"))
            .unwrap();
        let bytes = self
            .target
            .store
            .get(&name)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn pairs(batch: &RecordBatch) -> Vec<(i64, Option<String>)> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let names = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
    let names = names.as_string::<i32>();
    let name = |i: usize| names.is_valid(i).then(|| names.value(i).to_owned());
    (0..batch.num_rows())
        .map(|i| (ids.value(i), name(i)))
        .collect()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn batch(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<StringArray>());
    RecordBatch::try_new(schema(), vec![ids, names]).unwrap()
}

fn named(rows: &[(i64, &str)]) -> Vec<(i64, Option<String>)> {
    rows.iter()
        .map(|(id, name)| (*id, Some((*name).to_owned())))
        .collect()
}

fn intent(epoch: u64, prev: Option<u64>, body: serde_json::Value) -> Intent {
    Intent {
        sink: SinkIdentity(APP.to_owned()),
        epoch: Epoch(epoch),
        prev: prev.map(Epoch),
        body,
        apart: None,
    }
}

/// Both sinks, as far as the laws are the same.
#[async_trait]
trait Epochs: Sink {
    async fn roll(&mut self, intent: &Intent) -> Result<Applied, SinkError>;

    /// Stages and seals these rows.
    async fn decide(
        &mut self,
        epoch: u64,
        prev: Option<u64>,
        rows: &[(i64, Option<&str>)],
    ) -> Intent {
        self.stage(SinkBatch::Rows(batch(rows))).await.unwrap();
        let body = self.seal(Epoch(epoch)).await.unwrap().unwrap();
        intent(epoch, prev, body)
    }

    /// A whole epoch, without trouble.
    async fn write(&mut self, epoch: u64, rows: &[(i64, Option<&str>)]) -> u64 {
        let prev = epoch.checked_sub(1).filter(|p| *p > 0);
        let intent = self.decide(epoch, prev, rows).await;
        self.roll(&intent).await.unwrap().version.unwrap()
    }
}

#[async_trait]
impl Epochs for DeltaAppend {
    async fn roll(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }
}

#[async_trait]
impl Epochs for DeltaUpsert {
    async fn roll(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }
}

fn reason(error: &SinkError) -> &'static str {
    match error {
        SinkError::Unavailable { reason, .. } | SinkError::Stop { reason, .. } => reason,
    }
}
