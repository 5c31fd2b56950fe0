//! The orders example on the bed: its manifest as the operator hands it over, its Secrets, its topic with the producer's
//! ledger, and its tables against the oracles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evp_tests::bed;
use evp_tests::oracle::{self, Expected, Table};
use evp_worker::ids::Ids;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Pod, Worker};
use crate::examples::overlaid;
pub(super) use crate::parts::bucket;
use crate::parts::kafka::topic::{Topic, produce};

/// What is sent: a topic and the ledgers of its producers.
pub(super) struct Feed {
    pub(super) topic: Topic,
    pub(super) ledgers: Vec<PathBuf>,
    dir: TempDir,
}

impl Feed {
    pub(super) async fn new(partitions: i32) -> Self {
        Self::of(Topic::create(partitions).await)
    }

    /// A topic of this name.
    pub(super) async fn named(name: &str, partitions: i32) -> Self {
        let topic = Topic::named(name);
        topic.make(partitions).await;
        Self::of(topic)
    }

    /// A topic of another broker than the bed's.
    pub(super) async fn at(broker: &str, partitions: i32) -> Self {
        let topic = Topic::on(broker, "orders");
        topic.make(partitions).await;
        Self::of(topic)
    }

    fn of(topic: Topic) -> Self {
        Self {
            topic,
            ledgers: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A file for one more ledger.
    pub(super) fn new_ledger(&mut self) -> &Path {
        let name = format!("ledger-{}.jsonl", self.ledgers.len());
        self.ledgers.push(self.dir.path().join(name));
        self.ledgers.last().unwrap()
    }

    /// Sends events that are due now, with these flags of `evp produce orders`.
    pub(super) async fn send(&mut self, flags: &str) {
        let to = format!("kafka://{}/{}", self.topic.broker, self.topic.name);
        let ledger = self.new_ledger().display().to_string();
        let all = format!("--to {to} --ledger {ledger} --rate 5000 {flags}");
        produce(&all.split(' ').collect::<Vec<_>>()).await;
    }

    /// Records sent so far.
    pub(super) fn sent(&self) -> i64 {
        let lines = |ledger| std::fs::read_to_string(ledger).unwrap().lines().count();
        i64::try_from(self.ledgers.iter().map(lines).sum::<usize>()).unwrap()
    }

    /// What the tables must hold of it.
    pub(super) fn expected(&self) -> Arc<Expected> {
        let ledgers: Vec<_> = self.ledgers.iter().map(PathBuf::as_path).collect();
        let dir = self
            .dir
            .path()
            .join(format!("expected-{}", self.ledgers.len()));
        Arc::new(oracle::evaluate(&ledgers, &dir))
    }
}

/// What the example writes, and the folders it is given.
pub(super) const BRONZE: (Table, &str) = (Table::Bronze, "bronze");
pub(super) const GOLD: (Table, &str) = (Table::Gold, "gold");
pub(super) const DEAD: (Table, &str) = (Table::DeadLetters, "dead");

/// A pipeline of its own: checkpoint, tables, Secrets.
pub(super) struct Pipeline {
    pub(super) manifest: Value,
    /// Below the bed's bucket.
    pub(super) prefix: String,
    dir: TempDir,
}

impl Pipeline {
    /// Reads a topic of the bed's broker, encrypted and authenticated. An epoch a second, or a hundred records.
    pub(super) fn new(topic: &str) -> Self {
        let prefix = new_prefix();
        let pipeline = Self::of(manifest(topic, &prefix), prefix, "lake");
        pipeline.put_secret("kafka-orders", "password", &bed("EVP_BED_KAFKA_PASSWORD"));
        let authority = std::fs::read_to_string(bed("EVP_BED_KAFKA_CA")).unwrap();
        pipeline.put_secret("kafka-orders", "ca.crt", &authority);
        pipeline
    }

    /// With the Secret of this name for the bucket.
    pub(super) fn of(manifest: Value, prefix: String, store: &str) -> Self {
        let pipeline = Self {
            manifest,
            prefix,
            dir: tempfile::tempdir().unwrap(),
        };
        pipeline.put_secret(store, "accessKeyId", &bed("EVP_BED_S3_ACCESS_KEY"));
        pipeline.put_secret(store, "secretAccessKey", &bed("EVP_BED_S3_SECRET_KEY"));
        pipeline
    }

    /// Sets a field of the manifest, by JSON pointer below its spec.
    pub(super) fn set(&mut self, pointer: &str, value: impl Into<Value>) {
        let at = format!("/spec{pointer}");
        *self.manifest.pointer_mut(&at).unwrap() = value.into();
    }

    fn secret(&self, name: &str, key: &str) -> PathBuf {
        self.dir.path().join("secrets").join(name).join(key)
    }

    pub(super) fn put_secret(&self, name: &str, key: &str, value: &str) {
        let file = self.secret(name, key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, value).unwrap();
    }

    pub(super) fn drop_secret(&self, name: &str, key: &str) {
        std::fs::remove_file(self.secret(name, key)).unwrap();
    }

    pub(super) fn start(&self, uid: &str) -> Worker {
        self.start_as(uid, "", None)
    }

    /// Starts a pod that ends itself at a crash point.
    pub(super) fn start_armed(&self, uid: &str, crash_at: &str) -> Worker {
        self.start_as(uid, crash_at, None)
    }

    pub(super) fn start_as(&self, uid: &str, crash_at: &str, seen_epoch: Option<i64>) -> Worker {
        self.start_with(&self.manifest.to_string(), uid, crash_at, seen_epoch)
    }

    /// Starts a pod whose pipeline file holds this text.
    pub(super) fn start_with(
        &self,
        text: &str,
        uid: &str,
        crash_at: &str,
        seen_epoch: Option<i64>,
    ) -> Worker {
        let pipeline = self.dir.path().join(format!("{uid}.json"));
        std::fs::write(&pipeline, text).unwrap();
        Worker::start(&Pod {
            uid,
            pipeline: &pipeline,
            secrets: &self.dir.path().join("secrets"),
            dir: self.dir.path(),
            crash_at,
            seen_epoch,
        })
    }

    /// Runs a pod until so many records are committed, and ends it.
    pub(super) async fn commit(&self, uid: &str, records: i64) {
        let mut worker = self.start(uid);
        let report = worker
            .until("all is committed", |p| p.ledger.read >= records)
            .await;
        assert_eq!(report.ledger.read, records, "{report:?}");
        assert!(report.ledger.balanced, "{report:?}");
        worker.terminate().await;
    }

    pub(super) fn table(&self, path: &str) -> String {
        format!("s3://{}/{}/{path}", bed("EVP_BED_S3_BUCKET"), self.prefix)
    }

    /// Stops the test unless foreign readers find exactly what is expected.
    pub(super) async fn assert_holds(&self, expected: &Arc<Expected>) {
        self.assert_tables(&[BRONZE, GOLD, DEAD], expected).await;
    }

    /// The same for some of its tables, each with its folder.
    pub(super) async fn assert_tables(&self, tables: &[(Table, &str)], expected: &Arc<Expected>) {
        let compare = |&(table, path): &(Table, &str)| {
            let (expected, at) = (Arc::clone(expected), self.table(path));
            tokio::task::spawn_blocking(move || expected.assert_equals(table, &at))
        };
        let each: Vec<_> = tables.iter().map(compare).collect();
        for compared in each {
            compared.await.unwrap();
        }
    }

    /// The name of an object of the checkpoint in the bucket.
    pub(super) fn object(&self, name: &str) -> object_store::path::Path {
        object_store::path::Path::from(format!("{}/checkpoint/{name}", self.prefix))
    }
}

/// A folder of the bucket that is nobody else's.
pub(super) fn new_prefix() -> String {
    format!("parts/worker/{}", Ids::os().nonce())
}

/// The example under its overlay, with this bed's addresses and places, as the operator writes it into a `ConfigMap`.
fn manifest(topic: &str, prefix: &str) -> Value {
    let mut manifest = overlaid("orders");
    manifest["metadata"] =
        json!({"name": "orders", "namespace": "shop", "uid": prefix, "namespaceUid": "shop-uid"});
    let spec = &mut manifest["spec"];
    let path = |name: &str| json!(format!("s3://{}/{prefix}/{name}", bed("EVP_BED_S3_BUCKET")));
    spec["checkpoint"] =
        json!({"path": path("checkpoint"), "interval": "1s", "maxRecordsPerEpoch": 100});
    spec["deadLetter"]["files"]["path"] = path("dead");
    spec["objectStore"]["s3"]["endpoint"] = json!(bed("EVP_BED_S3_ENDPOINT"));
    spec["objectStore"]["s3"]["allowHttp"] = json!(true);
    let kafka = &mut spec["sources"][0]["kafka"];
    kafka["bootstrapServers"] = json!(bed("EVP_BED_KAFKA_SASL_SSL"));
    kafka["topic"] = json!(topic);
    kafka["startFrom"] = json!("Earliest");
    kafka["sasl"]["username"] = json!(bed("EVP_BED_KAFKA_USER"));
    for (sink, name) in ["bronze", "gold"].into_iter().enumerate() {
        spec["sinks"][sink]["delta"]["path"] = path(name);
    }
    manifest
}
