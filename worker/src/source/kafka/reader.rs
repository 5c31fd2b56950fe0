//! What the thread does with a connection: resolves starts, checks positions against the log, drains messages into
//! batches. Synchronous and blocking; every question has a deadline ([`super::client`]).
//!
//! After any failure the connection is given up and made anew with the next question, from the positions reached, with
//! credentials read again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use evp_api::plan::{KafkaPlan, KafkaStart};
use evp_api::reason;
use evp_core::position::{Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::{Gap, RawBatch, Reached};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Parts;
use super::batch::Batch;
use super::client::Client;
use super::native;
use crate::clock::SharedClock;
use crate::kafka::{Connection, Reach, describe};
use crate::secrets::Secrets;
use crate::source::{Budget, SourceError};

/// How often a source that gets nothing makes sure that the cluster is still there.
const PROBE: Duration = Duration::from_secs(5);

/// Reads one topic.
pub(super) struct Reader {
    pub(super) plan: KafkaPlan,
    topic: CString,
    secrets: Secrets,
    queue_bytes: usize,
    clock: SharedClock,
    client: Option<Client>,
    /// Where each assigned partition stands; empty before the first seek.
    pub(super) reached: BTreeMap<i32, SplitPosition>,
    /// Found with the last assignment and not yet handed over.
    pub(super) gaps: Vec<Gap>,
    /// Elapsed time at which the cluster last answered.
    answered: Duration,
    /// A failure that came after records which had to be handed over first.
    failed: Option<SourceError>,
}

impl Reader {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            plan,
            secrets,
            queue_bytes,
            clock,
        } = parts;
        Self {
            // A topic's name holds no zero byte; if it did, no broker would know it.
            topic: CString::new(plan.topic.as_str()).unwrap_or_default(),
            plan,
            secrets,
            queue_bytes,
            answered: clock.elapsed(),
            clock,
            client: None,
            reached: BTreeMap::new(),
            gaps: Vec::new(),
            failed: None,
        }
    }

    /// See [`crate::source::Source::splits`].
    pub(super) fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let found = self.try_splits(known);
        self.give_up_on(found)
    }

    fn try_splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let client = self.connected()?;
        let partitions = client.partitions()?;
        let topic_id = client.topic_id()?;
        if let Some(known) = known {
            self.check_known(known, &partitions, topic_id.as_deref())?;
        }
        let new: Vec<_> = partitions
            .into_iter()
            .filter(|&p| known.is_none_or(|k| !k.contains_key(&SplitId::partition(p))))
            .collect();
        let offsets = if known.is_some() {
            self.earliest(&new)?
        } else {
            self.start(&new)?
        };
        let position = |offset| SplitPosition {
            next: Position(offset),
            topic_id: topic_id.clone(),
            ..SplitPosition::default()
        };
        Ok(offsets
            .into_iter()
            .map(|(p, offset)| (SplitId::partition(p), position(offset)))
            .collect())
    }

    /// The manifest's start, for the very first start only.
    fn start(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, SourceError> {
        match self.plan.start.clone() {
            KafkaStart::Earliest => self.earliest(partitions),
            KafkaStart::Latest => {
                let client = self.connected()?;
                partitions
                    .iter()
                    .map(|&p| Ok((p, client.range(p)?.high)))
                    .collect()
            }
            KafkaStart::Time(micros) => self.connected()?.at_time(partitions, micros),
            KafkaStart::Offsets(offsets) => {
                let client = self.connected()?;
                let given: BTreeMap<_, _> = offsets.into_iter().collect();
                partitions
                    .iter()
                    .map(|&p| {
                        Ok((
                            p,
                            given
                                .get(&p)
                                .copied()
                                .map_or_else(|| client.range(p).map(|r| r.low), Ok)?,
                        ))
                    })
                    .collect()
            }
        }
    }

    fn earliest(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, SourceError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.connected()?;
        partitions
            .iter()
            .map(|&p| Ok((p, client.range(p)?.low)))
            .collect()
    }

    /// See [`crate::source::Source::seek`].
    pub(super) fn seek(&mut self, positions: SplitPositions) {
        self.reached = positions
            .into_iter()
            .filter_map(|(split, position)| Some((split.as_partition()?, position)))
            .collect();
        self.gaps.clear();
        self.failed = None;
        // A connection that fetches from elsewhere holds messages nobody wants; a fresh one can be used.
        let fresh = |client: &Client| {
            client
                .consumer()
                .is_ok_and(|c| c.assignment().is_ok_and(|a| a.count() == 0))
        };
        self.client = self.client.take().filter(fresh);
    }

    /// See [`crate::source::Source::poll`].
    pub(super) fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let polled = self.try_poll(budget, wait);
        self.give_up_on(polled)
    }

    fn try_poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        self.assigned()?;
        let mut batch = Batch::default();
        let failure = self.drain(&mut batch, budget, wait)?;
        if batch.is_empty() {
            match failure {
                Some(failure) => self.explain(failure)?,
                None => self.probe()?,
            }
            self.update_positions(&batch);
        } else {
            // Before any question that may end this connection: the next one reads on from here.
            self.update_positions(&batch);
            if let Some(Err(failed)) = failure.map(|f| self.explain(f)) {
                self.client = None;
                self.failed = Some(failed);
            }
        }
        Ok(batch.finish(std::mem::take(&mut self.gaps), self.reached_now()))
    }

    /// Takes what is there, waiting only for the first message. The error is what ended it early.
    fn drain(
        &mut self,
        batch: &mut Batch,
        budget: Budget,
        wait: Duration,
    ) -> Result<Option<RDKafkaErrorCode>, SourceError> {
        let Some(client) = &self.client else {
            return Ok(None);
        };
        let consumer = client.consumer()?;
        let mut wait = wait;
        while batch.has_room(budget) {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => batch.push(&message),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(e)) => match e.rdkafka_error_code() {
                    // Groups are not used: who may not use them reads all the same.
                    Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                    code => return Ok(Some(code.unwrap_or(RDKafkaErrorCode::Unknown))),
                },
            }
            wait = Duration::ZERO;
        }
        Ok(None)
    }

    /// Is that error anything, and what? librdkafka heals most by itself; the cluster is asked to find out.
    fn explain(&mut self, code: RDKafkaErrorCode) -> Result<(), SourceError> {
        let about_the_log = matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopicId
        );
        if about_the_log {
            // Assigning anew checks every position against the log: it is a gap, a new topic, or nothing.
            self.client = None;
            self.connected()?.partitions()?;
            return self.assigned();
        }
        let client = self.connected()?;
        if crate::kafka::is_denied(code) {
            return Err(client.failed(code, &code.to_string()));
        }
        client.partitions()?;
        self.answered = self.clock.elapsed();
        Ok(())
    }

    /// Silence is either an end or a broken line: now and then, find out which.
    fn probe(&mut self) -> Result<(), SourceError> {
        if self.clock.elapsed().saturating_sub(self.answered) >= PROBE {
            self.connected()?.partitions()?;
            self.check_topic()?;
            self.answered = self.clock.elapsed();
        }
        Ok(())
    }

    /// See [`crate::source::Source::vouch`]. librdkafka reads on at the same offsets without a word when a topic is deleted
    /// and created anew between two fetches.
    pub(super) fn vouch(&mut self) -> Result<(), SourceError> {
        let vouched = self.check_topic();
        self.give_up_on(vouched)
    }

    /// Positions as the consumer knows them, which also steps over control records, and at least past the batch.
    fn update_positions(&mut self, batch: &Batch) {
        let positions = self
            .client
            .as_ref()
            .and_then(|c| c.consumer().ok()?.position().ok());
        for element in positions.iter().flat_map(TopicPartitionList::elements) {
            if let (Offset::Offset(next), Some(reached)) =
                (element.offset(), self.reached.get_mut(&element.partition()))
            {
                reached.next = reached.next.max(Position(next));
            }
        }
        for (partition, next, leader_epoch) in batch.partitions() {
            if let Some(reached) = self.reached.get_mut(&partition) {
                reached.next = reached.next.max(next);
                reached.leader_epoch = leader_epoch.or(reached.leader_epoch);
            }
        }
    }

    fn reached_now(&self) -> Vec<Reached> {
        let consumer = self.client.as_ref().and_then(|c| c.consumer().ok());
        let end =
            |partition| native::high_watermark(consumer?, &self.topic, partition).map(Position);
        self.reached
            .iter()
            .map(|(&partition, position)| Reached {
                split: SplitId::partition(partition),
                position: position.clone(),
                end: end(partition),
            })
            .collect()
    }

    /// See [`crate::source::Source::end_positions`].
    pub(super) fn ends(&mut self) -> Result<SplitPositions, SourceError> {
        let ends = self.try_ends();
        self.give_up_on(ends)
    }

    fn try_ends(&mut self) -> Result<SplitPositions, SourceError> {
        let client = self.connected()?;
        let partitions = client.partitions()?;
        partitions
            .into_iter()
            .map(|partition| {
                let end = SplitPosition {
                    next: Position(client.range(partition)?.high),
                    ..SplitPosition::default()
                };
                Ok((SplitId::partition(partition), end))
            })
            .collect()
    }

    /// A connection, perhaps a new one that nothing is assigned to.
    pub(super) fn connected(&mut self) -> Result<&Client, SourceError> {
        let client = if let Some(client) = self.client.take() {
            client
        } else {
            let connection = Connection::resolve(&Reach::from(&self.plan), &self.secrets)?;
            Client::connect(&connection, &self.plan.topic, self.queue_bytes)?
        };
        Ok(self.client.insert(client))
    }

    /// A connection that reads on from where we stand.
    fn assigned(&mut self) -> Result<(), SourceError> {
        let assigned = match &self.client {
            Some(client) => client
                .consumer()?
                .assignment()
                .is_ok_and(|a| a.count() == self.reached.len()),
            None => false,
        };
        if assigned || self.reached.is_empty() {
            return Ok(());
        }
        self.check_reached()?;
        let mut list = TopicPartitionList::new();
        for (&partition, position) in &self.reached {
            list.add_partition_offset(&self.plan.topic, partition, Offset::Offset(position.next.0))
                .map_err(|e| self.unreachable(&e))?;
        }
        let done = self.connected()?.consumer()?.assign(&list);
        self.answered = self.clock.elapsed();
        done.map_err(|e| self.unreachable(&e))
    }

    /// After a failure the next question makes a new connection, with credentials read again.
    fn give_up_on<T>(&mut self, result: Result<T, SourceError>) -> Result<T, SourceError> {
        if result.is_err() {
            self.client = None;
        }
        result
    }

    fn unreachable(&self, error: &KafkaError) -> SourceError {
        SourceError::Unavailable {
            reason: reason::SOURCE_UNAVAILABLE,
            message: format!(
                "{} cannot be read for topic {}: {}. It is tried again, nothing is lost",
                self.plan.bootstrap_servers,
                self.plan.topic,
                describe(error)
            ),
        }
    }
}
