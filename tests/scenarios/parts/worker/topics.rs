//! The orders pipeline with two topics beside its tables: every order, and every change of a window. What readers of committed
//! records see is what an evaluation of the ledger says, whatever becomes of workers and broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use evp_api::reason;
use evp_tests::bed;
use evp_tests::oracle::{Expected, Table};
use evp_worker::checkpointer::{Moment, Step};
use serde_json::{Value, json};

use super::broker::Broker;
use super::cells::all_hold;
use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};
use crate::parts::kafka::java;
use crate::parts::kafka::records::{assert_told_apart, newest, number, value};
use crate::parts::kafka::topic::{Record, Topic};

const RECORDS: i64 = 700;

/// What names a window, and what grows with each change of it.
const WINDOW: ([&str; 3], &str) = (
    ["window_start", "region", "product_category"],
    "order_count",
);

/// The topics that a pipeline writes.
pub(super) struct Written {
    log: Topic,
    totals: Topic,
}

impl Written {
    pub(super) async fn by(pipeline: &mut Pipeline, broker: &str) -> Self {
        let topic = async || {
            let topic = Topic::on(broker, &Topic::name_only().name);
            topic.make(3).await;
            topic
        };
        let written = Self {
            log: topic().await,
            totals: topic().await,
        };
        let source = pipeline.manifest["spec"]["sources"][0]["kafka"].clone();
        let kafka = |topic: &Topic, key: &str| {
            json!({
                "bootstrapServers": source["bootstrapServers"], "tls": source["tls"], "sasl": source["sasl"],
                "topic": topic.name, "keyColumn": key,
            })
        };
        let sinks = pipeline.manifest["spec"]["sinks"].as_array_mut().unwrap();
        sinks.push(json!({"name": "log", "from": "with-offsets", "kafka": kafka(&written.log, "order_id")}));
        sinks.push(
            json!({"name": "totals", "from": "revenue", "mode": "Update", "kafka": kafka(&written.totals, "region")}),
        );
        written
    }

