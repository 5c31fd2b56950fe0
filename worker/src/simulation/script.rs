//! What goes wrong in one run: at which step, of which sink, at which of its passes, and how.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::checkpointer::{Moment, Step};

/// How a step ends badly.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outcome {
    /// The process dies before the step: nothing of it is done.
    CrashBefore,
    /// The process dies after it: all of it is done, and nobody knows.
    CrashAfter,
    /// The step's request is answered with an error and has no effect.
    CleanError,
    /// The step's request is done and answered with an error.
    ReplyLost,
    /// The process stands still before the step, another one takes over and decides; then it goes on.
    Zombie,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::CleanError,
        Self::ReplyLost,
        Self::Zombie,
    ];

    /// On which side of the step it begins.
    pub(super) fn moment(self) -> Moment {
        match self {
            Self::CrashAfter => Moment::After,
            _ => Moment::Before,
        }
    }
}

/// A step, and whose it is; `None`: the lane's.
pub(super) type Place = (Step, Option<String>);

/// One thing that goes wrong.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) outcome: Outcome,
    /// At which pass of the step, over all processes, from 1.
    pub(super) nth: u32,
}

/// Passes of each side of each step.
pub(super) type Passes = BTreeMap<(Place, Moment), u32>;

/// The faults of a run.
#[derive(Debug, Default)]
pub(super) struct Script {
    state: Mutex<State>,
    /// A process stands still.
    pub(super) paused: Notify,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<(Fault, bool)>,
    passes: Passes,
    /// Who stands still, until when.
    still: Vec<(String, CancellationToken)>,
}

impl Script {
    pub(super) fn new(faults: &[Fault]) -> Self {
        let script = Self::default();
        script.state(|s| s.faults = faults.iter().map(|f| (f.clone(), false)).collect());
        script
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A step is passed: the number of the fault that is due, and its outcome.
    pub(super) fn passes(&self, place: &Place, moment: Moment) -> Option<(usize, Outcome)> {
        self.state(|s| {
            let passed = s.passes.entry((place.clone(), moment)).or_default();
            *passed += 1;
            let passed = *passed;
            let mut faults = s.faults.iter().enumerate();
            let is_due =
                |f: &Fault| &f.place == place && f.outcome.moment() == moment && f.nth == passed;
            let (at, (fault, _)) = faults.find(|(_, (fault, met))| !met && is_due(fault))?;
            Some((at, fault.outcome))
        })
    }

    /// A process stands still until this is cancelled.
    pub(super) fn pauses(&self, pod: &str) -> CancellationToken {
        let until = CancellationToken::new();
        self.state(|s| s.still.push((pod.to_owned(), until.clone())));
        self.paused.notify_one();
        until
    }

    /// Whoever stands still goes on, but for this process.
    pub(super) fn release(&self, but: Option<&str>) {
        let go_on = |(pod, until): &(String, CancellationToken)| {
            let stays = Some(pod.as_str()) == but;
            if !stays {
                until.cancel();
            }
            stays
        };
        self.state(|s| s.still.retain(go_on));
    }

    /// It took place.
    pub(super) fn met(&self, fault: usize) {
        self.state(|s| s.faults[fault].1 = true);
    }

    /// Faults that did not take place.
    pub(super) fn missed(&self) -> Vec<Fault> {
        self.state(|s| {
            let missed = s.faults.iter().filter(|(_, met)| !met);
            missed.map(|(fault, _)| fault.clone()).collect()
        })
    }

    pub(super) fn counted(&self) -> Passes {
        self.state(|s| s.passes.clone())
    }
}
