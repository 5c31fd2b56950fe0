//! The orders example from `helm install` to its tables, through kills and a change.

use std::path::PathBuf;

use evp_tests::bed;
use evp_tests::oracle::{self, Table};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::bed::{OPERATOR_NAMESPACE, RELEASE, apply, kubectl};
use super::line::{self, Facts};
use super::producer::{Producer, paths};
use super::readings::{Readings, assert_fresh};
use super::world::{Lake, World};

/// Events a second.
const RATE: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn orders_are_what_an_evaluation_of_the_ledger_says_through_kills_and_a_change_of_spec() {
    let world = World::new("orders", Lake::Plain).await;
    let mut readings = Readings::of(&world);
    apply(&world.manifest(&[]));
    world.wait_ready("orders");
    let ledgers = [
        until_there_is_a_watermark(&world, &mut readings).await,
        until_a_partition_was_idle(&world).await,
        late_ones_and_a_change(&world, &mut readings).await,
    ];
    let ledgers = paths(&ledgers);
    world.drained("orders").await;
    let expected = oracle::evaluate(&ledgers, &world.dir().join("expected"));
    expected.assert_equals(Table::Bronze, &world.path("bronze"));
    expected.assert_equals(Table::Gold, &world.path("gold"));
    expected.assert_equals(Table::DeadLetters, &world.path("dead"));
    assert_ledger(&world, &expected.counts);
    let facts = Facts {
        sent: readings.sent(),
        kept: count(&expected.counts["rows"]["bronze"])
            + count(&expected.counts["rows"]["dead_letters"]),
        dead: count(&expected.counts["rows"]["dead_letters"]),
        watermark: line::watermark(&ledgers),
        gold: oracle::delta_rows(&world.path("gold")),
    };
    assert_line(&world, &readings, &facts).await;
    another_operator_changes_nothing(&world).await;
    let secrets = ["EVP_BED_KAFKA_PASSWORD", "EVP_BED_S3_SECRET_KEY"].map(bed);
    world.assert_untold("orders", &secrets.each_ref().map(String::as_str));
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

/// Starts from nothing, with a kill. No record is late before there is a watermark.
async fn until_there_is_a_watermark(world: &World, readings: &mut Readings) -> PathBuf {
    let producer = Producer::start(world, 1, RATE, &[]);
    kill_mid_stream(world, readings).await;
    let watermark = |status: &Value| status["watermark"].as_str().map(str::to_owned);
    world.status("orders", "a watermark", watermark).await;
    producer.stop()
}

/// One partition gets nothing until it no longer holds the watermark.
async fn until_a_partition_was_idle(world: &World) -> PathBuf {
    let producer = Producer::start(world, 2, RATE, &["--idle-partition", "2:0..4000000000"]);
    let idle = |status: &Value| (status["sources"][0]["idle"] == 1).then_some(());
    world.status("orders", "an idle partition", idle).await;
    producer.stop()
}

/// All partitions again, with records that are late, two more kills, and a change that waits for its operator.
async fn late_ones_and_a_change(world: &World, readings: &mut Readings) -> PathBuf {
    let producer = Producer::start(world, 3, RATE, &["--late", "0.01"]);
    kill_mid_stream(world, readings).await;
    change_without_an_operator(world, readings).await;
    kill_mid_stream(world, readings).await;
    assert_fresh(world, readings).await;
    producer.stop()
}

/// Kills the worker's container after an epoch with records; returns after the next one.
async fn kill_mid_stream(world: &World, readings: &mut Readings) {
    one_more_epoch(world, readings).await;
    world.kill_worker("orders").await;
    one_more_epoch(world, readings).await;
}

async fn one_more_epoch(world: &World, readings: &mut Readings) {
    let before = readings.commits().await.len();
    world
        .until("one more commit of bronze", async || {
            (readings.commits().await.len() > before).then_some(())
        })
        .await;
}

fn scale_operator(replicas: u32) {
    let (deployment, replicas) = (
        format!("deployment/{RELEASE}"),
        format!("--replicas={replicas}"),
    );
    kubectl(
        &["-n", OPERATOR_NAMESPACE, "scale", &deployment, &replicas],
        "",
    );
}

async fn stop_operator(world: &World) {
    scale_operator(0);
    let operators = ["-n", OPERATOR_NAMESPACE, "get", "pods", "-o", "name"];
    world
        .until("the end of the operator", async || {
            kubectl(&operators, "").is_empty().then_some(())
        })
        .await;
}

/// A generation that no operator has seen changes nothing; the next operator puts it in place.
async fn change_without_an_operator(world: &World, readings: &mut Readings) {
    let old = world.ready_pod("orders").await;
    stop_operator(world).await;
    let faster = json!({"op": "replace", "path": "/spec/checkpoint/interval", "value": "4s"});
    apply(&world.manifest(&[faster]));
    one_more_epoch(world, readings).await;
    let pipeline = world.pipeline("orders");
    assert_eq!(pipeline["metadata"]["generation"], 2);
    assert_eq!(pipeline["status"]["observedGeneration"], 1);
    scale_operator(1);
    world
        .condition("orders", ("Ready", "True", "Committing"))
        .await;
    let new = world.ready_pod("orders").await;
    assert_ne!(old["metadata"]["uid"], new["metadata"]["uid"]);
}

/// A change that needs no other pod, seen by an operator that has just started: the pod stays, and Ready does not waver.
async fn another_operator_changes_nothing(world: &World) {
    let ready = ("Ready", "True", "Committing");
    let before = (
        world.condition("orders", ready).await,
        world.ready_pod("orders").await,
    );
    stop_operator(world).await;
    let faster = json!({"op": "replace", "path": "/spec/checkpoint/interval", "value": "4s"});
    let fresher = json!({"op": "add", "path": "/spec/objectives", "value": {"freshness": "2h"}});
    apply(&world.manifest(&[faster, fresher]));
    scale_operator(1);
    let after = (
        world.condition("orders", ready).await,
        world.ready_pod("orders").await,
    );
    assert_eq!(before.1["metadata"]["uid"], after.1["metadata"]["uid"]);
    assert_eq!(before.0["observedGeneration"], 2);
    assert_eq!(after.0["observedGeneration"], 3);
    assert_eq!(
        before.0["lastTransitionTime"],
        after.0["lastTransitionTime"]
    );
}

/// The pipeline's own counts are those of the evaluation.
fn assert_ledger(world: &World, counts: &Value) {
    let told = &world.pipeline("orders")["status"]["ledger"];
    let wanted = json!({
        "read": counts["read"],
        "filtered": count(&counts["rows"]["bronze"]) - count(&counts["placed"]),
        "late": counts["late"],
        "duplicate": 0,
        "deadLettered": counts["rows"]["dead_letters"],
        "balanced": true,
    });
    assert_eq!(*told, wanted);
    for planted in ["duplicate", "late", "disorder", "malformed"] {
        assert!(
            counts["kinds"][planted].as_i64() > Some(0),
            "no {planted} record was sent"
        );
    }
}

/// Once the last minute, of which the rate is, has nothing in it.
async fn assert_line(world: &World, readings: &Readings, facts: &Facts) {
    let wide = || world.kubectl(&["get", "evp", "orders", "-o", "wide"]);
    world
        .until("a rate of zero", async || {
            wide().contains("  0 records/s").then_some(())
        })
        .await;
    let line = facts.line(world, readings).await;
    line::check(&wide(), &line, Timestamp::now());
}
