//! What people type: one file a command. `main` parses and dispatches.

pub mod produce;
pub mod query;
