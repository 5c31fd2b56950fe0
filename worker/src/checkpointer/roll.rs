//! Rolling decided epochs forward: sinks in parallel, the epochs of one sink in order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use async_trait::async_trait;
use evp_api::plan::NodeName;
use evp_api::reason;
use evp_core::position::Epoch;
use evp_core::protocol::decide::{Marker, RollForward, after_reading_head, roll_forward, standing};
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Body, Intent, SinkEntry, SinkIdentity, Undone};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::crash::{Moment, Step};
use super::io::{Backoff, Io, Patience};
use super::stop::Stop;
use super::swap::parse_head;
use super::{Checkpointer, CommitPermit};
use crate::sink::{Applied, Sink, SinkError};

/// Sinks by name.
pub type Sinks = BTreeMap<NodeName, Box<dyn Sink>>;

/// Opens sinks as a decided epoch knew them.
#[async_trait]
pub trait OpenSinks: Send {
    /// The sink `name` of `body`, under the plan that `body` names; `plan` is its text. `None`: it has no such sink.
    async fn open(
        &mut self,
        body: &Body,
        plan: &serde_json::Value,
        name: &NodeName,
    ) -> Result<Option<Box<dyn Sink>>, Stop>;
}

/// Sinks that are open already: each is given out once, so they serve where nothing is undone under another plan.
#[async_trait]
impl OpenSinks for Sinks {
    async fn open(
        &mut self,
        _: &Body,
        _: &serde_json::Value,
        name: &NodeName,
    ) -> Result<Option<Box<dyn Sink>>, Stop> {
        Ok(self.remove(name))
    }
}

/// Sinks that a start has opened, by plan and identity.
type Opened = BTreeMap<(Digest, SinkIdentity), Box<dyn Sink>>;

/// One sink with what waits for it, oldest first.
struct Work<'a> {
    name: NodeName,
    sink: &'a mut Box<dyn Sink>,
    intents: Vec<Intent>,
}

/// What one sink came to: the intents it holds now, and why it stopped.
struct Outcome {
    name: NodeName,
    held: Vec<(SinkIdentity, Epoch)>,
    last: Applied,
    stop: Option<Stop>,
}

impl Checkpointer {
    /// Applies everything decided up to the permit's epoch that some sink does not hold. A sink out of reach is tried for
    /// ever, and reported, unless another one stops. What was applied is noted for the next head even then.
    pub async fn apply(
        &mut self,
        permit: CommitPermit,
        sinks: &mut Sinks,
    ) -> Result<BTreeMap<NodeName, Applied>, Stop> {
        let mut work = self.work(permit.epoch, sinks)?;
        for intent in work.iter_mut().flat_map(|w| &mut w.intents) {
            *intent = self.whole(intent).await?;
        }
        let (io, stopped) = (&self.io, CancellationToken::new());
        let each = work
            .into_iter()
            .map(|w| apply_one(io, &permit, w, &stopped));
        let outcomes = join_all(each).await;
        let applied = self.note(outcomes)?;
        self.sweep().await;
        Ok(applied)
    }

    /// After a start: rolls forward what is undone, asks every sink of our plan what it holds, and refuses to go on where head
    /// and sink contradict each other.
    ///
    /// Undone epochs are applied oldest first, each under the plan that decided it: what our plan removed or re-pointed is
    /// applied at its old target, under its old identity. A sink that our plan no longer has and that nothing waits for is
    /// not even opened.
    pub async fn roll_forward(&mut self, sinks: &mut dyn OpenSinks) -> Result<(), Stop> {
        let next = self.open(self.head.body.epoch_time);
        let mut opened = Opened::new();
        for undone in self.rolling.undone.clone() {
            let body = self.body_of(&undone).await?;
            for intent in &undone.intents {
                if self.rolling.holds(intent) {
                    continue;
                }
                let removed = next.sink_name(&intent.sink).is_none();
                if removed && mistaken!(UndoneOfRemovedSinkDropped) {
                    self.rolling.note(&intent.sink, intent.epoch);
                    continue;
                }
                let patience = if removed {
                    Patience::Bounded
                } else {
                    Patience::Endless
                };
                let rolled = self.roll_one((&body, intent), patience, (sinks, &mut opened));
                match rolled.await {
                    Ok(()) => self.rolling.note(&intent.sink, intent.epoch),
                    Err(stop) if removed && stop.reason != reason::FENCED => {
                        return Err(out_of_reach((&body, intent), &stop));
                    }
                    Err(stop) => return Err(stop),
                }
            }
        }
        self.check_standing(&next, (sinks, &mut opened)).await?;
        self.asked = true;
        Ok(())
    }

