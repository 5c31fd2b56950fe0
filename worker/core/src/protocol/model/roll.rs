//! Asking sinks and applying to them: the order of requests of the worker's `checkpointer/roll.rs`, `sink/delta/apply.rs` and
//! `sink/files.rs`.

use super::bugs::Bug;
use super::heads::{IntentCard, IntentId};
use super::process::{At, Choice, Flow, Phase, Step, Turn};
use super::world::{Late, Stop, ensure};
use crate::position::Epoch;
use crate::protocol::decide::{Marker, RollForward, after_reading_head, roll_forward, standing};

/// What a target answers to `Sink::probe`; `Err`: it holds an epoch of ours with other content.
type Held = Result<Option<u8>, Stop>;

impl Turn<'_> {
    /// What is asked after a start, in the order of `Checkpointer::roll_forward`: what is undone, then every sink of the head.
    /// `None`: all is asked. `true`: it is undone.
    fn asked(&self, nth: u8) -> Option<(IntentId, bool)> {
        let head = self.model.heads.get(self.me.lane.head);
        let waiting = self.model.heads.waiting(head.rolling);
        let of = |gold: bool| {
            let is = move |id: &&IntentId| self.model.heads.intent(**id).gold == gold;
            waiting.work.iter().filter(is)
        };
        let undone = of(true).chain(of(false)).map(|id| (*id, true));
        let standing = head.standing.iter().map(|id| (*id, false));
        undone.chain(standing).nth(usize::from(nth))
    }

    /// `Checkpointer::work`: every intent that waits must be of a sink that the head still has.
    fn has_removed(&self) -> bool {
        let head = self.model.heads.get(self.me.lane.head);
        let waiting = self.model.heads.waiting(self.me.lane.rolling);
        let removed = |id: &IntentId| {
            let sink = &self.model.heads.intent(*id).intent.sink;
            head.head.body.sink_name(sink).is_none()
        };
        waiting.work.iter().any(removed)
    }

    /// `Checkpointer::judge`: asks, and decides.
    pub(super) fn ask(&mut self, nth: u8) -> Step {
        if nth == 0 && self.has_removed() {
            return Ok(Flow::Stop(Stop::RemovedSink));
        }
        if nth == 0 && self.has(Bug::NewPlanBeforeRollForward) {
            return Ok(Flow::Go(At::Open));
        }
        let Some((id, undone)) = self.asked(nth) else {
            return Ok(Flow::Go(At::Open));
        };
        if self.has(Bug::SinksNotAsked) && !undone {
            return self.ask(nth + 1);
        }
        let card = self.model.heads.intent(id);
        let held = match self.probe(&card) {
            Ok(held) => held,
            Err(stop) => return Ok(Flow::Stop(stop)),
        };
        let head = self.model.heads.get(self.me.lane.head).head.body.epoch;
        let decide = if undone { roll_forward } else { standing };
        let marker = Marker {
            held: held.map(epoch),
            head,
            fresh: self.has(Bug::HeadNotReadAgain),
        };
        let decision = match decide(&card.intent, marker) {
            RollForward::ReadHead => return Ok(Flow::Go(At::AskHead { nth, held })),
            RollForward::SinkHistoryLost
                if held.is_none() && self.has(Bug::NoMarkerTakenAsNothing) =>
            {
                RollForward::Apply
            }
            decision => decision,
        };
        self.judged(nth, decision)
    }

    /// `Checkpointer::read_epoch`, and the decision after it.
    pub(super) fn ask_head(&mut self, nth: u8, held: Option<u8>) -> Step {
        let (Some(stored), Some((id, _))) = (self.world.head, self.asked(nth)) else {
            return Ok(Flow::Stop(Stop::Damaged));
        };
        let known = self.model.heads.get(self.me.lane.head).head.body.epoch;
        let marker = Marker {
            held: held.map(epoch),
            head: self.model.heads.get(stored.head).head.body.epoch,
            fresh: true,
        };
        let card = self.model.heads.intent(id);
        self.judged(nth, after_reading_head(&card.intent, known, marker))
    }

    fn judged(&mut self, nth: u8, decision: RollForward) -> Step {
        let next = At::Ask { nth: nth + 1 };
        let asked = self.asked(nth);
        Ok(match (decision, asked) {
            (RollForward::Apply, Some((intent, true))) => Flow::Go(At::Apply {
                intent,
                phase: Phase::Look,
                rolling: Some(nth),
            }),
            (RollForward::Done, Some((intent, true))) => {
                self.note(intent);
                Flow::Go(next)
            }
            // Each sink is judged for itself: those that wait for nothing are asked in one step.
            (RollForward::Done | RollForward::Apply, _) => return self.ask(nth + 1),
            (RollForward::Zombie, _) => Flow::Stop(Stop::Fenced),
            (RollForward::CheckpointBehindSink | RollForward::ReadHead, _) => {
                Flow::Stop(Stop::BehindSink)
            }
            (RollForward::SinkHistoryLost, _) => Flow::Stop(Stop::HistoryLost),
            (RollForward::Contradiction, _) => Flow::Stop(Stop::Damaged),
        })
    }

    fn note(&mut self, intent: IntentId) {
        self.me.lane.rolling = self.model.heads.note(self.me.lane.rolling, intent);
    }

    /// `Sink::probe` of both targets.
    fn probe(&self, card: &IntentCard) -> Held {
        if card.gold {
            return Ok(self.world.table.marker(card.sink));
        }
        let folder = &self.world.folder;
        match folder.marker(card.sink, card.epoch) {
            Some(writer) if card.writer.is_none_or(|ours| ours == writer) => Ok(Some(card.epoch)),
            Some(_) => Err(Stop::BehindSink),
            None => Ok(card.prev.filter(|prev| folder.is_marked(card.sink, *prev))),
        }
    }

    /// `Checkpointer::apply`: the oldest intent of a sink; the epochs of one sink strictly in order.
    pub(super) fn begin_apply(&mut self, gold: bool) -> Step {
        if self.has_removed() {
            return Ok(Flow::Stop(Stop::RemovedSink));
        }
        let waiting = self.model.heads.waiting(self.me.lane.rolling);
        let of = |id: &&IntentId| self.model.heads.intent(**id).gold == gold;
        let work = waiting.work.iter().filter(of);
        let intent = match self.has(Bug::NewestFirst) {
            true => work.last(),
            false => work.take(1).last(),
        };
        self.apply(*intent.unwrap(), Phase::Look, None)
    }

    /// One request of `Sink::apply`.
    pub(super) fn apply(&mut self, intent: IntentId, phase: Phase, rolling: Option<u8>) -> Step {
        let card = self.model.heads.intent(intent);
        let next = |phase| {
            Ok(Flow::Go(At::Apply {
                intent,
                phase,
                rolling,
            }))
        };
        match phase {
            Phase::Look if card.gold => match self.look_at_table(&card) {
                Ok(true) => Ok(self.applied(intent, rolling)),
                Ok(false) => next(Phase::Commit {
                    version: self.world.table.version(),
                }),
                Err(stop) => Ok(Flow::Stop(stop)),
            },
            Phase::Look => match self.look_at_folder(&card) {
                Ok(true) => Ok(self.unstage(intent, rolling)),
                Ok(false) => {
                    ensure(
                        card.prev
                            .is_none_or(|p| self.world.folder.is_marked(card.sink, p)),
                        "a folder is written to that does not hold the epoch before",
                    )?;
                    next(match self.has(Bug::MarkerBeforeCopy) {
                        true => Phase::Mark,
                        false => Phase::Copy,
                    })
                }
                Err(stop) => Ok(Flow::Stop(stop)),
            },
            Phase::Commit { version } => match self.commit(version, intent)? {
                true => Ok(self.applied(intent, rolling)),
                false if self.has(Bug::ConflictRebased) => next(Phase::Commit {
                    version: self.world.table.version(),
                }),
                false => next(Phase::Look),
            },
            Phase::Copy => match self.world.publish(&self.model.heads, intent)? {
                true if self.has(Bug::MarkerBeforeCopy) => Ok(self.unstage(intent, rolling)),
                true => next(Phase::Mark),
                false => Ok(Flow::Stop(Stop::StagedFileMissing)),
            },
            Phase::Mark => {
                self.world.mark(&self.model.heads, intent);
                match self.has(Bug::MarkerBeforeCopy) {
                    true => next(Phase::Copy),
                    false => Ok(self.unstage(intent, rolling)),
                }
            }
        }
    }

    fn unstage(&mut self, intent: IntentId, rolling: Option<u8>) -> Flow {
        let card = self.model.heads.intent(intent);
        self.world.folder.unstage(card.epoch, card.writer.unwrap());
        self.applied(intent, rolling)
    }

    /// `sink::delta::apply::standing`: `true`: done.
    fn look_at_table(&self, card: &IntentCard) -> Result<bool, Stop> {
        let held = self.world.table.marker(card.sink);
        // The table does not know the head: whatever it holds is taken for decided.
        let marker = Marker {
            held: held.map(epoch),
            head: Epoch(u64::MAX),
            fresh: true,
        };
        match roll_forward(&card.intent, marker) {
            RollForward::Done => Ok(true),
            RollForward::Apply => Ok(false),
            RollForward::SinkHistoryLost
                if held.is_none() && self.has(Bug::NoMarkerTakenAsNothing) =>
            {
                Ok(false)
            }
            RollForward::SinkHistoryLost => Err(Stop::HistoryLost),
            _ => Err(Stop::BehindSink),
        }
    }

    /// `sink::files::holds`; and, as the protocol demands of every sink, the epoch before is there. `true`: done.
    fn look_at_folder(&self, card: &IntentCard) -> Result<bool, Stop> {
        match self.probe(card)? {
            Some(held) if held == card.epoch => Ok(true),
            held if held == card.prev || self.has(Bug::PrevNotLookedFor) => Ok(false),
            _ => Err(Stop::HistoryLost),
        }
    }

    /// `TableLog::commit`: `false`: in doubt.
    fn commit(&mut self, version: u8, intent: IntentId) -> Result<bool, super::world::Violation> {
        if self.choice == Choice::Late {
            self.give_up(Late::Commit { version, intent });
        }
        let landed =
            self.takes_effect() && self.world.commit(&self.model.heads, version, intent)?;
        Ok(landed && self.choice == Choice::Go)
    }

    fn applied(&mut self, intent: IntentId, rolling: Option<u8>) -> Flow {
        self.note(intent);
        Flow::Go(match rolling {
            Some(nth) => At::Ask { nth: nth + 1 },
            None => At::Open,
        })
    }
}

fn epoch(number: u8) -> Epoch {
    Epoch(u64::from(number))
}
