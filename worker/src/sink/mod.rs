//! Where rows go: the trait, and the one match that opens a sink.

mod changes;
mod data_files;
pub mod dead_letters;
pub mod delta;
pub mod files;
mod json;
pub mod kafka;
pub mod outbox;
pub mod parquet_writer;
pub(crate) mod partition;
pub mod postgres;
pub mod stdout;

use async_trait::async_trait;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::Intent;

use crate::checkpointer::CommitPermit;

/// One output. Staging is invisible; only a decided intent is applied, idempotently.
#[async_trait]
pub trait Sink: Send {
    /// Takes rows of the open epoch in. All bytes are durable only after [`Sink::seal`].
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError>;

    /// So much is staged that the epoch should close: staging on is an error one day. What comes at the close itself must still
    /// fit.
    fn is_full(&self) -> bool {
        false
    }

    /// Ends staging of the open epoch: what must be done once it is decided. `None`: nothing (no intent is written).
    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError>;

    /// Forgets what was staged since the last seal (an abandoned epoch). Staged objects are garbage.
    async fn abandon(&mut self);

    /// Does what the intent says, exactly once however often it is called. `permit`: the head holds this intent.
    async fn apply(&mut self, intent: &Intent, permit: &CommitPermit)
    -> Result<Applied, SinkError>;

    /// The newest epoch this sink's target holds for the identity in `intent`; `None`: the target has no marker.
    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError>;

    /// Rows of an applied epoch that the target refused and that are kept there, those after a number first: they become
    /// dead letters of the next epoch. Empty: there are no more.
    async fn rejected(
        &mut self,
        _epoch: Epoch,
        _after: Option<i64>,
    ) -> Result<Vec<RejectedRow>, SinkError> {
        Ok(Vec::new())
    }
}

/// A row that a target refused after its epoch was decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedRow {
    /// Its number within the epoch.
    pub number: i64,
    /// The row as JSON.
    pub row: String,
    /// Why, in the target's words.
    pub message: String,
}

/// What applying did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// Version of the table after the commit; `None`: the sink has no versions.
    pub version: Option<u64>,
    /// Rows that the target refused, and that are kept there.
    pub rejected: u64,
}

/// What can go wrong with a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The world may heal. Retried; nothing is lost.
    #[error("{reason}: {message}")]
    Unavailable {
        /// Reason of the condition, such as `SinkUnavailable`.
        reason: &'static str,
        /// What, where, what to do.
        message: String,
    },
    /// A person must act: another schema, history lost.
    #[error("{reason}: {message}")]
    Stop {
        /// Reason of the condition, such as `TableSchemaMismatch`.
        reason: &'static str,
        /// What, where, what to do.
        message: String,
    },
}
