//! What an audit finds in a lane's epochs: facts in, findings out.
//!
//! Owns what must hold within a decided body, between a body and the next, between the head and all that it names, and
//! between the head and its sinks. Reads nothing: an [`Audit`] is fed, newest epoch first, because a head vouches for its body
//! by a digest, and each body for the one before it. It holds one body at a time, however long the history is.
//!
//! Nothing that is kept says what these should be, so they are not judged: the nonce, the owner's pod, the count of
//! take-overs and what they make suspect in a head, and the UIDs in `owner.json`; state and staged rows that the head does not name and that are more
//! than [`KEPT`] epochs old, or that no decided epoch names at all (both are garbage).

mod alone;
mod head;
mod link;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use evp_api::plan::NodeName;
use serde::Serialize;

use super::decide::{Found, Marker, RollForward, roll_forward, standing};
use super::digest::{Digest, canonical};
use super::head::{Body, Born, Head, Intent, KEPT, OwnerFile, StateFile};
use super::identity::Namespace;
use super::paths::{self, Lane};
use crate::position::Epoch;

/// Findings that are kept one by one; more are only counted. A lane may lose all its copies at once, tens of thousands.
const MOST_FINDINGS: usize = 1000;

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Kind {
    /// An object that must be there is gone.
    Missing,
    /// An object is not what was written.
    Damaged,
    /// Records lie between two epochs that neither read.
    Gap,
    /// Records were read by two epochs, or more were read than the positions moved by.
    Overlap,
    /// A position, a watermark or a head is behind what an older object says.
    WentBack,
    /// Counts of an epoch do not balance (semantics 28), or its totals are not the sum of the epochs.
    Unbalanced,
    /// Two things that were decided together say different things.
    Contradiction,
    /// A sink's target does not hold what the head says.
    Sink,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The object by its name in the checkpoint, or `sink NAME`.
    pub object: String,
    /// The epoch it is about; `None`: about none in particular.
    pub epoch: Option<Epoch>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

/// What to do about a copy of a body.
const HELP_COPY: &str = "nothing stops: copies serve audits and time travel alone; restore the object if the bucket keeps versions";
/// What to do about an object that the next start needs.
const HELP_NEEDED: &str = "restore the object before the worker restarts: without it the next start stops, and nothing is lost until \
     then";
/// What to do about an object that only the past needs.
const HELP_PAST: &str = "nothing stops: the newest epoch does not name it; restore the object if that epoch is to be looked at again";
/// What to do about a contradiction that a worker cannot have written.
const HELP_DEFECT: &str = "the objects are as they were written, so this is a defect: keep a copy of the checkpoint and report it";
/// What to do about a head that was put back.
const HELP_BEHIND: &str = "restore the newest head.json, or delete the pipeline and apply it with a new path and new tables";
/// What to do about a sink.
const HELP_SINK: &str = "restore the target or the checkpoint to what the other says, or give the sink a new target; never copy rows by hand";

/// The three objects that every start reads.
#[derive(Clone, Debug)]
pub struct Objects {
    /// `owner.json`.
    pub owner: Found<OwnerFile>,
    /// `head.json`.
    pub head: Found<Head>,
    /// `born.json`.
    pub born: Found<Born>,
}

/// An object that a body names, and what it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// Its name in the checkpoint.
    pub object: String,
    /// The epoch whose body names it.
    pub epoch: Epoch,
    /// The epoch it was written for.
    pub written_for: Epoch,
    /// Bytes.
    pub length: u64,
    /// Checksum of the bytes.
    pub sha256: Digest,
    /// The newest epoch needs it.
    pub needed: bool,
}

/// What there is to say in the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Epochs whose bodies were judged.
    pub epochs: u64,
    /// What is wrong, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub more: usize,
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    lane: Lane,
    /// Epochs whose bodies are judged.
    range: RangeInclusive<Epoch>,
    head: Option<Head>,
    /// The newest epoch known: the pipeline may go on meanwhile.
    newest: Epoch,
    /// The oldest epoch whose copy is kept, as of then.
    retained: Epoch,
    /// The intact body before which the next copy comes.
    next: Option<Body>,
    verdict: Verdict,
}

