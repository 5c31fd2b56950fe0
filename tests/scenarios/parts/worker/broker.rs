//! A broker that dies in the middle of the stream and comes back. It is the test's own: nobody else's reads are cut.

use std::path::PathBuf;
use std::process::Command;

use evp_api::reason;
use evp_tests::{root, succeed};

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};

/// A broker in a bed of its own, which goes with it.
pub(super) struct Broker {
    index: String,
}

impl Broker {
    pub(super) fn start() -> Self {
        let owner = std::process::id().to_string();
        let claimed = succeed(bed().args(["claim", &owner])).stdout;
        let broker = Self {
            index: String::from_utf8(claimed).unwrap().trim().to_owned(),
        };
        broker.run(&["up", "kafka"]);
        broker
    }

    pub(super) fn run(&self, words: &[&str]) -> String {
        let ran = succeed(bed().env("EVP_BED_INDEX", &self.index).args(words));
        String::from_utf8(ran.stdout).unwrap()
    }

    /// The pipeline over a topic of this broker, encrypted and authenticated; an epoch has 20 records.
    pub(super) fn pipeline(&self, topic: &str) -> Pipeline {
        let mut pipeline = Pipeline::new(topic);
        pipeline.set(
            "/sources/0/kafka/bootstrapServers",
            self.setting("EVP_BED_KAFKA_SASL_SSL"),
        );
        pipeline.set("/checkpoint/maxRecordsPerEpoch", 20);
        let authority = std::fs::read_to_string(self.setting("EVP_BED_KAFKA_CA")).unwrap();
        pipeline.put_secret("kafka-orders", "ca.crt", &authority);
        pipeline
    }

    /// A line of its `env`.
    pub(super) fn setting(&self, name: &str) -> String {
        let told = self.run(&["env"]);
        let prefix = format!("export {name}=");
        let line = told.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // What is left is swept by the next run.
        bed()
            .env("EVP_BED_INDEX", &self.index)
            .arg("down")
            .status()
            .ok();
    }
}

fn bed() -> Command {
    let script: PathBuf = root().join("tests/bed/bed");
    let mut command = Command::new("bash");
    command.arg(script);
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_broker_that_is_killed_and_comes_back_is_read_on_by_the_same_worker() {
    let broker = Broker::start();
    let mut feed = Feed::at(&broker.setting("EVP_BED_KAFKA"), 3).await;
    feed.send(&format!("--limit 1000 --seed 17 {PLANTED}"))
        .await;
    let pipeline = broker.pipeline(&feed.topic.name);
    let mut worker = pipeline.start("a");
    for kill in 1..=2 {
        let report = worker
            .until("the middle of the stream", |p| {
                p.ready && p.ledger.read > (kill - 1) * 1_000 && p.ledger.read < kill * 1_000
            })
            .await;
        broker.run(&["kill", "kafka"]);
        let halt = worker.halted(reason::SOURCE_UNAVAILABLE).await;
        assert!(!halt.stalled, "{halt:?}");
        broker.run(&["up", "kafka"]);
        let seed = 17 + kill;
        feed.send(&format!("--limit 1000 --seed {seed} {PLANTED}"))
            .await;
        assert!(report.ledger.read < feed.sent());
    }
    let report = worker
        .until("all is committed", |p| {
            p.ready && p.ledger.read == feed.sent()
        })
        .await;
    assert!(report.ledger.balanced, "{report:?}");
    worker.terminate().await;
    pipeline.assert_holds(&feed.expected()).await;
}
