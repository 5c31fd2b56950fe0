//! Every source and sink against the real service.

mod checkpoint;
mod delta;
pub(crate) mod kafka;
