//! The orders pipeline with both tables in PostgreSQL, its worker killed at every step that such a sink takes.

use std::sync::Arc;

use evp_tests::bed;
use evp_tests::oracle::{Expected, Table, parquet_rows};
use evp_worker::checkpointer::Step;
use serde_json::{Value, json};
use std::io::Write as _;

use super::cells::all_hold;
use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};
use crate::parts::postgres::world::{World, dump};

const RECORDS: i64 = 600;

/// Steps that a sink by the outbox takes.
const STEPS: &[Step] = &[
    Step::OutboxPut,
    Step::Probe,
    Step::Begin,
    Step::Write,
    Step::CommitSend,
    Step::CommitAck,
];

/// The password and the authority of the bed's server.
pub(super) fn put_secrets(pipeline: &Pipeline) {
    let password = bed("EVP_BED_POSTGRES_PASSWORD");
    pipeline.put_secret("shop-postgres", "password", &password);
    let authority = std::fs::read_to_string(bed("EVP_BED_POSTGRES_CA")).unwrap();
    pipeline.put_secret("shop-postgres", "ca.crt", &authority);
}

/// A table that the sink makes.
pub(super) fn sink(world: &World, table: &str) -> Value {
    let secret = |key: &str| json!({"secretKeyRef": {"name": "shop-postgres", "key": key}});
    json!({
        "host": world.place.host, "port": world.place.port, "database": bed("EVP_BED_POSTGRES_DATABASE"),
        "schema": world.schema, "table": table, "username": bed("EVP_BED_POSTGRES_USER"),
        "password": secret("password"), "tls": {"ca": secret("ca.crt")}, "createTable": {},
    })
}

/// Bronze is only added to, gold is kept by its aggregate's keys.
fn pipeline(topic: &str, world: &World) -> Pipeline {
    let mut pipeline = Pipeline::new(topic);
    put_secrets(&pipeline);
    for to in pipeline.manifest["spec"]["sinks"].as_array_mut().unwrap() {
        let table = sink(world, to["name"].as_str().unwrap());
        let to = to.as_object_mut().unwrap();
        to.remove("delta");
        to.insert("postgres".to_owned(), table);
    }
    pipeline
}

async fn assert_holds(world: &World, expected: &Arc<Expected>) {
    let tables = [(Table::Bronze, "bronze"), (Table::Gold, "gold")];
    assert_tables(world, tables, expected).await;
}

/// Stops the test unless these tables hold exactly what is expected.
pub(super) async fn assert_tables(world: &World, tables: [(Table, &str); 2], expected: &Expected) {
    let dir = tempfile::tempdir().unwrap();
    for (table, name) in tables {
        let file = dir.path().join(name);
        let mut out = std::fs::File::create(&file).unwrap();
        for row in dump(&world.client, &world.schema, name).await {
            writeln!(out, "{row}").unwrap();
        }
        expected.assert_equals_dump(table, &[], &file);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn orders_from_kafka_to_postgres_are_what_an_evaluation_of_the_ledger_says() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit 1500 --seed 11 {PLANTED}"))
        .await;
    let world = World::new().await;
    let pipeline = pipeline(&feed.topic.name, &world);
    let mut worker = pipeline.start("a");
    worker.until("the middle", |p| p.ledger.read > 500).await;
    worker.kill();
    pipeline.commit("b", 1500).await;
    assert_holds(&world, &feed.expected()).await;
}

async fn crashed_and_started_again(step: Step, at: String, topic: String, expected: Arc<Expected>) {
    let world = World::new().await;
    let pipeline = pipeline(&topic, &world);
    if step == Step::Probe {
        let mut worker = pipeline.start("a");
        worker.until("a second epoch", |p| p.epoch >= 2).await;
        worker.kill();
    }
    pipeline.start_armed("b", &at).crashed().await;
    pipeline.commit("b", RECORDS).await;
    assert_holds(&world, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_crashes_at_any_step_of_a_postgres_sink_loses_and_doubles_nothing() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 12 {PLANTED}"))
        .await;
    let expected = feed.expected();
    let mut cells = Vec::new();
    for &step in STEPS {
        for sink in ["bronze", "gold"] {
            for moment in ["before", "after"] {
                // Of what an epoch does, the second time: there is one before it.
                let pass = if step == Step::Probe { 1 } else { 2 };
                cells.push((step, format!("{}@{sink}:{moment}:{pass}", step.name())));
            }
        }
    }
    let (topic, expected) = (&feed.topic.name, &expected);
    all_hold(cells.into_iter().map(|(step, at)| {
        let of = (topic.clone(), Arc::clone(expected));
        (at.clone(), crashed_and_started_again(step, at, of.0, of.1))
    }))
    .await;
}

/// The database takes no orders of one region. Whatever is killed, each of them is a dead letter once, and nothing else is lost.
async fn refused_and_crashed(at: &'static str, topic: String, expected: Arc<Expected>) {
    let world = World::new().await;
    let pipeline = pipeline(&topic, &world);
    let mut first = pipeline.start("a");
    first.until("a first epoch", |p| p.epoch >= 1).await;
    first.terminate().await;
    let region = "region <> 'eu-west'";
    let sql = format!("ALTER TABLE bronze ADD CHECK ({region}) NOT VALID");
    world.run(&sql).await;
    let before: i64 = count(&world, "SELECT count(*) FROM bronze").await;
    pipeline.start_armed("b", at).crashed().await;
    pipeline.commit("b", RECORDS).await;
    // The last epoch's rejects are of an epoch that comes after all records.
    let rejects = count(&world, "SELECT count(*) FROM eventpipeline_rejects").await;
    let mut worker = pipeline.start("c");
    worker.until("rest", |p| p.ready && p.caught_up).await;
    worker.terminate().await;
    let letters = parquet_rows(&pipeline.table("dead"));
    let of_sink: Vec<_> = letters
        .iter()
        .filter(|letter| letter["code"] == "SinkRejected")
        .collect();
    let mut places: Vec<_> = of_sink
        .iter()
        .map(|letter| (letter["split"].to_string(), letter["position"].to_string()))
        .collect();
    places.sort();
    places.dedup();
    assert_eq!(of_sink.len(), places.len(), "{at}: a reject is told twice");
    assert_eq!(i64::try_from(of_sink.len()), Ok(rejects), "{at}");
    let kept = count(&world, "SELECT count(*) FROM bronze").await;
    let whole = expected.counts["rows"]["bronze"].as_i64().unwrap();
    assert!(rejects > 0 && before > 0, "{at}");
    assert_eq!(kept + rejects, whole, "{at}");
}

async fn count(world: &World, sql: &str) -> i64 {
    world.client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn rows_that_the_database_refuses_are_dead_letters_once_whatever_is_killed() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 13 {PLANTED}"))
        .await;
    let expected = feed.expected();
    let cells = [
        "commit.send@bronze:before:2",
        "commit.send@bronze:after:2",
        "commit.ack@bronze:after:2",
        "stage.put@dead-letters:after:2",
        "head.swap:before:3",
        "head.swap:after:3",
    ];
    let each =
        cells.map(|at| refused_and_crashed(at, feed.topic.name.clone(), Arc::clone(&expected)));
    futures::future::join_all(each).await;
}
