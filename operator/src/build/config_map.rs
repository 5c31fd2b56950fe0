//! The pipeline as the worker reads it: an immutable `ConfigMap` whose name is a hash of its content.
//!
//! `suspend`, `workers` and `objectives` stay out: they change no plan, so a change of them rolls no pod on their account.

use std::collections::BTreeMap;

use evp_api::pipeline::{EventPipelineSpec, Objectives, Workers};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{Owner, metadata, names};

/// Builds it.
pub fn build(owner: &Owner, spec: &EventPipelineSpec) -> ConfigMap {
    let content = content(owner, spec);
    ConfigMap {
        metadata: metadata(owner, names::config_map_name(&owner.name, &content)),
        immutable: Some(true),
        data: Some(BTreeMap::from([(names::PIPELINE_FILE.to_owned(), content)])),
        ..ConfigMap::default()
    }
}

/// Name of the `ConfigMap` that [`build`] makes.
pub fn name(owner: &Owner, spec: &EventPipelineSpec) -> String {
    names::config_map_name(&owner.name, &content(owner, spec))
}

/// What the pods see of a spec.
pub fn essence(spec: &EventPipelineSpec) -> EventPipelineSpec {
    EventPipelineSpec {
        suspend: false,
        workers: Workers::default(),
        objectives: Objectives::default(),
        ..spec.clone()
    }
}

/// The spec in a `ConfigMap` of ours; `None`: it cannot be read by this version.
pub fn read(config_map: &ConfigMap) -> Option<EventPipelineSpec> {
    let text = config_map.data.as_ref()?.get(names::PIPELINE_FILE)?;
    let mut document: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(document.get_mut("spec")?.take()).ok()
}

fn content(owner: &Owner, spec: &EventPipelineSpec) -> String {
    let mut spec = serde_json::to_value(spec).unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        for field in ["suspend", "workers", "objectives"] {
            fields.shift_remove(field);
        }
    }
    let document = json!({
        "apiVersion": format!("{}/{}", evp_api::GROUP, evp_api::VERSION),
        "kind": evp_api::KIND,
        "metadata": {
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
            "namespaceUid": owner.namespace_uid,
        },
        "spec": spec,
    });
    document.to_string()
}
