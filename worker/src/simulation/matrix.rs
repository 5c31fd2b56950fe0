//! Every step of the protocol in every way it can end badly: the list is made from the protocol's own steps.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pipeline::{Pipeline, Shape};
use super::run::{World, run};
use super::script::{Fault, Outcome, Passes, Place};
use super::trouble::Trouble;
use crate::checkpointer::{Moment, Step};

/// The sinks of the pipeline: a Delta table that is appended to, one that is merged into, Parquet files, and dead letters.
pub(super) const SINKS: [&str; 4] = ["bronze", "gold", "once", "dead-letters"];

/// A world of six epochs, or of so many that garbage is collected. The first process is told to end in the middle.
pub(super) fn world(seed: u64, long: bool) -> World {
    let (events, per_epoch, stop) = if long { (84, 2, 30) } else { (72, 12, 3) };
    let input = 7;
    let shape = Shape {
        events,
        per_epoch,
        seed: input,
        placed: false,
        anew: false,
    };
    World {
        seed,
        events,
        input,
        plans: vec![Pipeline::new(shape)],
        faults: Vec::new(),
        stops: vec![(stop, 0)],
        returns: false,
        batch: 5,
        damage: None,
        trouble: Trouble::default(),
    }
}

/// Whose step it is: a new step does not compile before that is said here.
fn is_of_sinks(step: Step) -> bool {
    match step {
        Step::StagePut
        | Step::OutboxPut
        | Step::Probe
        | Step::Begin
        | Step::Write
        | Step::CommitSend
        | Step::CommitAck => true,
        Step::OwnerCreate
        | Step::OwnSwap
        | Step::HeadCreate
        | Step::BornCreate
        | Step::SourceSeek
        | Step::PlanPut
        | Step::StatePut
        | Step::IntentPut
        | Step::HistoryPut
        | Step::HeadSwap
        | Step::RecordSwap
        | Step::GcDelete => false,
    }
}

/// Places that do not exist, and why.
fn no_place((step, sink): &Place) -> Option<&'static str> {
    match (step, sink.as_deref()) {
        (Step::StagePut, Some("gold")) => Some("its changes go to the outbox"),
        (Step::OutboxPut, Some("bronze" | "once" | "dead-letters")) => {
            Some("its rows are staged as files")
        }
        (Step::Write, Some("bronze")) => Some("its files are where they stay before the decision"),
        _ => None,
    }
}

/// Ways of a step to end badly that do not exist, and why.
fn no_outcome((step, _): &Place, outcome: Outcome) -> Option<&'static str> {
    match (step, outcome) {
        (Step::SourceSeek, Outcome::CleanError | Outcome::ReplyLost) => {
            Some("the generator asks nobody")
        }
        (Step::CommitAck, Outcome::CleanError | Outcome::ReplyLost) => {
            Some("it is noted in memory: nobody is asked")
        }
        (Step::Probe | Step::Begin, Outcome::ReplyLost) => {
            Some("it changes nothing: a lost reply is a clean error")
        }
        _ => None,
    }
}

/// All places where a step can be.
pub(super) fn places() -> Vec<Place> {
    let of = |step: &Step| -> Vec<Place> {
        if is_of_sinks(*step) {
            SINKS.map(|sink| (*step, Some(sink.to_owned()))).into()
        } else {
            vec![(*step, None)]
        }
    };
    let all = Step::ALL.iter().flat_map(of);
    all.filter(|place| no_place(place).is_none()).collect()
}

/// All cells of the matrix.
pub(super) fn cells() -> Vec<(Place, Outcome)> {
    let ways = |place: Place| Outcome::ALL.map(|outcome| (place.clone(), outcome));
    let all = places().into_iter().flat_map(ways);
    all.filter(|(place, outcome)| no_outcome(place, *outcome).is_none())
        .collect()
}

/// Passes of a world without faults, which is right.
fn passes(world: &World) -> Passes {
    let quiet = run(world);
    assert_eq!(quiet.wrong, Vec::<String>::new());
    quiet.passes
}

/// Does this for all, on as many threads as there are cores.
pub(super) fn for_all<T: Sync>(all: &[T], each: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(one);
                }
            });
        }
    });
}

#[test]
fn a_world_without_faults_is_right_and_the_same_each_time() {
    let world = world(1, false);
    let (first, second) = (run(&world), run(&world));
    assert_eq!(first.wrong, Vec::<String>::new());
    assert_eq!(first.trace, second.trace);
    assert!(first.epochs >= 6);
}

#[test]
fn each_step_may_end_badly_in_each_way() {
    let worlds: BTreeMap<bool, World> = [false, true].map(|long| (long, world(1, long))).into();
    let counted: BTreeMap<bool, Passes> = [false, true]
        .map(|long| (long, passes(&worlds[&long])))
        .into();
    let cells = cells();
    let failed = Mutex::new(Vec::new());
    for_all(&cells, |(place, outcome)| {
        let count = |long: bool| {
            let at = (place.clone(), outcome.moment());
            counted[&long].get(&at).copied().unwrap_or_default()
        };
        let long = count(false) == 0;
        let fault = Fault {
            place: place.clone(),
            outcome: *outcome,
            nth: count(long).div_ceil(2),
        };
        let mut world = worlds[&long].clone();
        world.faults = vec![fault];
        let came = run(&world);
        if !came.wrong.is_empty() || !came.missed.is_empty() {
            let what = format!("{place:?} {outcome:?}: {:?} {:?}", came.missed, came.wrong);
            failed.lock().unwrap().push(what);
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{} of {} cells", cells.len() - failed.len(), cells.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn what_is_no_place_is_never_passed() {
    let counted = passes(&world(1, false));
    for ((place, _), count) in &counted {
        assert!(no_place(place).is_none() || *count == 0, "{place:?}");
    }
    let sides = [Moment::Before, Moment::After];
    assert!(
        sides
            .iter()
            .all(|s| !counted.contains_key(&((Step::Write, Some("bronze".to_owned())), *s)))
    );
}
