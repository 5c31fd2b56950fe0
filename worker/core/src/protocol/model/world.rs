//! The world that processes share: the store's objects, the targets, requests under way; and what must hold of it.

use std::fmt;

use super::bodies::{checkpoint_id, incarnation, pod_name};
use super::bounds::KEPT;
use super::damage::Damage;
use super::heads::{Card, HeadId, Heads, IntentId};
use super::targets::{Folder, Table};
use crate::position::Epoch;
use crate::protocol::head::Head;
use crate::protocol::paths;

/// Everything but the processes.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct World {
    /// `owner.json`.
    pub owner: Option<Path>,
    /// `head.json`.
    pub head: Option<Stored>,
    /// `born.json`.
    pub born: Option<Life>,
    /// `plans/`, by number.
    pub plans: [bool; 2],
    /// `state/`.
    pub files: Files,
    /// `epochs/`: number of the body's digest, by epoch.
    pub history: [Option<u16>; 4],
    /// Target of the gold sink.
    pub table: Table,
    /// Target of the letters.
    pub folder: Folder,
    /// A request that was given up and may still arrive.
    pub late: Option<Late>,
    /// How many of those there were.
    pub given_up: u8,
    /// The plan of each pod there ever was.
    pub pods: Vec<u8>,
    /// Processes that were started.
    pub starts: u8,
    /// What was decided: the first head of each epoch. Nobody can read it.
    pub decided: [Option<HeadId>; 4],
    /// Pods that lost the lane. Nobody can read it.
    pub superseded: Vec<u8>,
    /// What an outsider has done.
    pub damage: Option<Damage>,
}

/// Content of `owner.json`; no process writes the same twice.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Path {
    /// Who minted the checkpoint id.
    pub checkpoint: u8,
    /// The resource that owns the path.
    pub resource: u8,
    /// Who wrote it.
    pub by: u8,
}

/// Who minted the ids that tell one life of a lane from another.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Life {
    pub checkpoint: u8,
    pub incarnation: u8,
}

impl Life {
    /// Those of a head.
    pub(super) fn of(head: &Head) -> Self {
        let minted =
            |id: fn(u8) -> String, is: &str| (0..=u8::MAX).find(|by| id(*by) == is).unwrap();
        Self {
            checkpoint: minted(checkpoint_id, &head.body.checkpoint),
            incarnation: minted(incarnation, head.body.born()),
        }
    }
}

/// An object under an ETag: no two heads are the same, so the head is the ETag, unless an outsider put it back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Stored {
    pub head: HeadId,
    pub restored: bool,
}

/// A conditional request on its way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Late {
    Head { to: HeadId, on: Option<Stored> },
    Commit { version: u8, intent: IntentId },
}

/// What must never be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Violation {
    /// Head, sinks or objects contradict what was decided.
    Broken(&'static str),
    /// A process stopped with a refusal, and nobody has damaged anything.
    FalseAlarm(Stop),
    /// An outsider's damage went unnamed: what a fresh pod came to, alone.
    Unnoticed(&'static str),
    /// A fresh pod, alone and without a fault, does not come to the end.
    Stuck(String),
}

/// Why a process stops: the reasons of the worker's `Stop` that the protocol gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    Fenced,
    Owned,
    Damaged,
    Behind,
    BehindSink,
    HistoryLost,
    StagedFileMissing,
    RemovedSink,
    Other,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => f.write_str(what),
            Self::FalseAlarm(stop) => write!(f, "{stop:?} without any damage"),
            Self::Unnoticed(what) => write!(f, "damage goes unnoticed: {what}"),
            Self::Stuck(how) => write!(f, "a fresh pod does not finish: {how}"),
        }
    }
}

impl World {
    /// Puts a head if the condition holds. `false`: refused.
    pub(super) fn swap(
        &mut self,
        heads: &Heads,
        on: Option<Stored>,
        to: HeadId,
    ) -> Result<bool, Violation> {
        if self.head != on {
            return Ok(false);
        }
        self.put_head(heads, to)?;
        Ok(true)
    }

    /// Puts a head, and holds it against the one before it.
    pub(super) fn put_head(&mut self, heads: &Heads, to: HeadId) -> Result<(), Violation> {
        let new = heads.get(to);
        let old = self.head.map(|s| heads.get(s.head));
        if self.damage.is_none() {
            self.check_succession(heads, old.as_deref(), &new)?;
        }
        if let (Some(Stored { restored: true, .. }), Some(old)) = (self.head, &old) {
            ensure(
                new.body == old.body,
                "a head that was put back is overwritten by an owner of another",
            )?;
        }
        let pod = |card: &Card| card.head.owner.pod.clone();
        if let Some(old) = old.filter(|old| pod(old) != pod(&new)) {
            let lost = (0_u8..)
                .take(self.pods.len())
                .find(|p| pod_name(*p) == pod(&old));
            self.superseded.extend(lost);
            self.superseded.sort_unstable();
            self.superseded.dedup();
        }
        self.decided[usize::from(new.epoch)].get_or_insert(to);
        if self.damage.is_some() {
            self.decided[usize::from(new.epoch)] = Some(to);
        }
        self.head = Some(Stored {
            head: to,
            restored: false,
        });
        Ok(())
    }

