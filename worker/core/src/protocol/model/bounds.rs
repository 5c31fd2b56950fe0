//! How far a search goes.

use super::damage::Damage;

/// The last epoch that a worker of the model decides.
pub(super) const LAST: u8 = 3;

/// The sweep's `KEPT`, shortened so that three epochs have garbage.
pub(super) const KEPT: u8 = 1;

/// Processes that live at the same time.
pub(super) const ALIVE: usize = 2;

/// What is there before anything happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begins {
    /// Nothing.
    Empty,
    /// Epoch 0: the first process has decided it, alone, and crashed.
    Created,
}

/// What may happen, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Processes that are ever started.
    pub starts: u8,
    /// What is there first.
    pub begins: Begins,
    /// Plans; a later process may come with a later one.
    pub plans: u8,
    /// Resources: the pods of a later plan may be another one's, which goes on from the first one's checkpoint (`adoptFrom`).
    pub resources: u8,
    /// An epoch may be decided while the one before it is undone.
    pub ahead: bool,
    /// A request may be given up and arrive later; once.
    pub late: bool,
    /// The operator hands every start the newest decided epoch (`--seen-epoch`); otherwise none.
    pub seen: bool,
    /// What an outsider does, once, at any time.
    pub damage: Option<Damage>,
}

impl Bounds {
    /// What the others vary.
    const PLAIN: Self = Self {
        starts: 3,
        begins: Begins::Created,
        plans: 1,
        resources: 1,
        ahead: false,
        late: false,
        seen: true,
        damage: None,
    };

    /// Nothing is there yet, and two race to create it.
    pub(super) fn new_start() -> Self {
        Self {
            begins: Begins::Empty,
            ..Self::PLAIN
        }
    }

    /// Four processes, of as many pods or of fewer.
    pub(super) fn restarts() -> Self {
        Self {
            starts: 4,
            ..Self::PLAIN
        }
    }

    /// A sink is pointed elsewhere between two starts.
    pub(super) fn change_of_plan() -> Self {
        Self {
            starts: 4,
            plans: 2,
            ..Self::PLAIN
        }
    }

    /// A resource goes on from the checkpoint of another, which nobody stopped.
    pub(super) fn adoption() -> Self {
        Self {
            plans: 2,
            resources: 2,
            ..Self::PLAIN
        }
    }

    /// The head's bound is used up.
    pub(super) fn two_undone() -> Self {
        Self {
            ahead: true,
            ..Self::PLAIN
        }
    }

    /// A request arrives after its sender gave it up, and perhaps after its sender.
    pub(super) fn late_arrival() -> Self {
        Self {
            late: true,
            ..Self::PLAIN
        }
    }

    /// An outsider damages what is there; `seen`: the operator remembers the newest epoch.
    pub(super) fn damaged(damage: Damage, seen: bool) -> Self {
        Self {
            seen,
            damage: Some(damage),
            ..Self::PLAIN
        }
    }
}
