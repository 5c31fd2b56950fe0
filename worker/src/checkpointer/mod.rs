//! Executes the protocol's decisions against the store and the sinks.
//!
//! Owns: every write of a checkpoint's objects, ambiguity after a conditional write, retries of the store and of applying,
//! the record of what was applied. Does not own: what an epoch contains, when one is decided, how a sink applies.
//!
//! Order of use: [`Checkpointer::start`], [`Checkpointer::roll_forward`], then for each epoch [`Checkpointer::decide`] and
//! [`Checkpointer::apply`]. Every `Err` is a [`Stop`]: the checkpointer is then dropped, and only a new start goes on.
//! Dropping it in the middle of a call is a crash, and as harmless as one.

pub mod crash;
mod decide;
mod intents;
mod io;
mod roll;
mod start;
mod state;
mod stop;
mod swap;
mod sweep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use evp_api::plan::NodeName;
use evp_core::position::{Epoch, Micros, Positions, Term};
use evp_core::protocol::care::Care;
pub use evp_core::protocol::decide::{Fingerprints, Identity};
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Body, Head, Rolling, Undone, WatermarkSnapshots};
use evp_core::protocol::identity::Namespace;
use evp_core::protocol::paths::Lane;

use crate::clock::SharedClock;
use crate::ids::Ids;
use crate::store::{ETag, Location};

pub use crash::{CrashPoints, Moment, Step};
pub use io::{Logged, Report, Waiting};
pub use roll::{OpenSinks, Sinks};
pub use state::StateFiles;
pub use stop::Stop;

use io::Io;

/// Proof that the head holds the intents of an epoch: made only here, by the code that won the head.
#[derive(Debug)]
pub struct CommitPermit {
    epoch: Epoch,
}

impl CommitPermit {
    /// The decided epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// What a checkpointer is wired with.
#[derive(Clone)]
pub struct Setup {
    /// The checkpoint's path, opened.
    pub location: Location,
    /// Who starts.
    pub identity: Identity,
    /// Lane to own.
    pub lane: Lane,
    /// The plan epochs are decided under ([`evp_api::plan::digest_input`]); its digest names it.
    pub plan: serde_json::Value,
    /// Target of each sink of the plan, as any text that changes when the target does.
    pub targets: BTreeMap<NodeName, String>,
    /// UID of the owner from whom the plan consents to take the path over.
    pub adopt_from: Option<String>,
    /// `resetNonce` of the plan.
    pub reset_nonce: u64,
    /// How long copies of epochs are kept, in epoch time.
    pub history: Micros,
    /// What the state of each step of the plan means: a head that holds another is not taken over.
    pub fingerprints: Fingerprints,
    /// Most records of an epoch as the manifest says.
    pub max_records: Option<u64>,
    /// This process owned the lane before: it goes on, and nobody died.
    pub again: bool,
    /// The newest epoch anybody saw (`--seen-epoch`).
    pub seen: Option<Epoch>,
    /// Time.
    pub clock: SharedClock,
    /// Names.
    pub ids: Ids,
    /// Where to crash.
    pub crash: CrashPoints,
    /// Who is told about waiting.
    pub report: Arc<dyn Report>,
}

/// Resolves where a new pipeline starts. Asked at most once a start, before epoch 0 is decided.
#[async_trait]
pub trait StartPositions: Send {
    /// The resolved start of every split; `now` is the epoch time of epoch 0.
    async fn resolve(&mut self, now: Micros) -> Result<StartPoint, Stop>;
}

/// The content of epoch 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StartPoint {
    /// Resolved positions.
    pub positions: Positions,
    /// Watermarks as they are before anything was read.
    pub watermarks: WatermarkSnapshots,
}

/// A lane that is ours.
#[derive(Debug)]
pub struct Started {
    /// To go on with.
    pub checkpointer: Checkpointer,
    /// The newest decided epoch.
    pub body: Body,
    /// Decided epochs to roll forward first, each under its own plan ([`Checkpointer::plan`]).
    pub undone: Vec<Undone>,
    /// Epoch 0 was decided now.
    pub new: bool,
}

/// The owner of a lane.
#[derive(Debug)]
pub struct Checkpointer {
    io: Io,
    lane: Lane,
    plan: PlanObject,
    targets: BTreeMap<NodeName, String>,
    reset_nonce: u64,
    history: Micros,
    fingerprints: Fingerprints,
    head: Head,
    etag: ETag,
    /// The head's rolling part, and what was applied since it was written.
    rolling: Rolling,
    /// The head's body has its copy in the history.
    copied: bool,
    /// Every sink was asked what it holds, or epoch 0 was decided here: until then nothing is decided.
    asked: bool,
    /// State files named by each of the last epochs of this process, newest last.
    named: VecDeque<BTreeSet<String>>,
    /// The oldest epoch of which a copy may be there; `None`: nobody has looked.
    copies_from: Option<Epoch>,
}

#[derive(Debug)]
struct PlanObject {
    digest: Digest,
    bytes: Vec<u8>,
    /// It is in the store.
    written: bool,
}

impl Checkpointer {
    /// Checkpoint id.
    pub fn checkpoint(&self) -> &str {
        &self.head.body.checkpoint
    }

    /// The newest decided epoch.
    pub fn body(&self) -> &Body {
        &self.head.body
    }

    /// Term under which we write.
    pub fn term(&self) -> Term {
        self.head.owner.term
    }

    /// Times the lane changed hands since the newest epoch was decided: many without progress mean a crash loop.
    pub fn takeovers(&self) -> u32 {
        self.head.owner.takeovers
    }

    /// What is suspected because processes died; `None`: nothing is.
    pub fn care(&self) -> Option<&Care> {
        self.head.owner.care.as_ref()
    }

    /// Digest of the plan that epochs are decided under.
    pub fn plan_digest(&self) -> &Digest {
        &self.plan.digest
    }

    /// Decided epochs that some sink does not hold yet.
    pub fn undone(&self) -> &[Undone] {
        &self.rolling.undone
    }

    /// The newest epoch that all its sinks hold: every epoch up to it is done.
    pub fn applied(&self) -> Option<Epoch> {
        match self.rolling.undone.first() {
            None => Some(self.head.body.epoch),
            Some(oldest) => oldest.epoch.0.checked_sub(1).map(Epoch),
        }
    }

    /// The open epoch: the newest body goes on, under our plan and with its sinks.
    pub fn open(&self, epoch_time: Micros) -> Body {
        let mut body = self.head.body.successor(epoch_time);
        body.plan = self.plan.digest.clone();
        body.set_sinks(&self.targets);
        body
    }

    /// What all sink identities of this lane have in common.
    pub fn namespace(&self) -> Namespace<'_> {
        Namespace {
            checkpoint: self.checkpoint(),
            incarnation: &self.head.body.incarnation,
            lane: &self.lane,
        }
    }

    /// Where state files are put and had; shared, so that it works while an epoch is applied.
    pub fn state(&self) -> StateFiles {
        StateFiles::new(self.io.clone(), self.lane.clone())
    }
}

#[cfg(test)]
mod tests;
