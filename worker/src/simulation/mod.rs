//! The whole worker in one process, on a bucket in memory, a clock that does not wait and names from a seed, under faults.
//!
//! Real: everything of the worker from `runtime::start` down: loop, dataflow, checkpointer, Delta append and upsert, dead
//! letters, the S3 store above its client, the generator source. Twins: the S3 client (`object_store`'s bucket in memory, held
//! to the store's contract), the clock, the machine.
//!
//! All of a world runs on one thread, so a seed decides every order: two runs of one seed leave equal traces. The Delta kernel
//! has a thread of its own, but ours waits while it works.

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
