//! What topic and tables say themselves, read beside the pipeline: how far it is, without asking it.
//!
//! Owns a plain reading of Delta's log: numbers of rows, newest event time, when it was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evp_tests::bed;
use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use super::objects::Objects;
use super::world::World;

/// `watermark.delay` of the example.
pub(crate) const DELAY: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// One commit of bronze.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// When.
    pub(crate) time: Timestamp,
    /// Rows it added.
    pub(crate) rows: i64,
    /// Newest event time among them.
    pub(crate) newest: Option<Timestamp>,
}

/// Topic and tables of a world.
#[derive(Clone)]
pub(crate) struct Readings {
    topic: String,
    objects: Objects,
    consumer: Arc<BaseConsumer>,
    commits: BTreeMap<u64, Commit>,
}

impl Readings {
    /// Of a world whose lake is the plain one.
    pub(crate) fn of(world: &World) -> Self {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", bed("EVP_BED_KAFKA"))
            .create()
            .unwrap();
        Self {
            topic: world.topic.name.clone(),
            objects: Objects::of(world),
            consumer: Arc::new(consumer),
            commits: BTreeMap::new(),
        }
    }

    /// The commits of bronze so far, by version.
    pub(crate) async fn commits(&mut self) -> &BTreeMap<u64, Commit> {
        loop {
            let version = self.commits.len() as u64;
            let name = format!("bronze/_delta_log/{version:020}.json");
            let Some(text) = self.objects.get(&name).await else {
                return &self.commits;
            };
            self.commits.insert(version, commit(&text));
        }
    }

    /// Records in the topic.
    pub(crate) fn sent(&self) -> i64 {
        let end = |partition| {
            let ends =
                self.consumer
                    .fetch_watermarks(&self.topic, partition, Duration::from_secs(30));
            ends.unwrap().1
        };
        (0..3).map(end).sum()
    }

    /// The body of the newest checkpoint.
    pub(crate) async fn head(&self) -> Value {
        self.objects.head().await.unwrap()
    }
}

fn commit(text: &[u8]) -> Commit {
    let mut commit = Commit {
        time: Timestamp::UNIX_EPOCH,
        rows: 0,
        newest: None,
    };
    for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let action: Value = serde_json::from_slice(line).unwrap();
        if let Some(millis) = action["commitInfo"]["timestamp"].as_i64() {
            commit.time = Timestamp::from_millisecond(millis).unwrap();
        }
        if let Some(stats) = action["add"]["stats"].as_str() {
            let stats: Value = serde_json::from_str(stats).unwrap();
            commit.rows += stats["numRecords"].as_i64().unwrap();
            let newest = stats["maxValues"]["event_timestamp"].as_str().unwrap();
            commit.newest = commit.newest.max(Some(newest.parse().unwrap()));
        }
    }
    commit
}

/// Status may be as old as this.
const STALENESS: jiff::SignedDuration = jiff::SignedDuration::from_secs(20);
/// How long it is compared.
const COMPARED: jiff::SignedDuration = jiff::SignedDuration::from_secs(20);

/// Topic and bronze at one time.
struct Sample {
    at: Timestamp,
    sent: i64,
    /// Rows of bronze.
    rows: i64,
    /// The last commit but one: what any later epoch was decided after.
    committed: Commit,
    /// Newest event time up to it.
    newest: Timestamp,
}

/// While records flow: lag, watermark and committed time of the status are what topic and bronze showed at some time within the
/// last 20 seconds, or newer.
pub(crate) async fn assert_fresh(world: &World, readings: &mut Readings) {
    let mut samples = Vec::<Sample>::new();
    world
        .until("a comparison of status with topic and tables", async || {
            let pipeline = world.pipeline("orders");
            samples.push(readings.sample().await);
            let (first, now) = (samples.first()?.at, samples.last()?.at);
            let known = now.duration_since(first);
            if known >= STALENESS {
                compare(&pipeline["status"], &samples);
            }
            (known >= STALENESS + COMPARED).then_some(())
        })
        .await;
}

impl Readings {
    async fn sample(&mut self) -> Sample {
        let sent = self.sent();
        let commits: Vec<_> = self.commits().await.values().cloned().collect();
        let but_one = &commits[..commits.len() - 1];
        Sample {
            at: Timestamp::now(),
            sent,
            rows: commits.iter().map(|commit| commit.rows).sum(),
            committed: but_one.last().unwrap().clone(),
            newest: but_one
                .iter()
                .filter_map(|commit| commit.newest)
                .max()
                .unwrap(),
        }
    }
}

fn compare(status: &Value, samples: &[Sample]) {
    let shown = |field: &str| -> Timestamp { status[field].as_str().unwrap().parse().unwrap() };
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
    let oldest = samples.last().unwrap().at - STALENESS;
    let since = samples
        .iter()
        .rposition(|sample| sample.at <= oldest)
        .unwrap();
    let then = &samples[since];
    let committed = shown("committedTime");
    assert!(
        committed >= whole(then.committed.time),
        "committed {committed}, older than {oldest}"
    );
    let watermark = shown("watermark");
    assert!(
        watermark >= whole(then.newest - DELAY),
        "watermark {watermark}, older than {oldest}"
    );
    // Between two samples both numbers only grow; one record in a hundred may be a dead letter.
    let between = samples[since..].windows(2);
    let bounds = between.map(|pair| {
        let (before, after) = (&pair[0], &pair[1]);
        (before.sent - after.rows - after.sent / 100)..=(after.sent - before.rows)
    });
    let lag = status["lagRecords"].as_i64().unwrap();
    let bounds: Vec<_> = bounds.collect();
    assert!(
        bounds.iter().any(|bounds| bounds.contains(&lag)),
        "lag {lag}, none of {bounds:?}"
    );
}
