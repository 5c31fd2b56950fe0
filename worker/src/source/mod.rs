//! Where records come from: the trait, and the one match that opens a source.

pub mod files;
pub mod generator;
pub mod kafka;
pub mod script;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evp_core::files::table::FileTable;
use evp_core::position::SplitPositions;
use evp_core::record::RawBatch;
use tokio::sync::Mutex;

/// One input. It is read in batches and never commits anything: positions live in the head.
#[async_trait]
pub trait Source: Send {
    /// Resolves the start of every split that metadata shows now and `known` does not name. On the very first start
    /// (`known` is `None`) the manifest's start applies, later a new split starts at its earliest record (semantics 24).
    /// Checks `known` against the log (semantics 25).
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError>;

    /// Hands over which files were read, before the first seek; only for sources that read files.
    fn remember(&mut self, _table: FileTable) {}

    /// Reads on from these positions. Forgets what was fetched before.
    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError>;

    /// The next records: at least one if any arrives within `wait`, at most the budget (one record may exceed the bytes).
    /// An empty batch is no end: it may still tell what was reached.
    async fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError>;

    /// Is all that was handed over since the seek still of the splits that it was said to be of? Asked after the last record of
    /// an epoch and before the epoch is decided: a log that was replaced in between must not be taken for the old one. The epoch
    /// ends before these positions; what was handed over behind them belongs to later ones.
    async fn vouch(&mut self, positions: &SplitPositions) -> Result<(), SourceError>;

    /// The end of every split that there is now, as positions: what a bounded run reads up to. [`Position::OPEN`]: up to
    /// where the source first says that it is at its end. May be asked before a seek.
    ///
    /// [`Position::OPEN`]: evp_core::position::Position::OPEN
    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError>;
}

/// A source that its reader polls, and that the loop asks to vouch.
pub type SharedSource = Arc<Mutex<Box<dyn Source>>>;

/// Gives a source to both.
pub fn share(source: Box<dyn Source>) -> SharedSource {
    Arc::new(Mutex::new(source))
}

/// Most that one poll may return.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The world may heal: broker down, topic not there yet, access denied (credentials are read again). Retried; nothing
    /// is lost.
    #[error("{reason}: {message}")]
    Unavailable {
        /// Reason of the condition, such as `SourceUnreachable`.
        reason: &'static str,
        /// What, where, what to do.
        message: String,
    },
    /// A person must act: topic replaced, records deleted before they were read.
    #[error("{reason}: {message}")]
    Stop {
        /// Reason of the condition, such as `TopicRecreated`.
        reason: &'static str,
        /// What, where, what to do.
        message: String,
    },
    /// A credential is missing; it may still come.
    #[error(transparent)]
    Secret(#[from] crate::secrets::Error),
}
