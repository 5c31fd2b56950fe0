//! The body of a head: what one epoch decided. It never changes once it is decided; digests and history cover it alone.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::identity::{Namespace, SinkIdentity};
use super::paths::Lane;
use super::reset::Reset;
use crate::ledger::Ledger;
use crate::position::{Epoch, Micros, Positions};

pub use crate::dataflow::WatermarkSnapshots;

/// One decided epoch, complete in itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Body {
    /// Checkpoint id, from `owner.json`: ties the lane to its owner.
    pub checkpoint: String,
    /// 128 random bits in hex, minted at a new start or a reset.
    pub incarnation: String,
    /// Lane.
    pub lane: Lane,
    /// Its number; 0 holds only the resolved start.
    pub epoch: Epoch,
    /// Digest of the body before it; `None`: this is epoch 0.
    pub parent: Option<Digest>,
    /// "Now" in the meaning of the epoch; fixed when it opened.
    pub epoch_time: Micros,
    /// When it was decided.
    pub decided_time: Micros,
    /// The plan it was decided under.
    pub plan: Digest,
    /// The last `resetNonce` that was honoured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reset_nonce: u64,
    /// What resets left; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// Where each source is read on.
    pub positions: Positions,
    /// What is promised of each source.
    pub watermarks: WatermarkSnapshots,
    /// State of each stateful step.
    pub state: BTreeMap<NodeName, StepState>,
    /// The sinks of the plan.
    pub sinks: BTreeMap<NodeName, SinkEntry>,
    /// What each sink is to do for this epoch.
    pub intents: Vec<Intent>,
    /// Counts of this epoch.
    pub ledger: Ledger,
    /// Counts of all epochs up to and with this one.
    pub totals: Ledger,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(nonce: &u64) -> bool {
    *nonce == 0
}

/// Files of one step's state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepState {
    /// What the state means: it is read only by a step with the same.
    pub fingerprint: String,
    /// Runs of each bucket, oldest first: the first holds all its rows, each later one those that changed after the run
    /// before it. A bucket whose last window closed is gone.
    pub buckets: BTreeMap<Bucket, Vec<Run>>,
}

/// Windows whose state lies in files of their own: those that start within one span of time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Bucket(pub i64);

/// What one epoch wrote of a bucket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// How many times changes were merged into it.
    pub tier: u8,
    /// Its parts, to be read in this order.
    pub files: Vec<StateFile>,
}

/// An object that a head names: a file of state, or an intent of its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateFile {
    /// `<epoch>-<nonce>`, below the lane's folder of such objects.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Checksum of the bytes.
    pub sha256: Digest,
}

impl StepState {
    /// State of this meaning, without rows.
    pub fn new(fingerprint: String) -> Self {
        Self {
            fingerprint,
            buckets: BTreeMap::new(),
        }
    }

    /// All runs; those of a bucket oldest first.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.buckets.values().flatten()
    }

    /// All files; those of a bucket in the order in which they are to be read.
    pub fn files(&self) -> impl Iterator<Item = &StateFile> {
        self.runs().flat_map(|run| &run.files)
    }
}

impl Run {
    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }
}

/// A sink as of an epoch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkEntry {
    /// Under which its target remembers what was applied.
    pub identity: SinkIdentity,
    /// The epoch it was added at.
    pub added_at: Epoch,
    /// The last epoch that had an intent for it; `None`: none yet.
    pub prev: Option<Epoch>,
}

/// What a decided epoch wants one sink to do; written in the head before it is done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// The sink, its target and the epoch it was added at.
    pub sink: SinkIdentity,
    /// The epoch that decided it.
    pub epoch: Epoch,
    /// The last epoch before it that had an intent for this sink; `None`: this is the first.
    pub prev: Option<Epoch>,
    /// What to do, in the sink's own words. Fractions as text: a number that does not survive JSON is refused. Null: it is
    /// `apart`, or this only stands for an intent that may come.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub body: serde_json::Value,
    /// Where the body is, if it is too large for the head: its canonical JSON, below the lane's intents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<StateFile>,
}

impl Body {
    /// Epoch 0 of a lane of which nothing is known yet, opened and decided at one instant.
    pub fn first(of: &Namespace<'_>, plan: Digest, now: Micros) -> Self {
        Self {
            checkpoint: of.checkpoint.to_owned(),
            incarnation: of.incarnation.to_owned(),
            lane: of.lane.clone(),
            epoch: Epoch(0),
            parent: None,
            epoch_time: now,
            decided_time: now,
            plan,
            reset_nonce: 0,
            reset: None,
            positions: Positions::new(),
            watermarks: WatermarkSnapshots::new(),
            state: BTreeMap::new(),
            sinks: BTreeMap::new(),
            intents: Vec::new(),
            ledger: Ledger::default(),
            totals: Ledger::default(),
        }
    }

    /// For laws: that of checkpoint `c` and incarnation `i`, under a plan `q`, at instant 0.
    #[cfg(test)]
    pub(crate) fn blank() -> Self {
        let of = Namespace {
            checkpoint: "c",
            incarnation: "i",
            lane: &Lane::default(),
        };
        Self::first(&of, Digest("q".to_owned()), Micros(0))
    }

    /// The open epoch after this one: everything goes on, nothing is to be done yet.
    #[must_use]
    pub fn successor(&self, epoch_time: Micros) -> Self {
        let mut next = self.clone();
        next.epoch = self.epoch.next();
        next.epoch_time = epoch_time;
        next.intents = Vec::new();
        next.ledger = Ledger::default();
        next
    }

    /// Makes `sinks` those of the plan: a target (any text that changes when it does) that is new or re-pointed gets an
    /// identity of its own as of this epoch; others keep theirs.
    pub fn set_sinks(&mut self, targets: &BTreeMap<NodeName, String>) {
        let space = Namespace {
            checkpoint: &self.checkpoint,
            incarnation: &self.incarnation,
            lane: &self.lane,
        };
        let mut sinks = BTreeMap::new();
        for (name, target) in targets {
            let kept = self
                .sinks
                .get(name)
                .filter(|e| e.identity == space.sink(name, target, e.added_at));
            let entry = kept.cloned().unwrap_or_else(|| SinkEntry {
                identity: space.sink(name, target, self.epoch),
                added_at: self.epoch,
                prev: None,
            });
            sinks.insert(name.clone(), entry);
        }
        self.sinks = sinks;
    }

    /// Adds what a sink sealed. `false`: the plan has no such sink.
    #[must_use]
    pub fn add_intent(&mut self, sink: &NodeName, body: serde_json::Value) -> bool {
        let Some(entry) = self.sinks.get_mut(sink) else {
            return false;
        };
        let prev = entry.prev.replace(self.epoch);
        self.intents.push(Intent {
            sink: entry.identity.clone(),
            epoch: self.epoch,
            prev,
            body,
            apart: None,
        });
        true
    }

    /// Name of the sink with that identity.
    pub fn sink_name(&self, identity: &SinkIdentity) -> Option<&NodeName> {
        self.sinks
            .iter()
            .find(|(_, e)| &e.identity == identity)
            .map(|(name, _)| name)
    }

    /// All state files.
    pub fn state_files(&self) -> impl Iterator<Item = &StateFile> {
        self.state.values().flat_map(StepState::files)
    }
}
