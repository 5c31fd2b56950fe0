//! The epoch protocol: formats, object names and pure decisions.

pub mod audit;
pub mod body;
pub mod care;
pub mod decide;
pub mod digest;
pub mod head;
pub mod identity;
pub mod paths;
pub mod reset;
pub mod retain;

#[cfg(test)]
mod model;
