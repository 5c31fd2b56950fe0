//! What the sink's thread does: one producer, which lives as long as every answer is a plain yes.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use evp_api::plan::{Delivery, KafkaSinkPlan};
use evp_core::position::Epoch;
use evp_core::protocol::head::SinkIdentity;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::KafkaSinkSettings;
use super::producer::{Making, Producer};
use super::progress::{self, Progress, key_of_run};
use super::topic::Cluster;
use super::trouble::Place;
use crate::kafka::{self, Connection, Reach};
use crate::secrets::Secrets;
use crate::sink::SinkError;

/// How long a transaction may take to be committed.
const COMMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether a record was delivered meanwhile, and how many times none is before the attempt is given up,
/// told, and made anew. Ten seconds: a broker that is gone is to be told soon, and one that is slow delivers something.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 100;

/// Said of records that the brokers did not take.
const NOT_DELIVERED: &str = "records were not delivered";

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
    producer: Option<Producer>,
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

    /// The largest record batch that the topic takes. An error: it takes no records like ours.
    pub(super) fn look(&self) -> Result<usize, SinkError> {
        let connection = self.connection()?;
        let cluster = Cluster::new(&connection, &self.place)?;
        let topic = cluster.topic(&self.place, &self.plan.topic);
        let largest = topic.largest()?;
        if self.plan.key_column.is_none() {
            topic.takes_records_without_keys()?;
        }
        Ok(largest)
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
        let making = Making {
            connection: &connection,
            place: &self.place,
            largest,
            name: self.in_transactions().then_some(&self.name),
            long: self.failed,
        };
        let producer = making.begin()?;
        // Sinks are asked one after the other, so those that come later have not yet ended what they left open when the worker
        // died. One that is at work finds itself in doubt, and begins anew.
        let unstick = || making.end(&self.siblings);
        let from = (&connection, &cluster);
        let found = progress::read(from, &place, (topic, &self.name), &unstick)?;
        Ok(Live {
            producer: Some(producer),
            progress: found.newest,
            stale: found.keys,
            open: false,
        })
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
        producer: &Producer,
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
    fn note(&self, producer: &Producer, key: &str, value: Option<&[u8]>) -> Result<(), SinkError> {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.plan.progress_topic)
            .partition(0)
            .key(key.as_bytes());
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        self.queue(producer, record)
    }

    fn flush(&self, producer: &Producer) -> Result<(), SinkError> {
        self.wait(producer, 0)
    }

    /// Waits until at most so many records are on their way, as long as any is delivered now and then.
    fn wait(&self, producer: &Producer, most: i32) -> Result<(), SinkError> {
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

    fn delivered(&self, producer: &Producer) -> Result<(), SinkError> {
        let Some(code) = producer.client().context().failed() else {
            return Ok(());
        };
        // A transaction that failed purges what is left of it: the cause is its own.
        let fatal = producer.client().fatal_error();
        let code = fatal.map_or(code, |(fatal, _)| fatal);
        let errors = &producer.client().context().errors;
        Err(self.place.refused(NOT_DELIVERED, code, errors))
    }

    fn failed(&self, what: &str, error: &KafkaError, producer: &Producer) -> SinkError {
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
