//! The head: the lane's only decision object, and the two small objects beside it. Formats only, no decisions.
//!
//! Unknown fields are refused; a later format is refused before anything else is read. Each object ends in a checksum of all its
//! fields (`sum`), so that no change of any bit is taken for what was written.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use super::body::{
    Body, Bucket, Intent, Run, SinkEntry, StateFile, StepState, WatermarkSnapshots,
};
use super::care::Care;
use super::digest::{Digest, canonical};
pub use super::identity::SinkIdentity;
use crate::position::{Epoch, Term};

/// The format this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Superseded pods that a head remembers.
pub const SUPERSEDED: usize = 16;

/// Epochs whose state and staged rows are kept for whoever still reads them.
pub const KEPT: u64 = 20;

/// Decided epochs that may wait for their sinks.
pub const MAX_UNDONE: usize = 2;

/// `<lane>/head.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u32,
    /// Nonce of the write that made this object; each write has its own.
    pub write: String,
    /// Digest of the body.
    pub digest: Digest,
    /// Who may write the next one.
    pub owner: Owner,
    /// What was decided.
    pub body: Body,
    /// What is still to be done.
    pub rolling: Rolling,
}

/// Ownership of a lane.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// Raised by each new owner.
    pub term: Term,
    /// UID of the owning pod.
    pub pod: String,
    /// Times the lane changed hands since this body was decided.
    pub takeovers: u32,
    /// The last pods that lost the lane, oldest first: none of them takes it again.
    pub superseded: Vec<String>,
    /// Processes died again and again; `None`: nothing is suspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care: Option<Care>,
}

/// What moves while a body stands.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rolling {
    /// Decided epochs that are not recorded as applied on all their sinks, oldest first; at most [`MAX_UNDONE`].
    pub undone: Vec<Undone>,
    /// The newest epoch recorded as applied, per sink.
    pub applied: BTreeMap<SinkIdentity, Epoch>,
    /// The oldest epoch whose copy is kept; those before it may be deleted. It only grows.
    #[serde(default)]
    pub retained: Epoch,
}

/// A decided epoch that sinks still wait for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Undone {
    /// Its number.
    pub epoch: Epoch,
    /// The plan under which it is rolled forward.
    pub plan: Digest,
    /// All its intents, also those that are done.
    pub intents: Vec<Intent>,
}

/// `owner.json`: who owns the path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnerFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Nonce of the write that made this object; each write has its own.
    pub write: String,
    /// Checkpoint id: 128 random bits in hex, minted here and never changed.
    pub checkpoint: String,
    /// UID of the namespace.
    pub namespace_uid: String,
    /// Name of the pipeline.
    pub name: String,
    /// UID of the resource.
    pub uid: String,
}

/// `<lane>/born.json`: epoch 0 was decided.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Born {
    /// [`FORMAT`].
    pub format: u32,
    /// Checkpoint id, from `owner.json`.
    pub checkpoint: String,
    /// Incarnation of epoch 0.
    pub incarnation: String,
}

/// Why an object is not what it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Written by a newer version.
    #[error("has format {0}; this version reads up to {FORMAT}")]
    Newer(u64),
    /// Not such an object.
    #[error("cannot be read: {0}")]
    Malformed(String),
    /// Its parts contradict each other.
    #[error("contradicts itself: {0}")]
    Contradiction(String),
}

/// The field that holds the checksum of the others.
const SUM: &str = "sum";

/// The bytes of an object that names its format, with its checksum.
pub fn sealed<T: Serialize>(object: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(object)?;
    let sum = Digest::of_json(&value)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert(SUM.to_owned(), sum.0.into());
    }
    canonical(&value)
}

/// Reads an object that was [`sealed`].
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let malformed = |e: serde_json::Error| Unreadable::Malformed(e.to_string());
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => return Err(Unreadable::Newer(format)),
        Some(1) => {}
        _ => return Err(Unreadable::Malformed("it names no known format".into())),
    }
    let sum = value.as_object_mut().and_then(|fields| fields.remove(SUM));
    let found = Digest::of_json(&value).map_err(malformed)?;
    if sum.as_ref().and_then(serde_json::Value::as_str) != Some(&found.0) {
        return Err(Unreadable::Malformed(
            "it does not have the checksum it was written with".into(),
        ));
    }
    serde_json::from_value(value).map_err(malformed)
}

