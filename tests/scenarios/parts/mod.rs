//! Every source and sink against the real service.

mod checkpoint;
mod delta;
mod kafka;
