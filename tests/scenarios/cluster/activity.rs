//! The activity example from a topic to files and topics, through kills, everything sent twice: files read by pyarrow, topics by
//! Kafka's own consumer, which reads them meanwhile, and both held against an evaluation of the producer's ledgers.

use std::path::PathBuf;

use evp_tests::bed;
use evp_tests::oracle::{self, Expected, Table};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::bed::apply;
use super::objects::Objects;
use super::producer::{Producer, paths};
use super::site::{Site, plain_store, set};
use crate::parts::kafka::java::Reader;
use crate::parts::kafka::records::{assert_told_apart, newest, value};
use crate::parts::kafka::topic::{Record, Topic};

const PIPELINE: &str = "user-activity";

/// Events are sent in portions, each of which is as many seconds of event time: their times pass faster than the test's.
const PORTIONS: i64 = 8;
const PORTION: i64 = 300;

/// Who reads along, and what was sent.
struct Activity {
    site: Site,
    objects: Objects,
    incoming: Topic,
    unique: Topic,
    totals: Topic,
    /// When the first event was.
    start: Timestamp,
}

impl Activity {
    async fn new() -> Self {
        let site = Site::new("activity", "activity").await;
        let objects = Objects::of(&site);
        site.keep_broker_secret("kafka-activity");
        site.keep_store_secret("activity");
        // The last event is in the middle of a window, and so is the watermark: no window is about to close at the end.
        let window = 300;
        let end = Timestamp::now().as_second() / window * window - window / 2;
        Self {
            site,
            objects,
            incoming: Topic::create(3).await,
            unique: Topic::create(3).await,
            totals: Topic::create(2).await,
            start: Timestamp::from_second(end - PORTIONS * PORTION).unwrap(),
        }
    }

    fn manifest(&self) -> Value {
        let mut patch = plain_store();
        let topics = [
            ("/spec/sources/0/kafka", &self.incoming),
            ("/spec/sinks/1/kafka", &self.unique),
            ("/spec/sinks/3/kafka", &self.totals),
        ];
        for (kafka, topic) in topics {
            patch.extend([
                set(
                    &format!("{kafka}/bootstrapServers"),
                    bed("EVP_BED_KAFKA_SASL_SSL"),
                ),
                set(&format!("{kafka}/sasl/username"), bed("EVP_BED_KAFKA_USER")),
                set(&format!("{kafka}/topic"), topic.name.clone()),
            ]);
        }
        patch.extend([
            set("/spec/checkpoint/interval", "1s"),
            set("/spec/checkpoint/path", self.site.path("checkpoint")),
            set("/spec/deadLetter/files/path", self.site.path("dead")),
            set("/spec/sinks/0/parquet/path", self.site.path("events")),
            set("/spec/sinks/2/parquet/path", self.site.path("totals")),
        ]);
        self.site.overlaid(&patch)
    }

    /// Sends one portion; its ledger.
    fn send(&self, time: &str, portion: i64) -> PathBuf {
        let start = self.start + SignedDuration::from_secs(portion * PORTION);
        let flags = format!(
            "--seed {portion} --start {start} --rate 1 --limit {PORTION} --duplicates 0.2 --disorder 0.1 --malformed 0.02"
        );
        let ledger = format!("{time}-{portion}.jsonl");
        Producer::of_activity(&self.site, &self.incoming, &ledger, &flags).end()
    }

    /// Sends all portions. After some of them, while they are under way, the worker is killed: its container or the whole pod by
    /// turns; what follows is sent while nobody reads.
    async fn send_all(&self, time: &str, kills: &[i64]) -> Vec<PathBuf> {
        let mut ledgers = Vec::new();
        let mut killed = 0;
        for portion in 0..PORTIONS {
            let before = self.objects.epoch().await;
            ledgers.push(self.send(time, portion));
            if kills.contains(&portion) {
                match killed % 2 {
                    0 => self.site.kill_worker(PIPELINE).await,
                    _ => self.site.kill_pod(PIPELINE).await,
                }
                killed += 1;
            } else {
                self.objects.epoch_after(&self.site, before).await;
            }
        }
        ledgers
    }

    /// Until the status says that all is committed.
    async fn through(&self, sent: usize) {
        let all = |status: &Value| (status["ledger"]["read"] == sent).then_some(());
        self.site.status(PIPELINE, "all records read", all).await;
        self.site.drained(PIPELINE).await;
    }

