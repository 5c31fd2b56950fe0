//! The CustomResourceDefinition: the types' schema, and what no Rust type can say about it.
//!
//! Owns CEL rules, list types, patterns and columns. They mirror [`crate::plan::Plan::parse`], which judges the same and
//! more, with better words; what is here is refused by the API server before anything is stored.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::pipeline::EventPipeline;
use crate::sink::Sink;

/// A duration (GEP-2257).
const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// A DNS label.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Fields that hold a duration.
const DURATIONS: &[&str] = &[
    "spec.checkpoint.history",
    "spec.checkpoint.interval",
    "spec.objectives.freshness",
    "spec.sources[].files.pollInterval",
    "spec.sources[].files.settle",
    "spec.sources[].watermark.allowedLateness",
    "spec.sources[].watermark.delay",
    "spec.sources[].watermark.idleTimeout",
    "spec.sources[].watermark.maxFuture",
    "spec.steps[].aggregate.window.hopping.size",
    "spec.steps[].aggregate.window.hopping.slide",
    "spec.steps[].aggregate.window.session.gap",
    "spec.steps[].aggregate.window.tumbling.size",
    "spec.steps[].dedupe.within",
];

/// Fields that hold a DNS label.
const LABELS: &[&str] = &[
    "spec.sources[].name",
    "spec.steps[].name",
    "spec.steps[].from",
    "spec.steps[].validate.rules[].name",
    "spec.sinks[].name",
    "spec.sinks[].from",
    "spec.skip[].source",
];

/// The UID of a resource, or what stands for it locally.
const UID: &str = "^\\S+$";

/// The number of a partition.
const PARTITION: &str = "^(0|[1-9][0-9]{0,9})$";

/// Fields that hold an instant.
const INSTANTS: &[&str] = &[
    "status.watermark",
    "status.committedTime",
    "status.sources[].watermark",
    "status.conditions[].lastTransitionTime",
];

/// Lists of named objects: path, key, longest (where the type does not say).
const MAPS: &[(&str, &str, Option<u32>)] = &[
    ("spec.sources", "name", None),
    ("spec.sources[].schema.fields", "name", None),
    ("spec.sources[].kafka.startOffsets", "partition", None),
    ("spec.steps", "name", None),
    ("spec.steps[].validate.rules", "name", None),
    ("spec.sinks", "name", None),
    ("status.sources", "name", Some(16)),
    ("status.steps", "name", Some(64)),
    ("status.sinks", "name", Some(32)),
    ("status.conditions", "type", Some(6)),
];

/// Of these fields exactly one is given: where a thing is of one of several kinds.
const KINDS: &[(&str, &[&str])] = &[
    ("spec.sources[]", &["kafka", "files", "generator"]),
    (
        "spec.steps[]",
        &["query", "validate", "dedupe", "aggregate"],
    ),
    (
        "spec.steps[].aggregate.window",
        &["tumbling", "hopping", "session"],
    ),
    ("spec.sinks[]", &Sink::KINDS),
];

/// CEL rules: path, rule, message.
const RULES: &[(&str, &str, &str)] = &[
    (
        "spec",
        "self.sinks.all(k, self.sources.exists(s, s.name == k.from) || self.steps.exists(s, s.name == k.from))",
        "`from` of every sink must name a source or a step",
    ),
    (
        "spec",
        "self.steps.all(t, t.from != t.name && (self.sources.exists(s, s.name == t.from) || self.steps.exists(s, s.name == t.from)))",
        "`from` of every step must name a source or another step",
    ),
    (
        "spec",
        "self.steps.all(t, !self.sources.exists(s, s.name == t.name)) && self.sinks.all(k, !self.sources.exists(s, s.name == k.name) && !self.steps.exists(s, s.name == k.name))",
        "`name` must be given once among sources, steps and sinks",
    ),
    (
        "spec.checkpoint.path",
        "self == oldSelf",
        "must not change: `checkpoint.path` is immutable, for it is the identity of the state; delete the pipeline and apply it with another path and other tables",
    ),
    (
        "spec",
        "(has(self.resetNonce) ? self.resetNonce : 0) >= (has(oldSelf.resetNonce) ? oldSelf.resetNonce : 0)",
        "`resetNonce` must not become smaller: it consents once, each time it grows",
    ),
    (
        "spec",
        "!has(self.skip) || self.skip.all(r, self.sources.exists(s, s.name == r.source))",
        "`source` of every record in `skip` must name a source",
    ),
    (
        "spec",
        "!has(self.skip) || size(self.skip) == 0 || has(self.deadLetter)",
        "`skip` needs `deadLetter`: what is skipped becomes a dead letter",
    ),
    (
        "spec.objectStore",
        "has(self.s3)",
        "must have exactly one kind: `s3`",
    ),
    (
        "spec.objectStore.s3",
        "has(self.accessKeyId) == has(self.secretAccessKey)",
        "`accessKeyId` and `secretAccessKey` must be given together",
    ),
    (
        "spec.deadLetter",
        "has(self.files)",
        "must have exactly one kind: `files`",
    ),
    (
        "spec.sources[]",
        "!has(self.format) || !has(self.format.csv) || !has(self.format.json)",
        "`format` must have at most one kind: `json` or `csv`",
    ),
    (
        "spec.sources[]",
        "!has(self.format) || !has(self.format.csv) || !self.format.csv.header || has(self.files)",
        "`header` of `csv` needs `files`: without one values stand in the order of the schema's fields",
    ),
    (
        "spec.sources[].kafka",
        "has(self.startTime) == (self.startFrom == 'Time')",
        "`startTime` must be given with `startFrom: Time` and only then",
    ),
    (
        "spec.sources[].kafka",
        "has(self.startOffsets) == (self.startFrom == 'Offsets')",
        "`startOffsets` must be given with `startFrom: Offsets` and only then",
    ),
    (
        "spec.sources[].kafka.tls",
        "has(self.cert) == has(self.key)",
        "`cert` and `key` must be given together",
    ),
    (
        "spec.sinks[].kafka.tls",
        "has(self.cert) == has(self.key)",
        "`cert` and `key` must be given together",
    ),
    (
        "spec.steps[].query",
        "has(self.select) || has(self.where)",
        "must have `select` or `where`",
    ),
    (
        "spec.steps[].aggregate",
        "!has(self.window.session) || (has(self.groupBy) && size(self.groupBy) > 0)",
        "`groupBy` must name a column: a session needs a key",
    ),
    (
        "spec.sinks[].postgres.tls",
        "has(self.cert) == has(self.key)",
        "`cert` and `key` must be given together",
    ),
];