impl Head {
    /// A head of this body, with the digest it has.
    pub fn seal(
        write: String,
        owner: Owner,
        body: Body,
        rolling: Rolling,
    ) -> Result<Self, Unreadable> {
        let digest = Digest::of_json(&body).map_err(|e| Unreadable::Malformed(e.to_string()))?;
        Ok(Self {
            format: FORMAT,
            write,
            digest,
            owner,
            body,
            rolling,
        })
    }

    /// The object's bytes. They are read back and compared: what would not be read as it was written is not written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Unreadable> {
        let bytes = sealed(self).map_err(|e| Unreadable::Malformed(e.to_string()))?;
        if Self::from_bytes(&bytes)? != *self {
            return Err(Unreadable::Contradiction(
                "a value in it does not survive JSON".into(),
            ));
        }
        Ok(bytes)
    }

    /// Reads and checks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let head: Self = parse(bytes)?;
        head.check().map_err(Unreadable::Contradiction)?;
        Ok(head)
    }

    fn check(&self) -> Result<(), String> {
        let body = &self.body;
        if Digest::of_json(body).as_ref().ok() != Some(&self.digest) {
            return Err("the digest is not that of the body".into());
        }
        if (body.epoch == Epoch(0)) != body.parent.is_none() {
            return Err(format!("epoch {} and its parent do not fit", body.epoch));
        }
        let undone = &self.rolling.undone;
        if undone.len() > MAX_UNDONE || undone.iter().any(|u| u.epoch > body.epoch) {
            return Err("the epochs not yet applied do not fit the body".into());
        }
        if undone.windows(2).any(|w| w[0].epoch >= w[1].epoch) {
            return Err("the epochs not yet applied are out of order".into());
        }
        match undone
            .iter()
            .find(|u| u.epoch == body.epoch && u.intents != body.intents)
        {
            Some(_) => Err("the intents not yet applied are not those of the body".into()),
            None => Ok(()),
        }
    }
}

impl Owner {
    /// The first owner of a lane.
    pub fn first(pod: &str) -> Self {
        Self {
            term: Term(1),
            pod: pod.to_owned(),
            takeovers: 0,
            superseded: Vec::new(),
            care: None,
        }
    }

    /// The owner after this one. A pod that comes back (its container was restarted) supersedes only its own term.
    #[must_use]
    pub fn taken_by(&self, pod: &str) -> Self {
        let mut superseded = self.superseded.clone();
        if self.pod != pod {
            superseded.push(self.pod.clone());
        }
        let surplus = superseded.len().saturating_sub(SUPERSEDED);
        superseded.drain(..surplus);
        Self {
            term: Term(self.term.0 + 1),
            pod: pod.to_owned(),
            takeovers: self.takeovers + 1,
            superseded,
            care: self.care.clone(),
        }
    }
}

impl Rolling {
    /// The rolling part of the head that decides `body`: its intents join what is undone, and nothing is remembered of sinks
    /// that are neither in the plan nor waited for.
    #[must_use]
    pub fn with(&self, body: &Body) -> Self {
        let mut next = self.clone();
        if !body.intents.is_empty() {
            next.undone.push(Undone {
                epoch: body.epoch,
                plan: body.plan.clone(),
                intents: body.intents.clone(),
            });
        }
        let Self {
            undone, applied, ..
        } = &mut next;
        applied.retain(|sink, _| {
            body.sink_name(sink).is_some()
                || undone
                    .iter()
                    .any(|u| u.intents.iter().any(|i| &i.sink == sink))
        });
        next
    }

    /// Notes that a sink holds an epoch, and forgets undone epochs that all their sinks hold.
    pub fn note(&mut self, sink: &SinkIdentity, epoch: Epoch) {
        let held = self.applied.entry(sink.clone()).or_insert(epoch);
        *held = (*held).max(epoch);
        let applied = &self.applied;
        self.undone.retain(|u| {
            u.intents
                .iter()
                .any(|i| applied.get(&i.sink).is_none_or(|held| *held < u.epoch))
        });
    }

    /// Whether this intent is recorded as applied.
    pub fn holds(&self, intent: &Intent) -> bool {
        self.applied
            .get(&intent.sink)
            .is_some_and(|held| *held >= intent.epoch)
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
