//! The whole worker in one process, on a bucket in memory, a clock that does not wait and names from a seed, under faults.
//!
//! Real: everything of the worker from `runtime::start` down: loop, dataflow, checkpointer, Delta append and upsert, dead
//! letters, the S3 store above its client, the generator source. Twins: the S3 client (`object_store`'s bucket in memory, held
//! to the store's contract), the clock, the machine.
//!
//! All of a world runs on one thread, so a seed decides every order: two runs of one seed leave equal traces. The Delta kernel
//! has a thread of its own, but ours waits while it works.

mod clock;
mod damage;
mod evaluate;
mod judge;
mod matrix;
mod mistakes;
mod mix;
mod pipeline;
mod process;
mod run;
mod script;
mod tables;
mod trouble;
mod universe;

use std::cell::Cell;

use tokio::task::JoinHandle;

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread runs a simulation.
struct Here;

impl Here {
    fn enter() -> Self {
        HERE.set(true);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(false);
    }
}

/// This thread runs a simulation.
pub(crate) fn runs_here() -> bool {
    HERE.get()
}

/// Runs what blocks when its turn comes, on the simulation's one thread.
#[expect(
    clippy::disallowed_methods,
    reason = "stands for the pool of threads, whose order no seed decides"
)]
pub(crate) fn in_turn<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(async move { job() })
}
