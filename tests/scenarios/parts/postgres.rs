//! PostgreSQL sinks against a real server: types, keys, tables that do not fit, rows that are refused, lost answers, crashes.

mod faults;
mod login;
pub(crate) mod psql;
mod rejects;
mod rows;
mod tables;
mod wire;
pub(crate) mod world;
