//! The table of guarantees: each source into all kinds of sinks at once, the worker killed with -9 in between. What foreign
//! readers find in each sink is what an evaluation of the ledger says.

use std::fmt::Write as _;
use std::sync::Arc;

use evp_tests::oracle::{Expected, Table, parquet_rows};
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};

use super::end_to_end::PLANTED;
use super::pipeline::{BRONZE, DEAD, Feed, GOLD, Pipeline, bucket};
use super::postgres;
use super::topics::Written;
use crate::parts::postgres::world::World;

const RECORDS: i64 = 1500;

/// Files that the orders are cut into, as far as they go in this source.
const FILES: usize = 7;

/// The orders pipeline with every kind of sink: Delta both ways, Parquet, topics and PostgreSQL tables both ways.
struct Everything {
    pipeline: Pipeline,
    topics: Written,
    database: World,
}

impl Everything {
    async fn from_kafka(feed: &Feed) -> Self {
        let mut pipeline = Pipeline::new(&feed.topic.name);
        let topics = Written::by(&mut pipeline, &feed.topic.broker).await;
        let database = World::new().await;
        let copies = json!({"name": "copies", "from": "with-offsets", "parquet": {"path": pipeline.table("copies")}});
        postgres::put_secrets(&pipeline);
        let table = |name: &str| postgres::sink(&database, name);
        let rows = json!({"name": "rows", "from": "with-offsets", "postgres": table("rows")});
        let sums =
            json!({"name": "sums", "from": "revenue", "mode": "Update", "postgres": table("sums")});
        let sinks = pipeline.manifest["spec"]["sinks"].as_array_mut().unwrap();
        sinks.extend([copies, rows, sums]);
        Self {
            pipeline,
            topics,
            database,
        }
    }

    /// The same orders from files of JSON lines; where each stood in Kafka is in its line.
    async fn from_files(feed: &Feed) -> Self {
        let mut all = Self::from_kafka(feed).await;
        put_files(&all.pipeline, feed).await;
        let from = all.pipeline.table("raw");
        let source = &mut all.pipeline.manifest["spec"]["sources"][0];
        let fields = source["schema"]["fields"].as_array_mut().unwrap();
        fields.extend([
            json!({"name": "kafka_ingest_ts", "type": "timestamp", "unit": "ms"}),
            json!({"name": "kafka_partition", "type": "int"}),
            json!({"name": "kafka_offset", "type": "long"}),
        ]);
        let source = source.as_object_mut().unwrap();
        source.remove("kafka");
        source.insert(
            "files".to_owned(),
            json!({"path": from, "glob": "*.jsonl", "settle": "0s", "pollInterval": "1s"}),
        );
        all.pipeline.set(
            "/steps/0/query/select",
            "* EXCLUDE (_meta), CAST(event_timestamp AS DATE) AS event_date",
        );
        all
    }

    /// Two workers are killed in the middle of it, the third commits all.
    async fn run_through_kills(&self) {
        for (uid, records) in [("a", 300), ("b", 900)] {
            let mut worker = self.pipeline.start(uid);
            let reached = worker.until("the middle", |p| p.ledger.read >= records);
            reached.await;
            worker.kill();
        }
        self.pipeline.commit("c", RECORDS).await;
    }

    async fn assert_holds(&self, expected: &Arc<Expected>) {
        self.pipeline.assert_tables(&[BRONZE, GOLD], expected).await;
        self.topics.assert_holds(expected).await;
        let tables = [(Table::Bronze, "rows"), (Table::Gold, "sums")];
        postgres::assert_tables(&self.database, tables, expected).await;
        let copies = parquet_rows(&self.pipeline.table("copies"));
        expected.assert_equals_rows(Table::Bronze, &copies);
    }
}

/// Writes what the ledger says was sent as objects of the bucket.
async fn put_files(pipeline: &Pipeline, feed: &Feed) {
    let ledger = std::fs::read_to_string(&feed.ledgers[0]).unwrap();
    let lines: Vec<_> = ledger.lines().map(line).collect();
    for (number, chunk) in lines.chunks(lines.len().div_ceil(FILES)).enumerate() {
        let name = format!("{}/raw/{number:03}.jsonl", pipeline.prefix);
        let text = PutPayload::from(chunk.concat());
        bucket().put(&name.into(), text).await.unwrap();
    }
}

fn line(entry: &str) -> String {
    let entry: Value = serde_json::from_str(entry).unwrap();
    let mut order: Value = serde_json::from_str(entry["value"].as_str().unwrap()).unwrap();
    order["kafka_ingest_ts"] = entry["timestamp"].clone();
    order["kafka_partition"] = entry["partition"].clone();
    order["kafka_offset"] = entry["offset"].clone();
    let mut line = order.to_string();
    writeln!(line).unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn from_kafka_every_kind_of_sink_holds_what_an_evaluation_says_through_kills() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 21 {PLANTED}"))
        .await;
    let all = Everything::from_kafka(&feed).await;
    all.run_through_kills().await;
    let expected = feed.expected();
    all.assert_holds(&expected).await;
    all.pipeline.assert_tables(&[DEAD], &expected).await;
}

/// A line that is not JSON would be cut where it holds a line end: rows that cannot be read are a matter of the shop's files.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn from_files_every_kind_of_sink_holds_what_an_evaluation_says_through_kills() {
    let mut feed = Feed::new(3).await;
    let flags = "--duplicates 0.05 --disorder 0.05";
    feed.send(&format!("--limit {RECORDS} --seed 22 {flags}"))
        .await;
    let all = Everything::from_files(&feed).await;
    all.run_through_kills().await;
    all.assert_holds(&feed.expected()).await;
}
