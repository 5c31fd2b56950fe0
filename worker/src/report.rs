//! What the worker tells the world: builds the [`Progress`] that `/progress`, `/metrics` and the terminal show.

mod decided;
mod hold;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evp_api::plan::{NodeName, SourcePlan};
use evp_api::progress::{Halt, Progress, Recent, SourceProgress};
use evp_api::reason;
use evp_core::check::CheckedPlan;
use evp_core::dataflow::{Idle, StateFacts, WatermarkSnapshots};
use evp_core::dead_letter::RejectCode;
use evp_core::position::{Positions, SplitPositions, Term};
use evp_core::protocol::head::Body;
use tokio::sync::watch;

use crate::activity::Activity;
use crate::checkpointer::{Logged, Report, Waiting};
use crate::clock::SharedClock;

pub(crate) use decided::dead_lettered;
pub use decided::ledger;
use decided::{fill, signed};

/// Time over which the rate is taken.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// Time over which dead letters count for `Clean`.
const RECENT_WINDOW: Duration = Duration::from_mins(15);

/// Most epochs remembered for the two windows: an epoch a second for the longer one.
const MOST_EPOCHS: usize = 900;

/// Dead letters of an epoch by step and code.
pub type Letters = BTreeMap<(NodeName, RejectCode), u64>;

/// Writes reports.
#[derive(Debug)]
pub struct Reporter {
    sender: watch::Sender<Progress>,
    clock: Time,
    epochs: Mutex<VecDeque<EpochCounts>>,
    /// When counting began.
    since: Duration,
    /// A lane is owned and runs.
    running: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Time(SharedClock);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

struct TellWaiting {
    sender: watch::Sender<Progress>,
    running: Arc<AtomicBool>,
}

impl Report for TellWaiting {
    fn waiting(&self, waiting: &Waiting<'_>) {
        Logged.waiting(waiting);
        let halt = Halt {
            reason: waiting.reason.to_owned(),
            message: format!(
                "{}: {}; nothing is lost, attempt {} follows",
                waiting.on,
                waiting.message,
                waiting.attempts + 1
            ),
            stalled: false,
        };
        self.sender.send_modify(|progress| {
            progress.ready = false;
            progress.reason = Some(halt);
        });
    }

    fn resumed(&self, on: &str) {
        Logged.resumed(on);
        let running = self.running.load(Ordering::Relaxed);
        self.sender.send_modify(|progress| {
            progress.ready = running;
            progress.reason = (!running).then(starting);
        });
    }
}

fn starting() -> Halt {
    Halt {
        reason: reason::STARTING.to_owned(),
        message: "opening checkpoint, sources and sinks".to_owned(),
        stalled: false,
    }
}

#[derive(Debug)]
struct EpochCounts {
    at: Duration,
    read: u64,
    dead: u64,
    letters: Letters,
}

/// What a decided epoch shows.
#[derive(Debug)]
pub struct Decided<'a> {
    /// The plan.
    pub checked: &'a CheckedPlan,
    /// The body that was decided.
    pub body: &'a Body,
    /// Term of this owner.
    pub term: Term,
    /// State of the steps.
    pub state: &'a BTreeMap<NodeName, StateFacts>,
    /// Versions of the sinks' tables.
    pub versions: &'a BTreeMap<NodeName, u64>,
    /// Dead letters of the epoch.
    pub letters: Letters,
}

/// What moves between epochs.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'a> {
    /// The plan.
    pub checked: &'a CheckedPlan,
    /// Where each split stands against its end.
    pub activity: &'a Activity,
    /// For how long the sources could be polled so far.
    pub polled: Duration,
    /// Positions of the newest decided epoch.
    pub committed: &'a Positions,
    /// Its watermarks.
    pub watermarks: &'a WatermarkSnapshots,
}

