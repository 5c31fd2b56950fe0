//! What users write: the `EventPipeline` resource, its checked [`plan::Plan`], and its status.
//!
//! Owns the whole surface of the manifest, one concept a file, and the words of the status. Depends on nothing of
//! ours and does no I/O. Below [`plan::Plan::parse`] nobody sees the raw spec.

#[cfg(feature = "kube")]
pub mod crd;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod reason;
pub mod schema;
pub mod secret;
pub mod sink;
pub mod source;
pub mod status;
pub mod step;
pub mod storage;
pub mod window;

pub use pipeline::{EventPipelineSpec, GROUP, KIND, VERSION};
