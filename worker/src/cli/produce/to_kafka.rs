//! `--to kafka://…`: idempotent, acknowledged by all replicas, in order within each partition.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture, FutureProducer, FutureRecord};

use super::ledger::{Ledger, Placed};
use super::{Error, Pace, ProduceArgs};
use crate::generate::{Event, Events, Settings};
use crate::kafka::{Connection, Sasl, Tls, describe};

/// Records in flight: bounds memory to about 20 MB and what Ctrl-C has to wait for.
const IN_FLIGHT: usize = 20_000;
/// How long a record may take to be acknowledged before producing is given up.
const DELIVERY: Duration = Duration::from_mins(1);

struct Sender {
    producer: FutureProducer,
    topic: String,
    in_flight: VecDeque<(Event, i64, DeliveryFuture)>,
    ledger: Ledger,
    sent: u64,
}

pub(super) async fn send(
    args: &ProduceArgs,
    settings: Settings,
    mut pace: Pace,
    (servers, topic): (&str, &str),
) -> Result<u64, Error> {
    let producer = connect(args, servers)?;
    let partitions = partitions(&producer, servers, topic).await?;
    let settings = Settings {
        partitions,
        ..settings
    };
    let events = Events::new(args.template, settings);
    let ledger = Ledger::create(args.ledger.as_deref())?;
    let mut sender = Sender {
        producer,
        topic: topic.to_owned(),
        in_flight: VecDeque::new(),
        ledger,
        sent: 0,
    };
    let mut stop = std::pin::pin!(interrupted());
    loop {
        let room = IN_FLIGHT.saturating_sub(sender.in_flight.len());
        let due = tokio::select! {
            biased;
            () = &mut stop => None,
            due = pace.due(&events, room.min(1_000) as u64) => due,
        };
        let Some(due) = due else { break };
        for index in due {
            sender
                .send(events.event(index), pace.clock.now().0 / 1_000)
                .await?;
        }
        sender.settle(IN_FLIGHT / 2).await?;
    }
    sender.settle(0).await?;
    Ok(sender.sent)
}

impl Sender {
    async fn send(&mut self, event: Event, timestamp: i64) -> Result<(), Error> {
        loop {
            let record = FutureRecord::to(&self.topic)
                .partition(i32::try_from(event.partition).unwrap_or(0))
                .timestamp(timestamp)
                .key(&event.key)
                .payload(&event.value);
            match self.producer.send_result(record) {
                Ok(delivery) => {
                    self.in_flight.push_back((event, timestamp, delivery));
                    return Ok(());
                }
                // librdkafka's own queue is full: make room by taking an acknowledgement.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if !self.in_flight.is_empty() =>
                {
                    let most = self.in_flight.len() - 1;
                    self.settle(most).await?;
                }
                Err((e, _)) => return Err(self.refused(&e)),
            }
        }
    }

    /// Writes down what is acknowledged, in send order, and waits until at most `most` records are in flight.
    async fn settle(&mut self, most: usize) -> Result<(), Error> {
        while let Some((event, timestamp, mut delivery)) = self.in_flight.pop_front() {
            let outcome = if self.in_flight.len() >= most {
                delivery.await
            } else if let Some(outcome) = futures::FutureExt::now_or_never(&mut delivery) {
                outcome
            } else {
                self.in_flight.push_front((event, timestamp, delivery));
                break;
            };
            let Delivery {
                partition, offset, ..
            } = match outcome {
                Ok(Ok(delivery)) => delivery,
                Ok(Err((e, _))) => return Err(self.refused(&e)),
                Err(_) => {
                    return Err(Error::Unreachable(
                        "the producer ended before it was done".to_owned(),
                    ));
                }
            };
            self.sent += 1;
            self.ledger.add(
                &event,
                Placed {
                    partition,
                    offset,
                    timestamp,
                    line: None,
                },
            )?;
        }
        self.ledger.flush()
    }

    fn refused(&self, error: &KafkaError) -> Error {
        Error::Unreachable(format!(
            "topic {} did not take a record after {}: {}",
            self.topic,
            self.sent,
            describe(error)
        ))
    }
}

fn connect(args: &ProduceArgs, servers: &str) -> Result<FutureProducer, Error> {
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).map_err(Error::file(path));
    let ca = args.ca.as_ref().map(read).transpose()?;
    let tls = (args.tls || ca.is_some()).then_some(Tls { ca, client: None });
    let sasl = match (args.sasl_mechanism, &args.username, &args.password_file) {
        (Some(mechanism), Some(username), Some(file)) => Some(Sasl {
            mechanism: mechanism.into(),
            username: username.clone(),
            password: read(file)?.trim_end_matches(['\r', '\n']).to_owned(),
        }),
        _ => None,
    };
    let connection = Connection {
        bootstrap_servers: servers.to_owned(),
        tls,
        sasl,
    };
    let mut config = connection.config();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", (2 * IN_FLIGHT).to_string())
        .set("message.timeout.ms", DELIVERY.as_millis().to_string())
        .set_log_level(RDKafkaLogLevel::Error);
    config
        .create()
        .map_err(|e| Error::Unreachable(format!("{servers}: {}", describe(&e))))
}

/// How many partitions the topic has.
async fn partitions(producer: &FutureProducer, servers: &str, topic: &str) -> Result<u32, Error> {
    let (client, name) = (producer.clone(), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || count(client.client(), &name)).await;
    let count = asked.map_err(|e| Error::Unreachable(e.to_string()))?;
    match count {
        Ok(0) => Err(Error::Unreachable(format!(
            "topic {topic} does not exist on {servers}; create it"
        ))),
        Ok(count) => Ok(count),
        Err(e) => Err(Error::Unreachable(format!(
            "{servers} cannot be reached: {}",
            describe(&e)
        ))),
    }
}

fn count(
    client: &rdkafka::client::Client<impl ClientContext>,
    topic: &str,
) -> Result<u32, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let count = metadata
        .topics()
        .first()
        .filter(|t| t.error().is_none())
        .map_or(0, |t| t.partitions().len());
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Ends with Ctrl-C or SIGTERM.
pub(super) async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Without a handler Ctrl-C ends the process as it always does.
        done = tokio::signal::ctrl_c() => if done.is_err() { std::future::pending::<()>().await },
        () = terminated => {}
    }
}
