//! How a process comes to own the lane: the order of requests of the worker's `checkpointer/start.rs` and `runtime/start.rs`.

use super::bodies::{Make, checkpoint_id, incarnation, plan_digest, pod_name, resource_uid};
use super::bugs::Bug;
use super::process::{At, Flow, Lane, Objects, START, Step, Try, Turn, Why};
use super::world::{Life, Path, Stop, Stored, Violation};
use crate::position::Epoch;
use crate::protocol::decide::{self, Attempt, Facts, Fingerprints, Identity, ReadBack, Refusal};
use crate::protocol::head::{Born, FORMAT, OwnerFile};

/// Objects of a checkpoint.
#[derive(Clone, Copy)]
enum Object {
    Owner,
    Head,
    Born,
}

/// In the reverse order of creation.
const READ_ORDER: [Object; 3] = [Object::Born, Object::Head, Object::Owner];

impl Turn<'_> {
    /// `Start::read`: one object, and `Start::decide` after the last.
    pub(super) fn read(&mut self, nth: u8, mut found: Objects) -> Flow {
        match READ_ORDER[usize::from(nth)] {
            Object::Owner => found.owner = self.world.owner,
            Object::Head => found.head = self.world.head,
            Object::Born => found.born = self.world.born,
        }
        if nth < 2 {
            return Flow::Go(At::Read {
                nth: nth + 1,
                found,
            });
        }
        self.decide_start(found)
    }

    /// `Checkpointer::start`, one round.
    fn decide_start(&mut self, found: Objects) -> Flow {
        match self.startup(found) {
            decide::Startup::Refuse(Refusal::Damaged(_))
                if !self.me.doubted && !self.has(Bug::NoSecondLook) =>
            {
                self.me.doubted = true;
                Flow::Go(START)
            }
            decide::Startup::Refuse(refusal) => Flow::Stop(match refusal {
                Refusal::Fenced { .. } => Stop::Fenced,
                Refusal::Damaged(_) => Stop::Damaged,
                Refusal::Behind { .. } => Stop::Behind,
                Refusal::Owned { .. } => Stop::Owned,
                Refusal::StateIncompatible(_)
                | Refusal::NonceBehind { .. }
                | Refusal::Newer(..) => Stop::Other,
            }),
            decide::Startup::NewStart { .. } => Flow::Go(match found.owner {
                // `Start::claim`
                Some(Path { checkpoint, .. }) => At::FirstPlan { checkpoint },
                None => At::Claim(Try::Write),
            }),
            decide::Startup::Resume { born } => self.resume(found, born),
            decide::Startup::Adopt => match found.owner {
                Some(on) => Flow::Go(At::Adopt {
                    on,
                    attempt: Try::Write,
                }),
                None => Flow::Stop(Stop::Other),
            },
        }
    }

    fn startup(&self, found: Objects) -> decide::Startup {
        let owner = found.owner.map(|path| OwnerFile {
            format: FORMAT,
            write: String::new(),
            checkpoint: checkpoint_id(path.checkpoint),
            namespace_uid: resource_uid(path.resource),
            name: "orders".into(),
            uid: resource_uid(path.resource),
        });
        let ours = resource_uid(self.resource());
        let me = Identity {
            name: "orders".into(),
            uid: ours.clone(),
            namespace_uid: ours,
            pod: pod_name(self.me.pod),
        };
        let first = resource_uid(0);
        let seen = self.me.seen.filter(|_| !self.has(Bug::SeenIgnored));
        let head = found.head.map(|stored| self.model.heads.get(stored.head));
        let born = found.born.map(born);
        decide::startup(Facts {
            owner: owner.as_ref().map(Ok),
            head: head.as_ref().map(|card| Ok(&card.head)),
            born: born.as_ref().map(Ok),
            me: &me,
            seen: seen.map(|e| Epoch(u64::from(e))),
            adopt_from: (self.resource() > 0).then_some(first.as_str()),
            reset_nonce: 0,
            fingerprints: &Fingerprints::new(),
        })
    }

    /// `Start::resume` and `Start::take_over`.
    fn resume(&mut self, found: Objects, born: bool) -> Flow {
        let (Some(stored), Some(_)) = (found.head, found.owner) else {
            return Flow::Stop(Stop::Damaged);
        };
        let make = Make::Taken {
            by: self.me.id,
            pod: self.me.pod,
            from: stored.head,
        };
        let plan = self.me.plan;
        Flow::Go(At::Swap {
            on: Some(stored),
            to: self.model.heads.make(make, plan),
            why: Why::TakeOver { born },
            attempt: Try::Write,
        })
    }

    /// Which resource the process is of.
    fn resource(&self) -> u8 {
        self.me.plan.min(self.model.bounds.resources - 1)
    }

    /// `Start::adopt`, by `Io::put_once`; then the start begins anew.
    pub(super) fn adopt(&mut self, on: Path, attempt: Try) -> Flow {
        let ours = Path {
            checkpoint: match self.has(Bug::AdoptionMintsAnId) {
                true => self.me.id,
                false => on.checkpoint,
            },
            resource: self.resource(),
            by: self.me.id,
        };
        let unchanged = self.world.owner == Some(on);
        let again = |attempt| Flow::Go(At::Adopt { on, attempt });
        match attempt {
            Try::Look if unchanged => again(Try::Write),
            Try::Look => Flow::Go(START),
            Try::Write => {
                if unchanged && self.takes_effect() {
                    self.world.owner = Some(ours);
                    if self.choice == super::process::Choice::Go {
                        return Flow::Go(START);
                    }
                }
                again(Try::Look)
            }
        }
    }

    /// `Start::claim`, by `Io::put_once`.
    pub(super) fn claim(&mut self, attempt: Try) -> Flow {
        let ours = self.me.id;
        let path = Path {
            checkpoint: ours,
            resource: self.resource(),
            by: ours,
        };
        if attempt == Try::Look {
            return Flow::Go(match self.world.owner {
                Some(there) if there == path => At::FirstPlan { checkpoint: ours },
                None => At::Claim(Try::Write),
                Some(_) => START,
            });
        }
        let free = self.world.owner.is_none();
        if free && self.takes_effect() {
            self.world.owner = Some(path);
            if self.choice == super::process::Choice::Go {
                return Flow::Go(At::FirstPlan { checkpoint: ours });
            }
        }
        if !free && self.has(Bug::ExistsTakenAsWon) {
            return Flow::Go(At::FirstPlan { checkpoint: ours });
        }
        Flow::Go(At::Claim(Try::Look))
    }

    /// `Start::create`: its plan, then the head of epoch 0.
    pub(super) fn first_plan(&mut self, checkpoint: u8) -> Flow {
        self.world.plans[usize::from(self.me.plan)] = true;
        if self.has(Bug::BornBeforeHead) {
            self.world.born.get_or_insert(Life {
                checkpoint,
                incarnation: self.me.id,
            });
        }
        let make = Make::First {
            by: self.me.id,
            pod: self.me.pod,
            checkpoint,
        };
        Flow::Go(At::Swap {
            on: None,
            to: self.model.heads.make(make, self.me.plan),
            why: Why::Create,
            attempt: Try::Write,
        })
    }

    /// The lane is ours: what the checkpointer begins with (`Start::finish`).
    pub(super) fn owned(&mut self, to: u16) {
        self.me.lane = Lane {
            head: to,
            restored: false,
            rolling: self.model.heads.get(to).rolling,
            swept: true,
        };
        self.me.seen = None;
        self.me.new = false;
        self.me.doubted = false;
    }

    /// `Start::bear`, by `Io::put_once`.
    pub(super) fn bear(&mut self, attempt: Try) -> Flow {
        let head = self.model.heads.get(self.me.lane.head);
        let ours = Life::of(&head.head);
        if attempt == Try::Look {
            return match self.world.born {
                Some(life) if life == ours => Flow::Go(At::Restore),
                Some(_) => Flow::Stop(Stop::Damaged),
                None => Flow::Go(At::Bear(Try::Write)),
            };
        }
        if self.world.born.is_none() && self.takes_effect() {
            self.world.born = Some(ours);
            if self.choice == super::process::Choice::Go {
                return Flow::Go(At::Restore);
            }
        }
        Flow::Go(At::Bear(Try::Look))
    }

    /// The runtime's `restore`, and its `old_plan`, and what follows: one step, they read different places. A file that is
    /// gone may have been collected by a newer owner: the head tells.
    pub(super) fn restore(&mut self) -> Step {
        let head = self.model.heads.get(self.me.lane.head);
        let plan = (0..2).find(|p| plan_digest(*p) == head.head.body.plan);
        let plan = plan.is_some_and(|p| self.world.plans[usize::from(p)]);
        if !plan {
            return Ok(Flow::Stop(Stop::Damaged));
        }
        if !head.files.is_within(self.world.files) {
            return Ok(Flow::Go(At::Gone));
        }
        if head.files != head.expected {
            return Err(Violation::Broken(
                "a start restores the state of another epoch",
            ));
        }
        self.ask(0)
    }

    /// The head is read again because an object that ours names is gone.
    pub(super) fn gone(&mut self) -> Flow {
        if self.has(Bug::CollectedIsDamaged) {
            return Flow::Stop(Stop::Damaged);
        }
        let ours = self.model.heads.get(self.me.lane.head);
        let on = Stored {
            head: self.me.lane.head,
            restored: self.me.lane.restored,
        };
        let there = self.world.head.map(|s| self.model.heads.get(s.head));
        let attempt = Attempt {
            nonce: &ours.head.write,
            term: ours.head.owner.term,
            born: ours.head.body.born(),
            epoch: ours.head.body.epoch,
            unchanged: self.world.head == Some(on),
        };
        Flow::Stop(
            match decide::read_back(attempt, there.as_ref().map(|c| Ok(&c.head))) {
                ReadBack::Fenced { .. } => Stop::Fenced,
                ReadBack::Behind(_) => Stop::Behind,
                _ => Stop::Damaged,
            },
        )
    }
}

fn born(life: Life) -> Born {
    Born {
        format: FORMAT,
        checkpoint: checkpoint_id(life.checkpoint),
        incarnation: incarnation(life.incarnation),
    }
}
