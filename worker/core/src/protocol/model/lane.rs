//! The head and the epochs of a lane that is ours: the order of requests of the worker's `checkpointer/{decide,swap,sweep}.rs`
//! and `runtime/epoch.rs`.

use super::bodies::{LETTERS, Make, has_rows, plan_digest};
use super::bounds::LAST;
use super::bugs::Bug;
use super::heads::HeadId;
use super::process::{At, Choice, Flow, Process, Step, Try, Turn, Why};
use super::search::Model;
use super::world::{Files, Late, Stop, Stored};
use crate::protocol::decide::{Attempt, ReadBack, read_back};
use crate::protocol::head::MAX_UNDONE;

impl Model {
    /// `Runtime::epoch`: an epoch's sinks are applied to, garbage is swept, then comes the next epoch or a record of the last.
    pub(super) fn open_choices(&self, me: &Process) -> Vec<Choice> {
        let head = self.heads.get(me.lane.head);
        let waiting = self.heads.waiting(me.lane.rolling);
        let gold = |id: &u16| self.heads.intent(*id).gold;
        let (for_gold, for_letters) = (
            waiting.work.iter().any(gold),
            !waiting.work.iter().all(gold),
        );
        let mut choices = Vec::new();
        choices.extend(for_gold.then_some(Choice::Apply(true)));
        choices.extend(for_letters.then_some(Choice::Apply(false)));
        if choices.is_empty() && !me.lane.swept {
            return vec![Choice::Sweep];
        }
        // `Checkpointer::check`
        let same_plan = plan_digest(me.plan) == head.head.body.plan;
        let undone = waiting.rolling.undone.len();
        let ahead = self.bounds.ahead && same_plan;
        let early = ahead || self.bug == Some(Bug::NewPlanBeforeRollForward);
        let idle = choices.is_empty();
        if head.epoch < LAST && (idle || (early && undone < MAX_UNDONE)) {
            choices.push(Choice::Next);
        }
        if idle && me.lane.rolling != head.rolling {
            choices.push(Choice::Record);
        }
        choices
    }
}

