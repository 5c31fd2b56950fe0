//! Why a checkpointer stops, in words: what, where, what to do.

use evp_api::reason;
use evp_core::protocol::care::Place;
use evp_core::protocol::decide::Refusal;
use evp_core::protocol::head::Unreadable;

use crate::sink::SinkError;
use crate::store::StoreError;

/// The lane cannot go on in this process.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Stop {
    /// Word from the catalogue of reasons.
    pub reason: &'static str,
    /// What, where, what to do.
    pub message: String,
    /// The world may heal: start anew after a while. Otherwise a person must act.
    pub retry: bool,
}

impl Stop {
    /// A person must act.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: false,
        }
    }

    /// Starting anew may help.
    pub fn retried(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: true,
        }
    }

    pub(super) fn damaged(url: &str, what: &str) -> Self {
        Self::stalled(
            reason::CHECKPOINT_DAMAGED,
            format!(
                "{url}: {what}; restore the folder as a whole, or use another path with tables of its own"
            ),
        )
    }

    pub(super) fn newer(url: &str, name: &str, format: u64) -> Self {
        let what = "a newer version of EventPipeline wrote it; run that version again";
        Self::stalled(
            reason::CHECKPOINT_TOO_NEW,
            format!("{url}/{name} has format {format}: {what}"),
        )
    }

    pub(super) fn unreadable(url: &str, name: &str, e: &Unreadable) -> Self {
        match e {
            Unreadable::Newer(format) => Self::newer(url, name, *format),
            e => Self::damaged(url, &format!("{name} {e}")),
        }
    }

    pub(super) fn fenced(url: &str, term: impl std::fmt::Display, pod: &str) -> Self {
        Self::stalled(
            reason::FENCED,
            format!("{url}: pod {pod} owns the lane with term {term}; this pod leaves it alone"),
        )
    }

    pub(super) fn refusal(url: &str, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Owned { name, uid } => Self::stalled(
                reason::CHECKPOINT_OWNED,
                format!(
                    "{url} belongs to pipeline {name} ({uid}); give this pipeline a checkpoint path of its own, or, once that one is \
                     stopped for good, set `checkpoint.adoptFrom: {uid}` to go on from where it ended"
                ),
            ),
            Refusal::Fenced { term, pod } => Self::fenced(url, term, &pod),
            Refusal::Behind { head, seen } => Self::behind(url, head.map(|e| e.0), seen.0),
            Refusal::StateIncompatible(step) => Self::stalled(
                reason::STATE_INCOMPATIBLE,
                format!(
                    "step {step}: its window, groups, event time or measures are others than those its state was kept for; \
                     revert the change, or raise `resetNonce`: then the step begins anew, with windows that start after the newest \
                     event so far"
                ),
            ),
            Refusal::NonceBehind { honoured, ours } => Self::stalled(
                reason::STATE_INCOMPATIBLE,
                format!(
                    "{url} was reset by `resetNonce: {honoured}`, and this plan says {ours}: it is from before that; set it to \
                     {honoured} if this plan is the newer one"
                ),
            ),
            Refusal::Newer(name, format) => Self::newer(url, name, format),
            Refusal::Damaged(what) => Self::damaged(url, &what),
        }
    }

    pub(super) fn kills(record: &Place, deaths: u32) -> Self {
        let Place {
            source,
            split,
            position,
        } = record;
        Self::stalled(
            reason::RECORD_KILLS_WORKER,
            format!(
                "{deaths} processes died while they computed the record at position {position} of {source}, split {split}, alone; \
                 give the workers more memory or another version, for a new pod tries it again, or give it up: \
                 `skip: [{{source: {source}, split: \"{split}\", position: {position}}}]` makes it a dead letter"
            ),
        )
    }

    pub(super) fn behind(url: &str, head: Option<u64>, seen: u64) -> Self {
        let holds = head.map_or("nothing".to_owned(), |e| format!("epoch {e}"));
        Self::stalled(
            reason::CHECKPOINT_BEHIND,
            format!(
                "{url} holds {holds}, and epoch {seen} was decided: restore its objects, or delete the pipeline and apply it \
                 with a new checkpoint path and new tables"
            ),
        )
    }
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Self {
            reason: e.reason(),
            message: e.describe(),
            retry: e.heals(),
        }
    }
}

impl From<SinkError> for Stop {
    fn from(e: SinkError) -> Self {
        match e {
            SinkError::Unavailable { reason, message } => Self::retried(reason, message),
            SinkError::Stop { reason, message } => Self::stalled(reason, message),
        }
    }
}
