//! Breadth first over all states, each once: a violation is found by one of the shortest ways to it.
//!
//! A state that was seen is remembered by 64 bits of its hash. Does not own: what a process does, what must hold of a world.

use std::collections::VecDeque;
use std::fmt;

use super::bodies::pod_name;
use super::bounds::{ALIVE, Begins, Bounds, LAST};
use super::bugs::Bug;
use super::damage::Damage;
use super::fingerprint::{Seen, fingerprint};
use super::heads::Heads;
use super::process::{At, Choice, Flow, Process, START, Turn};
use super::world::{Files, Stop, Violation, World};

/// The transition system.
pub(super) struct Model {
    pub bounds: Bounds,
    pub bug: Option<Bug>,
    pub heads: Heads,
}

/// The world and the processes in it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State {
    world: World,
    /// Those that live, oldest first.
    processes: Vec<Process>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    /// A process starts. `instead_of`: this one has crashed. `pod`: that of an earlier process (its container was
    /// restarted); `None`: a new one.
    Start {
        instead_of: Option<u8>,
        pod: Option<u8>,
        plan: u8,
    },
    /// A process makes its next request.
    Run { process: u8, choice: Choice },
    /// The request that was given up arrives.
    Deliver,
    /// An outsider damages something.
    Damage(u8),
}

/// What a search came to.
pub(super) struct Explored {
    pub states: usize,
    pub steps: usize,
    pub worlds: usize,
    pub violation: Option<Found>,
}

