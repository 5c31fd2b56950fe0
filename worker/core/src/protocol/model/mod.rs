//! The protocol, explored: two workers' requests in every order, crashes, lost replies, late arrivals, up to three epochs.
//!
//! Owns a model of the world around the production decisions: the store's objects, the sinks' targets, and the order of the
//! checkpointer's requests, by the names of its functions. What is decided is decided by `protocol::{decide, head, body}`;
//! nothing of them is written a second time. One action is one request. A process that is never chosen again has crashed, one
//! that is chosen late is a zombie: a crash is an action only where its pod or its place is used again.
//!
//! The search is our own: whether a fresh pod comes to the end *from every state* is no question that stateright's `eventually`
//! answers, and what remains of a checker is sixty lines.

mod alone;
mod bodies;
mod bounds;
mod bugs;
mod damage;
mod fingerprint;
mod heads;
mod lane;
mod process;
mod roll;
mod search;
mod start;
mod targets;
mod world;

use bounds::Bounds;
use search::Model;

/// Explores everything within the bounds; any violation fails, with the way to it.
#[track_caller]
fn check(name: &str, bounds: Bounds) {
    let model = Model::new(bounds, None);
    let explored = model.explore();
    println!("{name}: {explored}");
    if let Some(found) = &explored.violation {
        panic!("{name}: {found}");
    }
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn two_that_create_a_checkpoint_at_once_end_with_one() {
    check("new start", Bounds::new_start());
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn two_workers_and_two_more_pods_never_lose_or_double_an_epoch() {
    check("restarts", Bounds::restarts());
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_changed_plan_rolls_the_old_ones_epochs_forward_first() {
    check("change of plan", Bounds::change_of_plan());
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_resource_that_adopts_a_checkpoint_goes_on_and_the_one_before_it_is_out() {
    check("adoption", Bounds::adoption());
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn an_epoch_may_be_decided_while_the_one_before_it_waits_for_its_sinks() {
    check("two undone", Bounds::two_undone());
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn a_request_that_was_given_up_may_arrive_later() {
    check("late arrival", Bounds::late_arrival());
}
