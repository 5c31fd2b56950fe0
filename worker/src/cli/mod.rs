//! What people type: one file a command.

pub mod query;
