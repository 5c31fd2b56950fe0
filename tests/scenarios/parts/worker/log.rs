//! The log under a running pipeline is made anew, cut short, or held open by somebody's transaction.

use std::sync::Arc;

use evp_api::reason;
use evp_tests::oracle::{Table, parquet_rows};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::json;

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline, bucket};

const FIRST: i64 = 300;
const SECOND: i64 = 200;

async fn fed(partitions: i32) -> Feed {
    let mut feed = Feed::new(partitions).await;
    feed.send(&format!("--limit {FIRST} --seed 11 {PLANTED}"))
        .await;
    feed
}

/// Names and tags of everything that the pipeline wrote for others.
async fn tables(pipeline: &Pipeline) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for table in ["bronze", "gold", "dead"] {
        let below = Path::from(format!("{}/{table}", pipeline.prefix));
        let store = bucket();
        let listed = store.list(Some(&below));
        let each = listed.map_ok(|o| (o.location.to_string(), o.e_tag));
        found.extend(each.try_collect::<Vec<_>>().await.unwrap());
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_topic_made_anew_stops_the_worker_and_every_later_one_and_changes_no_table() {
    let mut feed = fed(2).await;
    let pipeline = Pipeline::new(&feed.topic.name);
    let mut worker = pipeline.start("a");
    worker
        .until("all is committed", |p| {
            p.ledger.read == FIRST && p.caught_up
        })
        .await;
    let before = tables(&pipeline).await;
    let expected = feed.expected();
    feed.topic.remake(2).await;
    feed.send(&format!("--limit {} --seed 12", FIRST + SECOND))
        .await;
    let halt = worker.halted(reason::TOPIC_REPLACED).await;
    assert!(halt.stalled && halt.message.contains(&feed.topic.name));
    worker.kill();
    let mut next = pipeline.start("b");
    next.halted(reason::TOPIC_REPLACED).await;
    next.terminate().await;
    assert_eq!(tables(&pipeline).await, before);
    pipeline.assert_holds(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn records_deleted_before_they_were_read_stop_the_worker_or_leave_a_gap_that_is_told() {
    let mut feed = fed(1).await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    pipeline.commit("a", FIRST).await;
    let expected = feed.expected();
    let before = tables(&pipeline).await;
    feed.topic.send_all(0..20).await;
    feed.topic.delete_before(0, FIRST + 20).await;
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::DATA_LOST).await;
    assert!(
        halt.stalled && halt.message.contains("300 to 319"),
        "{halt:?}"
    );
    worker.terminate().await;
    assert_eq!(tables(&pipeline).await, before);
    pipeline.assert_holds(&expected).await;

    // Its owner's word: what is gone is gone.
    pipeline.manifest["spec"]["sources"][0]["kafka"]["onDataLoss"] = json!("RecordGap");
    feed.send(&format!("--limit {SECOND} --seed 13 {PLANTED}"))
        .await;
    pipeline.commit("a", FIRST + SECOND).await;
    let expected = feed.expected();
    expected.assert_equals(Table::Bronze, &pipeline.table("bronze"));
    expected.assert_equals(Table::Gold, &pipeline.table("gold"));
    let letters = parquet_rows(&pipeline.table("dead"));
    let gaps: Vec<_> = letters.iter().filter(|l| l["raw"].is_null()).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let told = gaps[0]["message"].as_str().unwrap();
    assert!(told.contains("300") && told.contains("319"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn what_a_foreign_transaction_holds_back_waits_and_what_it_aborts_is_never_read() {
    let mut feed = Feed::new(2).await;
    let aborted = feed.topic.open_transaction("aborted").await;
    feed.send(&format!("--limit {FIRST} --seed 14 {PLANTED}"))
        .await;
    // What lies in partition 0 lies behind the open transaction.
    let positions = [(1, i64::MAX)].into();
    let ledgers: Vec<_> = feed.ledgers.iter().map(AsRef::as_ref).collect();
    let scratch = tempfile::tempdir().unwrap();
    let other = evp_tests::oracle::evaluate_up_to(&ledgers, &positions, scratch.path());
    let readable = other.counts["read"].as_i64().unwrap();
    assert!(0 < readable && readable < FIRST, "{readable}");

    let pipeline = Pipeline::new(&feed.topic.name);
    let mut worker = pipeline.start("a");
    let report = worker
        .until("what can be read", |p| p.ledger.read >= readable)
        .await;
    // Nothing is held to be at its end, and no watermark passes the partition that waits.
    assert!(
        !report.caught_up && report.watermark.is_none(),
        "{report:?}"
    );
    worker.kill();
    let mut worker = pipeline.start("a");
    let report = worker.until("it is back", |p| p.ready).await;
    assert_eq!(report.ledger.read, readable, "{report:?}");
    pipeline.assert_holds(&Arc::new(other)).await;
    aborted.abort().await;
    let report = worker
        .until("the rest", |p| p.ledger.read >= FIRST && p.caught_up)
        .await;
    assert_eq!(report.ledger.read, FIRST, "{report:?}");
    worker.terminate().await;
    pipeline.assert_holds(&feed.expected()).await;
}
