//! What the sink's thread does: one producer, which lives as long as every answer is a plain yes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use evp_api::plan::{Delivery, KafkaSinkPlan};
use evp_core::position::Epoch;
use evp_core::protocol::head::SinkIdentity;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::KafkaSinkSettings;
use super::progress::{self, Progress, key_of_run};
use super::topic::Cluster;
use super::trouble::Place;
use crate::kafka::{self, Connection, Errors, Reach};
use crate::secrets::Secrets;
use crate::sink::SinkError;

/// How long the coordinator may take to let us begin: it ends first what whoever was there before left open.
const BEGIN: Duration = Duration::from_mins(1);

/// How long a transaction may take to be committed.
const COMMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether a record was delivered meanwhile, and how many times none is before the attempt is given up,
/// told, and made anew. Ten seconds: a broker that is gone is to be told soon, and one that is slow delivers something.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 100;

/// How long librdkafka itself keeps a record: longer than any that is waited for.
const DELIVERY_MS: &str = "300000";

/// Said of records that the brokers did not take.
const NOT_DELIVERED: &str = "records were not delivered";

/// How long a transaction may be open, once one failed: as long as Kafka's brokers allow as they ship
/// (`transaction.max.timeout.ms`). One that takes longer is aborted by the broker, and applied again.
const LONG_MS: &str = "900000";
/// Where nothing went wrong yet: what a worker that died left open is in the way of others who read the progress topic.
const SHORT_MS: &str = "60000";

/// Bytes that librdkafka may hold undelivered, but for a single record that is larger.
const QUEUE_BYTES: usize = 16 << 20;

/// Rows of one epoch.
pub(super) struct Rows {
    pub(super) epoch: Epoch,
    /// Number of the first in its epoch.
    pub(super) first: u64,
    /// Keys and values.
    pub(super) records: RecordBatch,
}

/// The thread's state.
pub(super) struct Writer {
    identity: SinkIdentity,
    name: SinkIdentity,
    nonce: String,
    plan: KafkaSinkPlan,
    secrets: Secrets,
    place: Place,
    siblings: Vec<SinkIdentity>,
    /// A transaction failed in this run: it may have taken too long.
    failed: bool,
    /// `None`: nothing was asked yet, or an answer was in doubt.
    live: Option<Live>,
}

/// A producer that began, and what the progress topic says since then: nobody else can have written to it without
/// ending this producer.
struct Live {
    producer: Option<BaseProducer<Deliveries>>,
    progress: Option<Progress>,
    /// Keys of earlier runs, to be taken out.
    stale: Vec<String>,
    /// Something was sent and not committed.
    open: bool,
}

impl Drop for Live {
    /// Destroying may wait for a broker that is gone: nobody else waits for that.
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            kafka::thread(move || drop(producer));
        }
    }
}

/// Keeps the first record that was not delivered.
#[derive(Default)]
struct Deliveries {
    errors: Errors,
    failed: Mutex<Option<RDKafkaErrorCode>>,
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

impl Writer {
    pub(super) fn new(settings: &KafkaSinkSettings) -> Self {
        let KafkaSinkSettings {
            identity,
            name,
            plan,
            siblings,
            secrets,
            nonce,
            asks_only: _,
            outbox: _,
            epoch: _,
            crash: _,
        } = settings;
        Self {
            identity: identity.clone(),
            name: name.clone(),
            nonce: nonce.clone(),
            place: Place::of(plan),
            plan: plan.clone(),
            secrets: secrets.clone(),
            siblings: siblings.clone(),
            failed: false,
            live: None,
        }
    }

    fn connection(&self) -> Result<Connection, SinkError> {
        let read = Connection::resolve(&Reach::from(&self.plan), &self.secrets);
        read.map_err(|e| Place::secret(&e))
    }

    /// The largest record batch that the topic takes.
    pub(super) fn look(&self) -> Result<usize, SinkError> {
        let connection = self.connection()?;
        let cluster = Cluster::new(&connection, &self.place)?;
        cluster.topic(&self.place, &self.plan.topic).largest()
    }

    /// What the progress topic says, whoever is writing it.
    pub(super) fn read(&self) -> Result<Option<Progress>, SinkError> {
        let connection = self.connection()?;
        let topic = &self.plan.progress_topic;
        let place = self.place.with_topic(topic);
        let cluster = Cluster::new(&connection, &place)?;
        if !cluster.topic(&place, topic).is_there()? {
            return Ok(None);
        }
        let found = progress::read((&connection, &cluster), &place, (topic, &self.name), &|| ());
        Ok(found?.newest)
    }

    fn in_transactions(&self) -> bool {
        self.plan.delivery == Delivery::ExactlyOnce
    }