impl Audit {
    /// Judges what every start reads; `name` is the pipeline's, `range` the epochs whose bodies are judged (those before the
    /// head need [`Audit::copy`]).
    pub fn begin(lane: Lane, name: &str, range: RangeInclusive<Epoch>, objects: Objects) -> Self {
        let mut findings = Vec::new();
        head::objects(&lane, name, &objects, &mut findings);
        let head = objects.head.and_then(Result::ok);
        let mut audit = Self {
            lane,
            range,
            newest: head.as_ref().map_or(Epoch(0), |head| head.body.epoch),
            retained: head.as_ref().map_or(Epoch(0), |h| h.rolling.retained),
            next: None,
            head: None,
            verdict: Verdict {
                epochs: 0,
                findings: Vec::new(),
                more: 0,
            },
        };
        findings.into_iter().for_each(|f| audit.find(f));
        if let Some(head) = head {
            let body = head.body.clone();
            audit.head = Some(head);
            audit.body(body);
        }
        audit
    }

    /// The head as it was read; `None`: it could not be, so nothing but the three objects can be judged.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The head was read again: what it no longer needs may have been collected meanwhile.
    pub fn moved_on(&mut self, head: &Head) {
        self.newest = self.newest.max(head.body.epoch);
        self.retained = self.retained.max(head.rolling.retained);
    }

    /// Judges the copy of a body: its bytes, or that it is not there. Copies come newest first; the one after the last of the
    /// range comes first and only vouches. Gives the body if it is intact.
    pub fn copy(&mut self, epoch: Epoch, bytes: Option<&[u8]>) -> Option<&Body> {
        let object = self.lane.epoch(epoch);
        let judged = match bytes {
            Some(bytes) => self.intact(epoch, bytes),
            None if self.may_be_absent(epoch) => return None,
            None => Err((Kind::Missing, "is gone".to_owned())),
        };
        match judged {
            // The head's own copy, equal to it by digest.
            Ok(body) if self.next.as_ref().is_some_and(|n| n.epoch <= body.epoch) => {}
            Ok(body) => self.body(body),
            Err((kind, what)) => {
                if self.range.contains(&epoch) {
                    self.find(Finding {
                        kind,
                        message: format!("{object} {what}"),
                        object,
                        epoch: Some(epoch),
                        help: HELP_COPY,
                    });
                }
                return None;
            }
        }
        self.next.as_ref()
    }

    /// A copy is written before the next epoch is decided, and collected after a head has said that it is no longer kept.
    fn may_be_absent(&self, epoch: Epoch) -> bool {
        let newest = self.head.as_ref().map(|head| head.body.epoch);
        newest.is_none_or(|newest| epoch >= newest) || epoch < self.retained
    }

