//! The dataflow and the epoch protocol. Pure and synchronous: no runtime, no clock, no files, no network.

#[macro_use]
pub mod mistake;

pub mod check;
pub mod dataflow;
pub mod dead_letter;
pub mod decode;
pub mod files;
pub mod ledger;
pub mod position;
pub mod protocol;
pub mod record;
pub mod sql;
pub mod state;
pub mod step;
pub mod watermark;
pub mod window;
