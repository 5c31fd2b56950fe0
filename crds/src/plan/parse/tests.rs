//! Laws of [`Plan::parse`].

use super::*;
use crate::plan::{Code, DataType, Mode, SinkKind, StoragePath};

/// The orders pipeline as JSON, which a test edits at one place.
fn orders() -> serde_json::Value {
    serde_json::json!({
        "checkpoint": {"path": "s3://lake/_checkpoints/orders"},
        "deadLetter": {"files": {"path": "s3://lake/_dead_letters/orders"}},
        "sources": [{
            "name": "orders",
            "kafka": {"bootstrapServers": "kafka:9092", "topic": "order-events"},
            "schema": {"fields": [
                {"name": "order_id", "type": "string"},
                {"name": "region", "type": "string"},
                {"name": "price", "type": "decimal(10,2)", "optional": true},
                {"name": "at", "type": "timestamp"}]},
            "watermark": {"column": "at", "delay": "10m"}}],
        "steps": [
            {"name": "revenue", "from": "placed", "aggregate": {
                "window": {"tumbling": {"size": "5m"}}, "groupBy": ["region"], "measures": "count(*) AS n"}},
            {"name": "placed", "from": "orders", "query": {"where": "region = 'eu'"}}],
        "sinks": [
            {"name": "bronze", "from": "orders", "delta": {"path": "s3://lake/bronze", "partitionBy": ["region"]}},
            {"name": "gold", "from": "revenue", "mode": "Update", "delta": {"path": "s3://lake/gold"}}]})
}

fn parse(spec: serde_json::Value) -> Result<Plan, Vec<Violation>> {
    Plan::parse(&serde_json::from_value(spec).unwrap())
}

/// Sets one value of the orders pipeline (`null` removes it) and expects exactly this finding.
fn check(pointer: &str, value: serde_json::Value, code: Code, path: &str) {
    let mut spec = orders();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap();
    match parent {
        serde_json::Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        serde_json::Value::Object(map) if value.is_null() => drop(map.remove(key)),
        serde_json::Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        other => panic!("{other} has no members"),
    }
    let found = parse(spec).unwrap_err();
    let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
    assert_eq!(brief, [(code, path)], "{found:#?}");
}

#[test]
fn the_orders_pipeline_parses_with_steps_after_what_they_read() {
    let plan = parse(orders()).unwrap();
    let names: Vec<_> = plan.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["placed", "revenue"]);
    assert_eq!(plan.steps[1].source.as_str(), "orders");
}

#[test]
fn an_update_sink_inherits_the_keys_of_its_aggregate() {
    let plan = parse(orders()).unwrap();
    assert_eq!(
        (plan.sinks[1].mode, plan.sinks[1].keys.clone()),
        (Mode::Update, vec!["window_start".into(), "region".into()])
    );
    assert!(matches!(plan.sinks[0].kind, SinkKind::Delta(_)));
}

#[test]
fn values_that_do_not_fit_are_found_at_their_field() {
    use serde_json::json;
    check(
        "/sources/0/watermark/delay",
        json!("10 min"),
        Code::Duration,
        "spec.sources[0].watermark.delay",
    );
    check(
        "/sources/0/watermark/column",
        json!("att"),
        Code::WatermarkColumn,
        "spec.sources[0].watermark.column",
    );
    check(
        "/sources/0/watermark/column",
        json!("region"),
        Code::WatermarkColumn,
        "spec.sources[0].watermark.column",
    );
    check(
        "/sources/0/generator",
        json!({"template": "orders"}),
        Code::ExactlyOne,
        "spec.sources[0]",
    );
    check(
        "/sources/0/kafka/startFrom",
        json!("Time"),
        Code::Together,
        "spec.sources[0].kafka.startTime",
    );
    check(
        "/sources/0/kafka/bootstrapServers",
        json!("kafka"),
        Code::Address,
        "spec.sources[0].kafka.bootstrapServers",
    );
    check(
        "/sources/0/schema/fields/0/type",
        json!("strng"),
        Code::DataType,
        "spec.sources[0].schema.fields[0].type",
    );
    check(
        "/sources/0/schema/fields/0/name",
        json!("region"),
        Code::DuplicateField,
        "spec.sources[0].schema.fields[1].name",
    );
    check(
        "/sources/0/schema/fields/0/unit",
        json!("ms"),
        Code::TimestampOption,
        "spec.sources[0].schema.fields[0].unit",
    );
    check(
        "/checkpoint/path",
        json!("gs://lake/x"),
        Code::StoragePath,
        "spec.checkpoint.path",
    );
    check(
        "/checkpoint/maxBytesPerEpoch",
        json!("64Mb"),
        Code::Quantity,
        "spec.checkpoint.maxBytesPerEpoch",
    );
}

