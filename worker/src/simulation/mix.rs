//! Faults in pairs and long mixes of them, by seed: crashes, lost replies, errors, zombies, ends by request, changes of the
//! plan, resets, stores in trouble.
//!
//! `EVP_SIM_SEED=<seed>` lives through that seed alone and prints every request.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::matrix::{cells, for_all};
use super::pipeline::{Pipeline, Shape};
use super::run::{World, run};
use super::script::Fault;
use super::trouble::Trouble;
use crate::checkpointer::Step;

/// The world of a seed. Even seeds have two faults; odd ones have more, and troubles of the store.
pub(super) fn world_of(seed: u64) -> World {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let is_mix = seed % 2 == 1;
    // One seed of eight has so many epochs that garbage is collected.
    let per_epoch = if seed % 8 == 7 {
        2
    } else {
        rng.random_range(8..=14)
    };
    let events = rng.random_range(50..=90);
    let input = rng.random_range(0..1000);
    let plans = plans(&mut rng, (events, per_epoch, input));
    let faults = if is_mix { rng.random_range(3..=6) } else { 2 };
    let faults: Vec<_> = (0..faults).map(|_| fault(&mut rng, per_epoch)).collect();
    let ends = rng.random_range(0..=2);
    let stop = |rng: &mut ChaCha12Rng| (rng.random_range(1..=6), rng.random_range(0..60));
    World {
        seed,
        events,
        input,
        plans,
        faults,
        stops: (0..ends).map(|_| stop(&mut rng)).collect(),
        returns: is_mix && rng.random_bool(0.5),
        batch: rng.random_range(3..=9),
        damage: None,
        trouble: Trouble {
            seed,
            per_mille: if is_mix {
                // Many epochs in much trouble take more starts than any process is given.
                let most = if per_epoch == 2 { 1 } else { 3 };
                [0, 10, 30, 60][rng.random_range(0..4).min(most)]
            } else {
                0
            },
        },
    }
}

/// One plan, or one that another follows after a process or two.
fn plans(rng: &mut ChaCha12Rng, (events, per_epoch, seed): (u64, u64, u64)) -> Vec<Pipeline> {
    let plan = |placed, anew| {
        Pipeline::new(Shape {
            events,
            per_epoch,
            seed,
            placed,
            anew,
        })
    };
    let plain = plan(false, false);
    let (first, then) = match rng.random_range(0..6) {
        0 | 1 => return vec![plain],
        2 => (plain, plan(true, false)),
        3 => (plan(true, false), plain),
        4 => (plain, plan(false, true)),
        _ => (plan(true, false), plan(false, true)),
    };
    let mut plans = vec![first; rng.random_range(1..=2)];
    plans.push(then);
    plans
}

fn fault(rng: &mut ChaCha12Rng, per_epoch: u64) -> Fault {
    let mut cells = cells();
    cells.retain(|((step, _), _)| *step != Step::GcDelete || per_epoch == 2);
    let (place, outcome) = cells.swap_remove(rng.random_range(0..cells.len()));
    let most = match place.0 {
        Step::OwnerCreate | Step::HeadCreate | Step::BornCreate | Step::PlanPut => 1,
        Step::OwnSwap | Step::Probe | Step::SourceSeek | Step::RecordSwap => 2,
        _ if per_epoch == 2 => 25,
        _ => 6,
    };
    Fault {
        place,
        outcome,
        nth: rng.random_range(1..=most),
    }
}

/// Lives through a seed twice: right, and the same both times. How many of its faults came.
fn lives(seed: u64) -> usize {
    let world = world_of(seed);
    let (first, second) = (run(&world), run(&world));
    let replay =
        format!("EVP_SIM_SEED={seed} cargo test --workspace --lib simulation::mix -- --nocapture");
    assert!(
        first.wrong.is_empty(),
        "{replay}\n{}",
        first.wrong.join("\n")
    );
    let mut lines = first.trace.iter().zip(&second.trace);
    let differs = lines.find(|(a, b)| a != b);
    assert!(
        first.trace == second.trace,
        "{replay}\nthe traces differ: {differs:?}"
    );
    world.faults.len() - first.missed.len()
}

fn live_through(seeds: std::ops::RangeInclusive<u64>) {
    let seeds: Vec<u64> = match std::env::var("EVP_SIM_SEED") {
        Ok(seed) => {
            let world = world_of(seed.parse().unwrap());
            println!(
                "{:#?}\n{:?}\n{:?}",
                world.faults, world.stops, world.trouble
            );
            let came = run(&world);
            println!(
                "{}\n{:?}\n{:?}",
                came.trace.join("\n"),
                came.ends,
                came.wrong
            );
            vec![world.seed]
        }
        Err(_) => seeds.collect(),
    };
    let met = AtomicUsize::new(0);
    for_all(&seeds, |seed| {
        met.fetch_add(lives(*seed), Ordering::Relaxed);
    });
    println!("{} seeds, {met:?} faults met", seeds.len());
}

#[test]
fn whatever_comes_together_every_version_is_right() {
    live_through(1..=16);
}

#[test]
#[ignore = "minutes; ./tests/run laws has it"]
fn whatever_comes_together_in_many_seeds_every_version_is_right() {
    live_through(17..=300);
}
