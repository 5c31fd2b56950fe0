//! Pure and infallible: what a pipeline's children look like.
//!
//! Owns every field that the operator sets on a child. Knows nothing of what exists; [`crate::rollout`] decides which
//! blueprint is built, [`crate::apply`] brings it to the API server.

pub mod config_map;
pub mod deployment;
pub mod names;
pub mod service_account;

use evp_api::pipeline::{EventPipelineSpec, Workers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::{Deserialize, Serialize};

use crate::settings::WorkerDefaults;

/// The pipeline that children belong to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// UID of its namespace: with the name the identity that a re-created pipeline keeps.
    pub namespace_uid: String,
    /// Its UID.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
}

/// The facts of a rollout, kept on the Deployment: as long as the pipeline does not change, the pods are built from them
/// alone, so that a restarted, upgraded or re-configured operator changes no pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rolled {
    /// Name of the `ConfigMap` the pods read.
    pub config_map: String,
    /// What the pipeline said about its pods.
    pub workers: Workers,
    /// Image of the pods.
    pub image: String,
    /// Newest epoch that status had seen; `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_epoch: Option<i64>,
    /// When the rollout began; its deadline counts from here. RFC 3339.
    #[serde(default)]
    pub time: String,
    /// Hash of the pod template as it was built; filled in by [`deployment::build`].
    #[serde(default)]
    pub template: String,
}

/// All that children are built from.
#[derive(Clone, Debug)]
pub struct Blueprint<'a> {
    /// The pipeline.
    pub owner: &'a Owner,
    /// Its spec, accepted.
    pub spec: &'a EventPipelineSpec,
    /// What the pods get that the spec does not say.
    pub defaults: &'a WorkerDefaults,
    /// The facts of this rollout.
    pub rolled: Rolled,
    /// 0 or 1.
    pub replicas: i32,
}

/// A pipeline's children, in the order in which they are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// The identity of the pods; it may do nothing.
    pub service_account: ServiceAccount,
    /// The pipeline as the worker reads it.
    pub config_map: ConfigMap,
    /// The worker.
    pub deployment: Deployment,
}

/// Builds all children.
pub fn children(blueprint: &Blueprint<'_>) -> Children {
    Children {
        service_account: service_account::build(blueprint.owner),
        config_map: config_map::build(blueprint.owner, blueprint.spec),
        deployment: deployment::build(blueprint),
    }
}

/// Metadata of a child: named, labelled, owned.
fn metadata(owner: &Owner, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.namespace.clone()),
        labels: Some(names::labels(&owner.name)),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", evp_api::GROUP, evp_api::VERSION),
            kind: evp_api::KIND.to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