#[test]
fn a_graph_that_does_not_hold_is_found_at_its_reference() {
    use serde_json::json;
    check(
        "/sinks/0/from",
        json!("order"),
        Code::UnknownFrom,
        "spec.sinks[0].from",
    );
    check(
        "/sinks/0/name",
        json!("orders"),
        Code::DuplicateName,
        "spec.sinks[0].name",
    );
    check(
        "/sources/0/watermark",
        json!(null),
        Code::WatermarkNeeded,
        "spec.steps[0].aggregate.window",
    );
    check(
        "/sinks/0/keys",
        json!(["order_id"]),
        Code::NotBuilt,
        "spec.sinks[0].keys",
    );
    check(
        "/sinks/1/delta/path",
        json!("s3://lake/bronze/gold"),
        Code::PathOverlap,
        "spec.sinks[1].delta.path",
    );
}

#[test]
fn steps_in_a_circle_are_found_once() {
    let mut spec = orders();
    spec["steps"][1]["from"] = "revenue".into();
    let found = parse(spec).unwrap_err();
    assert_eq!(
        found.iter().filter(|v| v.code == Code::Cycle).count(),
        1,
        "{found:#?}"
    );
}

#[test]
fn all_findings_come_at_once() {
    let mut spec = orders();
    spec["checkpoint"]["interval"] = "soon".into();
    spec["sinks"][0]["from"] = "nowhere".into();
    assert_eq!(parse(spec).unwrap_err().len(), 2);
}

#[test]
fn a_close_name_is_suggested() {
    let mut spec = orders();
    spec["sinks"][0]["from"] = "order".into();
    assert_eq!(
        parse(spec).unwrap_err()[0].help.as_deref(),
        Some("did you mean `orders`?")
    );
}

#[test]
fn durations_follow_gep_2257() {
    let cases = [
        ("10m", Some(600_000)),
        ("1h30m", Some(5_400_000)),
        ("250ms", Some(250)),
        ("0s", Some(0)),
        ("", None),
        ("10", None),
        ("1d", None),
        ("1h1h1h1h1h", None),
        ("123456s", None),
        ("-1s", None),
        ("1.5s", None),
    ];
    for (text, millis) in cases {
        assert_eq!(
            parse_duration(text).ok().map(|d| d.as_millis()),
            millis,
            "{text}"
        );
    }
}

#[test]
fn quantities_are_whole() {
    let cases = [
        ("64Mi", Some(64 << 20)),
        ("1k", Some(1000)),
        ("0", Some(0)),
        ("1.5Gi", None),
        ("Mi", None),
        ("1KB", None),
        ("99999999999Pi", None),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_quantity(text).ok(), bytes, "{text}");
    }
}

#[test]
fn storage_paths_name_a_bucket_or_an_absolute_folder() {
    let s3 = StoragePath::S3 {
        bucket: "lake".into(),
        prefix: "a/b".into(),
    };
    assert_eq!("s3://lake/a/b/".parse(), Ok(s3));
    assert_eq!(
        "file:///tmp/x".parse(),
        Ok(StoragePath::Local("/tmp/x".into()))
    );
    for wrong in [
        "s3://",
        "s3://lake//a",
        "s3://lake/../a",
        "file://x",
        "lake/a",
        "gs://lake",
    ] {
        assert!(wrong.parse::<StoragePath>().is_err(), "{wrong}");
    }
}

#[test]
fn types_nest() {
    let nested = data_type::parse("list<struct<a: int, b: map<string, decimal(10, 2)>>>").unwrap();
    let DataType::List(item) = nested else {
        panic!("must be a list")
    };
    let DataType::Struct(members) = *item else {
        panic!("must hold structs")
    };
    assert_eq!(
        members[1].1,
        DataType::Map(Box::new(DataType::Decimal {
            precision: 10,
            scale: 2
        }))
    );
    for wrong in [
        "list<int",
        "map<int,int>",
        "decimal(39,0)",
        "decimal(3,4)",
        "struct<a int>",
        "int int",
        "Int",
    ] {
        assert!(data_type::parse(wrong).is_err(), "{wrong}");
    }
}
