//! Records as a source hands them over: bytes in one arena, spans into it. Nothing is copied again before decoding.

use std::ops::Range;

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

    /// Raw bytes held, keys and values: what the byte bound of an epoch counts.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}
