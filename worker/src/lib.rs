//! The effects around the core: sources, sinks, the object store, the runtime, and the `evp` command line.

pub mod checkpointer;
pub mod cli;
pub mod clock;
pub mod generate;
pub mod ids;
pub mod kafka;
pub mod secrets;
pub mod sink;
pub mod source;
pub mod store;