    /// Stops the test unless the topics hold what is expected, once, each record under its key and in its order.
    pub(super) async fn assert_holds(&self, expected: &Expected) {
        let (log, totals) = (self.log.committed().await, self.totals.committed().await);
        for (records, key) in [(&log, "order_id"), (&totals, "region")] {
            assert_told_apart(records);
            for record in records {
                assert_eq!(
                    Some(value(record)[key].as_str().unwrap()),
                    record.key.as_deref()
                );
            }
        }
        let rows: Vec<_> = log.iter().map(value).collect();
        expected.assert_equals_rows(Table::Bronze, &rows);
        let (names, grows) = WINDOW;
        expected.assert_equals_rows(Table::Gold, &newest(&totals, &names, grows));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn topics_are_what_an_evaluation_of_the_ledger_says_to_kafkas_own_reader_too() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit 1500 --seed 1 {PLANTED}")).await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    let written = Written::by(&mut pipeline, &feed.topic.broker).await;
    let mut worker = pipeline.start("a");
    let report = worker
        .until("the middle", |p| {
            p.ledger.read > 500 && p.ledger.read < 1500
        })
        .await;
    let told: Vec<_> = report.sinks.iter().map(|s| s.delivery.as_str()).collect();
    assert_eq!(told, ["ExactlyOnce"; 4]);
    worker.kill();
    pipeline.commit("b", 1500).await;
    let expected = feed.expected();
    pipeline.assert_holds(&expected).await;
    written.assert_holds(&expected).await;
    for topic in [&written.log, &written.totals] {
        assert_eq!(java::read(topic), topic.committed().await);
    }
}

/// The steps that a Kafka sink takes.
fn takes(step: Step) -> bool {
    matches!(
        step,
        Step::OutboxPut
            | Step::Probe
            | Step::Begin
            | Step::Write
            | Step::CommitSend
            | Step::CommitAck
    )
}

async fn crashed_and_started_again(at: String, topic: String, expected: Arc<Expected>) {
    let begun = Instant::now();
    let mut pipeline = Pipeline::new(&topic);
    let written = Written::by(&mut pipeline, &bed("EVP_BED_KAFKA")).await;
    if at.starts_with("probe") {
        let mut worker = pipeline.start("a");
        worker.until("a second epoch", |p| p.epoch >= 2).await;
        worker.kill();
    }
    pipeline.start_armed("b", &at).crashed().await;
    pipeline.commit("b", RECORDS).await;
    pipeline.assert_holds(&expected).await;
    written.assert_holds(&expected).await;
    eprintln!("{at}: {:.1} s", begun.elapsed().as_secs_f32());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_crashes_at_any_step_of_a_topic_loses_and_doubles_nothing() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 3 {PLANTED}"))
        .await;
    let expected = feed.expected();
    let mut cells = Vec::new();
    for step in Step::ALL.iter().filter(|step| takes(**step)) {
        for sink in ["log", "totals"] {
            for moment in [Moment::Before, Moment::After] {
                let moment = format!("{moment:?}").to_lowercase();
                let pass = if *step == Step::Probe { 1 } else { 2 };
                cells.push(format!("{}@{sink}:{moment}:{pass}", step.name()));
            }
        }
    }
    let (topic, expected) = (&feed.topic.name, &expected);
    all_hold(cells.into_iter().map(|at| {
        let of = (topic.clone(), Arc::clone(expected));
        (at.clone(), crashed_and_started_again(at, of.0, of.1))
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_slept_while_another_took_over_adds_nothing_to_the_topics() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 5 {PLANTED}"))
        .await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    let written = Written::by(&mut pipeline, &feed.topic.broker).await;
    pipeline.set("/checkpoint/maxRecordsPerEpoch", 20);
    let mut asleep = pipeline.start("a");
    asleep
        .until("the middle", |p| p.ledger.read > 100 && p.ledger.read < 500)
        .await;
    asleep.signal("STOP");
    let mut worker = pipeline.start("b");
    worker
        .until("its own epochs", |p| p.term == 2 && p.ready)
        .await;
    asleep.signal("CONT");
    asleep.halted(reason::FENCED).await;
    worker
        .until("all is committed", |p| p.ledger.read == RECORDS)
        .await;
    worker.terminate().await;
    let expected = feed.expected();
    pipeline.assert_holds(&expected).await;
    written.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_broker_that_dies_under_its_transactions_loses_and_doubles_nothing() {
    let broker = Broker::start();
    let mut feed = Feed::at(&broker.setting("EVP_BED_KAFKA"), 3).await;
    let mut pipeline = broker.pipeline(&feed.topic.name);
    let written = Written::by(&mut pipeline, &feed.topic.broker).await;
    feed.send(&format!("--limit 1000 --seed 17 {PLANTED}"))
        .await;
    let mut worker = pipeline.start("a");
    for kill in 1..=2 {
        worker
            .until("the middle of the stream", |p| {
                p.ready && p.ledger.read > (kill - 1) * 1_000 && p.ledger.read < kill * 1_000
            })
            .await;
        broker.run(&["kill", "kafka"]);
        worker.until("it is noticed", |p| !p.ready).await;
        broker.run(&["up", "kafka"]);
        let seed = 17 + kill;
        feed.send(&format!("--limit 1000 --seed {seed} {PLANTED}"))
            .await;
    }
    let report = worker
        .until("all is committed", |p| {
            p.ready && p.ledger.read == feed.sent()
        })
        .await;
    assert!(report.ledger.balanced, "{report:?}");
    worker.terminate().await;
    let expected = feed.expected();
    pipeline.assert_holds(&expected).await;
    written.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn at_least_once_what_comes_again_is_told_by_its_headers() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {RECORDS} --seed 6 {PLANTED}"))
        .await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    let written = Written::by(&mut pipeline, &feed.topic.broker).await;
    pipeline.manifest["spec"]["sinks"][2]["kafka"]["delivery"] = json!("AtLeastOnce");
    // All of the epoch is sent, and nobody has noted it.
    pipeline
        .start_armed("b", "write@log:after:2")
        .crashed()
        .await;
    let mut worker = pipeline.start("b");
    let report = worker
        .until("all is committed", |p| p.ledger.read == RECORDS)
        .await;
    assert_eq!(report.sinks[2].delivery, "AtLeastOnce");
    worker.terminate().await;
    let records = written.log.committed().await;
    let name = |record: &Record| (number(record, "evp-epoch"), number(record, "evp-row"));
    let each: BTreeMap<_, Value> = records.iter().map(|r| (name(r), value(r))).collect();
    for record in &records {
        assert_eq!(value(record), each[&name(record)]);
    }
    let rows: Vec<_> = each.into_values().collect();
    feed.expected().assert_equals_rows(Table::Bronze, &rows);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_topic_that_is_missing_is_waited_for() {
    let mut feed = Feed::new(2).await;
    feed.send("--limit 200 --seed 7").await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    let written = Written::by(&mut pipeline, &feed.topic.broker).await;
    let missing = Topic::name_only();
    pipeline.manifest["spec"]["sinks"][2]["kafka"]["topic"] = json!(missing.name);
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::TOPIC_MISSING).await;
    assert!(
        !halt.stalled && halt.message.contains(&missing.name),
        "{halt:?}"
    );
    missing.make(3).await;
    worker
        .until("it goes on by itself", |p| p.ready && p.ledger.read == 200)
        .await;
    worker.terminate().await;
    let written = Written {
        log: missing,
        ..written
    };
    written.assert_holds(&feed.expected()).await;
}