/// A violation, and the way to it.
pub(super) struct Found {
    pub violation: Violation,
    way: Vec<String>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            steps,
            worlds,
            ..
        } = self;
        write!(
            f,
            "{states} states, {steps} steps, a fresh pod in {worlds} worlds"
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after", self.violation)?;
        self.way.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// How each state was reached: the state before it and the action, by number.
type Ways = Vec<(u32, Option<Action>)>;

impl Model {
    pub(super) fn new(bounds: Bounds, bug: Option<Bug>) -> Self {
        Self {
            bounds,
            bug,
            heads: Heads::new(bug),
        }
    }

    /// Visits every state within the bounds, up to the first violation.
    pub(super) fn explore(&self) -> Explored {
        let first = self.first();
        let mut seen = Seen::from_iter([fingerprint(&first)]);
        let mut worlds = Seen::default();
        let mut ways: Ways = vec![(0, None)];
        let mut queue = VecDeque::from([(0, first)]);
        let mut steps = 0;
        let mut violation = None;
        'search: while let Some((at, state)) = queue.pop_front() {
            for action in self.actions(&state) {
                steps += 1;
                let next = self.act(&state, action).and_then(|next| {
                    let new = seen.insert(fingerprint(&next));
                    if new && worlds.insert(fingerprint(&next.world)) {
                        self.check_alone(&next.world)?;
                    }
                    Ok(new.then_some(next))
                });
                match next {
                    Ok(None) => {}
                    Ok(Some(next)) => {
                        ways.push((at, Some(action)));
                        queue.push_back((u32::try_from(ways.len() - 1).unwrap(), next));
                    }
                    Err(found) => {
                        let way = self.way(&ways, at, action);
                        violation = Some(Found {
                            violation: found,
                            way,
                        });
                        break 'search;
                    }
                }
            }
        }
        Explored {
            states: seen.len(),
            steps,
            worlds: worlds.len(),
            violation,
        }
    }

    fn first(&self) -> State {
        let mut world = World::default();
        if self.bounds.begins == Begins::Created {
            let mut creator = self.begin(&mut world, None, 0);
            while creator.at != At::Open {
                self.turn(&mut world, &mut creator, Choice::Go).unwrap();
            }
        }
        State {
            world,
            processes: Vec::new(),
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let State { world, processes } = state;
        let mut actions = Vec::new();
        for (nth, me) in processes.iter().enumerate() {
            // Of two new pods that know the same it does not matter which is first.
            let news = |p: &Process| (p.at, p.new, p.plan, p.seen, p.doubted);
            let alike = |p: &Process| news(p) == (START, true, me.plan, me.seen, false);
            if alike(me) && processes[..nth].iter().any(alike) {
                continue;
            }
            let choices = self.choices(world, me).into_iter();
            actions.extend(choices.map(|choice| Action::Run {
                process: me.id,
                choice,
            }));
        }
        if world.late.is_some() {
            actions.push(Action::Deliver);
        }
        if world.damage.is_none() && self.bounds.damage.is_some() {
            let ways = 0..LAST;
            actions.extend(
                ways.filter(|n| self.damaged(world, *n).is_some())
                    .map(Action::Damage),
            );
        }
        if world.starts < self.bounds.starts {
            self.starts(state, &mut actions);
        }
        actions
    }

    /// A new pod where there is room, or in the place of one that crashed; and a pod whose container crashed, or has ended,
    /// and is restarted.
    fn starts(&self, state: &State, actions: &mut Vec<Action>) {
        let State { world, processes } = state;
        let newest = world.pods.iter().max().copied().unwrap_or(0);
        let mut push = |instead_of, pod, plan| {
            actions.push(Action::Start {
                instead_of,
                pod,
                plan,
            });
        };
        for plan in newest..self.bounds.plans {
            if processes.len() < ALIVE {
                push(None, None, plan);
            } else {
                processes.iter().for_each(|p| push(Some(p.id), None, plan));
            }
        }
        for (pod, plan) in world.pods.iter().enumerate() {
            let pod = u8::try_from(pod).unwrap();
            match processes.iter().find(|p| p.pod == pod) {
                Some(alive) => push(Some(alive.id), Some(pod), *plan),
                None if processes.len() < ALIVE => push(None, Some(pod), *plan),
                None => {}
            }
        }
    }

    fn act(&self, state: &State, action: Action) -> Result<State, Violation> {
        let mut next = state.clone();
        match action {
            Action::Deliver => next.world.deliver(&self.heads)?,
            Action::Damage(way) => {
                next.world = self.damaged(&next.world, way).unwrap();
            }
            Action::Start {
                instead_of,
                pod,
                plan,
            } => {
                next.processes.retain(|p| Some(p.id) != instead_of);
                let process = self.begin(&mut next.world, pod, plan);
                next.processes.push(process);
            }
            Action::Run { process, choice } => {
                let at = next.processes.iter().position(|p| p.id == process).unwrap();
                let stop = self.turn(&mut next.world, &mut next.processes[at], choice)?;
                if let Some(stop) = stop {
                    check_stop(&next.world, stop)?;
                    next.processes.remove(at);
                }
            }
        }
        next.world.check(&self.heads)?;
        self.forget(&mut next);
        Ok(next)
    }

    /// Staged objects that nobody names, or is about to name, are all alike: as if they were not there.
    fn forget(&self, state: &mut State) {
        let State { world, processes } = state;
        let stored = world.head.map(|s| s.head);
        let late = match world.late {
            Some(super::world::Late::Head { to, .. }) => Some(to),
            _ => None,
        };
        let about = processes.iter().filter_map(|p| match p.at {
            At::Swap { to, .. } => Some(to),
            _ => None,
        });
        let lanes = processes.iter().filter_map(Process::head);
        // These an outsider may still put back.
        let once = match self.bounds.damage {
            Some(Damage::HeadRolledBack) => world.decided,
            _ => [None; 4],
        };
        let (mut files, mut staged) = (Files::default(), Vec::new());
        let named = stored.into_iter().chain(late).chain(about).chain(lanes);
        for id in named.chain(once.into_iter().flatten()) {
            let head = self.heads.get(id);
            files = files.and(head.files);
            staged.extend_from_slice(&self.heads.waiting(head.rolling).work);
        }
        world.files = world.files.within(files);
        world.folder.staged.retain(|s| {
            staged.iter().any(|id| {
                let card = self.heads.intent(*id);
                (card.epoch, card.writer) == (s.0, Some(s.1))
            })
        });
    }

    pub(super) fn begin(&self, world: &mut World, pod: Option<u8>, plan: u8) -> Process {
        let id = world.starts;
        world.starts += 1;
        let new = pod.is_none();
        let pod = pod.unwrap_or_else(|| {
            world.pods.push(plan);
            u8::try_from(world.pods.len() - 1).unwrap()
        });
        let newest = (0..=LAST)
            .rev()
            .find(|e| world.decided[usize::from(*e)].is_some());
        Process {
            id,
            pod,
            plan,
            new,
            seen: newest.filter(|_| self.bounds.seen),
            doubted: false,
            at: START,
            lane: super::process::Lane::default(),
        }
    }

    pub(super) fn turn(
        &self,
        world: &mut World,
        me: &mut Process,
        choice: Choice,
    ) -> Result<Option<Stop>, Violation> {
        let turn = Turn {
            model: self,
            world,
            me,
            choice,
        };
        Ok(match turn.run()? {
            Flow::Stop(stop) => Some(stop),
            Flow::Go(at) => {
                me.at = at;
                None
            }
        })
    }

    fn way(&self, ways: &Ways, mut at: u32, last: Action) -> Vec<String> {
        let mut actions = vec![last];
        while let (before, Some(action)) = ways[at as usize] {
            actions.push(action);
            at = before;
        }
        let mut state = self.first();
        let mut lines = Vec::new();
        for action in actions.into_iter().rev() {
            lines.push(self.line(&state, action));
            match self.act(&state, action) {
                Ok(next) => state = next,
                Err(_) => break,
            }
        }
        lines
    }

    fn line(&self, state: &State, action: Action) -> String {
        match action {
            Action::Run { process, choice } => {
                let me = state.processes.iter().find(|p| p.id == process).unwrap();
                let at = match me.at {
                    At::Swap {
                        to, why, attempt, ..
                    } => {
                        let head = &self.heads.get(to).head;
                        let (term, epoch) = (head.owner.term, head.body.epoch);
                        format!("{why:?} {attempt:?} (term {term}, epoch {epoch})")
                    }
                    at => format!("{at:?}"),
                };
                format!("process {process} of {}: {at} {choice:?}", pod_name(me.pod))
            }
            action => format!("{action:?}"),
        }
    }
}

/// Without an outsider's damage nobody stops but a pod that lost the lane.
fn check_stop(world: &World, stop: Stop) -> Result<(), Violation> {
    let fits = match stop {
        Stop::Fenced => true,
        Stop::Owned => world.owner.is_some_and(|path| path.resource > 0),
        Stop::Other | Stop::RemovedSink => false,
        _ => world.damage.is_some(),
    };
    if fits {
        Ok(())
    } else {
        Err(Violation::FalseAlarm(stop))
    }
}
