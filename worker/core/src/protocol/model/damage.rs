//! What an outsider may do to a checkpoint or a target, and by which name the protocol must call it.

use super::alone::Ended;
use super::bounds::Bounds;
use super::check;
use super::search::Model;
use super::targets::Table;
use super::world::{Life, Stop, Stored, Violation, World};

/// An outsider's deed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Damage {
    /// `head.json` is removed.
    HeadDeleted,
    /// `head.json` is put back as it was when an earlier epoch was decided.
    HeadRolledBack,
    /// `born.json` is removed.
    BornDeleted,
    /// `owner.json` is removed.
    OwnerDeleted,
    /// The table is emptied.
    TableWiped,
    /// The folder is emptied.
    FolderWiped,
}

impl Model {
    /// The world after the damage; `way` tells ways of the same damage apart. `None`: there is nothing to damage.
    pub(super) fn damaged(&self, world: &World, way: u8) -> Option<World> {
        let mut next = world.clone();
        let damage = self.bounds.damage?;
        if way > 0 && damage != Damage::HeadRolledBack {
            return None;
        }
        let there = match damage {
            Damage::HeadDeleted => next.head.take().is_some(),
            Damage::BornDeleted => next.born.take().is_some(),
            Damage::OwnerDeleted => next.owner.take().is_some(),
            Damage::TableWiped => std::mem::take(&mut next.table) != Table::default(),
            Damage::FolderWiped => {
                next.folder.markers.clear();
                !std::mem::take(&mut next.folder.files).is_empty()
            }
            Damage::HeadRolledBack => {
                let epoch = self.heads.get(next.head?.head).epoch;
                next.head = world.decided[usize::from(way)].map(|head| Stored {
                    head,
                    restored: true,
                });
                way < epoch
            }
        };
        next.damage = Some(damage);
        there.then_some(next)
    }

    /// A fresh pod names the damage, wherever it shows in what is there now.
    pub(super) fn check_named(&self, world: &World, ended: &Ended) -> Result<(), Violation> {
        let (expected, what): (&[Stop], _) = match world.damage {
            Some(Damage::HeadRolledBack) => {
                (&[Stop::Behind, Stop::BehindSink], "the head was put back")
            }
            Some(Damage::TableWiped) => (&[Stop::HistoryLost], "a sink's target was emptied"),
            // What was copied and is not recorded is copied again, and is no longer staged.
            Some(Damage::FolderWiped) => (
                &[Stop::HistoryLost, Stop::StagedFileMissing],
                "a sink's target was emptied",
            ),
            _ => (
                &[Stop::Damaged, Stop::Behind],
                "an object of the checkpoint is gone",
            ),
        };
        match ended {
            Ended::Stopped(stop) if expected.contains(stop) => Ok(()),
            Ended::Stopped(Stop::Damaged) if self.is_collected(world) => Ok(()),
            Ended::Finished(_) if !self.shows(world) => Ok(()),
            Ended::Finished(_) => Err(Violation::Unnoticed(what)),
            Ended::Stopped(stop) => Err(Violation::FalseAlarm(*stop)),
        }
    }

    /// A head that was put back names state that was collected since.
    fn is_collected(&self, world: &World) -> bool {
        let named = world.head.map(|s| self.heads.get(s.head).files);
        world.damage == Some(Damage::HeadRolledBack)
            && named.is_some_and(|files| !files.is_within(world.files))
    }

    /// The damage can be told from what is there: it is neither repaired nor without a consequence.
    fn shows(&self, world: &World) -> bool {
        let head = world.head.map(|s| self.heads.get(s.head));
        let Some(head) = head else {
            return world.born.is_some();
        };
        match world.damage {
            Some(Damage::HeadDeleted) => {
                world.born.is_some_and(|life| life != Life::of(&head.head))
            }
            Some(Damage::BornDeleted) => head.epoch > 0 && world.born.is_none(),
            Some(Damage::OwnerDeleted) => {
                world.owner.map(|path| path.checkpoint) != Some(Life::of(&head.head).checkpoint)
            }
            Some(Damage::HeadRolledBack) => {
                let beyond = |id: &u16| {
                    let sink = self.heads.intent(*id).sink;
                    world.table.marker(sink) > Some(head.epoch)
                };
                let newest = (0_u8..).zip(world.decided).filter(|(_, d)| d.is_some());
                let seen = self.bounds.seen && newest.map(|(e, _)| e).max() > Some(head.epoch);
                seen || head.standing.iter().any(beyond)
            }
            Some(Damage::TableWiped | Damage::FolderWiped) => {
                let work = &self.heads.waiting(head.rolling).work;
                head.standing.iter().any(|id| {
                    let sink = self.heads.intent(*id).sink;
                    let waits = |w: &&u16| self.heads.intent(**w).sink == sink;
                    let next = self.heads.intent(*work.iter().find(waits).unwrap_or(id));
                    let held = match next.gold {
                        true => world.table.marker(sink).is_some(),
                        false => world.folder.markers.iter().any(|m| m.sink == sink),
                    };
                    next.prev.is_some() && !held
                })
            }
            None => false,
        }
    }
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_head_that_is_gone_is_named() {
    check("head deleted", Bounds::damaged(Damage::HeadDeleted, false));
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_head_that_was_put_back_is_named_by_whoever_saw_more() {
    check(
        "head rolled back",
        Bounds::damaged(Damage::HeadRolledBack, true),
    );
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_head_that_was_put_back_is_named_by_the_sinks_when_nobody_remembers() {
    check(
        "head rolled back, nobody saw more",
        Bounds::damaged(Damage::HeadRolledBack, false),
    );
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_born_object_that_is_gone_is_named() {
    check("born deleted", Bounds::damaged(Damage::BornDeleted, false));
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn an_owner_object_that_is_gone_is_named() {
    check(
        "owner deleted",
        Bounds::damaged(Damage::OwnerDeleted, false),
    );
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_table_that_was_emptied_is_named() {
    check("table wiped", Bounds::damaged(Damage::TableWiped, false));
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_folder_that_was_emptied_is_named() {
    check("folder wiped", Bounds::damaged(Damage::FolderWiped, false));
}
