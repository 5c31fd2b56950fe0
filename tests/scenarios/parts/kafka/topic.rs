//! A topic of its own for each test, and what is done to it.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use clap::Parser;
use evp_worker::cli::produce::{ProduceArgs, run};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(30);

/// A setting of the bed; without it the test fails.
pub(crate) fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `./tests/run`"))
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(task: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, task)
        .await
        .unwrap_or_else(|_| panic!("not done within {DEADLINE:?}"))
}

/// Runs `evp produce orders` with these flags.
pub(crate) async fn produce(flags: &[&str]) {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ProduceArgs,
    }
    let words = ["produce", "orders"]
        .into_iter()
        .chain(flags.iter().copied());
    within(run(Cli::parse_from(words).args)).await.unwrap();
}

pub(crate) struct Topic {
    pub(crate) name: String,
    /// Address of its broker.
    pub(crate) broker: String,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
}

/// A committed record, as a reader of another make would see it too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// A transaction that is neither committed nor aborted.
pub(crate) struct OpenTransaction(FutureProducer);

fn config(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config
}

impl Topic {
    /// A name that no topic has yet.
    pub(crate) fn name_only() -> Self {
        let unique = tempfile::Builder::new().prefix("kafka-").tempdir().unwrap();
        let name = unique
            .path()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace('.', "");
        Self::named(&name)
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::on(&env("EVP_BED_KAFKA"), name)
    }

    /// A topic of another broker than the bed's.
    pub(crate) fn on(broker: &str, name: &str) -> Self {
        // Compressed, so that a record may be larger than the broker takes plain.
        let mut producer = config(broker);
        producer
            .set("compression.type", "lz4")
            .set("message.max.bytes", "4000000");
        Self {
            name: name.to_owned(),
            broker: broker.to_owned(),
            producer: producer.create().unwrap(),
            admin: config(broker).create().unwrap(),
        }
    }

    pub(crate) async fn create(partitions: i32) -> Self {
        let topic = Self::name_only();
        topic.make(partitions).await;
        topic
    }

    pub(crate) async fn make(&self, partitions: i32) {
        self.make_with(partitions, "delete").await;
    }

