//! The loop of one lane: epochs, one after the other, until it is told to stop.
//!
//! Owns the open epoch and the order in which it becomes durable: staged bytes and state first, then the decision, then the
//! sinks. Everything before the decision leaves no trace if it fails; everything after it is only rolled forward.

mod apply;
mod bound;
mod epoch;
mod fill;
mod poison;
mod rejects;
mod skip;
mod start;
mod state;
mod tables;
mod vouch;

use std::time::Duration;

use evp_api::reason;
use evp_core::dataflow::DataflowError;
use evp_core::position::Positions;
use tokio_util::sync::CancellationToken;

use crate::checkpointer::Stop;
use crate::clock::SharedClock;
use crate::job::OpenError;
use crate::report::{Letters, Reporter};
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::tasks::Tasks;

use apply::Applier;
use fill::Filler;
pub use poison::Poison;
pub use start::{Start, start};
use vouch::SharedSources;

/// Nothing moves, and why. What was decided stands; what was not is computed again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Halt {
    /// Reason of the condition.
    pub reason: &'static str,
    /// What, where, what to do.
    pub message: String,
    /// What must happen before it goes on.
    pub remedy: Remedy,
}

/// What must happen before a halted worker goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// It may heal by itself: it is tried again soon.
    Wait,
    /// A person must act: it is tried again now and then.
    Person,
    /// This process never goes on.
    Never,
}

/// When the loop ends by itself.
#[derive(Clone, Debug, Default)]
pub enum Until {
    /// Never.
    #[default]
    Stopped,
    /// When these positions are committed and the watermark stands still.
    Reached(Positions),
}

/// A lane that runs.
pub struct Runtime {
    filler: Filler,
    applier: Applier,
    sources: SharedSources,
    clock: SharedClock,
    readers: Tasks,
    /// Where each split was read on when this run started: splits that the head does not know yet enter here.
    starts: Positions,
}

/// How long tasks that read may take to end: a poll takes 100 ms at most.
const READERS_END: Duration = Duration::from_secs(5);

impl Runtime {
    /// Runs epochs until told to stop, or until what was asked for is reached. The open epoch is finished first.
    pub async fn run(mut self, reporter: &Reporter, stop: &CancellationToken) -> Result<(), Halt> {
        self.tell_what_is_restored(reporter);
        let ended = loop {
            match self.epoch(reporter, stop).await {
                Ok(epoch::Went::On) => {}
                Ok(epoch::Went::Finished) => break self.applier.finish(reporter).await,
                Err(halt) => break Err(halt),
            }
        };
        for sink in self.filler.sinks.values_mut() {
            sink.abandon().await;
        }
        self.readers.drain(&self.clock, READERS_END).await;
        ended
    }

    fn tell_what_is_restored(&self, reporter: &Reporter) {
        let state = self.filler.dataflow.state_facts();
        let restored = self.applier.newest(&state, Letters::new());
        let (term, epoch) = (restored.term.0, restored.body.epoch.0);
        tracing::info!(term, epoch, "the lane is ours and goes on after this epoch");
        reporter.running(&restored);
    }
}

impl Halt {
    /// It may heal by itself.
    pub fn wait(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: Remedy::Wait,
        }
    }

    /// A person must act.
    pub fn person(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: Remedy::Person,
        }
    }

    fn failed_epoch(error: impl std::fmt::Display) -> Self {
        Self::wait(
            reason::EPOCH_FAILED,
            format!("the epoch could not be computed and is tried again; nothing is lost: {error}"),
        )
    }
}

impl From<DataflowError> for Halt {
    fn from(error: DataflowError) -> Self {
        let reason = match &error {
            DataflowError::StateTooLarge { .. } => reason::STATE_TOO_LARGE,
            DataflowError::WindowRow { .. } | DataflowError::Overflow { .. } => {
                reason::WINDOW_FAILED
            }
            DataflowError::Unbalanced(_) => reason::LEDGER_UNBALANCED,
            DataflowError::Compute(_) | DataflowError::UnknownSource(_) => {
                return Self::failed_epoch(error);
            }
        };
        Self::person(reason, error.to_string())
    }
}

impl From<SourceError> for Halt {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable { reason, message } => Self::wait(reason, message),
            SourceError::Stop { reason, message } => Self::person(reason, message),
            SourceError::Secret(secret) => Self::wait(reason::SECRET_MISSING, secret.to_string()),
        }
    }
}

impl From<SinkError> for Halt {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Unavailable { reason, message } => Self::wait(reason, message),
            SinkError::Stop { reason, message } => Self::person(reason, message),
        }
    }
}

impl From<OpenError> for Halt {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(store) => store.into(),
            OpenError::Sink(sink) => sink.into(),
        }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Stop::from(error).into()
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        let remedy = match stop.reason {
            reason::FENCED if mistaken!(TakeOverLoop) => Remedy::Wait,
            reason::FENCED => Remedy::Never,
            _ if stop.retry => Remedy::Wait,
            _ => Remedy::Person,
        };
        Self {
            reason: stop.reason,
            message: stop.message,
            remedy,
        }
    }
}
