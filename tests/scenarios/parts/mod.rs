//! Every source and sink against the real service, and the worker on all of them.

mod checkpoint;
mod delta;
pub(crate) mod kafka;
mod postgres;
mod worker;
