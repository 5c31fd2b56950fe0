//! A store that does not answer, or not with the truth.

use futures::StreamExt;

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};
use super::proxy::{Fault, Proxy};
use super::versions::commits;

/// What an epoch writes: to decide, to commit to each sink, and before.
const WRITES: [&str; 6] = [
    "/0/head.json",
    "/bronze/_delta_log/",
    "/gold/_delta_log/",
    "/dead/_commits/",
    "/0/state/",
    "/0/outbox/",
];

fn behind(proxy: &Proxy, feed: &Feed) -> Pipeline {
    let mut pipeline = Pipeline::new(&feed.topic.name);
    pipeline.set("/objectStore/s3/endpoint", proxy.endpoint());
    pipeline
}

async fn fed(records: i64) -> Feed {
    let mut feed = Feed::new(3).await;
    feed.send(&format!("--limit {records} --seed 4 {PLANTED}"))
        .await;
    feed
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_write_whose_answer_is_lost_is_done_once() {
    let (feed, proxy) = (fed(700).await, Proxy::new().await);
    let first = ["/checkpoint/owner.json", "/0/born.json"];
    let mut rules = first
        .map(|part| proxy.on("PUT", part, |n| n == 1, Fault::LoseAnswer))
        .to_vec();
    rules.extend(WRITES.map(|part| proxy.on("PUT", part, |n| n % 2 == 1, Fault::LoseAnswer)));
    let pipeline = behind(&proxy, &feed);
    let mut worker = pipeline.start("a");
    let report = worker
        .until("all is committed", |p| p.ledger.read == 700)
        .await;
    assert_eq!(report.term, 1, "nobody took the lane over");
    worker.terminate().await;
    for rule in rules {
        rule.met().await;
    }
    pipeline.assert_holds(&feed.expected()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_write_that_was_done_and_never_noted_is_not_done_again_by_the_next_process() {
    let feed = fed(500).await;
    let expected = feed.expected();
    let each = WRITES.map(async |part| {
        let proxy = Proxy::new().await;
        let lost = proxy.on("PUT", part, |n| n >= 2, Fault::LoseAnswer);
        let mut pipeline = behind(&proxy, &feed);
        let worker = pipeline.start("a");
        lost.met().await;
        worker.kill();
        // The next pod has a good line.
        pipeline.set(
            "/objectStore/s3/endpoint",
            evp_tests::bed("EVP_BED_S3_ENDPOINT"),
        );
        pipeline.commit("b", 500).await;
        pipeline.assert_holds(&expected).await;
        for table in ["bronze", "gold"] {
            let at = pipeline.table(table);
            let commits = tokio::task::spawn_blocking(move || commits(&at));
            assert!(commits.await.unwrap().len() > 1, "{part}");
        }
    });
    futures::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_store_that_refuses_breaks_and_dawdles_delays_and_nothing_else() {
    let (feed, proxy) = (fed(500).await, Proxy::new().await);
    let mut rules = Vec::new();
    for method in ["PUT", "GET", "HEAD", "POST", "DELETE"] {
        rules.push(proxy.on(method, "", |n| n % 7 == 3, Fault::Refuse));
        rules.push(proxy.on(method, "", |n| n % 7 == 5, Fault::Reset));
        rules.push(proxy.on(method, "", |n| n % 7 == 6, Fault::Slow));
    }
    let pipeline = behind(&proxy, &feed);
    pipeline.commit("a", 500).await;
    let met: u32 = rules.iter().map(|rule| rule.times_met()).sum();
    assert!(met > 50, "only {met} faults");
    pipeline.assert_holds(&feed.expected()).await;
}

/// At each place where an epoch becomes true, whatever the store answers to every other write.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn no_answer_of_the_store_to_a_decision_a_commit_or_a_state_file_loses_or_doubles_anything() {
    let feed = fed(400).await;
    let expected = feed.expected();
    let places = [
        "/0/head.json",
        "/bronze/_delta_log/",
        "/gold/_delta_log/",
        "/0/state/",
    ];
    let faults = [
        Fault::Fail,
        Fault::LoseAnswer,
        Fault::Refuse,
        Fault::Reset,
        Fault::Slow,
    ];
    let cells = places
        .iter()
        .flat_map(|part| faults.map(|fault| (*part, fault)));
    let done = futures::stream::iter(cells).map(|(part, fault)| {
        let (feed, expected) = (&feed, &expected);
        async move {
            let proxy = Proxy::new().await;
            let rule = proxy.on("PUT", part, |n| n % 2 == 1, fault);
            let pipeline = behind(&proxy, feed);
            let mut worker = pipeline.start("a");
            let report = worker
                .until(&format!("{fault:?} at {part}"), |p| p.ledger.read == 400)
                .await;
            assert_eq!(report.term, 1, "{fault:?} at {part}");
            worker.terminate().await;
            assert!(rule.times_met() >= 2, "{fault:?} at {part}");
            pipeline.assert_holds(expected).await;
        }
    });
    done.buffer_unordered(4).collect::<()>().await;
}
