//! One world from its first process to its end: starts processes, lets them die, stand still and go on, then judges.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use evp_api::reason;
use evp_core::position::Epoch;
use evp_core::protocol::decide::Identity;
use evp_core::protocol::paths::Lane;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

use super::damage::{Damage, put_back};
use super::judge::{in_short, judge};
use super::pipeline::{Pipeline, sample};
use super::process::{Bucket, Process};
use super::script::{Fault, Passes, Script};
use super::trouble::Trouble;
use super::universe::{Decision, Universe};
use crate::checkpointer::CrashPoints;
use crate::clock::SharedClock;
use crate::ids::Ids;
use crate::job::{Parts, Topics};
use crate::report::Reporter;
use crate::runtime::{Halt, Poison, Remedy, Start};
use crate::secrets::Secrets;
use crate::settings::MemoryBudget;
use crate::source::script::Scripts;
use crate::store::Storage;
use crate::supervise;
use crate::virtual_time::{BEGIN, VirtualClock, block_on};

/// Longest simulated life: what takes longer never ends.
const LONGEST: Duration = Duration::from_hours(12);

/// Processes after which a world has no end.
const MOST_PROCESSES: usize = 60;

/// Starts of one process after which it does not get anywhere.
const MOST_STARTS: u32 = 40;

/// What a world is made of.
#[derive(Clone)]
pub(super) struct World {
    /// All names and numbers follow from it.
    pub(super) seed: u64,
    pub(super) events: u64,
    /// Seed of the events.
    pub(super) input: u64,
    /// The plan of each process; the last one's goes on.
    pub(super) plans: Vec<Pipeline>,
    pub(super) faults: Vec<Fault>,
    /// For each process how many requests after which epoch it is told to end; then none is.
    pub(super) stops: Vec<(u64, u32)>,
    /// A container comes back in a pod that lost the lane: every third process is one.
    pub(super) returns: bool,
    /// Most records that are read at once.
    pub(super) batch: usize,
    /// What somebody does to the objects before the second process starts, and undoes before the third.
    pub(super) damage: Option<Damage>,
    pub(super) trouble: Trouble,
}

/// What became of a world.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// All that is wrong.
    pub(super) wrong: Vec<String>,
    /// Every request and what became of it.
    pub(super) trace: Vec<String>,
    pub(super) passes: Passes,
    /// Faults that did not come.
    pub(super) missed: Vec<Fault>,
    pub(super) epochs: u64,
    pub(super) heads: Vec<Decision>,
    /// How each process ended.
    pub(super) ends: Vec<(usize, End)>,
}

/// How a process ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// It did what it was asked for.
    Done,
    Crashed,
    /// It stopped, and a new start of it would not help.
    Halted(Halt),
    /// It started again and again.
    NeverDone(String),
}

type Life = LocalBoxFuture<'static, (usize, End)>;

struct Driver {
    world: World,
    universe: Arc<Universe>,
    script: Arc<Script>,
    clock: Arc<VirtualClock>,
    processes: Vec<Arc<Process>>,
    running: FuturesUnordered<Life>,
    ends: Arc<Mutex<Vec<(usize, End)>>>,
    /// What the damage took, as it was.
    lost: Vec<(String, Bytes)>,
}

/// Lives through a world and judges it.
pub(super) fn run(world: &World) -> Came {
    let universe = Arc::new(Universe::default());
    let script = Arc::new(Script::new(&world.faults));
    let clock = Arc::new(VirtualClock::new(BEGIN, LONGEST));
    let ends = Arc::default();
    let driver = Driver {
        world: world.clone(),
        universe: Arc::clone(&universe),
        script: Arc::clone(&script),
        clock: Arc::clone(&clock),
        processes: Vec::new(),
        running: FuturesUnordered::new(),
        ends: Arc::clone(&ends),
        lost: Vec::new(),
    };
    let wrong = block_on(&clock, async {
        driver.live().await;
        judge(&universe, (world.input, world.events)).await
    });
    let stuck = || vec!["nothing moves any more".to_owned()];
    let judged = wrong.unwrap().unwrap_or_else(stuck);
    let ends = ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut wrong = badly(world, &ends);
    wrong.extend(judged);
    Came {
        wrong,
        trace: universe.take_trace(),
        passes: script.counted(),
        missed: script.missed(),
        epochs: universe.head().map_or(0, |head| head.epoch()),
        heads: universe.heads(),
        ends,
    }
}

/// Only a process that lost the lane may stop for good, one whose plan is older than what was counted anew, or one that meets
/// a damage.
fn badly(world: &World, ends: &[(usize, End)]) -> Vec<String> {
    let newest = world.plans.len().saturating_sub(1);
    let badly = |(at, end): &(usize, End)| match end {
        End::Done | End::Crashed => None,
        End::Halted(halt) if halt.reason == reason::FENCED => None,
        End::Halted(halt) if halt.reason == reason::STATE_INCOMPATIBLE && *at < newest => None,
        End::Halted(_) if *at == 1 && world.damage.is_some() => None,
        End::Halted(halt) => Some(format!("p{at} stopped: {halt}")),
        End::NeverDone(why) => Some(format!("p{at} never got done: {why}")),
    };
    ends.iter().filter_map(badly).collect()
}

