//! From every world that is reached, a fresh pod runs alone and without a fault: it must come to the end, or name the damage.

use super::bounds::LAST;
use super::search::Model;
use super::targets::Held;
use super::world::{Stop, Violation, World, ensure};

/// Steps within which a pod that runs alone comes to an end: a start has about 15, an epoch about 15.
const ALONE: usize = 200;

/// How a pod that runs alone ends.
pub(super) enum Ended {
    Finished(World),
    Stopped(Stop),
}

impl Model {
    /// Everybody else is gone for good, and nothing fails: what becomes of a new pod?
    pub(super) fn check_alone(&self, world: &World) -> Result<(), Violation> {
        let ended = self.alone(world.clone())?;
        if world.damage.is_some() {
            return self.check_named(world, &ended);
        }
        match ended {
            Ended::Stopped(stop) => Err(Violation::FalseAlarm(stop)),
            Ended::Finished(world) => self.check_finished(&world),
        }
    }

    fn alone(&self, mut world: World) -> Result<Ended, Violation> {
        let mut me = self.begin(&mut world, None, self.bounds.plans - 1);
        for _ in 0..ALONE {
            let choices = self.choices(&world, &me);
            let Some(choice) = choices.first() else {
                return Ok(Ended::Finished(world));
            };
            if let Some(stop) = self.turn(&mut world, &mut me, *choice)? {
                return Ok(Ended::Stopped(stop));
            }
            world.check(&self.heads)?;
        }
        Err(Violation::Stuck(format!("{:?}", me.at)))
    }

    /// Every decided epoch is on all its sinks, as its decider staged it, and the head says so.
    fn check_finished(&self, world: &World) -> Result<(), Violation> {
        let last = world.head.map(|s| self.heads.get(s.head));
        let recorded = last.is_some_and(|card| {
            card.epoch == LAST && self.heads.waiting(card.rolling).work.is_empty()
        });
        ensure(recorded, "the last epoch is not recorded as applied")?;
        for head in world.decided.iter().flatten() {
            for id in &self.heads.get(*head).intents {
                let card = self.heads.intent(*id);
                let is = |held: &&Held| {
                    (held.sink, held.epoch, Some(held.writer))
                        == (card.sink, card.epoch, card.writer)
                };
                let shown = world.table.commits.iter().chain(&world.folder.files);
                ensure(
                    shown.filter(is).count() == 1,
                    "a decided epoch is lost: its sink does not show it",
                )?;
            }
        }
        Ok(())
    }
}