impl Turn<'_> {
    pub(super) fn open(&mut self) -> Step {
        match self.choice {
            Choice::Apply(gold) => self.begin_apply(gold),
            Choice::Sweep => Ok(Flow::Go(self.list())),
            Choice::Record => Ok(Flow::Go(self.record())),
            _ => self.stage(),
        }
    }

    /// `Runtime::commit` up to the decision: rows and state are staged.
    fn stage(&mut self) -> Step {
        let head = self.model.heads.get(self.me.lane.head);
        let (epoch, by) = (head.epoch + 1, self.me.id);
        self.world.files = self.world.files.and(Files::staged(epoch, by));
        if has_rows(LETTERS, epoch) {
            self.world.folder.stage(epoch, by);
        }
        if self.has(Bug::ApplyBeforeDecide) {
            let to = self.decided();
            for id in self.model.heads.get(to).intents.clone() {
                if self.model.heads.intent(id).gold {
                    let version = self.world.table.version();
                    self.world.commit(&self.model.heads, version, id)?;
                }
            }
        }
        Ok(Flow::Go(self.before_decide()))
    }

    /// `Checkpointer::write_plan` and `write_history`, then the swap.
    fn before_decide(&mut self) -> At {
        let head = self.model.heads.get(self.me.lane.head);
        if !self.has(Bug::PlanNotKept) {
            self.world.plans[usize::from(self.me.plan)] = true;
        }
        if !self.has(Bug::HistoryLeftOut) {
            self.world.history[usize::from(head.epoch)] = Some(head.body);
        }
        self.swap_for(self.decided(), Why::Decide)
    }

    fn decided(&self) -> HeadId {
        let make = Make::Decided {
            by: self.me.id,
            from: self.me.lane.head,
            rolling: self.me.lane.rolling,
        };
        self.model.heads.make(make, self.me.plan)
    }

    /// `Checkpointer::record_quietly`.
    fn record(&mut self) -> At {
        let make = Make::Recorded {
            by: self.me.id,
            from: self.me.lane.head,
            rolling: self.me.lane.rolling,
        };
        let to = self.model.heads.make(make, self.me.plan);
        self.swap_for(to, Why::Record)
    }

    fn swap_for(&self, to: HeadId, why: Why) -> At {
        At::Swap {
            on: Some(self.known()),
            to,
            why,
            attempt: Try::Write,
        }
    }

    fn known(&self) -> Stored {
        Stored {
            head: self.me.lane.head,
            restored: self.me.lane.restored,
        }
    }

    /// `Io::put_once`: the write.
    pub(super) fn swap(&mut self, on: Option<Stored>, to: HeadId, why: Why) -> Step {
        let heads = &self.model.heads;
        let mut won = false;
        if self.has(Bug::SwapWithoutETag) && why != Why::Create {
            self.world.put_head(heads, to)?;
            won = true;
        } else if self.takes_effect() {
            won = self.world.swap(heads, on, to)?;
        } else if self.choice == Choice::Late {
            self.give_up(Late::Head { to, on });
        }
        if (won && self.choice == Choice::Go) || (!won && self.has(Bug::ExistsTakenAsWon)) {
            return Ok(Flow::Go(self.won(to, why)));
        }
        Ok(Flow::Go(At::Swap {
            on,
            to,
            why,
            attempt: Try::Look,
        }))
    }

    /// `Io::put_once` after a doubt, and what `Checkpointer::swap` makes of it.
    pub(super) fn swap_in_doubt(&mut self, on: Option<Stored>, to: HeadId, why: Why) -> Flow {
        let found = self.world.head;
        let again = At::Swap {
            on,
            to,
            why,
            attempt: Try::Write,
        };
        if on.is_none() && found.is_none() {
            return Flow::Go(again);
        }
        let starting = matches!(why, Why::Create | Why::TakeOver { .. });
        match self.read_back(on, to) {
            ReadBack::Won => Flow::Go(self.won(to, why)),
            ReadBack::TryAgain => Flow::Go(again),
            // `Start::write_head`: somebody else was faster.
            _ if starting => Flow::Go(super::process::START),
            ReadBack::Fenced { .. } if self.has(Bug::ZombieUnfenced) => Flow::Go(At::Swap {
                on: found,
                to,
                why,
                attempt: Try::Write,
            }),
            ReadBack::Fenced { .. } => Flow::Stop(Stop::Fenced),
            ReadBack::Behind(_) if self.has(Bug::OlderHeadOverwritten) => Flow::Go(At::Swap {
                on: found,
                to,
                why,
                attempt: Try::Write,
            }),
            ReadBack::Behind(_) => Flow::Stop(Stop::Behind),
            ReadBack::Newer(_) => Flow::Stop(Stop::Other),
            ReadBack::Damaged(_) => Flow::Stop(Stop::Damaged),
        }
    }

    fn read_back(&self, on: Option<Stored>, to: HeadId) -> ReadBack {
        let found = self.world.head.map(|s| self.model.heads.get(s.head));
        let ours = self.model.heads.get(to);
        let known = self.model.heads.get(on.map_or(to, |s| s.head));
        let nonce = match self.has(Bug::OwnWriteNotKnown) {
            true => "a nonce of the retry's own",
            false => &ours.head.write,
        };
        let attempt = Attempt {
            nonce,
            term: known.head.owner.term,
            born: known.head.body.born(),
            epoch: known.head.body.epoch,
            unchanged: self.world.head == on,
        };
        read_back(attempt, found.as_ref().map(|card| Ok(&card.head)))
    }

    fn won(&mut self, to: HeadId, why: Why) -> At {
        let lane = &mut self.me.lane;
        match why {
            Why::Create => {
                self.owned(to);
                At::Bear(Try::Write)
            }
            Why::TakeOver { born } => {
                self.owned(to);
                match born || self.has(Bug::BornLeftOut) {
                    true => At::Restore,
                    false => At::Bear(Try::Write),
                }
            }
            Why::Decide => {
                let head = self.model.heads.get(to);
                lane.head = to;
                lane.restored = false;
                lane.rolling = head.rolling;
                lane.swept = false;
                if self.has(Bug::RecordBeforeApply) {
                    for intent in &head.intents {
                        self.me.lane.rolling = self.model.heads.note(self.me.lane.rolling, *intent);
                    }
                    return self.record();
                }
                At::Open
            }
            Why::Record => {
                lane.head = to;
                lane.restored = false;
                At::Open
            }
        }
    }

    /// `Checkpointer::sweep_folders`: what is listed, and what of it is garbage.
    fn list(&mut self) -> At {
        let head = self.model.heads.get(self.me.lane.head);
        let named = match self.has(Bug::NamesIgnored) {
            true => Files::default(),
            false => head.files,
        };
        let undone = self.model.heads.waiting(self.me.lane.rolling).oldest;
        let garbage = self.world.garbage(head.epoch, undone, named);
        self.me.lane.swept = true;
        match garbage.is_empty() {
            true => At::Open,
            false => At::Delete { garbage },
        }
    }

    pub(super) fn delete(&mut self, garbage: Files) -> Flow {
        self.world.files = self.world.files.without(garbage);
        Flow::Go(At::Open)
    }
}