    /// All that a reader was given, once it was given what is committed.
    async fn seen(&self, topic: &Topic, reader: &mut Reader) -> Vec<Record> {
        let committed = topic.committed().await;
        let seen = async || Some(reader.seen()).filter(|seen| seen.len() >= committed.len());
        let seen = self.site.until("all that is committed", seen).await;
        assert_eq!(seen, committed);
        assert_told_apart(&seen);
        seen
    }

    fn assert_status(&self, counts: &Value) {
        let status = self.site.pipeline(PIPELINE)["status"].take();
        let ledger = &status["ledger"];
        let count = |value: &Value| value.as_i64().unwrap();
        let (late, duplicate) = (count(&ledger["late"]), count(&ledger["duplicate"]));
        let wanted = json!({
            "read": counts["read"],
            "filtered": 0,
            "late": late,
            "duplicate": count(&counts["repeated"]) - late,
            "deadLettered": counts["dead_letters"],
            "balanced": true,
        });
        assert_eq!(*ledger, wanted);
        let within = |bounds: &Value, n: i64| (count(&bounds[0])..=count(&bounds[1])).contains(&n);
        assert!(
            duplicate > 0 && within(&counts["late"], late),
            "{counts} {status}"
        );
        let unique = &status["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == "unique");
        let conflict = count(&unique.unwrap()["conflict"]);
        assert!(within(&counts["conflict"], conflict), "{counts} {status}");
        for sink in status["sinks"].as_array().unwrap() {
            assert_eq!(sink["delivery"], "ExactlyOnce");
            if sink["name"].as_str().unwrap().starts_with("events") {
                assert_eq!(sink["rows"], counts["unique"]);
            }
        }
    }
}

/// Records that ledgers tell of.
fn lines(ledgers: &[PathBuf]) -> usize {
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    ledgers.iter().map(lines).sum()
}

/// Each record has the key that the manifest names.
fn assert_keyed(records: &[Record], column: &str) {
    for record in records {
        assert_eq!(value(record)[column].as_str(), record.key.as_deref());
    }
}

fn assert_topics(expected: &Expected, unique: &[Record], totals: &[Record]) {
    assert_keyed(unique, "eventId");
    let rows: Vec<_> = unique.iter().map(value).collect();
    expected.assert_equals_rows(Table::Events, &rows);
    assert_keyed(totals, "userId");
    let newest = newest(totals, &["window_start", "userId"], "events");
    expected.assert_equals_rows(Table::Totals, &newest);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn every_event_counts_once_in_files_and_topics_though_all_is_sent_twice_through_kills() {
    let activity = Activity::new().await;
    let site = &activity.site;
    let mut unique = Reader::start(&activity.unique, site.dir().join("unique.txt"));
    let mut totals = Reader::start(&activity.totals, site.dir().join("totals.txt"));
    let manifest = activity.manifest();
    apply(&manifest);
    site.wait_ready(PIPELINE);
    let first = activity.send_all("first", &[2, 4, 6]).await;
    let sent = lines(&first);
    activity.objects.until_read(site, "incoming", sent).await;
    for reader in [&mut unique, &mut totals] {
        let reads = async || (!reader.seen().is_empty()).then_some(());
        site.until("a reader that reads along", reads).await;
    }
    site.kill_pod(PIPELINE).await;
    let again = activity.send_all("again", &[3]).await;
    activity.through(sent + lines(&again)).await;

    let expected = site.dir().join("expected");
    let expected = oracle::evaluate_activity(&paths(&first), &paths(&again), &expected);
    let unique = activity.seen(&activity.unique, &mut unique).await;
    let totals = activity.seen(&activity.totals, &mut totals).await;
    assert_topics(&expected, &unique, &totals);
    expected.assert_equals(Table::Events, &site.path("events"));
    expected.assert_equals(Table::Closed, &site.path("totals"));
    expected.assert_equals(Table::DeadLetters, &site.path("dead"));
    activity.assert_status(&expected.counts);
    site.assert_audited(&manifest);
    let secrets = ["EVP_BED_KAFKA_PASSWORD", "EVP_BED_S3_SECRET_KEY"].map(bed);
    site.assert_untold(PIPELINE, &secrets.each_ref().map(String::as_str));
}
