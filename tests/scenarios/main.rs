//! Whole-system tests, one module a level. Those that need real parts are ignored unless `tests/run` brings them up.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests stop at what they do not expect, and run on the machine's own time"
)]

mod cluster;
mod documents;
mod examples;
mod generated;
mod parts;
mod reconcile;