    /// Fences whoever was there and reads what the progress topic says, unless that is known.
    pub(super) fn begin(&mut self) -> Result<Option<Progress>, SinkError> {
        // What an attempt that was given up left open is aborted by beginning anew.
        drop(self.live.take_if(|live| live.open));
        let live = match self.live.take() {
            Some(live) => live,
            None => self.connect()?,
        };
        let progress = live.progress.clone();
        self.live = Some(live);
        Ok(progress)
    }

    fn connect(&self) -> Result<Live, SinkError> {
        let connection = self.connection()?;
        let cluster = Cluster::new(&connection, &self.place)?;
        let largest = cluster.topic(&self.place, &self.plan.topic).largest()?;
        let topic = &self.plan.progress_topic;
        let place = self.place.with_topic(topic);
        cluster.topic(&place, topic).hold_progress()?;
        let config = self.config(&connection, largest);
        let mut live = self.producer(&config)?;
        let found = progress::read(
            (&connection, &cluster),
            &place,
            (topic, &self.name),
            &|| self.end_siblings(&config),
        )?;
        live.progress = found.newest;
        live.stale = found.keys;
        Ok(live)
    }

    /// A producer; with transactions it has fenced whoever was there.
    fn producer(&self, config: &ClientConfig) -> Result<Live, SinkError> {
        let mut timeouts = [LONG_MS, SHORT_MS]
            .into_iter()
            .skip(usize::from(!self.failed));
        loop {
            let mut config = config.clone();
            let timeout = timeouts.next();
            if let Some(timeout) = timeout.filter(|_| self.in_transactions()) {
                config
                    .set("transaction.timeout.ms", timeout)
                    // librdkafka wants it no longer than its transaction.
                    .set("message.timeout.ms", timeout);
            }
            let made = config.create_with_context(Deliveries::default());
            let made: BaseProducer<Deliveries> = made.map_err(|e| {
                let what = "no connection can be made with these credentials";
                self.place.failed(what, &e, &Errors::default())
            })?;
            let begun = match self.in_transactions() {
                true => made.init_transactions(BEGIN),
                false => Ok(()),
            };
            let refused = begun
                .as_ref()
                .err()
                .and_then(KafkaError::rdkafka_error_code);
            if refused == Some(RDKafkaErrorCode::InvalidTransactionTimeout) && timeout.is_some() {
                continue;
            }
            begun.map_err(|e| self.failed("no transaction can begin", &e, &made))?;
            return Ok(Live {
                producer: Some(made),
                progress: None,
                stale: Vec::new(),
                open: false,
            });
        }
    }

    /// Sinks are asked one after the other, so those that come later have not yet ended what they left open when the worker died.
    /// One that is at work finds itself in doubt, and begins anew.
    fn end_siblings(&self, config: &ClientConfig) {
        for name in &self.siblings {
            let mut config = config.clone();
            config
                .set("transactional.id", &name.0)
                .set("transaction.timeout.ms", SHORT_MS)
                .set("message.timeout.ms", SHORT_MS);
            let made = config.create_with_context::<_, BaseProducer<_>>(Deliveries::default());
            let begun = made.and_then(|producer| producer.init_transactions(BEGIN));
            if let Err(error) = begun {
                tracing::warn!(%error, "what another sink left open is not ended");
            }
        }
    }

    fn config(&self, connection: &Connection, largest: usize) -> ClientConfig {
        let mut config = connection.config();
        // Several records share a batch only well below what the broker takes: their sizes are estimates.
        let batch = (largest / 4 * 3).clamp(1, 1_000_000);
        let queue = QUEUE_BYTES.max(2 * largest);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            // As Kafka's own clients place keys, so that topics written by both are partitioned alike.
            .set("partitioner", "murmur2_random")
            .set(
                "message.max.bytes",
                largest.clamp(1_000, 1_000_000_000).to_string(),
            )
            .set("batch.size", batch.to_string())
            .set("queue.buffering.max.kbytes", (queue / 1024).to_string())
            .set("message.timeout.ms", DELIVERY_MS)
            .set_log_level(RDKafkaLogLevel::Warning);
        if self.in_transactions() {
            config.set("transactional.id", &self.name.0);
        }
        config
    }

    /// Sends rows, as far as the queue has room; waits for the rest.
    pub(super) fn send(&mut self, rows: &Rows) -> Result<(), SinkError> {
        self.while_live(|writer, live| {
            let Some(producer) = &live.producer else {
                return Ok(());
            };
            if !live.open && writer.in_transactions() {
                let begun = producer.begin_transaction();
                begun.map_err(|e| writer.failed("no transaction can begin", &e, producer))?;
            }
            live.open = true;
            let [keys, values] = [0, 1].map(|at| rows.records.column(at).as_binary::<i32>());
            for row in 0..rows.records.num_rows() {
                let mut record = BaseRecord::to(&writer.plan.topic)
                    .payload(values.value(row))
                    .headers(writer.headers(rows, row));
                if keys.is_valid(row) {
                    record = record.key(keys.value(row));
                }
                writer.queue(producer, record)?;
            }
            Ok(())
        })
    }

