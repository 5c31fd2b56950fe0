//! A record that cannot be processed is a value: which record, by which step, why (semantics 35).

use crate::position::{Epoch, Micros, Position, SplitId};
use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

/// Why a record was rejected. The words are documented; they never change meaning.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum RejectCode {
    /// The bytes are not one strict JSON document.
    Malformed,
    /// The record is larger than `schema.maxRecordBytes`.
    TooLarge,
    /// A required field is absent or null.
    MissingField,
    /// A field's value is not of its type.
    WrongType,
    /// A field is not declared and `schema.unknownFields` is `DeadLetter`.
    UnknownField,
    /// The event time is further ahead than `watermark.maxFuture`.
    FutureEventTime,
    /// SQL failed on the row (semantics 38).
    ExpressionFailed,
    /// A rule of `validate` is not true for the row; the message names every such rule.
    RuleFailed,
    /// The row came after its windows had closed and `late` is `DeadLetter`.
    Late,
    /// A sink's key column is null.
    NullKey,
    /// The engine itself fails on the record (semantics 38).
    PoisonRecord,
    /// The manifest's `skip` names the record: it was not computed.
    Skipped,
    /// The sink cannot hold the row.
    SinkRejected,
    /// Records were deleted before they could be read (`onDataLoss: RecordGap`).
    RecordGap,
}

/// One rejection inside a batch: the record by index, the reason in words that hold no record content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reject {
    /// Index into the batch's records.
    pub record: u32,
    /// Why.
    pub code: RejectCode,
    /// What is wrong, for a person.
    pub message: String,
    /// The field it is about.
    pub field: Option<String>,
}

/// A dead letter: one row of semantics 35.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetter {
    /// The record's bytes; `None`: a tombstone, a gap, or not kept.
    pub raw: Option<Vec<u8>>,
    /// Source.
    pub source: NodeName,
    /// Split.
    pub split: SplitId,
    /// Position.
    pub position: Position,
    /// Source (decoding), step or sink that rejected it.
    pub step: NodeName,
    /// Why.
    pub code: RejectCode,
    /// What is wrong.
    pub message: String,
    /// The field it is about.
    pub field: Option<String>,
    /// Epoch it belongs to.
    pub epoch: Epoch,
    /// Time of that epoch.
    pub time: Micros,
}
