//! How producers are made, and how they begin.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evp_core::protocol::head::SinkIdentity;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::trouble::Place;
use crate::kafka::{Connection, Errors};
use crate::sink::SinkError;

/// A producer that keeps what went wrong.
pub(super) type Producer = BaseProducer<Deliveries>;

/// How long the coordinator may take to let us begin: it ends first what whoever was there before left open.
const BEGIN: Duration = Duration::from_mins(1);

/// How long a transaction may be open, once one failed: as long as Kafka's brokers allow as they ship
/// (`transaction.max.timeout.ms`). One that takes longer is aborted by the broker, and applied again.
const LONG_MS: &str = "900000";

/// Where nothing went wrong yet: what a worker that died left open is in the way of others who read the progress topic.
const SHORT_MS: &str = "60000";

/// How long librdkafka itself keeps a record that is in no transaction: longer than any that is waited for.
const DELIVERY_MS: &str = "300000";

/// Bytes that librdkafka may hold undelivered, but for a single record that is larger.
const QUEUE_BYTES: usize = 16 << 20;

/// What a producer is made of.
pub(super) struct Making<'a> {
    pub(super) connection: &'a Connection,
    pub(super) place: &'a Place,
    /// The largest record batch that the topic takes, bytes.
    pub(super) largest: usize,
    /// `transactional.id`; `None`: without transactions.
    pub(super) name: Option<&'a SinkIdentity>,
    /// A transaction failed before: it may have taken too long.
    pub(super) long: bool,
}

impl Making<'_> {
    /// A producer; with transactions it has fenced whoever was there.
    pub(super) fn begin(&self) -> Result<Producer, SinkError> {
        if self.long {
            match self.made(self.name, LONG_MS) {
                Err((_, error)) if is_too_long(&error) => {}
                made => return made.map_err(|(made, error)| self.failed(made, &error)),
            }
        }
        let made = self.made(self.name, SHORT_MS);
        made.map_err(|(made, error)| self.failed(made, &error))
    }

    /// Ends what these left open.
    pub(super) fn end(&self, siblings: &[SinkIdentity]) {
        for name in siblings {
            if let Err((_, error)) = self.made(Some(name), SHORT_MS) {
                tracing::warn!(%error, "what another sink left open is not ended");
            }
        }
    }

    /// An error comes with the producer, which knows more of it; `None`: it could not be made.
    fn made(
        &self,
        name: Option<&SinkIdentity>,
        timeout: &str,
    ) -> Result<Producer, (Option<Producer>, KafkaError)> {
        let mut config = self.config();
        if let Some(name) = name {
            config
                .set("transactional.id", &name.0)
                .set("transaction.timeout.ms", timeout)
                // librdkafka wants it no longer than its transaction.
                .set("message.timeout.ms", timeout);
        }
        let made: KafkaResult<Producer> = config.create_with_context(Deliveries::default());
        let producer = made.map_err(|e| (None, e))?;
        match name.map(|_| producer.init_transactions(BEGIN)) {
            Some(Err(e)) => Err((Some(producer), e)),
            Some(Ok(())) | None => Ok(producer),
        }
    }

    fn failed(&self, made: Option<Producer>, error: &KafkaError) -> SinkError {
        let Some(producer) = made else {
            let what = "no connection can be made with these credentials";
            return self.place.failed(what, error, &Errors::default());
        };
        // Complaints come with polling.
        producer.poll(Duration::from_millis(20));
        let errors = &producer.client().context().errors;
        self.place.failed("no transaction can begin", error, errors)
    }

    fn config(&self) -> ClientConfig {
        let mut config = self.connection.config();
        // Several records share a batch only well below what the broker takes: their sizes are estimates.
        let batch = (self.largest / 4 * 3).clamp(1, 1_000_000);
        let queue = QUEUE_BYTES.max(2 * self.largest);
        let largest = self.largest.clamp(1_000, 1_000_000_000);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            // As Kafka's own clients place keys, so that topics written by both are partitioned alike.
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", largest.to_string())
            .set("batch.size", batch.to_string())
            .set("queue.buffering.max.kbytes", (queue / 1024).to_string())
            .set("message.timeout.ms", DELIVERY_MS)
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}

fn is_too_long(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionTimeout)
}

/// Keeps the first record that was not delivered, and what librdkafka complained of.
#[derive(Default)]
pub(super) struct Deliveries {
    pub(super) errors: Errors,
    failed: Mutex<Option<RDKafkaErrorCode>>,
}

impl Deliveries {
    /// Why a record was not delivered; it is told once.
    pub(super) fn failed(&self) -> Option<RDKafkaErrorCode> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.errors.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code();
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(code.unwrap_or(RDKafkaErrorCode::Unknown));
        }
    }
}
