//! Named places where a crash test ends the process. None in production.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evp_api::plan::NodeName;

macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A step of the protocol that can be cut short: before it nothing of it is done, after it all of it is.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Step { $($(#[doc = $doc])+ $variant,)+ }

        impl Step {
            /// All steps, in the order in which an epoch meets them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As crash tests name it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

steps! {
    /// The path is claimed, or taken over from another owner: `owner.json`.
    OwnerCreate = "owner.create",
    /// A lane is taken over: term and pod in the head.
    OwnSwap = "own.swap",
    /// Epoch 0 is decided.
    HeadCreate = "head.create",
    /// `born.json`.
    BornCreate = "born.create",
    /// A source goes to the head's positions.
    SourceSeek = "source.seek",
    /// A plan is written.
    PlanPut = "plan.put",
    /// A state file is written.
    StatePut = "state.put",
    /// A sink completes the files it writes before the decision.
    StagePut = "stage.put",
    /// Changes for a sink are written to the outbox.
    OutboxPut = "outbox.put",
    /// An intent that is too large for the head is written.
    IntentPut = "intent.put",
    /// The copy of a decided body is written.
    HistoryPut = "history.put",
    /// An epoch after the first is decided.
    HeadSwap = "head.swap",
    /// A sink is asked what it holds.
    Probe = "probe",
    /// A sink looks at its target: the intent is due.
    Begin = "begin",
    /// A sink writes files because of an intent.
    Write = "write",
    /// A sink commits: the epoch's marker, and what becomes visible with it.
    CommitSend = "commit.send",
    /// It is noted, for the next head, that a sink holds the epoch.
    CommitAck = "commit.ack",
    /// The head is replaced without an epoch: what was applied, or which record is computed alone.
    RecordSwap = "record.swap",
    /// Garbage is deleted.
    GcDelete = "gc.delete",
}

/// Which side of a step.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Moment {
    /// Nothing of it is done.
    Before,
    /// All of it is done, and nobody knows.
    After,
}

/// Where this process crashes. Sinks, which take some of the steps each for itself, are handed [`CrashPoints::of_sink`].
#[derive(Clone, Debug, Default)]
pub struct CrashPoints {
    armed: Option<Arc<Armed>>,
    /// Whose steps these are; `None`: the lane's.
    sink: Option<NodeName>,
    /// Who is told of each pass.
    #[cfg(test)]
    watched: Option<Arc<dyn Watch>>,
}

/// Is told of each pass of a step, and decides what becomes of the process.
#[cfg(test)]
pub(crate) trait Watch: std::fmt::Debug + Send + Sync {
    /// The process is there. `sink`: whose step it is; `None`: the lane's.
    fn passes(&self, sink: Option<&NodeName>, step: Step, moment: Moment);
}

#[derive(Debug)]
struct Armed {
    step: Step,
    /// The sink whose step it is; `None`: whichever comes there.
    sink: Option<String>,
    moment: Moment,
    /// Passes still to come, the crash included.
    left: AtomicU64,
    ends: Ends,
}

/// What a crash point ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// The process.
    Process,
    /// What runs in it, which unwinds with [`Crashed`]: nothing that comes after the point is done.
    Life,
}

/// What unwinds from a crash point of [`CrashPoints::of_life`].
#[derive(Debug)]
pub(crate) struct Crashed;

impl CrashPoints {
    /// Nowhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same for the steps of one sink.
    #[must_use]
    pub fn of_sink(&self, name: &NodeName) -> Self {
        Self {
            sink: Some(name.clone()),
            ..self.clone()
        }
    }

    /// Nowhere by itself: each pass is told.
    #[cfg(test)]
    pub(crate) fn watched(by: Arc<dyn Watch>) -> Self {
        Self {
            watched: Some(by),
            ..Self::default()
        }
    }

    /// At the `nth` pass of a step what runs here ends, and the process goes on: the caller catches [`Crashed`].
    pub(crate) fn of_life(step: Step, moment: Moment, nth: u64) -> Self {
        let armed = Armed {
            step,
            sink: None,
            moment,
            left: AtomicU64::new(nth),
            ends: Ends::Life,
        };
        Self {
            armed: Some(Arc::new(armed)),
            ..Self::default()
        }
    }

    /// `head.swap:before`, `head.swap:after:3` (the third time it comes there), `commit.send@gold:after` (that sink alone).
    /// `Err` says what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let place = parts.next().unwrap_or_default();
        let (name, sink) = match place.split_once('@') {
            Some((name, sink)) => (name, Some(sink.to_owned())),
            None => (place, None),
        };
        let step = Step::ALL.iter().find(|s| s.name() == name);
        let moment = match parts.next() {
            Some("before") => Some(Moment::Before),
            Some("after") => Some(Moment::After),
            _ => None,
        };
        let nth = parts
            .next()
            .map_or(Some(1), |n| n.parse().ok().filter(|n| *n > 0));
        if let (Some(step), Some(moment), Some(nth), None) = (step, moment, nth, parts.next()) {
            let armed = Armed {
                step: *step,
                sink,
                moment,
                left: AtomicU64::new(nth),
                ends: Ends::Process,
            };
            Ok(Self {
                armed: Some(Arc::new(armed)),
                ..Self::default()
            })
        } else {
            let names: Vec<_> = Step::ALL.iter().map(|s| s.name()).collect();
            Err(format!(
                "`{text}` must be STEP[@SINK]:before|after[:N]; steps: {}",
                names.join(", ")
            ))
        }
    }

    /// Ends the process here, if this is the place.
    pub fn hit(&self, step: Step, moment: Moment) {
        #[cfg(test)]
        if let Some(watch) = &self.watched {
            watch.passes(self.sink.as_ref(), step, moment);
        }
        match self.due(step, moment) {
            None => {}
            Some(Ends::Process) => {
                tracing::error!(
                    step = step.name(),
                    ?moment,
                    "crash point: the process ends here"
                );
                std::process::abort();
            }
            Some(Ends::Life) => std::panic::resume_unwind(Box::new(Crashed)),
        }
    }

    fn due(&self, step: Step, moment: Moment) -> Option<Ends> {
        let armed = self.armed.as_ref()?;
        let sink = self.sink.as_ref().map(NodeName::as_str);
        let is_due = armed.step == step
            && armed.moment == moment
            && (armed.sink.is_none() || armed.sink.as_deref() == sink)
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1;
        is_due.then_some(armed.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_point_is_due_at_its_nth_pass_alone() {
        let crash = CrashPoints::parse("head.swap:after:2").unwrap();
        let passes = [
            (Step::HeadSwap, Moment::Before),
            (Step::HeadSwap, Moment::After),
            (Step::Probe, Moment::After),
            (Step::HeadSwap, Moment::After),
            (Step::HeadSwap, Moment::After),
        ];
        assert_eq!(
            passes.map(|(step, moment)| crash.due(step, moment).is_some()),
            [false, false, false, true, false]
        );
    }

    #[test]
    fn a_crash_point_of_a_sink_is_due_for_that_sink_alone() {
        let crash = CrashPoints::parse("begin@gold:before").unwrap();
        let of = |name| crash.of_sink(&NodeName::new(name).unwrap());
        let due = |crash: CrashPoints| crash.due(Step::Begin, Moment::Before).is_some();
        assert_eq!(
            [due(crash.clone()), due(of("bronze")), due(of("gold"))],
            [false, false, true]
        );
    }

    #[test]
    fn what_is_no_crash_point_is_refused_with_the_steps_there_are() {
        for text in [
            "head.swap",
            "head:before",
            "head.swap:amid",
            "head.swap:before:0",
            "head.swap:before:1:1",
            "@gold:before",
        ] {
            assert!(
                CrashPoints::parse(text)
                    .unwrap_err()
                    .contains("record.swap"),
                "{text}"
            );
        }
    }
}