    fn check_succession(
        &self,
        heads: &Heads,
        old: Option<&Card>,
        new: &Card,
    ) -> Result<(), Violation> {
        let lost = |p: &u8| pod_name(*p) == new.head.owner.pod;
        ensure(
            !self.superseded.iter().any(lost),
            "a superseded pod writes the head",
        )?;
        let Some(old) = old else {
            return ensure(new.epoch == 0, "the first head is not of epoch 0");
        };
        let (before, after) = (&old.head.owner, &new.head.owner);
        let same_owner = (before.term, &before.pod) == (after.term, &after.pod);
        ensure(after.term >= before.term, "the term goes back")?;
        ensure(new.epoch >= old.epoch, "the epoch goes back")?;
        ensure(
            same_owner || after.term > before.term,
            "the lane changes hands within a term",
        )?;
        if new.epoch == old.epoch {
            ensure(new.body == old.body, "a decided body changes")?;
        } else {
            ensure(
                new.parent == Some(old.body),
                "an epoch does not follow the one before it",
            )?;
            ensure(
                same_owner,
                "an epoch is decided by a pod that does not own the lane",
            )?;
            ensure(
                self.history[usize::from(old.epoch)] == Some(old.body),
                "an epoch is decided before the one before it is in the history",
            )?;
            ensure(
                self.born.is_some(),
                "epoch 1 is decided before born.json is there",
            )?;
        }
        let waiting = heads.waiting(new.rolling);
        ensure(
            waiting.plans.iter().all(|p| *p == new.head.body.plan),
            "an epoch is decided under a new plan while one of the old plan is undone",
        )?;
        let forgotten = |id: &&IntentId| !waiting.work.contains(id);
        for id in heads.waiting(old.rolling).work.iter().filter(forgotten) {
            ensure(
                self.holds(heads, *id),
                "an epoch is recorded as applied to a sink that does not hold it",
            )?;
        }
        Ok(())
    }

    /// What holds at any time, whatever happened last. An outsider may break it.
    pub(super) fn check(&self, heads: &Heads) -> Result<(), Violation> {
        let Some(stored) = self.head.filter(|_| self.damage.is_none()) else {
            return Ok(());
        };
        let head = heads.get(stored.head);
        ensure(
            head.files.is_within(self.files),
            "a state file that the head names is not there",
        )?;
        ensure(
            head.files == head.expected,
            "the state that the head names is not that of its epoch",
        )
    }

    /// A sink's target holds an intent.
    pub(super) fn holds(&self, heads: &Heads, id: IntentId) -> bool {
        let card = heads.intent(id);
        if card.gold {
            self.table.marker(card.sink) >= Some(card.epoch)
        } else {
            self.folder.is_marked(card.sink, card.epoch)
        }
    }

    /// What must hold of an intent that a target is about to make visible.
    pub(super) fn check_decided(&self, heads: &Heads, id: IntentId) -> Result<(), Violation> {
        let epoch = usize::from(heads.intent(id).epoch);
        let decided = self.decided[epoch].is_some_and(|d| heads.get(d).intents.contains(&id));
        ensure(
            decided || self.damage.is_some(),
            "a sink shows an epoch that was never decided",
        )
    }

    /// A request that was given up arrives.
    pub(super) fn deliver(&mut self, heads: &Heads) -> Result<(), Violation> {
        match self.late.take() {
            None => Ok(()),
            Some(Late::Head { to, on }) => self.swap(heads, on, to).map(|_| ()),
            Some(Late::Commit { version, intent }) => {
                self.commit(heads, version, intent).map(|_| ())
            }
        }
    }

    /// Garbage as `Checkpointer::sweep_folders` tells it: `undone` is the oldest undone epoch.
    pub(super) fn garbage(&self, head: u8, undone: Option<u8>, named: Files) -> Files {
        let oldest = head.saturating_sub(KEPT).min(undone.unwrap_or(head));
        self.files.before(oldest).without(named)
    }
}

/// Refuses what does not hold.
pub(super) fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation::Broken(otherwise))
    }
}

/// A set of state files: for each epoch and process two, of which the second is soon replaced.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Files(u64);

/// Bits of one epoch: two files of each of eight processes.
const EPOCH_BITS: u8 = 16;

impl Files {
    /// What a body of this epoch names, after one that names these.
    pub(super) fn after(self, epoch: u8, by: u8) -> Self {
        let first_of_1 = self.0 & 0xff;
        match epoch {
            1 => Self::staged(1, by),
            2 => Self(self.0 | Self::staged(2, by).0),
            _ => Self(first_of_1 | Self::staged(epoch, by).0),
        }
    }

    /// What a process writes for an epoch.
    pub(super) fn staged(epoch: u8, by: u8) -> Self {
        let second = 1 << ((epoch - 1) * EPOCH_BITS + 8 + by);
        match epoch {
            1 => Self(second | 1 << by),
            _ => Self(second),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those written for an epoch before this one.
    fn before(self, epoch: u8) -> Self {
        Self(self.0 & ((1 << (epoch.saturating_sub(1) * EPOCH_BITS)) - 1))
    }

    /// Their names, as production makes them.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        let bits = (0..64_u8).filter(move |bit| self.0 >> bit & 1 == 1);
        bits.map(|bit| {
            let epoch = Epoch(u64::from(bit / EPOCH_BITS) + 1);
            paths::unique(epoch, &(bit % EPOCH_BITS).to_string())
        })
    }

    /// Those with these names.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let bit = |name: &str| {
            let (epoch, nonce) = name.split_once('-')?;
            let epoch: u8 = epoch.parse().ok()?;
            Some(1 << ((epoch - 1) * EPOCH_BITS + nonce.parse::<u8>().ok()?))
        };
        Self(names.filter_map(bit).fold(0, |all, one: u64| all | one))
    }
}
