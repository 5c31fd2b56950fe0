//! Every source and sink against the real service.

mod delta;
mod kafka;