    /// One undone intent, of the epoch with this body or of one of the same plan.
    async fn roll_one(
        &self,
        (body, intent): (&Body, &Intent),
        patience: Patience,
        (sinks, opened): (&mut dyn OpenSinks, &mut Opened),
    ) -> Result<(), Stop> {
        let io = self.io.with(patience);
        let plan = self.plan_of(body).await?;
        let Some(name) = body.sink_name(&intent.sink).cloned() else {
            let what = format!("epoch {} has an intent and not its sink", intent.epoch);
            return Err(Stop::damaged(&self.io.url, &what));
        };
        let intent = &self.whole(intent).await?;
        let sink = open_once((sinks, opened), body, (&name, &plan)).await?;
        if self.judge((&io, &name), sink, intent, roll_forward).await? != RollForward::Apply {
            return Ok(());
        }
        let intents = vec![intent.clone()];
        let work = Work {
            name,
            sink,
            intents,
        };
        let permit = CommitPermit {
            epoch: self.head.body.epoch,
        };
        let outcome = apply_one(&io, &permit, work, &CancellationToken::new()).await;
        outcome.stop.map_or(Ok(()), Err)
    }

    /// The decided body that an undone epoch belongs to, or one of the same plan: its sinks are the same.
    async fn body_of(&self, undone: &Undone) -> Result<Body, Stop> {
        if undone.plan == self.head.body.plan {
            return Ok(self.head.body.clone());
        }
        let (name, url) = (self.lane.epoch(undone.epoch), &self.io.url);
        let found = self.io.get(&name).await?;
        let body = found.and_then(|(bytes, _)| serde_json::from_slice::<Body>(&bytes).ok());
        let is_it = |body: &Body| (&body.plan, &body.intents) == (&undone.plan, &undone.intents);
        body.filter(is_it).ok_or_else(|| {
            Stop::damaged(
                url,
                &format!("{name} does not hold the epoch that head.json calls undone"),
            )
        })
    }

    /// The plan that a body was decided under.
    pub(super) async fn plan_of(&self, body: &Body) -> Result<serde_json::Value, Stop> {
        if body.plan != self.plan.digest {
            return self.plan(&body.plan).await;
        }
        let damaged = |e: serde_json::Error| Stop::damaged(&self.io.url, &e.to_string());
        serde_json::from_slice(&self.plan.bytes).map_err(damaged)
    }

    /// Sinks of our plan must hold exactly what the head says. They are asked for the epoch after it: some look only for the
    /// epoch of the intent and the one before. `next` is that epoch.
    async fn check_standing(
        &self,
        next: &Body,
        (sinks, opened): (&mut dyn OpenSinks, &mut Opened),
    ) -> Result<(), Stop> {
        if mistaken!(SinksNotAsked) {
            return Ok(());
        }
        let plan = self.plan_of(next).await?;
        let is_kept = |entry: &SinkEntry| self.head.body.sink_name(&entry.identity).is_some();
        for (name, entry) in next.sinks.iter().filter(|(_, entry)| is_kept(entry)) {
            let intent = Intent {
                sink: entry.identity.clone(),
                epoch: next.epoch,
                prev: entry.prev,
                body: serde_json::Value::Null,
                apart: None,
            };
            let sink = open_once((&mut *sinks, &mut *opened), next, (name, &plan)).await?;
            self.judge((&self.io, name), sink, &intent, standing)
                .await?;
        }
        Ok(())
    }

