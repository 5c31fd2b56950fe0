//! Laws of the Kafka sink on a real broker: what readers of committed records see, whatever is done twice, cut short or fenced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use evp_api::plan::{Delivery, KafkaSinkPlan};
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use evp_worker::checkpointer::CrashPoints;
use evp_worker::secrets::Secrets;
use evp_worker::sink::delta::Target;
use evp_worker::sink::kafka::{KafkaSink, KafkaSinkSettings};
use evp_worker::sink::outbox::Outbox;
use evp_worker::sink::{Sink, SinkError};
use object_store::memory::InMemory;
use url::Url;

use super::topic::{Record, Topic};
use super::{env, secured, within};

mod progress;

/// A sink's places: its topics, and a checkpoint in memory.
struct World {
    topic: Topic,
    progress: Topic,
    settings: KafkaSinkSettings,
}

impl World {
    async fn new(partitions: i32) -> Self {
        Self::of(Topic::create(partitions).await)
    }

    fn of(topic: Topic) -> Self {
        let progress = Topic::named(&format!("{}-progress", topic.name));
        let settings = KafkaSinkSettings {
            identity: SinkIdentity("0123456789abcdef".repeat(4)),
            name: SinkIdentity(format!("name-{}", topic.name)),
            siblings: Vec::new(),
            plan: KafkaSinkPlan {
                bootstrap_servers: env("EVP_BED_KAFKA"),
                topic: topic.name.clone(),
                key_column: Some("name".to_owned()),
                delivery: Delivery::ExactlyOnce,
                progress_topic: progress.name.clone(),
                tls: None,
                sasl: None,
            },
            secrets: Secrets::new("/nonexistent"),
            asks_only: false,
            outbox: Outbox {
                checkpoint: Target {
                    store: Arc::new(InMemory::new()),
                    prefix: "checkpoint".into(),
                    url: Url::parse("memory:///checkpoint").unwrap(),
                },
                lane: Lane::default(),
            },
            epoch: Epoch(1),
            nonce: "n".to_owned(),
            crash: CrashPoints::none(),
        };
        Self {
            topic,
            progress,
            settings,
        }
    }

    /// A sink as another start of the worker opens it.
    async fn sink(&self, nonce: &str) -> KafkaSink {
        let settings = KafkaSinkSettings {
            nonce: nonce.to_owned(),
            ..self.settings.clone()
        };
        KafkaSink::open(settings).await.unwrap()
    }

    fn intent(&self, epoch: u64, body: serde_json::Value) -> Intent {
        Intent {
            sink: self.settings.identity.clone(),
            epoch: Epoch(epoch),
            prev: (epoch > 1).then(|| Epoch(epoch - 1)),
            body,
            apart: None,
        }
    }

    /// What an epoch with these ids wants done.
    async fn sealed(&self, sink: &mut KafkaSink, epoch: u64, ids: &[i64]) -> Intent {
        sink.stage(rows(ids)).await.unwrap();
        let body = sink.seal(Epoch(epoch)).await.unwrap().unwrap();
        self.intent(epoch, body)
    }

    async fn seen(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.topic.committed().await.iter().map(id).collect();
        ids.sort_unstable();
        ids
    }
}

fn rows(ids: &[i64]) -> SinkBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("k{}", id % 3)).collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("name", Arc::new(StringArray::from(names))),
    ];
    SinkBatch::Rows(RecordBatch::try_from_iter(columns).unwrap())
}

fn id(record: &Record) -> i64 {
    let value: serde_json::Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
    value["id"].as_i64().unwrap()
}

fn why(error: SinkError) -> (&'static str, String) {
    match error {
        SinkError::Unavailable { reason, message } | SinkError::Stop { reason, message } => {
            (reason, message)
        }
    }
}

