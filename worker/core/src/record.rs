//! Records as a source hands them over: bytes in one arena, spans into it. Nothing is copied again before decoding.

use std::ops::Range;

use crate::files::InFiles;
use crate::position::{Micros, Position, SplitId, SplitPosition};

/// A batch of undecoded records of one source, in (split, position) order within each split.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    /// Splits that [`RawRecord::split`] counts in.
    pub splits: Vec<SplitId>,
    /// The records.
    pub records: Vec<RawRecord>,
    /// Keys and values of all records.
    pub bytes: Vec<u8>,
    /// Where each split of the source stands once this batch is taken in, with its end. A split may move without a
    /// record (control records). Only splits that moved or whose end is newly known need be named.
    pub reached: Vec<Reached>,
    /// Records that were deleted before they could be read (`onDataLoss: RecordGap`).
    pub gaps: Vec<Gap>,
    /// Where records stand in files, for a source that reads files.
    pub in_files: InFiles,
    /// What splits promise once all records of the batch are taken in.
    pub promises: Vec<Promise>,
}

/// One undecoded record.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// Index into [`RawBatch::splits`].
    pub split: u32,
    /// Its own position.
    pub position: Position,
    /// Time the source gives it (Kafka: record timestamp).
    pub timestamp: Micros,
    /// Key; `None`: no key.
    pub key: Option<Span>,
    /// Value; `None`: a tombstone.
    pub value: Option<Span>,
}

/// A byte range of [`RawBatch::bytes`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// As a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where a split stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reached {
    /// The split.
    pub split: SplitId,
    /// Next unread record.
    pub position: SplitPosition,
    /// Its end as last seen (Kafka: high watermark); `None`: not known yet.
    pub end: Option<Position>,
}

/// Nothing older than this follows in a split. Logs do not say such a thing of themselves; tests of a pipeline do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Promise {
    /// The split.
    pub split: SplitId,
    /// The least event time of what follows.
    pub time: Micros,
}

/// Records that were deleted before they could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The split.
    pub split: SplitId,
    /// First missing.
    pub from: Position,
    /// One past the last missing.
    pub to: Position,
}

impl RawBatch {
    /// Bytes of a record's value; `None`: a tombstone.
    pub fn value(&self, record: &RawRecord) -> Option<&[u8]> {
        record.value.map(|span| &self.bytes[span.range()])
    }

    /// Bytes of a record's key.
    pub fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        record.key.map(|span| &self.bytes[span.range()])
    }

    /// Holds bytes of a record to come.
    pub fn hold(&mut self, bytes: &[u8]) -> Span {
        let at = |held: &[u8]| u32::try_from(held.len()).unwrap_or(u32::MAX);
        let start = at(&self.bytes);
        self.bytes.extend_from_slice(bytes);
        Span {
            start,
            end: at(&self.bytes),
        }
    }

    /// Only these records, with what they hold; nothing is reached or promised by them.
    #[must_use]
    pub fn only(&self, records: impl IntoIterator<Item = usize>) -> Self {
        let records: Vec<usize> = records.into_iter().collect();
        let mut part = Self {
            splits: self.splits.clone(),
            in_files: self.in_files.only(&records),
            ..Self::default()
        };
        for record in records.into_iter().map(|at| &self.records[at]) {
            let mut copy = |span: Option<Span>| span.map(|s| part.hold(&self.bytes[s.range()]));
            let (key, value) = (copy(record.key), copy(record.value));
            part.records.push(RawRecord {
                key,
                value,
                ..record.clone()
            });
        }
        part
    }

    /// The first `n` records and the others. After the first part a split stands at its first record of the second.
    #[must_use]
    pub fn split_at(&self, n: usize) -> (Self, Self) {
        let (mut first, mut second) = (self.only(0..n), self.only(n..self.records.len()));
        first.gaps.clone_from(&self.gaps);
        first.reached.clone_from(&self.reached);
        second.reached.clone_from(&self.reached);
        second.in_files.notes.clone_from(&self.in_files.notes);
        second.promises.clone_from(&self.promises);
        for reached in &mut first.reached {
            let of = |record: &&RawRecord| self.splits[record.split as usize] == reached.split;
            if let Some(next) = second.records.iter().find(of) {
                reached.position.next = next.position;
            }
        }
        (first, second)
    }

    /// Raw bytes held, keys and values: what the byte bound of an epoch counts.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_batch_are_the_batch_and_each_split_stands_where_its_part_ends() {
        let mut batch = RawBatch {
            splits: [0, 1].map(SplitId::partition).into(),
            ..RawBatch::default()
        };
        for (split, position, value) in [(0, 5, "a"), (1, 9, "bb"), (0, 6, "ccc")] {
            let value = Some(batch.hold(value.as_bytes()));
            batch.records.push(RawRecord {
                split,
                position: Position(position),
                timestamp: Micros(0),
                key: None,
                value,
            });
        }
        let reached = |split, next| Reached {
            split: SplitId::partition(split),
            position: SplitPosition {
                next: Position(next),
                ..SplitPosition::default()
            },
            end: Some(Position(20)),
        };
        batch.reached = vec![reached(0, 8), reached(1, 10)];
        batch.promises = vec![Promise {
            split: SplitId::partition(1),
            time: Micros(7),
        }];
        let (first, second) = batch.split_at(2);
        let values = |part: &RawBatch| -> Vec<Vec<u8>> {
            let value = |r| part.value(r).unwrap().to_vec();
            part.records.iter().map(value).collect()
        };
        assert_eq!(values(&first), [&b"a"[..], b"bb"]);
        assert_eq!(values(&second), [b"ccc"]);
        assert_eq!(first.reached, [reached(0, 6), reached(1, 10)]);
        assert_eq!(second.reached, batch.reached);
        assert_eq!((first.promises, second.promises), (vec![], batch.promises));
    }
}
