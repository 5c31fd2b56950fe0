//! The protocol's decisions as pure functions: facts in, decision out. What executes them is the worker's checkpointer.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;

use super::head::{Body, Born, Head, Intent, OwnerFile, StepState, Unreadable};
use crate::position::{Epoch, Term};

/// Who starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Name of the pipeline.
    pub name: String,
    /// UID of the resource (locally `local:<random>`).
    pub uid: String,
    /// UID of its namespace (locally the same as `uid`).
    pub namespace_uid: String,
    /// UID of the pod: locally random for each process.
    pub pod: String,
}

/// An object as it was found; `None`: it is not there.
pub type Found<T> = Option<Result<T, Unreadable>>;

/// What a start finds.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `owner.json`.
    pub owner: Found<&'a OwnerFile>,
    /// `head.json`.
    pub head: Found<&'a Head>,
    /// `born.json`.
    pub born: Found<&'a Born>,
    /// Who asks.
    pub me: &'a Identity,
    /// The newest epoch anybody ever saw of this pipeline; `None`: nobody saw one.
    pub seen: Option<Epoch>,
    /// UID of the owner from whom our plan consents to take the path over.
    pub adopt_from: Option<&'a str>,
    /// `resetNonce` of our plan: where it is above the head's, state that does not fit will be dropped.
    pub reset_nonce: u64,
    /// What the state of each step of our plan means.
    pub fingerprints: &'a Fingerprints,
}

/// Fingerprint of the state of each step that keeps one.
pub type Fingerprints = BTreeMap<NodeName, String>;

/// How a start goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Startup {
    /// Nothing was ever decided here. `claimed`: an earlier attempt of ours wrote `owner.json`.
    NewStart {
        /// The path is ours already.
        claimed: bool,
    },
    /// Take the lane over. `born`: `born.json` is still to be written (a crash between it and epoch 0).
    Resume {
        /// `born.json` is there.
        born: bool,
    },
    /// The path belongs to the owner that our plan names, and all else is as a start needs it: make the path ours, then look
    /// anew.
    Adopt,
    /// Do not start.
    Refuse(Refusal),
}

/// Why not to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Another pipeline owns the path.
    Owned {
        /// Its name.
        name: String,
        /// UID of its resource.
        uid: String,
    },
    /// This pod lost the lane to a newer one.
    Fenced {
        /// Term of the owner.
        term: Term,
        /// Pod that owns it.
        pod: String,
    },
    /// The checkpoint is older than what was already decided. `head`: what it holds; `None`: nothing.
    Behind {
        /// Epoch of the head.
        head: Option<Epoch>,
        /// Epoch that was seen.
        seen: Epoch,
    },
    /// A step's state was kept for another meaning than our plan gives it.
    StateIncompatible(NodeName),
    /// Our plan is from before a reset that the checkpoint has seen: what it would begin, the plan with the higher nonce could
    /// not read.
    NonceBehind {
        /// `resetNonce` that the head has honoured.
        honoured: u64,
        /// Ours.
        ours: u64,
    },
    /// Written by a newer version: name of the object.
    Newer(&'static str, u64),
    /// The objects contradict each other: what is wrong.
    Damaged(String),
}