    /// Which record this is: the same three in two records, and they are the same.
    fn headers(&self, rows: &Rows, row: usize) -> OwnedHeaders {
        let (epoch, number) = (rows.epoch.to_string(), rows.first + row as u64);
        let header = |key, value| Header { key, value };
        OwnedHeaders::new_with_capacity(3)
            .insert(header("evp-sink", Some(self.identity.id8())))
            .insert(header("evp-epoch", Some(&epoch)))
            .insert(header("evp-row", Some(&number.to_string())))
    }

    fn queue(
        &self,
        producer: &BaseProducer<Deliveries>,
        mut record: BaseRecord<'_, [u8], [u8]>,
    ) -> Result<(), SinkError> {
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.wait(producer, producer.in_flight_count() - 1)?;
                }
                Err((e, _)) => return Err(self.failed("a record is refused", &e, producer)),
            }
        }
    }

    /// Delivers what was sent, then the record of progress: so other sinks' readers of the progress topic wait for the
    /// commit alone. Then commits.
    pub(super) fn commit(&mut self, progress: Progress) -> Result<(), SinkError> {
        self.while_live(|writer, live| {
            let Some(producer) = &live.producer else {
                return Ok(());
            };
            writer.flush(producer)?;
            let key = match writer.in_transactions() {
                true => writer.name.0.clone(),
                false => key_of_run(&writer.name, &writer.nonce),
            };
            writer.note(producer, &key, Some(&progress.to_bytes()))?;
            writer.flush(producer)?;
            if writer.in_transactions() {
                let committed = producer.commit_transaction(COMMIT);
                committed.map_err(|e| writer.failed("a commit was not answered", &e, producer))?;
            } else {
                live.stale.retain(|stale| *stale != key);
                for stale in live.stale.drain(..) {
                    writer.note(producer, &stale, None)?;
                }
                writer.flush(producer)?;
            }
            live.open = false;
            live.progress = Some(progress);
            Ok(())
        })
    }

    /// Writes to the progress topic.
    fn note(
        &self,
        producer: &BaseProducer<Deliveries>,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), SinkError> {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.plan.progress_topic)
            .partition(0)
            .key(key.as_bytes());
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        self.queue(producer, record)
    }

    fn flush(&self, producer: &BaseProducer<Deliveries>) -> Result<(), SinkError> {
        self.wait(producer, 0)
    }

    /// Waits until at most so many records are on their way, as long as any is delivered now and then.
    fn wait(&self, producer: &BaseProducer<Deliveries>, most: i32) -> Result<(), SinkError> {
        let (mut before, mut idle) = (producer.in_flight_count(), 0);
        while before > most {
            match most {
                // It sends at once what else would wait for more.
                0 => drop(producer.flush(LOOK)),
                _ => producer.poll(LOOK),
            }
            self.delivered(producer)?;
            let now = producer.in_flight_count();
            idle = if now < before { 0 } else { idle + 1 };
            before = now;
            if idle == LOOKS {
                let errors = &producer.client().context().errors;
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(self.place.refused(NOT_DELIVERED, code, errors));
            }
        }
        Ok(())
    }

    fn delivered(&self, producer: &BaseProducer<Deliveries>) -> Result<(), SinkError> {
        let Deliveries { errors, failed } = &**producer.client().context();
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        // A transaction that failed purges what is left of it: the cause is its own.
        match failed.take() {
            None => Ok(()),
            Some(code) => Err(match producer.client().fatal_error() {
                Some((fatal, _)) => self.place.refused(NOT_DELIVERED, fatal, errors),
                None => self.place.refused(NOT_DELIVERED, code, errors),
            }),
        }
    }

    fn failed(
        &self,
        what: &str,
        error: &KafkaError,
        producer: &BaseProducer<Deliveries>,
    ) -> SinkError {
        // Complaints come with polling.
        producer.poll(Duration::from_millis(20));
        self.place
            .failed(what, error, &producer.client().context().errors)
    }

    /// With the live producer; after any error there is none.
    fn while_live(
        &mut self,
        work: impl FnOnce(&Self, &mut Live) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        // Nothing is sent before `begin`, and after an error the caller begins anew.
        let Some(mut live) = self.live.take() else {
            let what = "the producer ended";
            return Err(self
                .place
                .unavailable(evp_api::reason::SINK_UNAVAILABLE, what));
        };
        let done = work(self, &mut live);
        self.failed |= done.is_err();
        done?;
        self.live = Some(live);
        Ok(())
    }
}