impl Driver {
    async fn live(mut self) {
        while self.processes.len() < MOST_PROCESSES {
            if self.running.is_empty() {
                if self.is_complete() {
                    break;
                }
                let damaged = self.world.damage.is_some() && self.processes.len() <= 2;
                if !damaged && !self.badly().is_empty() {
                    return;
                }
                match (self.world.damage, self.processes.len()) {
                    (Some(damage), 1) => self.lost = damage.befalls(&self.universe).await,
                    (Some(_), 2) => put_back(&self.universe, &self.lost).await,
                    _ => {}
                }
                self.start(false);
            }
            tokio::select! {
                biased;
                Some((at, end)) = self.running.next() => self.ended(at, end),
                () = self.script.paused.notified() => self.start(false),
            }
        }
        if self.processes.len() == MOST_PROCESSES {
            let last = self.universe.head().map(|head| in_short(&head));
            self.universe.wrong(format!("it does not end: {last:?}"));
        }
        // Whoever comes after all that finds nothing to complain of.
        self.start(true);
        while let Some((at, end)) = self.running.next().await {
            self.ended(at, end);
        }
    }

    /// Everything is read, decided and applied, and recorded as such by a process that ended well.
    fn is_complete(&self) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let all = [0, 1, 2].map(|split| (self.world.events + 2 - split) / 3);
        let head = self.universe.head();
        ends.iter().any(|(_, end)| *end == End::Done)
            && head.is_some_and(|h| h.positions() == all && h.undone() == 0)
    }

    fn badly(&self) -> Vec<String> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        badly(&self.world, &ends)
    }

    fn ended(&mut self, at: usize, end: End) {
        let pod = self.processes[at].pod.clone();
        self.universe.trace(format!("{pod} {end:?}"));
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push((at, end));
        drop(ends);
        // Who stands still had a successor, and it may be the one that ended.
        self.script.release(None);
    }

    /// Starts the next process. `quiet`: nothing happens to it.
    fn start(&mut self, quiet: bool) {
        let at = self.processes.len();
        let stop_at = self.world.stops.get(at).copied().filter(|_| !quiet);
        let trouble = if quiet {
            Trouble::default()
        } else {
            self.world.trouble
        };
        let pod = format!("p{at}");
        let script = if quiet {
            Arc::default()
        } else {
            Arc::clone(&self.script)
        };
        let watched = (&self.universe, &script);
        let process = Arc::new(Process::new(pod, watched, stop_at, trouble));
        self.processes.push(Arc::clone(&process));
        let start = self.parts(at, &process);
        let life = async move {
            let end = tokio::select! {
                biased;
                () = process.died.cancelled() => End::Crashed,
                end = live(&process, start) => end,
            };
            (at, end)
        };
        self.running.push(Box::pin(life));
    }

    fn pod(&self, at: usize) -> String {
        let comes_back = self.world.returns && at % 3 == 2;
        format!("pod{}", if comes_back { at - 2 } else { at })
    }

    fn parts(&self, at: usize, process: &Arc<Process>) -> Start {
        let plans = &self.world.plans;
        let plan = plans.get(at).or(plans.last()).cloned();
        let Pipeline { spec, checked } = plan.unwrap_or_else(|| unreachable!("no plan"));
        let clock: SharedClock = self.clock.clone();
        let mut budget = MemoryBudget::of(MemoryBudget::DEFAULT_LIMIT);
        budget.batch.records = self.world.batch;
        let is_seen = self.world.damage != Some(Damage::HeadRolledBackUnseen);
        let seen = self.universe.head().filter(|_| is_seen);
        let seed = self.world.seed.wrapping_mul(1000).wrapping_add(at as u64);
        Start {
            checked,
            spec,
            lane: Lane::default(),
            parts: Parts {
                storage: Storage::on(Arc::new(Bucket(Arc::clone(process)))),
                secrets: Secrets::new("/nowhere"),
                clock: clock.clone(),
                topics: Topics::Written,
                budget,
                sample: sample(),
                scripts: Scripts::default(),
                crash: CrashPoints::watched(process.clone()),
            },
            identity: Identity {
                name: "orders".into(),
                uid: "u".into(),
                namespace_uid: "ns".into(),
                pod: self.pod(at),
            },
            ids: Ids::seeded(seed),
            seen: seen.map(|head| Epoch(head.epoch())),
            waiting: Reporter::new("orders", "checkpoint", clock).0.waiting(),
            poison: Poison::default(),
            until_end: true,
        }
    }
}

/// As `supervise::until_stopped`, but for an end.
async fn live(process: &Process, start: Start) -> End {
    let clock = start.parts.clock.clone();
    let (mut reporter, _progress) = Reporter::new("orders", "checkpoint", clock.clone());
    let mut last = String::new();
    for _ in 0..MOST_STARTS {
        match supervise::once(&start, &mut reporter, &process.stop).await {
            Ok(()) => return End::Done,
            // A person who need not act: `supervise` tries again here too.
            Err(halt)
                if halt.remedy == Remedy::Wait
                    || halt.reason == reason::UNDONE_INTENT_OF_REMOVED_SINK =>
            {
                process
                    .universe
                    .trace(format!("{} {}", process.pod, halt.reason));
                last = halt.to_string();
            }
            Err(halt) => return End::Halted(halt),
        }
        clock.sleep(Duration::from_secs(3)).await;
    }
    End::NeverDone(last)
}
