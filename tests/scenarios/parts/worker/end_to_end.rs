//! Orders from Kafka to S3.

use super::pipeline::{Feed, Pipeline};

/// Of everything but what must come after a watermark.
pub(super) const PLANTED: &str = "--duplicates 0.05 --disorder 0.05 --malformed 0.05 --future 0.02";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn orders_from_kafka_to_s3_are_what_an_evaluation_of_the_ledger_says() {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit 1500 --seed 1 {PLANTED}")).await;
    let pipeline = Pipeline::new(&feed.topic.name);
    let mut worker = pipeline.start("a");
    // Late is what comes below a committed watermark.
    worker
        .until("a watermark", |p| {
            p.ledger.read == 1500 && p.watermark.is_some()
        })
        .await;
    feed.send(&format!(
        "--limit 1500 --seed 2 {PLANTED} --late 0.05 --idle-partition 1:200..900"
    ))
    .await;
    worker.until("the middle", |p| p.ledger.read > 1800).await;
    worker.terminate().await;

    let mut worker = pipeline.start("b");
    let report = worker
        .until("the end", |p| p.caught_up && p.ledger.read == 3000)
        .await;
    worker.terminate().await;

    let expected = feed.expected();
    pipeline.assert_holds(&expected).await;
    let counts = &expected.counts;
    assert!(report.ledger.balanced, "{report:?}");
    assert_eq!(counts["late"], report.ledger.late);
    assert!(report.ledger.late > 0);
    assert_eq!(counts["rows"]["dead_letters"], report.ledger.dead_lettered);
    assert_eq!(counts["rows"]["bronze"], report.sinks[0].rows);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_starts_on_a_quiet_topic_reports_what_its_predecessors_committed() {
    let mut feed = Feed::new(2).await;
    feed.send("--limit 200").await;
    let pipeline = Pipeline::new(&feed.topic.name);
    pipeline.commit("a", 200).await;
    let mut worker = pipeline.start("b");
    let report = worker.until("it runs", |p| p.ready).await;
    assert_eq!((report.ledger.read, report.term), (200, 2), "{report:?}");
    assert!(
        report.epoch >= 2 && report.watermark.is_some(),
        "{report:?}"
    );
    worker.terminate().await;
}