    /// Asks a sink and decides: `Done` or `Apply`, everything else stops.
    async fn judge(
        &self,
        (io, name): (&Io, &NodeName),
        sink: &mut Box<dyn Sink>,
        intent: &Intent,
        decide: impl Fn(&Intent, Marker) -> RollForward,
    ) -> Result<RollForward, Stop> {
        let head = self.head.body.epoch;
        let mut held = ask(io, name, sink, intent).await?;
        if mistaken!(NoMarkerTakenAsNothing) {
            held = held.or(intent.prev);
        }
        let mut decision = decide(
            intent,
            Marker {
                held,
                head,
                fresh: false,
            },
        );
        if decision == RollForward::ReadHead {
            let now = self.read_epoch().await?;
            decision = after_reading_head(
                intent,
                head,
                Marker {
                    held,
                    head: now,
                    fresh: true,
                },
            );
        }
        let holds = held.map_or("nothing".to_owned(), |e| format!("epoch {e}"));
        let url = &self.io.url;
        match decision {
            RollForward::Done | RollForward::Apply => Ok(decision),
            RollForward::Zombie => Err(Stop::fenced(url, "higher than ours", "that is newer")),
            RollForward::CheckpointBehindSink | RollForward::ReadHead => Err(Stop::stalled(
                reason::CHECKPOINT_BEHIND_SINK,
                format!(
                    "sink {name} holds {holds}, and {url} ends at epoch {head}: the checkpoint was rolled back; restore its \
                     newest objects"
                ),
            )),
            RollForward::SinkHistoryLost => Err(Stop::stalled(
                reason::SINK_HISTORY_LOST,
                format!(
                    "sink {name} holds {holds}, and epoch {} was applied to it: restore the target, or give the sink a new one",
                    intent.prev.unwrap_or(intent.epoch)
                ),
            )),
            RollForward::Contradiction => Err(Stop::damaged(
                url,
                &format!(
                    "sink {name} holds {holds}, which had nothing for it before epoch {}",
                    intent.epoch
                ),
            )),
        }
    }

    async fn read_epoch(&self) -> Result<Epoch, Stop> {
        let (name, url) = (self.lane.head(), &self.io.url);
        match parse_head(self.io.get(&name).await?.as_ref()) {
            None => Err(Stop::damaged(url, "head.json is gone")),
            Some(Err(e)) => Err(Stop::unreadable(url, &name, &e)),
            Some(Ok(head)) => Ok(head.body.epoch),
        }
    }

    /// What each sink is still to do, up to an epoch.
    fn work<'a>(&self, until: Epoch, sinks: &'a mut Sinks) -> Result<Vec<Work<'a>>, Stop> {
        let mut by_sink: BTreeMap<&SinkIdentity, Vec<Intent>> = BTreeMap::new();
        for intent in self
            .rolling
            .undone
            .iter()
            .filter(|u| u.epoch <= until)
            .flat_map(|u| &u.intents)
        {
            if !self.rolling.holds(intent) {
                by_sink
                    .entry(&intent.sink)
                    .or_default()
                    .push(intent.clone());
            }
        }
        let mut work = Vec::new();
        for (name, sink) in sinks {
            let identity = self.head.body.sinks.get(name).map(|e| &e.identity);
            if let Some(intents) = identity.and_then(|i| by_sink.remove(i)) {
                work.push(Work {
                    name: name.clone(),
                    sink,
                    intents,
                });
            }
        }
        match by_sink.into_values().next() {
            None => Ok(work),
            Some(intents) => Err(Stop::stalled(
                reason::UNDONE_INTENT_OF_REMOVED_SINK,
                format!(
                    "epoch {} is decided and not yet applied to a sink that the plan no longer has: put the sink back until \
                     it is applied",
                    intents[0].epoch
                ),
            )),
        }
    }

    fn note(&mut self, outcomes: Vec<Outcome>) -> Result<BTreeMap<NodeName, Applied>, Stop> {
        let (mut applied, mut stopped) = (BTreeMap::new(), None);
        for Outcome {
            name,
            held,
            last,
            stop,
        } in outcomes
        {
            for (sink, epoch) in &held {
                self.rolling.note(sink, *epoch);
            }
            applied.insert(name, last);
            stopped = stopped.or(stop);
        }
        stopped.map_or(Ok(applied), Err)
    }
}