    /// Reads a copy and holds it against the digest that the epoch after it keeps.
    fn intact(&self, epoch: Epoch, bytes: &[u8]) -> Result<Body, (Kind, String)> {
        let damaged = |what: String| (Kind::Damaged, what);
        let digest = Digest::of(bytes);
        if self.vouched(epoch).is_some_and(|by| *by != digest) {
            let by = epoch.next();
            return Err(damaged(format!(
                "is not the body that was decided: its digest is not the one that epoch {by} or the head keeps"
            )));
        }
        let body: Body =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("cannot be read: {e}")))?;
        if canonical(&body).ok().as_deref() != Some(bytes) {
            return Err(damaged("is not as a worker writes it".to_owned()));
        }
        if (&body.lane, body.epoch) != (&self.lane, epoch) {
            let what = format!("holds epoch {} of lane {}", body.epoch, body.lane);
            return Err(damaged(what));
        }
        Ok(body)
    }

    /// The digest that a copy must have. `None`: what came after it is gone or damaged.
    fn vouched(&self, epoch: Epoch) -> Option<&Digest> {
        match (&self.head, &self.next) {
            (Some(head), _) if head.body.epoch == epoch => Some(&head.digest),
            (_, Some(next)) if next.epoch == epoch.next() => next.parent.as_ref(),
            _ => None,
        }
    }

    /// Judges an intact body by itself and against the one after it.
    fn body(&mut self, body: Body) {
        let epoch = body.epoch;
        let mut found = Vec::new();
        if self.range.contains(&epoch) {
            self.verdict.epochs += 1;
            found.extend(alone::judge(&body).into_iter().map(|w| (epoch, w)));
        }
        if let Some(next) = &self.next
            && self.range.contains(&next.epoch)
        {
            let of_next = link::judge(&body, next);
            found.extend(of_next.into_iter().map(|w| (next.epoch, w)));
        }
        if let Some(head) = &self.head {
            found.extend(head::undone(head, &body).map(|w| (epoch, w)));
        }
        for (epoch, (kind, message)) in found {
            self.find(Finding {
                kind,
                object: self.holder(epoch),
                epoch: Some(epoch),
                message,
                help: HELP_DEFECT,
            });
        }
        self.next = Some(body);
    }

    /// The object that holds the body of an epoch.
    fn holder(&self, epoch: Epoch) -> String {
        match &self.head {
            Some(head) if head.body.epoch == epoch => self.lane.head(),
            _ => self.lane.epoch(epoch),
        }
    }

    /// Judges what lies where the copy of an epoch after the head would be: it is written after its epoch was decided.
    pub fn beyond(&mut self, epoch: Epoch, is_there: bool) {
        if is_there && epoch > self.newest {
            let newest = self.newest;
            self.find(Finding {
                kind: Kind::WentBack,
                object: self.lane.head(),
                epoch: Some(newest),
                message: format!(
                    "head.json ends at epoch {newest}, and the copy of epoch {epoch} is there: the head was put back"
                ),
                help: HELP_BEHIND,
            });
        }
    }

    /// Judges a plan that a body was decided under, by its bytes.
    pub fn plan(&mut self, digest: &Digest, epoch: Epoch, bytes: Option<&[u8]>) {
        let (kind, what) = match bytes {
            None => (Kind::Missing, "is gone"),
            Some(bytes) if Digest::of(bytes) != *digest => {
                (Kind::Damaged, "does not have the content its name says")
            }
            Some(_) => return,
        };
        let object = paths::plan(digest);
        let newest = self.head.as_ref().map(|head| &head.body.plan) == Some(digest);
        self.find(Finding {
            kind,
            message: format!("{object} {what}; epoch {epoch} was decided under it"),
            object,
            epoch: Some(epoch),
            help: if newest { HELP_NEEDED } else { HELP_PAST },
        });
    }

    /// What a body names and what must be there still; `staged` reads what an intent names, in its sink's own words.
    pub fn named(&self, body: &Body, staged: impl Fn(&Intent) -> Vec<StateFile>) -> Vec<Named> {
        let is_head = self.head().is_some_and(|h| h.body.epoch == body.epoch);
        let named = |file: &StateFile, object: String, needed: bool| {
            Some(Named {
                written_for: paths::written_for(&file.name)?,
                object,
                epoch: body.epoch,
                length: file.length,
                sha256: file.sha256.clone(),
                needed,
            })
        };
        let state = body
            .state_files()
            .filter_map(|file| named(file, self.lane.state(&file.name), is_head));
        let waits = |intent: &Intent| {
            let head = self.head.as_ref();
            head.is_some_and(|head| head::waits(head, intent))
        };
        let rows = body.intents.iter().flat_map(|intent| {
            let needed = waits(intent);
            if let Some(file) = &intent.apart {
                let apart = named(file, self.lane.intent(&file.name), needed);
                return apart.into_iter().collect::<Vec<_>>();
            }
            let files = staged(intent).into_iter();
            let rows = files.filter_map(|f| named(&f, self.lane.outbox(&f.name), needed));
            rows.collect()
        });
        let kept = |named: &Named| named.needed || named.written_for.0 + KEPT >= self.newest.0;
        state.chain(rows).filter(kept).collect()
    }

    /// Judges an object that a body names, by length and checksum of its bytes.
    pub fn object(&mut self, named: &Named, found: Option<(u64, Digest)>) {
        let (kind, what) = match found {
            None if self.is_collected(named) => return,
            None => (Kind::Missing, "is gone".to_owned()),
            Some((length, _)) if length != named.length => (
                Kind::Damaged,
                format!("has {length} bytes and not {}", named.length),
            ),
            Some((_, sha256)) if sha256 != named.sha256 => (
                Kind::Damaged,
                "does not have the checksum it was written with".to_owned(),
            ),
            Some(_) => return,
        };
        self.find(Finding {
            kind,
            object: named.object.clone(),
            epoch: Some(named.epoch),
            message: format!("{} {what}; epoch {} names it", named.object, named.epoch),
            help: if named.needed { HELP_NEEDED } else { HELP_PAST },
        });
    }

    /// A pipeline that went on may have collected what its newest epochs no longer name.
    fn is_collected(&self, named: &Named) -> bool {
        let known = self.head.as_ref().map(|head| head.body.epoch);
        let stands = named.needed && known == Some(self.newest);
        !stands && named.written_for.0 + KEPT < self.newest.0
    }

    /// Holds the identities of the head's sinks against the targets that its plan gives them.
    pub fn targets(&mut self, targets: &BTreeMap<NodeName, String>) {
        let Some(head) = &self.head else {
            return;
        };
        let space = Namespace {
            checkpoint: &head.body.checkpoint,
            incarnation: &head.body.incarnation,
            lane: &self.lane,
        };
        let foreign = head.body.sinks.iter().find(|(name, entry)| {
            let target = targets.get(*name);
            target.is_none_or(|target| entry.identity != space.sink(name, target, entry.added_at))
        });
        if let Some((name, _)) = foreign {
            let message =
                format!("sink {name} does not have the identity that its target gives it");
            let finding = Finding {
                kind: Kind::Contradiction,
                object: self.lane.head(),
                epoch: None,
                message,
                help: HELP_DEFECT,
            };
            self.find(finding);
        }
    }

    /// What to ask each sink of the head: the oldest intent that waits for it, or one it might get next.
    pub fn questions(&self) -> Vec<(NodeName, Intent)> {
        let Some(head) = &self.head else {
            return Vec::new();
        };
        let sinks = head.body.sinks.iter();
        sinks
            .map(|(name, entry)| (name.clone(), head::question(head, entry)))
            .collect()
    }

    /// Judges the newest epoch that a sink's target holds, asked about this intent.
    pub fn sink(&mut self, name: &NodeName, intent: &Intent, held: Option<Epoch>) {
        let Some(head) = self.head.as_ref().map(|head| head.body.epoch) else {
            return;
        };
        if held.is_some_and(|m| m > head && m <= self.newest) {
            return;
        }
        let marker = Marker {
            held,
            head,
            fresh: true,
        };
        let decision = match intent.epoch > head {
            true => standing(intent, marker),
            false => roll_forward(intent, marker),
        };
        let holds = held.map_or_else(|| "nothing".to_owned(), |epoch| format!("epoch {epoch}"));
        let what = match decision {
            RollForward::Done | RollForward::Apply => return,
            RollForward::CheckpointBehindSink | RollForward::ReadHead | RollForward::Zombie => {
                format!("and the head ends at epoch {head}: the checkpoint was put back")
            }
            RollForward::SinkHistoryLost => {
                let applied = intent.prev.unwrap_or(intent.epoch);
                format!("and epoch {applied} was applied to it")
            }
            RollForward::Contradiction => "an epoch that had nothing for it".to_owned(),
        };
        self.refused(name, &format!("its target holds {holds}, {what}"));
    }

    /// A sink's target is not one that the head's plan can write.
    pub fn refused(&mut self, name: &NodeName, what: &str) {
        let epoch = self.head.as_ref().map(|head| head.body.epoch);
        self.find(Finding {
            kind: Kind::Sink,
            object: format!("sink {name}"),
            epoch,
            message: format!("sink {name}: {what}"),
            help: HELP_SINK,
        });
    }

    /// What there is to say.
    pub fn end(self) -> Verdict {
        self.verdict
    }

    fn find(&mut self, finding: Finding) {
        if self.verdict.findings.len() < MOST_FINDINGS {
            self.verdict.findings.push(finding);
        } else {
            self.verdict.more += 1;
        }
    }
}
