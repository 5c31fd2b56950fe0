//! Laws of the definition: what it refuses, the plan refuses too.

use kube::core::cel::{Validator, compile_schema};
use serde_json::Map;

use super::*;
use crate::pipeline::EventPipelineSpec;
use crate::plan::{NodeName, Plan, parse_duration};
use crate::secret;

/// Schema of the whole resource.
fn schema() -> Value {
    let crd = serde_json::to_value(event_pipeline().unwrap()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn pipeline() -> Value {
    json!({
        "checkpoint": {"path": "s3://lake/checkpoint"},
        "sources": [{
            "name": "orders",
            "kafka": {"bootstrapServers": "kafka:9092", "topic": "orders"},
            "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "at", "type": "timestamp"}]},
            "watermark": {"column": "at", "delay": "1m"}}],
        "steps": [
            {"name": "some", "from": "orders", "query": {"where": "id = 'a'"}},
            {"name": "counts", "from": "some", "aggregate": {
                "window": {"tumbling": {"size": "5m"}}, "measures": "count(*) AS n"}}],
        "sinks": [{"name": "bronze", "from": "orders", "delta": {"path": "s3://lake/bronze"}}]})
}

/// Messages of the rules that refuse a spec.
fn refusals(schema: &Value, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let whole = |spec: &Value| json!({"spec": spec});
    let old = old.map(whole);
    match Validator::new().validate(schema, &whole(spec), old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(refused) => refused.iter().map(|e| e.message.clone()).collect(),
    }
}

/// One or more fields of the pipeline set to what one rule or more refuse.
fn refused() -> Vec<(&'static str, Value)> {
    let secret = json!({"secretKeyRef": {"name": "a", "key": "b"}});
    let topic = |extra: Value| {
        let mut kafka = json!({"bootstrapServers": "kafka:9092", "topic": "orders"});
        let extra: Map<String, Value> = serde_json::from_value(extra).unwrap();
        kafka.as_object_mut().unwrap().extend(extra);
        kafka
    };
    vec![
        ("/sinks/0/from", json!("nowhere")),
        ("/steps/0/from", json!("nowhere")),
        ("/steps/0/from", json!("some")),
        ("/steps/0/name", json!("orders")),
        ("/sinks/0/name", json!("orders")),
        ("/objectStore", json!({})),
        ("/objectStore", json!({"s3": {"accessKeyId": secret}})),
        ("/deadLetter", json!({})),
        (
            "/skip",
            json!([{"source": "some", "split": "0", "position": 1}]),
        ),
        ("/sources/0/generator", json!({"template": "orders"})),
        ("/sources/0/files", json!({"path": "s3://lake/in"})),
        (
            "/sources/0/format",
            json!({"json": {}, "csv": {"header": false}}),
        ),
        ("/sources/0/format", json!({"csv": {"header": true}})),
        (
            "/sources/0/kafka",
            topic(json!({"startTime": "2026-01-01T00:00:00Z"})),
        ),
        ("/sources/0/kafka", topic(json!({"startFrom": "Time"}))),
        ("/sources/0/kafka", topic(json!({"startOffsets": []}))),
        ("/sources/0/kafka", topic(json!({"startFrom": "Offsets"}))),
        ("/sources/0/kafka", topic(json!({"tls": {"key": secret}}))),
        ("/steps/1/query", json!({"where": "true"})),
        ("/steps/0/query", json!({})),
        (
            "/steps/0/validate",
            json!({"rules": [{"name": "a", "check": "true"}]}),
        ),
        ("/steps/1/aggregate/window", json!({})),
        (
            "/steps/1/aggregate/window",
            json!({"session": {"gap": "5m"}}),
        ),
        (
            "/steps/1/aggregate/window/hopping",
            json!({"size": "5m", "slide": "1m"}),
        ),
        ("/sinks/0/stdout", json!({})),
        (
            "/sinks/0/kafka",
            json!({"bootstrapServers": "k:1", "topic": "log", "tls": {"key": secret}}),
        ),
    ]
}

#[test]
fn every_path_names_a_field_that_exists() {
    let mut schema = schema();
    let maps = MAPS.iter().map(|(path, ..)| path);
    let rules = RULES.iter().map(|(path, ..)| path);
    let patterns = DURATIONS.iter().chain(LABELS).chain(INSTANTS);
    for path in maps.chain(rules).chain(patterns) {
        assert!(at(&mut schema, path)["type"].is_string(), "{path}");
    }
}

#[test]
fn every_rule_takes_a_pipeline_that_is_right() {
    let spec = pipeline();
    assert_eq!(
        refusals(&schema(), &spec, Some(&spec)),
        Vec::<String>::new()
    );
    Plan::parse(&serde_json::from_value(spec).unwrap()).unwrap();
}

#[test]
fn every_rule_refuses_something_and_the_plan_refuses_it_too() {
    let (schema, mut spoken) = (schema(), Vec::new());
    for (pointer, value) in refused() {
        let mut spec = pipeline();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[field] = value.clone();
        let refusals = refusals(&schema, &spec, None);
        assert!(!refusals.is_empty(), "no rule refuses {pointer} = {value}");
        spoken.extend(refusals);
        let spec: EventPipelineSpec = serde_json::from_value(spec).unwrap();
        assert!(
            Plan::parse(&spec).is_err(),
            "the plan takes {pointer} = {value}"
        );
    }
    for (path, rule, message) in RULES
        .iter()
        .filter(|(_, rule, _)| !rule.contains("oldSelf"))
    {
        assert!(
            spoken.iter().any(|said| said == message),
            "{path}: {rule} refuses nothing"
        );
    }
}

#[test]
fn the_checkpoint_stays_where_it_is() {
    let (old, mut new) = (pipeline(), pipeline());
    new["checkpoint"]["path"] = json!("s3://lake/elsewhere");
    let said = refusals(&schema(), &new, Some(&old));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("`checkpoint.path` is immutable"),
        "{said:?}"
    );
}

#[test]
fn a_reset_nonce_only_grows() {
    let with = |nonce: i64| {
        let mut spec = pipeline();
        if nonce > 0 {
            spec["resetNonce"] = json!(nonce);
        }
        spec
    };
    let said = |old, new| refusals(&schema(), &with(new), Some(&with(old))).len();
    assert_eq!([said(0, 1), said(1, 1), said(1, 2)], [0, 0, 0]);
    assert_eq!([said(2, 1), said(1, 0)], [1, 1]);
}

/// Every text of these letters up to a length: the pattern and the parser agree.
fn same(pattern: &str, letters: &[char], longest: usize, parser: impl Fn(&str) -> bool) {
    let rule = format!("self.text.matches(r'{pattern}')");
    let schema = json!({
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": rule, "message": "differs"}]});
    let (validator, compiled) = (Validator::new(), compile_schema(&schema));
    let (mut texts, mut both) = (vec![String::new()], [0, 0]);
    for _ in 0..longest {
        for text in &texts {
            let matches = validator
                .validate_compiled(&compiled, &json!({"text": text}), None)
                .is_ok();
            assert_eq!(matches, parser(text), "`{text}` and {pattern}");
            both[usize::from(matches)] += 1;
        }
        let longer = texts
            .iter()
            .flat_map(|text| letters.iter().map(move |c| format!("{text}{c}")));
        texts = longer.collect();
    }
    assert!(both[0] > 50 && both[1] > 50, "{both:?}");
}

#[test]
fn patterns_take_what_the_plan_takes() {
    same(DURATION, &['0', '9', 'h', 'm', 's', '.'], 5, |text| {
        parse_duration(text).is_ok()
    });
    same(LABEL, &['a', '0', '-', '.', 'A', '_'], 5, |text| {
        NodeName::new(text).is_some()
    });
    let planned = |name: &str, key: &str| {
        let mut spec = pipeline();
        let reference = json!({"secretKeyRef": {"name": name, "key": key}});
        spec["sources"][0]["kafka"]["tls"] = json!({"ca": reference});
        Plan::parse(&serde_json::from_value(spec).unwrap()).is_ok()
    };
    same(secret::NAME, &['a', '0', '-', '.', 'A', '/'], 5, |text| {
        planned(text, "k")
    });
    same(secret::KEY, &['a', 'A', '_', '.', '-', '/'], 5, |text| {
        planned("n", text)
    });
}

#[test]
fn durations_are_bound_alike() {
    for text in [
        "99999h99999m99999s99999ms",
        "1h1h1h1h",
        "100000s",
        "1h1h1h1h1h",
    ] {
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": format!("self.text.matches(r'{DURATION}')")}]});
        let matches = Validator::new()
            .validate(&schema, &json!({"text": text}), None)
            .is_ok();
        assert_eq!(matches, parse_duration(text).is_ok(), "{text}");
    }
}

/// What the API server asks of a structural schema, as far as a derive can miss it.
#[test]
fn the_schema_is_structural() {
    fn walk(path: &str, schema: &Value) {
        let Some(fields) = schema.as_object() else {
            return;
        };
        for refused in [
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
            "nullable",
            "definitions",
            "$defs",
        ] {
            assert!(!fields.contains_key(refused), "{path} has {refused}");
        }
        assert!(schema["type"].is_string(), "{path} has no type");
        if let Some(default) = fields.get("default") {
            let fits = match schema["type"].as_str() {
                Some("object") => default.is_object(),
                Some("array") => default.is_array(),
                Some("string") => default.is_string(),
                Some("boolean") => default.is_boolean(),
                Some("integer") => default.is_i64(),
                _ => false,
            };
            assert!(fits, "{path} has the default {default}");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property);
        }
        if let Some(items) = fields.get("items") {
            assert!(
                path.starts_with(".status") || schema["maxItems"].is_u64(),
                "{path} has no bound"
            );
            walk(&format!("{path}[]"), items);
        }
        let named = schema["properties"].is_object();
        assert!(
            path.starts_with(".status")
                || schema["type"] != "string"
                || schema["enum"].is_array()
                || schema["maxLength"].is_u64(),
            "{path} has no bound"
        );
        assert!(
            !(named && fields.contains_key("additionalProperties")),
            "{path} is closed twice"
        );
    }
    let schema = schema();
    walk(".spec", &schema["properties"]["spec"]);
    walk(".status", &schema["properties"]["status"]);
}

#[test]
fn the_definition_is_small() {
    let text = serde_json::to_string(&event_pipeline().unwrap()).unwrap();
    assert!(text.len() < 100_000, "{}", text.len());
}