    pub(crate) async fn make_with(&self, partitions: i32, cleanup: &str) {
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1))
            .set("cleanup.policy", cleanup);
        let made = self
            .admin
            .create_topics([&new], &AdminOptions::new())
            .await
            .unwrap();
        assert!(made[0].is_ok(), "{made:?}");
        self.ready(partitions).await;
    }

    /// Until the broker serves all partitions.
    async fn ready(&self, partitions: i32) {
        within(async {
            for partition in 0..partitions {
                // A client of its own, for one that has asked before remembers the answer.
                let served = || {
                    let asked: FutureProducer = config(&self.broker).create().unwrap();
                    asked
                        .client()
                        .fetch_watermarks(&self.name, partition, DEADLINE)
                        .is_ok()
                };
                while !served() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    }

    pub(crate) async fn remake(&self, partitions: i32) {
        self.remake_with(partitions, "delete").await;
    }

    /// A topic of one partition that keeps what is newest of each key.
    pub(crate) async fn remake_compacted(&self) {
        self.remake_with(1, "compact").await;
    }

    /// Changes a setting.
    pub(crate) async fn set(&self, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(key, value);
        let options = AdminOptions::new();
        let changed = self.admin.alter_configs([&change], &options).await.unwrap();
        assert!(changed[0].is_ok(), "{changed:?}");
    }

    pub(crate) fn is_there(&self) -> bool {
        let told = self
            .admin
            .inner()
            .fetch_metadata(Some(&self.name), DEADLINE);
        told.unwrap().topics()[0].error().is_none()
    }

    /// All that is committed now, by partition.
    pub(crate) async fn committed(&self) -> Vec<Record> {
        let consumer: BaseConsumer = config(&self.broker)
            .set("group.id", "reads")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let name = self.name.clone();
        let read = tokio::task::spawn_blocking(move || read_to_ends(&consumer, &name));
        let mut records = within(read).await.unwrap();
        records.sort_by_key(|record| record.partition);
        records
    }

    async fn remake_with(&self, partitions: i32, cleanup: &str) {
        let gone = self
            .admin
            .delete_topics(&[&self.name], &AdminOptions::new())
            .await
            .unwrap();
        assert!(gone[0].is_ok(), "{gone:?}");
        within(async {
            let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1))
                .set("cleanup.policy", cleanup);
            while self
                .admin
                .create_topics([&new], &AdminOptions::new())
                .await
                .unwrap()[0]
                .is_err()
            {}
        })
        .await;
        self.ready(partitions).await;
    }

    pub(crate) async fn grow(&mut self, partitions: usize) {
        let more = NewPartitions::new(&self.name, partitions);
        let grown = self
            .admin
            .create_partitions([&more], &AdminOptions::new())
            .await
            .unwrap();
        assert!(grown[0].is_ok(), "{grown:?}");
        // A producer keeps its partition count for minutes.
        self.producer = config(&self.broker).create().unwrap();
        self.ready(i32::try_from(partitions).unwrap()).await;
    }

    pub(crate) async fn delete_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .unwrap();
        self.admin
            .delete_records(&list, &AdminOptions::new())
            .await
            .unwrap();
    }

    pub(crate) async fn send(&self, partition: i32, key: Option<&str>, value: Option<&str>) {
        self.deliver(FutureRecord {
            key,
            payload: value,
            ..FutureRecord::to(&self.name).partition(partition)
        })
        .await;
    }

    pub(crate) async fn send_at(&self, partition: i32, millis: i64, value: &str) {
        self.deliver(
            FutureRecord::<str, str>::to(&self.name)
                .partition(partition)
                .timestamp(millis)
                .payload(value),
        )
        .await;
    }

    /// Numbers as values, into partition 0.
    pub(crate) async fn send_all(&self, numbers: Range<u32>) {
        for number in numbers {
            self.send(0, None, Some(&number.to_string())).await;
        }
    }

    /// Any bytes, or none; its offset and timestamp.
    pub(crate) async fn put(&self, partition: i32, value: Option<&[u8]>) -> (i64, i64) {
        let timestamp = jiff::Timestamp::now().as_millisecond();
        let record = FutureRecord::<str, [u8]> {
            payload: value,
            ..FutureRecord::to(&self.name)
                .partition(partition)
                .timestamp(timestamp)
        };
        let delivered = self.producer.send(record, DEADLINE).await;
        (delivered.map_err(|(e, _)| e).unwrap().offset, timestamp)
    }

    async fn deliver(&self, record: FutureRecord<'_, str, str>) {
        // A topic made anew may be unknown to the producer for a moment.
        self.producer
            .send(record, DEADLINE)
            .await
            .map_err(|(e, _)| e)
            .unwrap();
    }

    pub(crate) async fn transaction(&self, value: &str, commit: bool) {
        let OpenTransaction(producer) = self.open_transaction(value).await;
        within(blocking(move || {
            if commit {
                producer.commit_transaction(DEADLINE)
            } else {
                producer.abort_transaction(DEADLINE)
            }
        }))
        .await;
    }

    pub(crate) async fn open_transaction(&self, value: &str) -> OpenTransaction {
        let id = tempfile::Builder::new().prefix("txn").tempdir().unwrap();
        self.open_transaction_as(id.path().to_str().unwrap(), value)
            .await
    }

    /// Of a producer with this `transactional.id`.
    pub(crate) async fn open_transaction_as(&self, id: &str, value: &str) -> OpenTransaction {
        let producer: FutureProducer = config(&self.broker)
            .set("transactional.id", id)
            .create()
            .unwrap();
        let begun = producer.clone();
        within(blocking(move || {
            begun
                .init_transactions(DEADLINE)
                .and_then(|()| begun.begin_transaction())
        }))
        .await;
        let record = FutureRecord::<str, str>::to(&self.name)
            .partition(0)
            // A compacted topic takes no record without a key.
            .key("any")
            .payload(value);
        producer
            .send(record, DEADLINE)
            .await
            .map_err(|(e, _)| e)
            .unwrap();
        OpenTransaction(producer)
    }
}

impl OpenTransaction {
    pub(crate) async fn commit(self) {
        within(blocking(move || self.0.commit_transaction(DEADLINE))).await;
    }

    /// It was fenced.
    pub(crate) async fn fails(self) {
        let committed = tokio::task::spawn_blocking(move || self.0.commit_transaction(DEADLINE));
        within(committed).await.unwrap().unwrap_err();
    }

    pub(crate) async fn abort(self) {
        within(blocking(move || self.0.abort_transaction(DEADLINE))).await;
    }
}

async fn blocking(task: impl FnOnce() -> rdkafka::error::KafkaResult<()> + Send + 'static) {
    tokio::task::spawn_blocking(task).await.unwrap().unwrap();
}

fn read_to_ends(consumer: &BaseConsumer, name: &str) -> Vec<Record> {
    let told = consumer.fetch_metadata(Some(name), DEADLINE).unwrap();
    let mut assigned = TopicPartitionList::new();
    for partition in told.topics()[0].partitions() {
        assigned
            .add_partition_offset(name, partition.id(), Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assigned).unwrap();
    let (mut records, mut ended) = (Vec::new(), 0);
    while ended < assigned.count() {
        let message = match consumer.poll(DEADLINE).unwrap() {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => {
                ended += 1;
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().map(|headers| {
            let header = |h: Header<'_, &[u8]>| (h.key.to_owned(), text(h.value.unwrap()));
            headers.iter().map(header).collect()
        });
        records.push(Record {
            partition: message.partition(),
            key: message.key().map(text),
            value: message.payload().map(text),
            headers: headers.unwrap_or_default(),
        });
    }
    records
}
