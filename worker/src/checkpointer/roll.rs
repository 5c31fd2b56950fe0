//! Rolling decided epochs forward: sinks in parallel, the epochs of one sink in order.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use evp_api::reason;
use evp_core::position::Epoch;
use evp_core::protocol::decide::{Marker, RollForward, after_reading_head, roll_forward, standing};
use evp_core::protocol::head::{Intent, SinkIdentity};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::crash::{Moment, Step};
use super::io::{Backoff, Io};
use super::stop::Stop;
use super::swap::parse_head;
use super::{Checkpointer, CommitPermit};
use crate::sink::{Applied, Sink, SinkError};

/// Sinks by name.
pub type Sinks = BTreeMap<NodeName, Box<dyn Sink>>;

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
        let work = self.work(permit.epoch, sinks)?;
        let (io, stopped) = (&self.io, CancellationToken::new());
        let each = work
            .into_iter()
            .map(|w| apply_one(io, &permit, w, &stopped));
        let outcomes = join_all(each).await;
        let applied = self.note(outcomes)?;
        self.sweep().await;
        Ok(applied)
    }

    /// After a start: asks every sink what it holds, rolls forward what is undone, and refuses to go on where head and sink
    /// contradict each other. `sinks` are those of the newest body, opened under the plan that decided it, and for undone
    /// epochs of sinks that were removed since, their old targets under the old name.
    pub async fn roll_forward(&mut self, sinks: &mut Sinks) -> Result<(), Stop> {
        let permit = CommitPermit {
            epoch: self.head.body.epoch,
        };
        for work in self.work(permit.epoch, sinks)? {
            let Work {
                name,
                sink,
                intents,
            } = work;
            for intent in intents {
                if self.judge(&name, sink, &intent, roll_forward).await? == RollForward::Apply {
                    let work = Work {
                        name: name.clone(),
                        sink,
                        intents: vec![intent.clone()],
                    };
                    let stopped = CancellationToken::new();
                    let outcome = apply_one(&self.io, &permit, work, &stopped).await;
                    self.note(vec![outcome])?;
                }
                self.rolling.note(&intent.sink, intent.epoch);
            }
        }
        self.check_standing(sinks).await?;
        self.asked = true;
        Ok(())
    }

    /// Sinks must hold exactly what the head says. They are asked for the epoch after it: some look only for the epoch of the
    /// intent and the one before.
    async fn check_standing(&self, sinks: &mut Sinks) -> Result<(), Stop> {
        for (name, entry) in &self.head.body.sinks {
            let Some(sink) = sinks.get_mut(name) else {
                continue;
            };
            let epoch = self.head.body.epoch.next();
            let body = serde_json::Value::Null;
            let intent = Intent {
                sink: entry.identity.clone(),
                epoch,
                prev: entry.prev,
                body,
            };
            self.judge(name, sink, &intent, standing).await?;
        }
        Ok(())
    }

    /// Asks a sink and decides: `Done` or `Apply`, everything else stops.
    async fn judge(
        &self,
        name: &NodeName,
        sink: &mut Box<dyn Sink>,
        intent: &Intent,
        decide: impl Fn(&Intent, Marker) -> RollForward,
    ) -> Result<RollForward, Stop> {
        let head = self.head.body.epoch;
        let held = ask(&self.io, name, sink, intent).await?;
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
                Err(SinkError::Unavailable { reason, message }) => {
                    tokio::select! {
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
            Err(SinkError::Unavailable { reason, message }) => {
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