/// Decides how a start goes on.
///
/// Created in this order: owner, head of epoch 0, born. So owner alone is a new start that was cut short, and a head of
/// epoch 0 without born is too; any other gap means that somebody removed an object.
pub fn startup(facts: Facts<'_>) -> Startup {
    let Facts {
        owner,
        head,
        born,
        me,
        seen,
        adopt_from,
        reset_nonce,
        fingerprints,
    } = facts;
    let read = || -> Result<_, Refusal> {
        Ok((
            readable("owner.json", owner)?,
            readable("head.json", head)?,
            readable("born.json", born)?,
        ))
    };
    let (owner, head, born) = match read() {
        Ok(objects) => objects,
        Err(refusal) => return Startup::Refuse(refusal),
    };
    let Some(owner) = owner else {
        return match (head, born, seen) {
            (None, None, None) => Startup::NewStart { claimed: false },
            (None, None, Some(seen)) => Startup::Refuse(Refusal::Behind { head: None, seen }),
            _ => damaged("owner.json is gone and other objects are there"),
        };
    };
    let is_ours =
        owner.uid == me.uid || (&owner.namespace_uid, &owner.name) == (&me.namespace_uid, &me.name);
    if !is_ours && adopt_from != Some(&owner.uid) {
        return Startup::Refuse(Refusal::Owned {
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        });
    }
    let lane = match (head, born) {
        (None, Some(_)) => damaged("head.json is gone and born.json is there"),
        (None, None) => match seen {
            None => Startup::NewStart { claimed: true },
            Some(seen) => Startup::Refuse(Refusal::Behind { head: None, seen }),
        },
        (Some(head), None) if head.body.epoch > Epoch(0) => {
            damaged("born.json is gone and head.json is there")
        }
        (Some(head), _) if head.body.checkpoint != owner.checkpoint => {
            damaged("owner.json and head.json are of different checkpoints")
        }
        (Some(head), born) => resume(head, born, (me, seen), (reset_nonce, fingerprints)),
    };
    match lane {
        // Judged before the path is taken, as before a lane is.
        Startup::Refuse(_) => lane,
        _ if is_ours => lane,
        _ => Startup::Adopt,
    }
}

fn resume(
    head: &Head,
    born: Option<&Born>,
    (me, seen): (&Identity, Option<Epoch>),
    (reset_nonce, fingerprints): (u64, &Fingerprints),
) -> Startup {
    let epoch = head.body.epoch;
    if let Some(seen) = seen.filter(|s| *s > epoch) {
        return Startup::Refuse(Refusal::Behind {
            head: Some(epoch),
            seen,
        });
    }
    let life = (head.body.checkpoint.as_str(), head.body.born());
    if born.is_some_and(|b| (b.checkpoint.as_str(), b.incarnation.as_str()) != life) {
        return damaged("born.json and head.json are of different lives");
    }
    let owner = &head.owner;
    if owner.pod != me.pod && owner.superseded.contains(&me.pod) {
        return Startup::Refuse(Refusal::Fenced {
            term: owner.term,
            pod: owner.pod.clone(),
        });
    }
    // Judged before the lane is taken: a plan that does not fit leaves the pods alone that still run.
    let honoured = head.body.reset_nonce;
    if reset_nonce < honoured {
        return Startup::Refuse(Refusal::NonceBehind {
            honoured,
            ours: reset_nonce,
        });
    }
    let consents = reset_nonce > honoured;
    if let Some(step) = stranger(&head.body, fingerprints).filter(|_| !consents) {
        return Startup::Refuse(Refusal::StateIncompatible(step.clone()));
    }
    Startup::Resume {
        born: born.is_some(),
    }
}

/// A step whose state our plan would read as something else.
fn stranger<'a>(body: &'a Body, ours: &Fingerprints) -> Option<&'a NodeName> {
    let differs = |(step, state): &(&NodeName, &StepState)| {
        ours.get(*step).is_some_and(|f| *f != state.fingerprint)
    };
    body.state.iter().find(differs).map(|(step, _)| step)
}

fn readable<T>(name: &'static str, found: Found<T>) -> Result<Option<T>, Refusal> {
    match found {
        None => Ok(None),
        Some(Ok(object)) => Ok(Some(object)),
        Some(Err(Unreadable::Newer(format))) => Err(Refusal::Newer(name, format)),
        Some(Err(e)) => Err(Refusal::Damaged(format!("{name} {e}"))),
    }
}

fn damaged(what: &str) -> Startup {
    Startup::Refuse(Refusal::Damaged(what.to_owned()))
}

/// A conditional write of the head whose outcome is not known.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Nonce of the write, the same over its retries.
    pub nonce: &'a str,
    /// Term under which we write.
    pub term: Term,
    /// Incarnation of epoch 0 ([`Body::born`]): a reset makes a new one and stays in the same lane.
    pub born: &'a str,
    /// Epoch of the head we know.
    pub epoch: Epoch,
    /// The object still has the ETag the write was conditional on.
    pub unchanged: bool,
}