/// `stopped` ends the waiting of the other sinks, and then ours.
async fn apply_one(
    io: &Io,
    permit: &CommitPermit,
    work: Work<'_>,
    stopped: &CancellationToken,
) -> Outcome {
    let Work {
        name,
        sink,
        intents,
    } = work;
    let mut outcome = Outcome {
        name,
        held: Vec::new(),
        last: Applied::default(),
        stop: None,
    };
    let crash = io.crash.of_sink(&outcome.name);
    for intent in intents {
        let mut backoff = Backoff::new(outcome.name.as_str());
        let result = loop {
            match sink.apply(&intent, permit).await {
                Err(SinkError::Unavailable { .. }) if mistaken!(ErrorTakenAsDone) => {
                    break Ok(Applied::default());
                }
                Err(SinkError::Unavailable { reason, message }) if io.tries_again(&backoff) => {
                    tokio::select! {
                        biased;
                        () = stopped.cancelled() => return outcome,
                        () = backoff.wait(io, reason, &message) => {}
                    }
                }
                result => break result,
            }
        };
        match result {
            Err(e) => {
                stopped.cancel();
                outcome.stop = Some(e.into());
                return outcome;
            }
            Ok(applied) => {
                backoff.done(io);
                crash.hit(Step::CommitAck, Moment::Before);
                outcome.last = applied;
                outcome.held.push((intent.sink, intent.epoch));
                crash.hit(Step::CommitAck, Moment::After);
            }
        }
    }
    outcome
}

async fn ask(
    io: &Io,
    name: &NodeName,
    sink: &mut Box<dyn Sink>,
    intent: &Intent,
) -> Result<Option<Epoch>, Stop> {
    let crash = io.crash.of_sink(name);
    crash.hit(Step::Probe, Moment::Before);
    let mut backoff = Backoff::new(name.as_str());
    loop {
        match sink.probe(intent).await {
            Err(SinkError::Unavailable { reason, message }) if io.tries_again(&backoff) => {
                backoff.wait(io, reason, &message).await;
            }
            Err(e) => return Err(e.into()),
            Ok(held) => {
                backoff.done(io);
                crash.hit(Step::Probe, Moment::After);
                return Ok(held);
            }
        }
    }
}

async fn open_once<'a>(
    (sinks, opened): (&mut dyn OpenSinks, &'a mut Opened),
    body: &Body,
    (name, plan): (&NodeName, &serde_json::Value),
) -> Result<&'a mut Box<dyn Sink>, Stop> {
    let missing = || {
        Stop::stalled(
            reason::CHECKPOINT_DAMAGED,
            format!(
                "the plan of epoch {} has no sink {name}, and the epoch does",
                body.epoch
            ),
        )
    };
    let identity = &body.sinks.get(name).ok_or_else(missing)?.identity;
    Ok(match opened.entry((body.plan.clone(), identity.clone())) {
        Entry::Occupied(there) => there.into_mut(),
        Entry::Vacant(free) => {
            free.insert(sinks.open(body, plan, name).await?.ok_or_else(missing)?)
        }
    })
}

fn out_of_reach((body, intent): (&Body, &Intent), stop: &Stop) -> Stop {
    let name = body
        .sink_name(&intent.sink)
        .map_or("of an unknown name", NodeName::as_str);
    Stop::stalled(
        reason::UNDONE_INTENT_OF_REMOVED_SINK,
        format!(
            "epoch {} is decided and not yet applied to sink {name}, which the plan no longer has at that target: {}; make the \
             old target reachable, or put the sink back until it is applied ({})",
            intent.epoch, stop.message, stop.reason
        ),
    )
}
