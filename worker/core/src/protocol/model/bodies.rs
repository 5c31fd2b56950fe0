//! How heads and bodies are made: by production's functions, in the order in which the worker calls them.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use serde_json::json;

use super::bugs::Bug;
use super::heads::{Card, HeadId, Heads, RollingId};
use super::world::Files;
use crate::position::{Epoch, Micros};
use crate::protocol::digest::Digest;
use crate::protocol::head::{Body, Bucket, Head, Owner, Rolling, Run, StateFile, StepState};
use crate::protocol::identity::Namespace;
use crate::protocol::paths::{Lane, written_for};

/// The sink whose target tells the newest epoch it holds, as a Delta table's `txn` does.
pub(super) const GOLD: &str = "gold";
/// The sink whose target has one marker for each epoch, as a folder of dead letters has.
pub(super) const LETTERS: &str = "letters";

/// From what a head is made. Every part says which process makes it: its nonce is its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Make {
    /// Epoch 0.
    First { by: u8, pod: u8, checkpoint: u8 },
    /// The next term.
    Taken { by: u8, pod: u8, from: HeadId },
    /// The next epoch.
    Decided {
        by: u8,
        from: HeadId,
        rolling: RollingId,
    },
    /// The record of what was applied.
    Recorded {
        by: u8,
        from: HeadId,
        rolling: RollingId,
    },
}

impl Heads {
    pub(super) fn seal(&self, make: Make, plan: u8) -> Head {
        let write = String::new();
        let sealed = match make {
            Make::First {
                by,
                pod,
                checkpoint,
            } => {
                let body = first_body(by, checkpoint, plan);
                Head::seal(
                    write,
                    Owner::first(&pod_name(pod)),
                    body,
                    Rolling::default(),
                )
            }
            Make::Taken { pod, from, .. } => {
                let Head {
                    owner,
                    body,
                    rolling,
                    ..
                } = self.get(from).head.clone();
                Head::seal(write, self.taken_by(&owner, pod), body, rolling)
            }
            Make::Decided { by, from, rolling } => {
                let last = self.get(from);
                let body = self.next_body(&last, by, plan);
                let rolling = self.waiting(rolling).rolling.with(&body);
                let owner = last.head.owner.after_epoch(&last.head.body, &body);
                Head::seal(write, owner, body, rolling)
            }
            Make::Recorded { from, rolling, .. } => {
                let Head { owner, body, .. } = self.get(from).head.clone();
                Head::seal(write, owner, body, self.waiting(rolling).rolling.clone())
            }
        };
        let mut head = sealed.unwrap();
        // A nonce of this process and this content: no process writes the same content twice, whatever way led to it.
        let by = match make {
            Make::First { by, .. }
            | Make::Taken { by, .. }
            | Make::Decided { by, .. }
            | Make::Recorded { by, .. } => by,
        };
        head.write = format!("{by}-{}", Digest::of_json(&head).unwrap());
        head.to_bytes().expect("what is written can be read");
        head
    }

    fn taken_by(&self, owner: &Owner, pod: u8) -> Owner {
        let mut taken = owner.taken_by(&pod_name(pod));
        match self.bug {
            Some(Bug::TermKept) => taken.term = owner.term,
            Some(Bug::SupersededForgotten) => taken.superseded.clear(),
            _ => {}
        }
        taken
    }

    /// As `Checkpointer::open` and the runtime's `commit` fill it in.
    fn next_body(&self, last: &Card, by: u8, plan: u8) -> Body {
        let mut body = last.head.body.successor(Micros(0));
        body.parent = Some(last.head.digest.clone());
        body.plan = plan_digest(plan);
        body.set_sinks(&targets(plan));
        for sink in [GOLD, LETTERS] {
            if has_rows(sink, last.epoch + 1) {
                assert!(body.add_intent(&node(sink), json!(by)));
            }
        }
        let files = Files::after(last.files, last.epoch + 1, by);
        let named = match self.bug {
            Some(Bug::StateFileLeftOut) => last.files,
            _ => files,
        };
        let run = |name: String| Run {
            epoch: written_for(&name).unwrap(),
            tier: 0,
            files: vec![state_file(name)],
        };
        let mut state = StepState::new("sums".into());
        state
            .buckets
            .insert(Bucket(0), named.names().map(run).collect());
        body.state = BTreeMap::from([(node("sums"), state)]);
        body
    }
}

/// UID of a resource, and of its namespace.
pub(super) fn resource_uid(resource: u8) -> String {
    format!("resource{resource}")
}

/// UID of a pod.
pub(super) fn pod_name(pod: u8) -> String {
    format!("pod{pod}")
}

/// The checkpoint id that a process minted.
pub(super) fn checkpoint_id(by: u8) -> String {
    format!("checkpoint{by}")
}

/// The incarnation that a process minted.
pub(super) fn incarnation(by: u8) -> String {
    format!("incarnation{by}")
}

/// Digest of a plan.
pub(super) fn plan_digest(plan: u8) -> Digest {
    Digest(format!("plan{plan}"))
}

/// Gold has rows in each epoch, the letters in the first and the last.
pub(super) fn has_rows(sink: &str, epoch: u8) -> bool {
    sink == GOLD || epoch != 2
}

/// A later plan points the letters elsewhere.
fn targets(plan: u8) -> BTreeMap<NodeName, String> {
    let folder = format!("folder{plan}");
    BTreeMap::from([(node(GOLD), "table".into()), (node(LETTERS), folder)])
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(super) fn small(epoch: Epoch) -> u8 {
    u8::try_from(epoch.0).unwrap()
}

fn state_file(name: String) -> StateFile {
    StateFile {
        sha256: Digest::of(name.as_bytes()),
        name,
        length: 1,
    }
}

/// As `Start::first_body` makes it.
fn first_body(by: u8, checkpoint: u8, plan: u8) -> Body {
    let (checkpoint, incarnation) = (checkpoint_id(checkpoint), incarnation(by));
    let of = Namespace {
        checkpoint: &checkpoint,
        incarnation: &incarnation,
        lane: &Lane::default(),
    };
    let mut body = Body::first(&of, plan_digest(plan), Micros(0));
    body.set_sinks(&targets(plan));
    body
}