impl Reporter {
    /// A reporter and where its reports are read.
    pub fn new(
        pipeline: &str,
        checkpoint: &str,
        clock: SharedClock,
    ) -> (Self, watch::Receiver<Progress>) {
        let progress = Progress {
            pipeline: pipeline.to_owned(),
            checkpoint_path: checkpoint.to_owned(),
            report_time: clock.now().0,
            ..Progress::default()
        };
        let (sender, receiver) = watch::channel(progress);
        let since = clock.elapsed();
        (
            Self {
                sender,
                clock: Time(clock),
                epochs: Mutex::default(),
                since,
                running: Arc::default(),
            },
            receiver,
        )
    }

    /// Tells `/progress` that a decided epoch must wait.
    pub fn waiting(&self) -> Arc<dyn Report> {
        Arc::new(TellWaiting {
            sender: self.sender.clone(),
            running: Arc::clone(&self.running),
        })
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let now = self.clock.0.now().0;
        self.sender.send_modify(|progress| {
            progress.report_time = now;
            change(progress);
        });
    }

    /// A lane is being opened.
    pub fn starting(&self) {
        let Halt {
            reason,
            message,
            stalled,
        } = starting();
        self.halted(&reason, &message, stalled);
    }

    /// Nothing moves, and why.
    pub fn halted(&self, reason: &str, message: &str, stalled: bool) {
        self.running.store(false, Ordering::Relaxed);
        self.update(|progress| {
            progress.ready = false;
            progress.reason = Some(Halt {
                reason: reason.to_owned(),
                message: message.to_owned(),
                stalled,
            });
        });
    }

    /// A source cannot be read now, or can again (`None`); what was decided still stands.
    pub fn source_trouble(&self, trouble: Option<(&str, &str)>) {
        self.update(|progress| {
            progress.reason = trouble.map(|(reason, message)| Halt {
                reason: reason.to_owned(),
                message: message.to_owned(),
                stalled: false,
            });
            progress.ready = trouble.is_none();
        });
    }

    /// The lane is owned and the sources are open; `restored` is what its newest epoch left. A quiet pipeline decides no
    /// other one for long.
    pub fn running(&self, restored: &Decided<'_>) {
        self.running.store(true, Ordering::Relaxed);
        self.update(|progress| {
            progress.ready = true;
            progress.reason = None;
            fill(progress, restored);
        });
    }

    /// What moves between epochs: lag and idleness.
    pub fn moved(&self, moving: &Moving<'_>) {
        let rate = self.rate(&self.epochs(), self.clock.0.elapsed());
        let idle = moving.activity.idle(moving.polled);
        self.update(|progress| {
            progress.records_per_second = rate;
            progress.caught_up = moving.activity.caught_up(moving.committed);
            let planned = &moving.checked.plan.sources;
            for (told, source) in progress.sources.iter_mut().zip(planned) {
                source_moved(told, source, moving, &idle);
            }
            progress.lag_records = progress.sources.iter().map(|s| s.lag_records).sum();
        });
    }

    /// An epoch was decided and applied.
    pub fn decided(&self, decided: Decided<'_>) {
        let at = self.clock.0.elapsed();
        let (rate, recent) = self.remember(EpochCounts {
            at,
            read: decided.body.ledger.sources.values().map(|c| c.read).sum(),
            dead: dead_lettered(&decided.body.ledger),
            letters: decided.letters.clone(),
        });
        self.update(|progress| {
            fill(progress, &decided);
            progress.records_per_second = rate;
            progress.recent = recent;
        });
    }

    /// The rate and the recent counts, this epoch's included.
    fn remember(&self, epoch: EpochCounts) -> (i64, Recent) {
        let at = epoch.at;
        let mut epochs = self.epochs();
        epochs.push_back(epoch);
        let old = |epoch: &EpochCounts| at.saturating_sub(epoch.at) > RECENT_WINDOW;
        while epochs.len() > MOST_EPOCHS || epochs.front().is_some_and(old) {
            epochs.pop_front();
        }
        (self.rate(&epochs, at), recent(&epochs))
    }

