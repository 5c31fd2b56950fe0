//! The epoch protocol: formats, object names and pure decisions.

pub mod head;
