//! The examples are what they say: accepted as they stand, changed by their overlay only where it may, and run to their end.

mod audit;
mod orders;
mod shop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evp_core::check::check;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/orders")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).unwrap()
}

fn value(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap()
}

/// The pipeline as kustomize gives it with the overlay: `test`, `add` and `replace` of RFC 6902.
pub(crate) fn overlaid() -> Value {
    let mut pipeline = value("pipeline.yaml");
    for op in value("overlay/patch.yaml").as_array().unwrap() {
        let path = op["path"].as_str().unwrap();
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = pipeline.pointer_mut(parent).unwrap();
        match op["op"].as_str().unwrap() {
            "test" => assert_eq!(parent[field], op["value"], "{path}"),
            "add" => parent[field] = op["value"].clone(),
            "replace" => *parent.get_mut(field).unwrap() = op["value"].clone(),
            other => panic!("{other}"),
        }
    }
    pipeline
}

/// Every scalar and empty container, by JSON pointer.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(value, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{path}/{index}"), found);
            }
        }
        leaf => drop(found.insert(path.to_owned(), leaf.clone())),
    }
}

fn accepted(text: &str) {
    let manifests = evp_worker::manifest::read(text, "pipeline.yaml").unwrap();
    assert_eq!(manifests.len(), 1);
    let checked = check(&manifests[0].spec).unwrap();
    let names: Vec<_> = checked.sinks.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["bronze", "gold"]);
}

#[test]
fn the_orders_example_is_accepted_without_findings() {
    accepted(&read("pipeline.yaml"));
}

#[test]
fn the_overlay_is_accepted_without_findings() {
    accepted(&overlaid().to_string());
}

#[test]
fn the_overlay_changes_only_addresses_the_authority_and_credentials() {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    leaves(&value("pipeline.yaml"), "", &mut before);
    leaves(&overlaid(), "", &mut after);
    let changed = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path));
    let allowed = [
        "/spec/objectStore/s3/accessKeyId/secretKeyRef",
        "/spec/objectStore/s3/endpoint",
        "/spec/objectStore/s3/secretAccessKey/secretKeyRef",
        "/spec/sources/0/kafka/bootstrapServers",
        "/spec/sources/0/kafka/sasl/password/secretKeyRef",
        "/spec/sources/0/kafka/sasl/username",
        "/spec/sources/0/kafka/tls",
    ];
    for path in changed {
        assert!(allowed.iter().any(|a| path.starts_with(a)), "{path}");
    }
}

#[test]
fn the_kustomization_applies_that_patch_to_that_pipeline() {
    let kustomization = value("overlay/kustomization.yaml");
    assert_eq!(kustomization["resources"], json!(["../pipeline.yaml"]));
    assert_eq!(kustomization["patches"][0]["path"], "patch.yaml");
    let fields = kustomization.as_object().unwrap().keys();
    let known = ["apiVersion", "kind", "namespace", "patches", "resources"];
    assert!(fields.into_iter().all(|f| known.contains(&f.as_str())));
}
