//! Questions about topics: are they there, with which settings? And the one topic that we create.

use std::time::Duration;

use evp_api::reason;
use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::trouble::Place;
use crate::kafka::{Connection, Errors, hear_out};
use crate::sink::SinkError;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);

/// Kafka's own default of `max.message.bytes`, where we may not ask.
const USUAL_LARGEST: usize = 1_048_588;

/// Times that a new topic is looked for.
const LOOKS: u32 = 50;

/// A client that reads without a group.
pub(super) fn consumer(
    connection: &Connection,
    place: &Place,
    isolation: &str,
) -> Result<BaseConsumer<Errors>, SinkError> {
    let mut config = connection.config();
    config
        // Needed to consume at all; nothing is ever committed or subscribed under it.
        .set("group.id", "eventpipeline-unused")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "100")
        .set("isolation.level", isolation);
    let made = config.create_with_context(Errors::default());
    made.map_err(|e| place.failed("no connection can be made", &e, &Errors::default()))
}

/// Asks about topics.
pub(super) struct Cluster {
    /// For questions that do not create what they ask for.
    asker: BaseConsumer<Errors>,
    admin: AdminClient<Errors>,
}

impl Cluster {
    pub(super) fn new(connection: &Connection, place: &Place) -> Result<Self, SinkError> {
        let asker = consumer(connection, place, "read_uncommitted")?;
        let admin = AdminClient::from_config_and_context(&connection.config(), Errors::default());
        let admin =
            admin.map_err(|e| place.failed("no connection can be made", &e, &Errors::default()))?;
        Ok(Self { asker, admin })
    }

    /// A client that sees all records, also those of transactions that are open.
    pub(super) fn asker(&self) -> &BaseConsumer<Errors> {
        &self.asker
    }

    pub(super) fn topic<'a>(&'a self, place: &'a Place, name: &'a str) -> Topic<'a> {
        Topic {
            asker: &self.asker,
            admin: &self.admin,
            place,
            name,
        }
    }
}

/// Asks about one topic.
pub(super) struct Topic<'a> {
    asker: &'a BaseConsumer<Errors>,
    admin: &'a AdminClient<Errors>,
    place: &'a Place,
    name: &'a str,
}

impl Topic<'_> {
    /// The number of partitions; `None`: there is no such topic.
    fn partitions(&self) -> Result<Option<usize>, SinkError> {
        let errors = self.asker.client().context();
        let told = self.asker.fetch_metadata(Some(self.name), QUESTION);
        let told = told.map_err(|e| {
            hear_out(self.asker);
            self.place.failed("it cannot be reached", &e, errors)
        })?;
        let Some(topic) = told.topics().first() else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(topic.partitions().len()).filter(|count| *count > 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(self.place.refused("it cannot be looked at", code, errors)),
        }
    }

    pub(super) fn is_there(&self) -> Result<bool, SinkError> {
        Ok(self.partitions()?.is_some())
    }

    /// A setting. `None`: we may not ask, or the cluster does not tell.
    fn setting(&self, name: &str) -> Option<String> {
        let options = AdminOptions::new().request_timeout(Some(QUESTION));
        let topic = ResourceSpecifier::Topic(self.name);
        let answer = block_on(self.admin.describe_configs([&topic], &options));
        let found: ConfigResource = match answer.ok()?.pop()? {
            Ok(found) => found,
            Err(code) => {
                tracing::warn!(topic = self.name, %code, "its settings cannot be asked for: they are taken to be fit");
                return None;
            }
        };
        found.get(name)?.value.clone()
    }

    /// Refuses a topic that keeps the last record of each key, for records that have none.
    pub(super) fn takes_records_without_keys(&self) -> Result<(), SinkError> {
        match self.setting("cleanup.policy") {
            Some(policy) if policy.contains("compact") => Err(self.place.stop(
                reason::TOPIC_MISMATCH,
                "it is compacted and takes no records without keys: name a column with `keyColumn`, or set its cleanup.policy to \
                 delete",
            )),
            _ => Ok(()),
        }
    }

    /// The largest record batch that the topic takes. An error: it is not there.
    pub(super) fn largest(&self) -> Result<usize, SinkError> {
        if self.partitions()?.is_none() {
            return Err(self.place.missing());
        }
        let told = self.setting("max.message.bytes");
        Ok(told.and_then(|t| t.parse().ok()).unwrap_or(USUAL_LARGEST))
    }

    /// Creates the progress topic if it is missing, and refuses one that would forget or that has no one order.
    pub(super) fn hold_progress(&self) -> Result<(), SinkError> {
        let mut partitions = self.partitions()?;
        if partitions.is_none() {
            self.create()?;
            partitions = self.appeared()?;
        }
        let unfit = |what: &str| Err(self.place.stop(reason::TOPIC_MISMATCH, what));
        if partitions != Some(1) {
            return unfit(
                "the progress of sinks needs a topic of one partition; name another with `progressTopic`",
            );
        }
        match self.setting("cleanup.policy") {
            Some(policy) if policy != "compact" => unfit(
                "the progress of sinks must not be deleted by age or size: set its cleanup.policy to compact, or name another \
                 topic with `progressTopic`",
            ),
            _ => Ok(()),
        }
    }

    fn create(&self) -> Result<(), SinkError> {
        let new = NewTopic::new(self.name, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "compact");
        let options = AdminOptions::new()
            .request_timeout(Some(QUESTION))
            .operation_timeout(Some(QUESTION));
        let errors = self.admin.inner().context();
        let what = "it is missing and cannot be created; create it with one partition and cleanup.policy=compact";
        let answer = block_on(self.admin.create_topics([&new], &options));
        let mut answer = answer.map_err(|e| self.place.failed(what, &e, errors))?;
        match answer.pop() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
            Some(Err((_, code))) => Err(self.place.refused(what, code, errors)),
        }
    }

    /// A new topic is not known to every broker at once.
    fn appeared(&self) -> Result<Option<usize>, SinkError> {
        for _ in 0..LOOKS {
            if let Some(partitions) = self.partitions()? {
                return Ok(Some(partitions));
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Err(self.place.missing())
    }
}
