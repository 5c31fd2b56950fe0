//! What the thread does with a connection: resolves starts, checks positions against the log, drains messages into
//! batches. Synchronous and blocking; every question has a deadline ([`super::client`]).
//!
//! After any failure the connection is given up and made anew with the next question, from the positions reached, with
//! credentials read again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use evp_api::plan::{KafkaPlan, KafkaStart, OnDataLoss};
use evp_api::reason;
use evp_core::position::{Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::{Gap, RawBatch, Reached};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Parts;
use super::batch::Batch;
use super::client::{Client, Range};
use super::native;
use crate::clock::SharedClock;
use crate::kafka::{Connection, describe};
use crate::secrets::Secrets;
use crate::source::{Budget, SourceError};

/// How often a source that gets nothing makes sure that the cluster is still there.
const PROBE: Duration = Duration::from_secs(5);

/// Reads one topic.
pub(super) struct Reader {
    plan: KafkaPlan,
    topic: CString,
    secrets: Secrets,
    queue_bytes: usize,
    clock: SharedClock,
    client: Option<Client>,
    /// Where each assigned partition stands; empty before the first seek.
    reached: BTreeMap<i32, SplitPosition>,
    topic_id: Option<String>,
    /// Found with the last assignment and not yet handed over.
    gaps: Vec<Gap>,
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
            topic_id: None,
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
        let topic_id = client.topic_id();
        if let Some(known) = known {
            self.check_known(known, &partitions, topic_id.as_deref())?;
        }
        self.topic_id.clone_from(&topic_id);
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

    /// Semantics 25, before anything is read: is this the log that the positions count in?
    fn check_known(
        &mut self,
        known: &SplitPositions,
        partitions: &[i32],
        topic_id: Option<&str>,
    ) -> Result<(), SourceError> {
        for (split, position) in known {
            let Some(partition) = split.as_partition().filter(|p| partitions.contains(p)) else {
                return Err(self.replaced(split, "the topic no longer has it"));
            };
            if let (Some(was), Some(is)) = (position.topic_id.as_deref(), topic_id)
                && was != is
            {
                return Err(self.replaced(split, "the topic's id is another"));
            }
            let range = self.connected()?.range(partition)?;
            self.check_range(partition, position.next.0, range)?;
        }
        Ok(())
    }

    /// `Ok(true)`: records before the log's start are gone and the manifest says to record the gap.
    fn check_range(&self, partition: i32, next: i64, range: Range) -> Result<bool, SourceError> {
        let split = SplitId::partition(partition);
        if next > range.high {
            let what = format!("the log ends at {}, the position is {next}", range.high);
            return Err(self.replaced(&split, &what));
        }
        if next < range.low && self.plan.on_data_loss == OnDataLoss::Fail {
            return Err(SourceError::Stop {
                reason: reason::DATA_LOST,
                message: format!(
                    "topic {} partition {split}: records {next} to {} were deleted before they were read. Lengthen \
                     the topic's retention; to go on without them, set onDataLoss: RecordGap",
                    self.plan.topic,
                    range.low - 1
                ),
            });
        }
        Ok(next < range.low)
    }

    fn replaced(&self, split: &SplitId, what: &str) -> SourceError {
        SourceError::Stop {
            reason: reason::TOPIC_REPLACED,
            message: format!(
                "topic {} partition {split} is not the log that was read before: {what}. If the new topic is meant, \
                 start with a new checkpoint path",
                self.plan.topic
            ),
        }
    }

    /// See [`crate::source::Source::seek`].
    pub(super) fn seek(&mut self, positions: SplitPositions) -> Result<(), SourceError> {
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
        Ok(())
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
        // Before any question that may end this connection: the next one reads on from here.
        self.update_positions(&batch);
        if batch.is_empty() {
            match failure {
                Some(failure) => self.explain(failure)?,
                None => self.probe()?,
            }
        } else {
            self.answered = self.clock.elapsed();
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
        if matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange
        ) {
            // Assigning anew checks every position against the log: it is a gap, a new topic, or nothing.
            self.client = None;
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
            self.answered = self.clock.elapsed();
        }
        Ok(())
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
        let reached = self.reached.clone();
        let client = self.connected()?;
        reached
            .into_iter()
            .map(|(partition, position)| {
                let next = Position(client.range(partition)?.high);
                Ok((
                    SplitId::partition(partition),
                    SplitPosition { next, ..position },
                ))
            })
            .collect()
    }

    /// A connection, perhaps a new one that nothing is assigned to.
    fn connected(&mut self) -> Result<&Client, SourceError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let connection = Connection::resolve(&self.plan, &self.secrets)?;
                Client::connect(&connection, &self.plan.topic, self.queue_bytes)?
            }
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

    /// Semantics 25 for where we stand: steps over a gap and remembers it.
    fn check_reached(&mut self) -> Result<(), SourceError> {
        let partitions: Vec<_> = self.reached.iter().map(|(&p, r)| (p, r.next.0)).collect();
        for (partition, next) in partitions {
            let range = self.connected()?.range(partition)?;
            if self.check_range(partition, next, range)? {
                let (from, to) = (Position(next), Position(range.low));
                self.gaps.push(Gap {
                    split: SplitId::partition(partition),
                    from,
                    to,
                });
                if let Some(reached) = self.reached.get_mut(&partition) {
                    reached.next = to;
                }
            }
        }
        Ok(())
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
