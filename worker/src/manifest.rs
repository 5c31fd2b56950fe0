//! Reads manifests: a YAML or JSON text becomes [`Manifest`]s, or findings with their places.
//!
//! Owns what may stand in a file: several documents, other API groups beside ours (skipped), and the shape of ours,
//! which [`shape`] judges by the schema of the CustomResourceDefinition. What a manifest means is judged by
//! [`evp_core::check::check`].

pub(crate) mod shape;

use std::sync::LazyLock;

use evp_api::plan::{Code, Violation};
use evp_api::{EventPipelineSpec, GROUP, KIND, VERSION};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::diagnostics::{self, Finding};

/// A manifest as it stands in a file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Which pipeline it is.
    pub metadata: Metadata,
    /// What it does.
    pub spec: EventPipelineSpec,
    /// Which document of its file it is, empty ones not counted.
    #[serde(skip)]
    pub document: usize,
}

/// The part of Kubernetes' object metadata that means something to a worker.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the pipeline.
    pub name: String,
    /// Namespace; absent in most files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Identity that the API server gave; absent in what people write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Identity of the namespace, added by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_uid: Option<String>,
}

/// Reads every pipeline of a text; `file` is the name that findings carry. All findings at once.
pub fn read(text: &str, file: &str) -> Result<Vec<Manifest>, Vec<Finding>> {
    let (mut manifests, mut findings) = (Vec::new(), Vec::new());
    for document in read_each(text, file) {
        match document {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => findings.extend(found),
        }
    }
    if findings.is_empty() {
        Ok(manifests)
    } else {
        Err(findings)
    }
}

/// Reads every pipeline of a text, each with its own verdict.
pub fn read_each(text: &str, file: &str) -> Vec<Result<Manifest, Vec<Finding>>> {
    let values: Vec<Value> = match serde_saphyr::from_multiple(text) {
        Ok(values) => values,
        Err(error) => return vec![Err(vec![diagnostics::unreadable(text, file, &error)])],
    };
    let read = values
        .into_iter()
        .enumerate()
        .filter_map(|(document, value)| {
            let verdict = one(value, document)?;
            Some(verdict.map_err(|found| diagnostics::locate_in(text, file, document, &found)))
        });
    read.collect()
}

/// `None`: the document is of another API group.
fn one(mut value: Value, document: usize) -> Option<Result<Manifest, Vec<Violation>>> {
    if let Some(refusal) = kind(&value)? {
        return Some(Err(vec![refusal]));
    }
    let found = shape::check(&value, &SCHEMA);
    if !found.is_empty() {
        return Some(Err(found));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    let read = serde_json::from_value::<Manifest>(value)
        .map(|manifest| Manifest {
            document,
            ..manifest
        })
        .map_err(|e| vec![Violation::new(Code::WrongType, "spec", e.to_string())]);
    Some(read)
}

/// `None`: not for us. `Some(None)`: a pipeline. `Some(Some(_))`: ours, and refused.
fn kind(value: &Value) -> Option<Option<Violation>> {
    let Some(fields) = value.as_object() else {
        let message = format!("expected a manifest, found {}", shape::noun(value));
        return Some(Some(Violation::new(Code::WrongType, "", message)));
    };
    let of = |field: &str| fields.get(field).and_then(Value::as_str);
    let (Some(api_version), Some(kind)) = (of("apiVersion"), of("kind")) else {
        return Some(None);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group != GROUP {
        return None;
    }
    if version != VERSION {
        let message = format!("there is no version `{version}` of {GROUP}");
        let refusal = Violation::new(Code::NotBuilt, "apiVersion", message);
        return Some(Some(refusal.help(format!("write `{GROUP}/{VERSION}`"))));
    }
    if kind != KIND {
        let message = format!("there is no kind `{kind}` in {GROUP}");
        let refusal = Violation::new(Code::NotBuilt, "kind", message);
        return Some(Some(
            refusal
                .note(format!("known: {KIND}"))
                .did_you_mean(kind, [KIND]),
        ));
    }
    Some(None)
}

/// Schema of a whole manifest; its spec is that of the CustomResourceDefinition.
pub static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = evp_api::crd::event_pipeline().and_then(serde_json::to_value);
    let spec = crd
        .ok()
        .and_then(|crd| {
            let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
            crd.pointer(path).cloned()
        })
        .unwrap_or_else(|| json!({}));
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "Where events come from, what happens to them, where they go.",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": text("Group and version: `eventpipeline.dev/v1alpha1`."),
            "kind": text("`EventPipeline`."),
            "metadata": {
                "type": "object",
                "description": "Which pipeline it is.",
                "required": ["name"],
                "properties": metadata(),
            },
            "spec": spec,
            "status": {"type": "object", "description": "What the operator reports; not read from files."},
        },
    })
});

/// What people write, and what a manifest taken from a cluster carries besides.
fn metadata() -> Value {
    let words = |description: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": description});
    let mut fields = Map::from_iter([
        ("labels".to_owned(), words("Labels.")),
        ("annotations".to_owned(), words("Annotations.")),
    ]);
    for (name, description) in [
        ("name", "Name of the pipeline."),
        ("namespace", "Namespace."),
        ("uid", "Identity that the API server gave."),
        (
            "namespaceUid",
            "Identity of the namespace, added by the operator.",
        ),
    ] {
        let text = json!({"type": "string", "description": description});
        fields.insert(name.to_owned(), text);
    }
    for name in [
        "creationTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
    ] {
        let any = json!({"description": "Kept by the API server; not read from files."});
        fields.insert(name.to_owned(), any);
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests;