/// Columns of `kubectl get`: name, type, path, in `-o wide` only.
const COLUMNS: &[(&str, &str, &str, bool)] = &[
    (
        "Ready",
        "string",
        ".status.conditions[?(@.type==\"Ready\")].status",
        false,
    ),
    (
        "OnTime",
        "string",
        ".status.conditions[?(@.type==\"OnTime\")].status",
        false,
    ),
    (
        "Clean",
        "string",
        ".status.conditions[?(@.type==\"Clean\")].status",
        false,
    ),
    ("Lag", "integer", ".status.lagRecords", false),
    ("Watermark", "date", ".status.watermark", false),
    ("Committed", "date", ".status.committedTime", false),
    ("Workers", "integer", ".status.workers.replicas", false),
    ("Age", "date", ".metadata.creationTimestamp", false),
    ("Sources", "integer", ".status.summary.sources", true),
    ("Sinks", "integer", ".status.summary.sinks", true),
    ("State", "string", ".status.summary.state", true),
    ("Message", "string", ".status.summary.message", true),
];

/// The CustomResourceDefinition of `EventPipeline`.
pub fn event_pipeline() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut crd = serde_json::to_value(EventPipeline::crd())?;
    let version = &mut crd["spec"]["versions"][0];
    version["additionalPrinterColumns"] = COLUMNS.iter().map(column).collect();
    let schema = &mut version["schema"]["openAPIV3Schema"];
    drop_nullable(schema);
    for (paths, key, value) in [
        (DURATIONS, "pattern", DURATION),
        (LABELS, "pattern", LABEL),
        (&["spec.checkpoint.adoptFrom"], "pattern", UID),
        (&["spec.skip[].split"], "pattern", PARTITION),
        (INSTANTS, "format", "date-time"),
    ] {
        for path in paths {
            at(schema, path)[key] = json!(value);
        }
    }
    for (path, key, longest) in MAPS {
        let list = at(schema, path);
        list["x-kubernetes-list-type"] = json!("map");
        list["x-kubernetes-list-map-keys"] = json!([key]);
        if let Some(longest) = longest {
            list["maxItems"] = json!(longest);
        }
    }
    for (path, kinds) in KINDS {
        let (rule, message) = exactly_one(kinds);
        add_rule(schema, path, &rule, &message);
    }
    for (path, rule, message) in RULES {
        add_rule(schema, path, rule, message);
    }
    serde_json::from_value(crd)
}

fn add_rule(schema: &mut Value, path: &str, rule: &str, message: &str) {
    let rules = &mut at(schema, path)["x-kubernetes-validations"];
    if !rules.is_array() {
        *rules = json!([]);
    }
    if let Some(rules) = rules.as_array_mut() {
        rules.push(json!({"rule": rule, "message": message}));
    }
}

/// Rule and message.
fn exactly_one(kinds: &[&str]) -> (String, String) {
    let each = |spell: fn(&&str) -> String, between: &str| {
        let spelled: Vec<_> = kinds.iter().map(spell).collect();
        spelled.join(between)
    };
    let has = each(|kind| format!("has(self.{kind})"), ", ");
    let named = each(|kind| format!("`{kind}`"), ", ");
    (
        format!("[{has}].exists_one(given, given)"),
        format!("must have exactly one kind of {named}"),
    )
}

fn column((name, kind, path, wide): &(&str, &str, &str, bool)) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if *wide {
        column["priority"] = json!(1);
    }
    column
}

/// An absent field is left out, never null: with `nullable` a null would be stored.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.retain(|key, value| key != "nullable" || !value.is_boolean());
            members.values_mut().for_each(drop_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nullable),
        _ => {}
    }
}

/// The schema of a field: `spec.sources[].name`.
fn at<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(schema, |schema, part| {
        let name = part.trim_end_matches("[]");
        let property = &mut schema["properties"][name];
        if part == name {
            property
        } else {
            &mut property["items"]
        }
    })
}

#[cfg(test)]
mod tests;
