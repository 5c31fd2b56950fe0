//! A worker's process: where it is and what it knows, and one request of it.

use super::bugs::Bug;
use super::heads::{HeadId, IntentId, RollingId};
use super::search::Model;
use super::world::{Files, Late, Life, Path, Stop, Stored, Violation, World};

/// One process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Process {
    /// Its number; its nonces and ids are its own.
    pub id: u8,
    pub pod: u8,
    pub plan: u8,
    /// The first of its pod, until the lane is ours.
    pub new: bool,
    /// `--seen-epoch`, until the lane is ours.
    pub seen: Option<u8>,
    /// A gap was seen once.
    pub doubted: bool,
    pub at: At,
    /// Means nothing before the lane is ours.
    pub lane: Lane,
}

impl Process {
    /// The head under which the lane is ours; `None`: it is not yet.
    pub(super) fn head(&self) -> Option<HeadId> {
        match self.at {
            At::Read { .. }
            | At::Claim(_)
            | At::Adopt { .. }
            | At::FirstPlan { .. }
            | At::Swap {
                why: Why::Create | Why::TakeOver { .. },
                ..
            } => None,
            _ => Some(self.lane.head),
        }
    }
}

/// What the checkpointer knows once the lane is ours.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Lane {
    pub head: HeadId,
    /// The head was put back by an outsider: part of its ETag.
    pub restored: bool,
    /// `Checkpointer::rolling`.
    pub rolling: RollingId,
    /// The sweep after the last apply is done.
    pub swept: bool,
}

/// The next request of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum At {
    /// A start reads the three objects; what was read so far.
    Read { nth: u8, found: Objects },
    /// `owner.json` is created.
    Claim(Try),
    /// `owner.json` is replaced: the path was another resource's.
    Adopt { on: Path, attempt: Try },
    /// The plan of epoch 0 is put.
    FirstPlan { checkpoint: u8 },
    /// The head is replaced.
    Swap {
        on: Option<Stored>,
        to: HeadId,
        why: Why,
        attempt: Try,
    },
    /// `born.json` is created.
    Bear(Try),
    /// The state files that the head names are read, and the plan that it was decided under.
    Restore,
    /// One of them is gone: the head is read again.
    Gone,
    /// A sink is asked what it holds; `nth` of what is to be asked after a start.
    Ask { nth: u8 },
    /// It holds more than our head: the head is read again.
    AskHead { nth: u8, held: Option<u8> },
    /// A sink is applied to; `rolling`: while a start rolls forward, as `nth`.
    Apply {
        intent: IntentId,
        phase: Phase,
        rolling: Option<u8>,
    },
    /// Between two epochs: what comes next is chosen.
    Open,
    /// Garbage that was listed is deleted.
    Delete { garbage: Files },
}

/// The checkpoint's objects as a start reads them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Objects {
    pub owner: Option<Path>,
    pub head: Option<Stored>,
    pub born: Option<Life>,
}

/// A conditional write as `Io::put_once` does it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Try {
    /// The write.
    Write,
    /// It was refused, or not answered: what is there is read.
    Look,
}

/// What a swap of the head is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Why {
    Create,
    TakeOver { born: bool },
    Decide,
    Record,
}

/// Requests of a sink's `apply`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Phase {
    /// The marker is read.
    Look,
    /// Table: the next version is committed.
    Commit { version: u8 },
    /// Folder: the staged file is copied.
    Copy,
    /// Folder: the marker is written, and the staged file, which nobody needs any more, is removed.
    Mark,
}

/// What is chosen, by the process or by fate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// The request is answered.
    Go,
    /// It fails and had no effect.
    Clean,
    /// It had its effect and the answer is lost.
    Lost,
    /// It is given up, and arrives later or never.
    Late,
    /// Open: the oldest intent of the gold sink (`true`) or of the letters is applied.
    Apply(bool),
    /// Open: garbage is listed.
    Sweep,
    /// Open: the next epoch is read, computed and staged. What is put before it is decided is read by nobody until then: one
    /// step.
    Next,
    /// Open: what was applied is recorded.
    Record,
}

/// What a request led to.
pub(super) enum Flow {
    Go(At),
    Stop(Stop),
}

/// A start from the beginning.
pub(super) const START: At = At::Read {
    nth: 0,
    found: Objects {
        owner: None,
        head: None,
        born: None,
    },
};

/// One request under way.
pub(super) struct Turn<'a> {
    pub model: &'a Model,
    pub world: &'a mut World,
    pub me: &'a mut Process,
    pub choice: Choice,
}

pub(super) type Step = Result<Flow, Violation>;

impl Turn<'_> {
    /// Makes the request and takes its answer in.
    pub(super) fn run(mut self) -> Step {
        match self.me.at {
            At::Read { nth, found } => Ok(self.read(nth, found)),
            At::Claim(attempt) => Ok(self.claim(attempt)),
            At::Adopt { on, attempt } => Ok(self.adopt(on, attempt)),
            At::FirstPlan { checkpoint } => Ok(self.first_plan(checkpoint)),
            At::Swap {
                on,
                to,
                why,
                attempt: Try::Write,
            } => self.swap(on, to, why),
            At::Swap {
                on,
                to,
                why,
                attempt: Try::Look,
            } => Ok(self.swap_in_doubt(on, to, why)),
            At::Bear(attempt) => Ok(self.bear(attempt)),
            At::Restore => self.restore(),
            At::Gone => Ok(self.gone()),
            At::Ask { nth } => self.ask(nth),
            At::AskHead { nth, held } => self.ask_head(nth, held),
            At::Apply {
                intent,
                phase,
                rolling,
            } => self.apply(intent, phase, rolling),
            At::Open => self.open(),
            At::Delete { garbage } => Ok(self.delete(garbage)),
        }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.model.bug == Some(bug)
    }

    /// Whether a request has its effect now; what cannot know the answer looks.
    pub(super) fn takes_effect(&self) -> bool {
        matches!(self.choice, Choice::Go | Choice::Lost)
    }

    /// Gives a request up.
    pub(super) fn give_up(&mut self, late: Late) {
        self.world.late = Some(late);
        self.world.given_up += 1;
    }
}

impl Model {
    /// What a process may do now. The first is what one does that runs alone.
    pub(super) fn choices(&self, world: &World, me: &Process) -> Vec<Choice> {
        let late = self.bounds.late && world.given_up == 0;
        let doubtful = |due: bool| match (due, late) {
            // Refused or not answered: the next request is the same.
            (false, _) => vec![Choice::Go],
            (true, false) => vec![Choice::Go, Choice::Clean, Choice::Lost],
            (true, true) => vec![Choice::Go, Choice::Clean, Choice::Lost, Choice::Late],
        };
        match me.at {
            At::Open => self.open_choices(me),
            At::Swap {
                on,
                attempt: Try::Write,
                ..
            } => doubtful(world.head == on),
            At::Apply {
                phase: Phase::Commit { version },
                ..
            } => doubtful(world.table.version() == version),
            At::Claim(Try::Write) if world.owner.is_none() => {
                vec![Choice::Go, Choice::Clean, Choice::Lost]
            }
            At::Adopt {
                on,
                attempt: Try::Write,
            } if world.owner == Some(on) => vec![Choice::Go, Choice::Clean, Choice::Lost],
            At::Bear(Try::Write) if world.born.is_none() => {
                vec![Choice::Go, Choice::Clean, Choice::Lost]
            }
            _ => vec![Choice::Go],
        }
    }
}
