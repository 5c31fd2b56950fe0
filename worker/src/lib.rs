//! The effects around the core: sources, sinks, the object store, the runtime, and the `evp` command line.

#[macro_use]
mod mistake;

pub mod activity;
pub mod checkpointer;
pub mod cli;
pub mod clock;
pub mod diagnostics;
pub mod generate;
pub mod ids;
pub mod job;
pub mod kafka;
pub mod logging;
pub mod manifest;
pub mod metrics;
pub mod reader;
pub mod report;
pub mod runtime;
pub mod secrets;
pub mod server;
pub mod settings;
#[cfg(test)]
mod simulation;
pub mod sink;
pub mod source;
pub mod store;
pub mod supervise;
pub mod tasks;
pub mod testing;
mod virtual_time;
