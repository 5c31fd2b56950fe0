//! One connection: a consumer with its settings, its errors in words, and questions with deadlines.

use std::ffi::CString;
use std::time::Duration;

use evp_api::reason;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::native;
use crate::kafka::{self, Connection, Errors, describe, hear_out, is_denied};
use crate::source::SourceError;

/// How long one question to the cluster may take. Twice this is the longest that a source keeps its caller waiting.
const QUESTION: Duration = Duration::from_secs(5);

/// A connected consumer of one topic.
pub(super) struct Client {
    /// `None` only while it is being dropped.
    consumer: Option<BaseConsumer<Errors>>,
    bootstrap_servers: String,
    topic: String,
}

/// First and one past the last offset of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Client {
    /// Creates a consumer; connecting happens with the first question.
    pub(super) fn connect(
        connection: &Connection,
        topic: &str,
        queue_bytes: usize,
    ) -> Result<Self, SourceError> {
        let mut config = connection.config();
        // No message may be larger than half the queue, so that two partitions can always be read side by side.
        let fetch = (queue_bytes / 2).clamp(1 << 20, 16 << 20);
        config
            // Needed to consume at all; nothing is ever committed or subscribed under it.
            .set("group.id", "eventpipeline-unused")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true")
            // The default of 1000 makes a backlog four times slower to read.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.max.bytes", fetch.to_string())
            .set(
                "queued.max.messages.kbytes",
                (queue_bytes / 1024).max(1024).to_string(),
            )
            .set("queued.min.messages", "1000000")
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set_log_level(RDKafkaLogLevel::Warning);
        let consumer = config.create_with_context(Errors::default()).map_err(|e| {
            SourceError::Unavailable {
                reason: reason::SOURCE_DENIED,
                message: format!(
                    "no connection can be made with these credentials: {}",
                    describe(&e)
                ),
            }
        })?;
        Ok(Self {
            consumer: Some(consumer),
            bootstrap_servers: connection.bootstrap_servers.clone(),
            topic: topic.to_owned(),
        })
    }

    /// The consumer; `Err` never happens outside of dropping.
    pub(super) fn consumer(&self) -> Result<&BaseConsumer<Errors>, SourceError> {
        self.consumer.as_ref().ok_or_else(|| self.unavailable(None))
    }

    /// Numbers of the topic's partitions.
    pub(super) fn partitions(&self) -> Result<Vec<i32>, SourceError> {
        let metadata = self.asked(|c| c.fetch_metadata(Some(&self.topic), QUESTION))?;
        let Some(topic) = metadata.topics().first() else {
            return Err(self.missing());
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Err(self.missing());
            }
            Some(code) => return Err(self.failed(code, &code.to_string())),
        }
        let mut partitions: Vec<_> = topic
            .partitions()
            .iter()
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            Err(self.missing())
        } else {
            Ok(partitions)
        }
    }

    /// The range of offsets that a partition holds now, up to the last stable one.
    pub(super) fn range(&self, partition: i32) -> Result<Range, SourceError> {
        let (low, high) = self.asked(|c| c.fetch_watermarks(&self.topic, partition, QUESTION))?;
        Ok(Range { low, high })
    }

    /// Per partition the first offset at or after a time; its end where there is none.
    pub(super) fn at_time(
        &self,
        partitions: &[i32],
        micros: i64,
    ) -> Result<Vec<(i32, i64)>, SourceError> {
        let mut wanted = TopicPartitionList::new();
        // Kafka counts milliseconds: round up, so that nothing earlier is read.
        let millis = micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0);
        for &partition in partitions {
            wanted
                .add_partition_offset(&self.topic, partition, Offset::Offset(millis))
                .map_err(|e| self.unavailable(Some(describe(&e))))?;
        }
        let found = self.asked(|c| c.offsets_for_times(wanted, QUESTION))?;
        let mut offsets = Vec::new();
        for element in found.elements() {
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.range(element.partition())?.high,
            };
            offsets.push((element.partition(), offset));
        }
        Ok(offsets)
    }

    /// The topic's id; `None`: the cluster is too old to tell.
    pub(super) fn topic_id(&self) -> Result<Option<String>, SourceError> {
        // A topic's name holds no zero byte; if it did, no broker would know it.
        let name = CString::new(self.topic.as_str()).unwrap_or_default();
        match native::topic_id(self.consumer()?, &name, QUESTION) {
            Ok(id) => Ok(id),
            Err(RDKafkaErrorCode::UnsupportedFeature) => Ok(None),
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(self.missing())
            }
            Err(code) => {
                self.collect_errors();
                Err(self.failed(code, &code.to_string()))
            }
        }
    }

    /// A question; a failure in words, with what librdkafka last complained about.
    fn asked<T>(
        &self,
        question: impl FnOnce(&BaseConsumer<Errors>) -> Result<T, KafkaError>,
    ) -> Result<T, SourceError> {
        let consumer = self.consumer()?;
        question(consumer).map_err(|e| {
            self.collect_errors();
            match e.rdkafka_error_code() {
                Some(code) => self.failed(code, &code.to_string()),
                None => self.unavailable(Some(describe(&e))),
            }
        })
    }

    /// Nothing is assigned or what is assigned is given up, so no message can be lost here.
    fn collect_errors(&self) {
        if let Some(consumer) = &self.consumer {
            hear_out(consumer);
        }
    }

    /// An error code as what went wrong with the source.
    pub(super) fn failed(&self, code: RDKafkaErrorCode, message: &str) -> SourceError {
        let last = self.last_error();
        let (code, message) = match last {
            Some((last, text)) if !is_denied(code) => (last, text),
            _ => (code, message.to_owned()),
        };
        if is_denied(code) {
            return SourceError::Unavailable {
                reason: reason::SOURCE_DENIED,
                message: format!(
                    "no access to topic {} at {}: {message}. Correct the credentials or the access; they are read again \
                     at each attempt, nothing is lost",
                    self.topic, self.bootstrap_servers
                ),
            };
        }
        self.unavailable(Some(message))
    }

    fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer.as_ref()?.client().context().take()
    }

    fn unavailable(&self, cause: Option<String>) -> SourceError {
        let cause = cause.unwrap_or_else(|| "closed".to_owned());
        SourceError::Unavailable {
            reason: reason::SOURCE_UNAVAILABLE,
            message: format!(
                "{} cannot be reached for topic {}: {cause}. It is tried again, nothing is lost",
                self.bootstrap_servers, self.topic
            ),
        }
    }

    fn missing(&self) -> SourceError {
        SourceError::Unavailable {
            reason: reason::TOPIC_MISSING,
            message: format!(
                "topic {} does not exist on {}. Create it, or correct the name; it is looked for again",
                self.topic, self.bootstrap_servers
            ),
        }
    }
}

impl Drop for Client {
    /// Closing may wait for a broker that is gone: nobody else waits for that.
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            kafka::thread(move || drop(consumer));
        }
    }
}