/// What reading back says about a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadBack {
    /// It was us.
    Won,
    /// Nothing happened; the same write may be tried again (a late arrival of the first refuses the second).
    TryAgain,
    /// Somebody else owns the lane.
    Fenced {
        /// Their term.
        term: Term,
        /// Their pod.
        pod: String,
    },
    /// A newer version took the lane and wrote its own format.
    Newer(u64),
    /// Older content of our own: the object was restored.
    Behind(Epoch),
    /// None of these: what is wrong.
    Damaged(String),
}

/// Decides what became of a write of the head.
pub fn read_back(attempt: Attempt<'_>, found: Found<&Head>) -> ReadBack {
    let head = match found {
        None => return ReadBack::Damaged("head.json is gone".into()),
        Some(Err(Unreadable::Newer(format))) => return ReadBack::Newer(format),
        Some(Err(e)) => return ReadBack::Damaged(format!("head.json {e}")),
        Some(Ok(head)) => head,
    };
    if head.write == attempt.nonce {
        return ReadBack::Won;
    }
    if attempt.unchanged {
        return ReadBack::TryAgain;
    }
    if head.body.born() != attempt.born {
        return ReadBack::Damaged("head.json is of another incarnation".into());
    }
    if head.owner.term > attempt.term {
        return ReadBack::Fenced {
            term: head.owner.term,
            pod: head.owner.pod.clone(),
        };
    }
    if head.body.epoch <= attempt.epoch {
        return ReadBack::Behind(head.body.epoch);
    }
    ReadBack::Damaged(format!(
        "epoch {} was decided under our term and not by us",
        head.body.epoch
    ))
}

/// What a sink says about an intent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Marker {
    /// The newest epoch its target holds; `None`: it has no marker.
    pub held: Option<Epoch>,
    /// Epoch of the head as last read.
    pub head: Epoch,
    /// The head was read after the marker.
    pub fresh: bool,
}

/// What to do about an intent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RollForward {
    /// The sink holds it.
    Done,
    /// Do it.
    Apply,
    /// The sink holds an epoch after our head: read the head again.
    ReadHead,
    /// The head went on without us: exit.
    Zombie,
    /// The sink holds an epoch that the checkpoint does not know.
    CheckpointBehindSink,
    /// The sink no longer holds what was applied to it.
    SinkHistoryLost,
    /// The sink holds an epoch that had nothing for it.
    Contradiction,
}

/// Decides about an intent.
pub fn roll_forward(intent: &Intent, marker: Marker) -> RollForward {
    let Marker { held, head, fresh } = marker;
    match held {
        Some(m) if m > head && fresh => RollForward::CheckpointBehindSink,
        Some(m) if m > head => RollForward::ReadHead,
        Some(m) if m >= intent.epoch => RollForward::Done,
        held if held == intent.prev => RollForward::Apply,
        held if held < intent.prev => RollForward::SinkHistoryLost,
        _ => RollForward::Contradiction,
    }
}

/// Decides about a sink for which nothing is undone; `intent` stands for one it might get next: its `prev` is the last epoch
/// that had one for it, which is recorded as applied (`None`: there was none).
pub fn standing(intent: &Intent, marker: Marker) -> RollForward {
    match marker.held {
        held if held == intent.prev => RollForward::Done,
        Some(m) if m <= marker.head && held_more(intent, m) => RollForward::Contradiction,
        _ => roll_forward(intent, marker),
    }
}

fn held_more(intent: &Intent, held: Epoch) -> bool {
    intent.prev.is_none_or(|prev| held > prev)
}

/// After [`RollForward::ReadHead`]: `known` is the epoch as of before, `marker` has what was read now.
pub fn after_reading_head(intent: &Intent, known: Epoch, marker: Marker) -> RollForward {
    match marker.held {
        Some(m) if marker.head >= m && marker.head > known => RollForward::Zombie,
        _ => roll_forward(
            intent,
            Marker {
                fresh: true,
                ..marker
            },
        ),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