/// Applies until it is done, as the worker does.
async fn apply(sink: &mut KafkaSink, intent: &Intent) {
    within(async {
        loop {
            match sink.roll_forward(intent).await {
                Ok(_) => return,
                Err(SinkError::Unavailable { .. }) => {}
                Err(stop) => panic!("{stop}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_epoch_is_in_the_topic_once_however_often_and_by_whom_it_is_applied() {
    let world = World::new(3).await;
    let mut sink = world.sink("a").await;
    let first = world.sealed(&mut sink, 1, &[1, 2, 3]).await;
    assert_eq!(within(sink.probe(&first)).await.unwrap(), None);
    apply(&mut sink, &first).await;
    apply(&mut sink, &first).await;
    let second = world.sealed(&mut sink, 2, &[4, 5]).await;
    apply(&mut sink, &second).await;
    // The answer was lost with the process.
    let mut later = world.sink("b").await;
    assert_eq!(within(later.probe(&second)).await.unwrap(), Some(Epoch(2)));
    apply(&mut later, &second).await;
    apply(&mut later, &first).await;
    assert_eq!(world.seen().await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_record_has_its_key_its_value_and_the_three_headers_that_tell_which_it_is() {
    let world = World::new(1).await;
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[7, 8]).await;
    apply(&mut sink, &intent).await;
    let record = |row: &str, key: &str, value: &str| Record {
        partition: 0,
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
        headers: [
            ("evp-sink", "01234567"),
            ("evp-epoch", "1"),
            ("evp-row", row),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec(),
    };
    assert_eq!(
        world.topic.committed().await,
        [
            record("0", "k1", r#"{"id":7,"name":"k1"}"#),
            record("1", "k2", r#"{"id":8,"name":"k2"}"#),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn keys_are_placed_where_kafkas_own_clients_place_them() {
    let world = World::new(5).await;
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[0, 1, 2]).await;
    apply(&mut sink, &intent).await;
    let mut placed: Vec<_> = world.topic.committed().await;
    placed.sort_by_key(id);
    let placed: Vec<_> = placed.into_iter().map(|r| (r.key, r.partition)).collect();
    // murmur2(key) & 0x7fffffff mod 5, by Kafka's org.apache.kafka.common.utils.Utils.
    let expected = [("k0", MURMUR2[0]), ("k1", MURMUR2[1]), ("k2", MURMUR2[2])];
    assert_eq!(placed, expected.map(|(key, at)| (Some(key.to_owned()), at)));
}

/// Of k0, k1, k2 over five partitions.
const MURMUR2: [i32; 3] = [0, 2, 3];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn what_a_worker_left_open_is_aborted_by_who_begins_and_it_commits_nothing_any_more() {
    let world = World::new(1).await;
    // As a worker that was stopped after it had sent its rows, before it committed.
    let asleep = world
        .topic
        .open_transaction_as(&world.settings.name.0, r#"{"id":99}"#)
        .await;
    let mut sink = world.sink("a").await;
    let intent = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &intent).await;
    asleep.fails().await;
    assert_eq!(world.seen().await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn two_workers_that_apply_the_same_epochs_by_turns_double_nothing() {
    let world = World::new(2).await;
    let (mut one, mut other) = (world.sink("a").await, world.sink("b").await);
    for epoch in 1..=4 {
        let number = i64::try_from(epoch).unwrap() * 10;
        let intent = world.sealed(&mut one, epoch, &[number, number + 1]).await;
        // Each finds itself fenced by the other's last epoch, begins anew, and reads.
        if epoch % 2 == 0 {
            apply(&mut other, &intent).await;
        } else {
            let (a, b) = tokio::join!(one.roll_forward(&intent), other.roll_forward(&intent));
            for stop in [a, b].into_iter().filter_map(Result::err) {
                assert!(matches!(stop, SinkError::Unavailable { .. }), "{stop}");
            }
        }
        apply(&mut one, &intent).await;
    }
    assert_eq!(world.seen().await, [10, 11, 20, 21, 30, 31, 40, 41]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_epoch_of_several_parts_arrives_whole_and_in_order() {
    let world = World::new(2).await;
    let mut sink = world.sink("a").await;
    for from in (0..400_000).step_by(10_000) {
        let ids: Vec<i64> = (from..from + 10_000).collect();
        sink.stage(rows(&ids)).await.unwrap();
    }
    let body = sink.seal(Epoch(1)).await.unwrap().unwrap();
    assert!(body["outbox"].as_array().unwrap().len() > 1, "{body}");
    assert_eq!(body["records"], 400_000);
    let intent = world.intent(1, body);
    apply(&mut sink, &intent).await;
    let seen = world.topic.committed().await;
    assert_eq!(seen.len(), 400_000);
    for partition in 0..2 {
        let ids = seen.iter().filter(|r| r.partition == partition).map(id);
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn rows_of_an_epoch_that_was_given_up_are_never_seen() {
    let world = World::new(1).await;
    let mut sink = world.sink("a").await;
    sink.stage(rows(&[1, 2])).await.unwrap();
    sink.abandon().await;
    assert_eq!(sink.seal(Epoch(1)).await.unwrap(), None);
    let intent = world.sealed(&mut sink, 1, &[3]).await;
    apply(&mut sink, &intent).await;
    assert_eq!(world.seen().await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn at_least_once_an_epoch_that_was_noted_is_not_sent_again() {
    let mut world = World::new(1).await;
    world.settings.plan.delivery = Delivery::AtLeastOnce;
    let mut sink = world.sink("a").await;
    let first = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &first).await;
    let mut later = world.sink("b").await;
    assert_eq!(within(later.probe(&first)).await.unwrap(), Some(Epoch(1)));
    apply(&mut later, &first).await;
    let second = world.sealed(&mut later, 2, &[2]).await;
    apply(&mut later, &second).await;
    // A worker that slept notes an old epoch behind the new one: the newest counts.
    let mut asleep = world.sink("c").await;
    let name = &world.settings.name.0;
    let old = format!(
        r#"{{"format":1,"sink":"{}","epoch":1}}"#,
        world.settings.identity
    );
    world
        .progress
        .send(0, Some(&format!("{name}/asleep")), Some(&old))
        .await;
    assert_eq!(within(asleep.probe(&second)).await.unwrap(), Some(Epoch(2)));
    assert_eq!(world.seen().await, [1, 2]);
    // From now on in transactions: what was noted is still known.
    world.settings.plan.delivery = Delivery::ExactlyOnce;
    let mut exactly = world.sink("d").await;
    let third = world.sealed(&mut exactly, 3, &[3]).await;
    assert_eq!(within(exactly.probe(&third)).await.unwrap(), Some(Epoch(2)));
    apply(&mut exactly, &third).await;
    assert_eq!(world.seen().await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_row_that_the_topic_would_not_take_is_refused_before_anything_is_decided() {
    let world = World::new(1).await;
    world.topic.set("max.message.bytes", "2000").await;
    let mut sink = world.sink("a").await;
    let large: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("name", Arc::new(StringArray::from(vec!["x".repeat(900)]))),
    ];
    let large = SinkBatch::Rows(RecordBatch::try_from_iter(large).unwrap());
    let (reason, message) = why(sink.stage(large.clone()).await.unwrap_err());
    assert_eq!(reason, "SinkRejected", "{message}");
    assert!(message.contains("2000 bytes"), "{message}");
    // Raised, the same row is taken; lowered again before it is sent, it waits.
    world.topic.set("max.message.bytes", "4000").await;
    let mut sink = world.sink("b").await;
    sink.stage(large).await.unwrap();
    let body = sink.seal(Epoch(1)).await.unwrap().unwrap();
    let intent = world.intent(1, body);
    world.topic.set("max.message.bytes", "1000").await;
    let (reason, message) = why(within(sink.roll_forward(&intent)).await.unwrap_err());
    assert_eq!(reason, "SinkRejected", "{message}");
    world.topic.set("max.message.bytes", "4000").await;
    apply(&mut sink, &intent).await;
    assert_eq!(world.seen().await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_topic_that_is_missing_and_credentials_that_are_wrong_are_named() {
    let world = World::of(Topic::name_only());
    let Err(error) = within(KafkaSink::open(world.settings.clone())).await else {
        panic!("there is no such topic");
    };
    let (reason, message) = why(error);
    assert_eq!(reason, "TopicMissing", "{message}");
    assert!(message.contains(&world.topic.name), "{message}");

    let secrets = tempfile::tempdir().unwrap();
    let put = |key: &str, text: &str| {
        std::fs::create_dir_all(secrets.path().join("kafka")).unwrap();
        std::fs::write(secrets.path().join("kafka").join(key), text).unwrap();
    };
    let ca = std::fs::read_to_string(env("EVP_BED_KAFKA_CA")).unwrap();
    put("ca", &ca);
    put("password", "s3cret-but-wrong");
    world.topic.make(1).await;
    let mut settings = world.settings.clone();
    let reach = secured(&world.topic.name);
    settings.plan.bootstrap_servers = reach.bootstrap_servers;
    (settings.plan.tls, settings.plan.sasl) = (reach.tls, reach.sasl);
    settings.secrets = Secrets::new(Path::new(secrets.path()));
    let Err(error) = within(KafkaSink::open(settings.clone())).await else {
        panic!("it was let in");
    };
    let (reason, message) = why(error);
    assert_eq!(reason, "SinkDenied", "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    put("password", &env("EVP_BED_KAFKA_PASSWORD"));
    let mut sink = within(KafkaSink::open(settings)).await.unwrap();
    let intent = world.sealed(&mut sink, 1, &[1]).await;
    apply(&mut sink, &intent).await;
    assert_eq!(world.seen().await, [1]);
}