    fn epochs(&self) -> MutexGuard<'_, VecDeque<EpochCounts>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rate(&self, epochs: &VecDeque<EpochCounts>, now: Duration) -> i64 {
        let within = |epoch: &&EpochCounts| now.saturating_sub(epoch.at) <= RATE_WINDOW;
        let read: u64 = epochs.iter().filter(within).map(|e| e.read).sum();
        let counted = now.saturating_sub(self.since).min(RATE_WINDOW);
        i64::try_from(read / counted.as_secs().max(1)).unwrap_or(i64::MAX)
    }
}

fn recent(epochs: &VecDeque<EpochCounts>) -> Recent {
    let mut letters: BTreeMap<&(NodeName, RejectCode), u64> = BTreeMap::new();
    for (kind, count) in epochs.iter().flat_map(|e| &e.letters) {
        *letters.entry(kind).or_default() += count;
    }
    let top = letters.iter().max_by_key(|(_, count)| **count);
    let top = top.map(|(kind, _)| *kind);
    Recent {
        read: signed(epochs.iter().map(|e| e.read).sum()),
        dead_lettered: signed(epochs.iter().map(|e| e.dead).sum()),
        top_code: top.map(|(_, code)| format!("{code:?}")),
        top_step: top.map(|(step, _)| step.to_string()),
    }
}

fn source_moved(told: &mut SourceProgress, source: &SourcePlan, moving: &Moving<'_>, idle: &Idle) {
    let (name, activity) = (&source.name, moving.activity);
    let none = (SplitPositions::new(), BTreeSet::new());
    let committed = moving.committed.get(name).unwrap_or(&none.0);
    let idle = idle.get(name).unwrap_or(&none.1);
    told.lag_records = activity.lag(name, committed);
    told.splits = count(activity.splits(name));
    told.idle = count(idle.len());
    if let Some(snapshot) = moving.watermarks.get(name) {
        hold::tell(told, (source, snapshot), moving, idle);
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use evp_core::position::Micros;

    use super::*;
    use crate::clock::Clock;

    /// Seconds.
    #[derive(Default)]
    struct Set(AtomicU64);

    #[async_trait]
    impl Clock for Set {
        fn now(&self) -> Micros {
            Micros(0)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }

        async fn sleep(&self, _: Duration) {}
    }

    /// Orders, ten minutes out of order at most, idle after a minute.
    pub(super) fn checked() -> CheckedPlan {
        let spec = serde_json::json!({
            "checkpoint": {"path": "s3://lake/c"},
            "deadLetter": {"files": {"path": "s3://lake/d"}},
            "sources": [{
                "name": "orders",
                "generator": {"template": "orders"},
                "schema": {"fields": [{"name": "at", "type": "timestamp"}]},
                "watermark": {"column": "at", "delay": "10m"},
            }],
            "sinks": [{"name": "out", "from": "orders", "stdout": {}}],
        });
        evp_core::check::check(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    #[track_caller]
    fn check(epochs: &[(u64, u64)], now: u64, rate: i64) {
        let clock = Arc::new(Set::default());
        let (reporter, reports) = Reporter::new("orders", "s3://lake/c", clock.clone());
        let counted = |&(at, read): &(u64, u64)| EpochCounts {
            at: Duration::from_secs(at),
            read,
            dead: 0,
            letters: Letters::new(),
        };
        reporter.epochs().extend(epochs.iter().map(counted));
        clock.0.store(now, Ordering::Relaxed);
        reporter.moved(&Moving {
            checked: &checked(),
            activity: &Activity::default(),
            polled: Duration::ZERO,
            committed: &Positions::new(),
            watermarks: &WatermarkSnapshots::new(),
        });
        assert_eq!(reports.borrow().records_per_second, rate);
    }

    #[test]
    fn the_rate_counts_what_the_first_epoch_took_to_read() {
        check(&[(5, 2500)], 5, 500);
        check(&[(5, 2500), (10, 2500)], 10, 500);
    }

    #[test]
    fn the_rate_is_of_the_last_minute_and_sinks_without_an_epoch() {
        check(&[(5, 6000)], 60, 100);
        check(&[(5, 6000)], 65, 100);
        check(&[(5, 6000)], 66, 0);
    }
}
