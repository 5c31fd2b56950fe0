//! The Kafka source, the Kafka sink and `evp produce` against a real broker (semantics 24-29, 35, 39).

mod faults;
pub(crate) mod java;
mod produce;
mod reading;
pub(crate) mod records;
mod sink;
pub(crate) mod topic;

use std::path::Path;
use std::time::Duration;

use evp_api::plan::{
    KafkaPlan, KafkaStart, OnDataLoss, SaslMechanism, SaslPlan, SecretKeyRef, TlsPlan,
};
use evp_core::position::{Position, SplitId, SplitPositions};
use evp_core::record::{Gap, RawBatch};
use evp_worker::clock::SystemClock;
use evp_worker::secrets::Secrets;
use evp_worker::source::kafka::{KafkaSource, Parts};
use evp_worker::source::{Budget, Source, SourceError};

use topic::{Topic, env, within};

const BUDGET: Budget = Budget {
    records: 10_000,
    bytes: 1 << 24,
};
const WAIT: Duration = Duration::from_millis(200);

fn plan(topic: &str) -> KafkaPlan {
    KafkaPlan {
        bootstrap_servers: env("EVP_BED_KAFKA"),
        topic: topic.to_owned(),
        start: KafkaStart::Earliest,
        tls: None,
        sasl: None,
        on_data_loss: OnDataLoss::Fail,
    }
}

fn secured(topic: &str) -> KafkaPlan {
    let secret = |key: &str| SecretKeyRef {
        name: "kafka".into(),
        key: key.into(),
    };
    KafkaPlan {
        bootstrap_servers: env("EVP_BED_KAFKA_SASL_SSL"),
        tls: Some(TlsPlan {
            ca: Some(secret("ca")),
            client: None,
        }),
        sasl: Some(SaslPlan {
            mechanism: SaslMechanism::Plain,
            username: env("EVP_BED_KAFKA_USER"),
            password: secret("password"),
        }),
        ..plan(topic)
    }
}

fn open(plan: KafkaPlan, secrets: &Path) -> KafkaSource {
    KafkaSource::new(Parts {
        plan,
        secrets: Secrets::new(secrets),
        queue_bytes: 16 << 20,
        clock: SystemClock::shared(),
    })
}

fn source(plan: KafkaPlan) -> KafkaSource {
    open(plan, Path::new("/nonexistent"))
}

/// A source that stands at the manifest's start.
async fn started(plan: KafkaPlan) -> (KafkaSource, SplitPositions) {
    let mut source = source(plan);
    let start = source.splits(None).await.unwrap();
    source.seek(&start).await.unwrap();
    (source, start)
}

/// What was read: (partition, offset, value), in order; and where that ends.
#[derive(Debug, Default)]
struct Seen {
    records: Vec<(i32, i64, Option<String>)>,
    positions: SplitPositions,
    gaps: Vec<Gap>,
    ends: Vec<Option<Position>>,
}

impl Seen {
    fn take(&mut self, raw: &RawBatch) {
        for record in &raw.records {
            let partition = raw.splits[record.split as usize].as_partition().unwrap();
            let value = raw
                .value(record)
                .map(|v| String::from_utf8(v.to_vec()).unwrap());
            self.records.push((partition, record.position.0, value));
        }
        for reached in &raw.reached {
            self.positions
                .insert(reached.split.clone(), reached.position.clone());
        }
        self.ends = raw.reached.iter().map(|r| r.end).collect();
        self.gaps.extend(raw.gaps.clone());
    }

    fn values(&self) -> Vec<&str> {
        let mut values: Vec<_> = self.records.iter().filter_map(|r| r.2.as_deref()).collect();
        values.sort_unstable();
        values
    }

    fn next(&self, partition: i32) -> i64 {
        self.positions[&SplitId::partition(partition)].next.0
    }
}

/// Reads until `done`.
async fn read_until(source: &mut KafkaSource, done: impl Fn(&Seen) -> bool) -> Seen {
    let mut seen = Seen::default();
    within(async {
        while !done(&seen) {
            seen.take(&source.poll(BUDGET, WAIT).await.unwrap());
        }
    })
    .await;
    seen
}

fn reason(error: &SourceError) -> &'static str {
    match error {
        SourceError::Unavailable { reason, .. } | SourceError::Stop { reason, .. } => reason,
        SourceError::Secret(_) => "SecretMissing",
    }
}
