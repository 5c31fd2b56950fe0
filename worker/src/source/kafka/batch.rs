//! Messages copied once into a batch's arena, for they borrow the fetch buffer.

use std::collections::HashMap;

use evp_core::position::{Micros, Position, SplitId};
use evp_core::record::{Gap, RawBatch, RawRecord, Reached};
use rdkafka::message::{BorrowedMessage, Message};

use super::native;
use crate::source::Budget;

/// A batch that is being filled.
#[derive(Default)]
pub(super) struct Batch {
    raw: RawBatch,
    partitions: HashMap<i32, Run>,
}

/// What a partition has in the batch.
#[derive(Clone, Copy)]
struct Run {
    /// Index of its split.
    split: u32,
    /// After its last message.
    next: Position,
    leader_epoch: Option<i32>,
}

/// No arena grows beyond this, whatever the budget: spans count in 32 bits and Arrow's offsets in 31.
const MOST_BYTES: usize = 1 << 30;

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.raw.records.is_empty()
    }

    pub(super) fn has_room(&self, budget: Budget) -> bool {
        self.is_empty()
            || (self.raw.records.len() < budget.records
                && self.raw.bytes.len() < budget.bytes.min(MOST_BYTES))
    }

    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let split = self.enter(
            message.partition(),
            message.offset() + 1,
            native::leader_epoch(message),
        );
        let key = message.key().map(|bytes| self.raw.hold(bytes));
        let value = message.payload().map(|bytes| self.raw.hold(bytes));
        // -1: the record has no time; it then counts as 1970, as Kafka's own tools print it.
        let millis = message.timestamp().to_millis().unwrap_or(0).max(0);
        self.raw.records.push(RawRecord {
            split,
            position: Position(message.offset()),
            timestamp: Micros(millis.saturating_mul(1_000)),
            key,
            value,
        });
    }

    fn enter(&mut self, partition: i32, next: i64, leader_epoch: Option<i32>) -> u32 {
        let splits = &mut self.raw.splits;
        let run = self.partitions.entry(partition).or_insert_with(|| {
            splits.push(SplitId::partition(partition));
            Run {
                split: u32::try_from(splits.len() - 1).unwrap_or(0),
                next: Position(next),
                leader_epoch,
            }
        });
        run.next = Position(next);
        run.leader_epoch = leader_epoch.or(run.leader_epoch);
        run.split
    }

    /// (partition, next position, leader epoch) of all partitions in it.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (i32, Position, Option<i32>)> {
        self.partitions
            .iter()
            .map(|(&partition, run)| (partition, run.next, run.leader_epoch))
    }

    pub(super) fn finish(self, gaps: Vec<Gap>, reached: Vec<Reached>) -> RawBatch {
        RawBatch {
            gaps,
            reached,
            ..self.raw
        }
    }
}
