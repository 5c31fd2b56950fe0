//! The operator: `EventPipeline` → Deployment, `ConfigMap`, `ServiceAccount`, and back into the resource's status.
//!
//! Three loops that never mix: [`reconcile`] turns a spec into children, [`progress`] asks the workers how they are,
//! [`publish`] turns both into conditions. What is decided is pure ([`rollout`], [`build`], [`status`]); what talks to the
//! API server or to pods is at the two ends ([`fetch`], [`apply`]).

pub mod apply;
pub mod build;
pub mod change;
pub mod clock;
pub mod controller;
pub mod events;
pub mod fetch;
pub mod health;
pub mod leader;
pub mod logging;
pub mod metrics;
pub mod progress;
pub mod publish;
pub mod rbac;
pub mod reconcile;
pub mod rollout;
pub mod run;
pub mod settings;
pub mod status;
pub mod tasks;

/// The `CustomResourceDefinitions`, as they are installed.
pub const CRDS: &str = include_str!("../../crds/eventpipelines.yaml");
