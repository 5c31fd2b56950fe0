//! The examples are what they say: accepted as they stand, changed by their overlay only where it may, and run to their end.

mod activity;
mod audit;
mod orders;
mod shop;
mod tested;

use std::collections::BTreeMap;
use std::path::PathBuf;

use evp_core::check::check;
use evp_tests::root;
use serde_json::{Value, json};

/// The examples, with the sinks that each has.
const EXAMPLES: [(&str, &[&str]); 3] = [
    ("orders", &["bronze", "gold"]),
    ("shop", &["user-events"]),
    (
        "activity",
        &[
            "events-kafka",
            "events-parquet",
            "totals-kafka",
            "totals-parquet",
        ],
    ),
];

fn folder(example: &str) -> PathBuf {
    root().join("examples").join(example)
}

fn read(example: &str, file: &str) -> String {
    std::fs::read_to_string(folder(example).join(file)).unwrap()
}

fn value(example: &str, file: &str) -> Value {
    serde_saphyr::from_str(&read(example, file)).unwrap()
}

/// The pipeline as kustomize gives it with the overlay: `test`, `add` and `replace` of RFC 6902.
pub(crate) fn overlaid(example: &str) -> Value {
    let mut pipeline = value(example, "pipeline.yaml");
    for op in value(example, "overlay/patch.yaml").as_array().unwrap() {
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

#[test]
fn every_folder_of_examples_is_held_by_these_laws() {
    let folders = std::fs::read_dir(root().join("examples")).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut known = EXAMPLES.map(|(example, _)| example.to_owned()).to_vec();
    known.sort();
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, known);
}

#[test]
fn examples_are_accepted_without_findings_as_they_stand_and_with_their_overlay() {
    for (example, sinks) in EXAMPLES {
        for text in [
            read(example, "pipeline.yaml"),
            overlaid(example).to_string(),
        ] {
            let manifests = evp_worker::manifest::read(&text, "pipeline.yaml").unwrap();
            assert_eq!(manifests.len(), 1);
            let checked = check(&manifests[0].spec).unwrap();
            let names: Vec<_> = checked.sinks.keys().map(ToString::to_string).collect();
            assert_eq!(names, sinks, "{example}");
        }
    }
}

#[test]
fn overlays_change_only_addresses_the_authority_and_credentials() {
    let allowed = |path: &str| {
        let below = ["/kafka/bootstrapServers", "/kafka/sasl/", "/kafka/tls/"];
        let below = below.iter().chain(&["/postgres/host", "/postgres/tls/"]);
        let is_address = below.clone().any(|part| path.contains(part));
        path.starts_with("/spec/objectStore/s3/") || is_address
    };
    for (example, _) in EXAMPLES {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        leaves(&value(example, "pipeline.yaml"), "", &mut before);
        leaves(&overlaid(example), "", &mut after);
        let all = before.keys().chain(after.keys());
        let changed = all.filter(|path| before.get(*path) != after.get(*path));
        for path in changed {
            let path = format!("{path}/");
            assert!(allowed(&path), "{example}: {path}");
        }
    }
}

#[test]
fn kustomizations_apply_that_patch_to_that_pipeline() {
    for (example, _) in EXAMPLES {
        let kustomization = value(example, "overlay/kustomization.yaml");
        assert_eq!(kustomization["resources"], json!(["../pipeline.yaml"]));
        let patch = &kustomization["patches"][0];
        assert_eq!(patch["path"], "patch.yaml");
        let name = &value(example, "pipeline.yaml")["metadata"]["name"];
        assert_eq!(&patch["target"]["name"], name);
        let fields = kustomization.as_object().unwrap().keys();
        let known = ["apiVersion", "kind", "namespace", "patches", "resources"];
        assert!(fields.into_iter().all(|f| known.contains(&f.as_str())));
    }
}
