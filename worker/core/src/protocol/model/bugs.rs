//! Defects that are built in on purpose: each must be found, or the model could not find it in production either.

use super::bounds::Bounds;
use super::damage::Damage;
use super::search::Model;

/// One line of the protocol, left out or turned round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bug {
    /// The head is replaced whatever is there.
    SwapWithoutETag,
    /// "Already exists" and "precondition failed" are taken for a success.
    ExistsTakenAsWon,
    /// A retry has a nonce of its own: our own success reads as somebody else's.
    OwnWriteNotKnown,
    /// After a lost swap we write on the new ETag.
    ZombieUnfenced,
    /// A new owner keeps the term.
    TermKept,
    /// A new owner does not remember who lost the lane.
    SupersededForgotten,
    /// The first gap that is seen counts.
    NoSecondLook,
    /// `born.json` is written before epoch 0 is decided.
    BornBeforeHead,
    /// A start that was cut short before `born.json` is resumed without it.
    BornLeftOut,
    /// A path that is taken over gets a checkpoint id of its new owner's.
    AdoptionMintsAnId,
    /// The plan is not kept beside the epochs decided under it.
    PlanNotKept,
    /// The copy of a decided body is not written.
    HistoryLeftOut,
    /// A sink is applied to before the head says so.
    ApplyBeforeDecide,
    /// What is about to be applied is recorded as applied.
    RecordBeforeApply,
    /// An epoch is decided before what is undone is rolled forward.
    NewPlanBeforeRollForward,
    /// Sinks for which nothing is undone are not asked what they hold.
    SinksNotAsked,
    /// A target without a marker is taken for one that was never written to.
    NoMarkerTakenAsNothing,
    /// A sink that holds more than our head is held against the head as we know it.
    HeadNotReadAgain,
    /// Of two undone epochs the newer one is applied first.
    NewestFirst,
    /// After a conflict the same rows are committed on the next version, without a look at the marker.
    ConflictRebased,
    /// A folder's marker is written before the files it speaks of.
    MarkerBeforeCopy,
    /// A folder is asked for the marker of the epoch only, not for the one before it.
    PrevNotLookedFor,
    /// The head does not name the state written for its epoch.
    StateFileLeftOut,
    /// The sweep does not spare what the head names.
    NamesIgnored,
    /// A state file that a newer owner collected is taken for damage.
    CollectedIsDamaged,
    /// An owner that finds an older head writes its own over it.
    OlderHeadOverwritten,
    /// A start takes an older head over than the one that was seen.
    SeenIgnored,
}

/// Each with the bounds within which it shows.
fn all() -> Vec<(Bug, Bounds)> {
    use Bug as B;
    let of_three = |bounds| Bounds {
        starts: 3,
        ..bounds
    };
    let plain = || of_three(Bounds::restarts());
    let change = || of_three(Bounds::change_of_plan());
    let new = Bounds::new_start;
    let wiped = |damage| Bounds::damaged(damage, false);
    vec![
        (B::SwapWithoutETag, plain()),
        (B::ExistsTakenAsWon, new()),
        (B::OwnWriteNotKnown, plain()),
        (B::ZombieUnfenced, plain()),
        (B::TermKept, plain()),
        (B::SupersededForgotten, plain()),
        (B::NoSecondLook, new()),
        (B::BornBeforeHead, new()),
        (B::BornLeftOut, new()),
        (B::AdoptionMintsAnId, Bounds::adoption()),
        (B::PlanNotKept, change()),
        (B::HistoryLeftOut, plain()),
        (B::ApplyBeforeDecide, plain()),
        (B::RecordBeforeApply, plain()),
        (B::NewPlanBeforeRollForward, change()),
        (B::SinksNotAsked, wiped(Damage::HeadRolledBack)),
        (B::NoMarkerTakenAsNothing, wiped(Damage::TableWiped)),
        (B::HeadNotReadAgain, plain()),
        (B::NewestFirst, Bounds::two_undone()),
        (B::ConflictRebased, plain()),
        (B::MarkerBeforeCopy, plain()),
        (B::PrevNotLookedFor, wiped(Damage::FolderWiped)),
        (B::StateFileLeftOut, plain()),
        (B::NamesIgnored, plain()),
        (B::CollectedIsDamaged, Bounds::restarts()),
        (B::OlderHeadOverwritten, wiped(Damage::HeadRolledBack)),
        (
            B::SeenIgnored,
            Bounds::damaged(Damage::HeadRolledBack, true),
        ),
    ]
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn every_defect_that_is_built_in_is_found() {
    let mut missed = Vec::new();
    println!("| built-in defect | found after | as |\n|---|---|---|");
    for (bug, bounds) in all() {
        let explored = Model::new(bounds, Some(bug)).explore();
        let states = explored.states;
        if let Some(found) = explored.violation {
            println!("| {bug:?} | {states} states | {} |", found.violation);
        } else {
            println!("| {bug:?} | never, {states} states | **missed** |");
            missed.push(bug);
        }
    }
    assert_eq!(missed, [], "the model does not see these");
}
