//! The worker process as an operator-made pod runs it, against a real broker and a real object store: killed, stopped, lied
//! to by the network, and held row for row against an evaluation of what was sent.

mod broker;
mod cells;
mod crash;
mod damage;
mod deadly;
mod doubt;
mod end_to_end;
mod files;
mod foreign;
mod guarantees;
mod input;
mod log;
mod owners;
mod pipeline;
mod postgres;
mod process;
mod proxy;
mod topics;
mod versions;
mod worlds;
