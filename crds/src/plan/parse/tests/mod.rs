//! Laws of [`Plan::parse`].

mod cases;
mod texts;

use serde_json::{Value, json};

use super::*;
use crate::plan::{Code, Mode, SinkKind};

/// The orders pipeline as JSON, which a test edits at one place.
fn orders() -> Value {
    json!({
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

fn parse(spec: Value) -> Result<Plan, Vec<Violation>> {
    Plan::parse(&serde_json::from_value(spec).unwrap())
}

/// One value of the orders pipeline, and what is to be said of it.
struct Case {
    pointer: &'static str,
    /// `null` takes the field out.
    value: Value,
    code: Code,
    path: String,
}

/// The finding stands at the value.
fn at(pointer: &'static str, value: Value, code: Code) -> Case {
    let segments = pointer.split('/').skip(1);
    let path = segments.map(|segment| match segment.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{segment}"),
    });
    Case {
        pointer,
        value,
        code,
        path: format!("spec{}", path.collect::<String>()),
    }
}

/// The finding stands at another field of the same object, of a member, or at the object.
fn of(pointer: &'static str, value: Value, code: Code, path: &str) -> Case {
    Case {
        path: format!("spec.{path}"),
        ..at(pointer, value, code)
    }
}

/// Sets one value; `null` takes it out; an index past the end adds an item.
fn edit(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(items) => match key.parse::<usize>().unwrap() {
            index if index < items.len() => items[index] = value,
            _ => items.push(value),
        },
        Value::Object(fields) if value.is_null() => drop(fields.shift_remove(key)),
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        other => panic!("{other} has no members"),
    }
}

/// Codes and paths of the findings.
fn found(spec: Value) -> Vec<(Code, String)> {
    let found = parse(spec).err().unwrap_or_default();
    found.into_iter().map(|v| (v.code, v.path)).collect()
}

/// Exactly this finding.
#[track_caller]
fn check(case: &Case) {
    let mut spec = orders();
    edit(&mut spec, case.pointer, case.value.clone());
    let expected = [(case.code, case.path.clone())];
    assert_eq!(found(spec), expected, "{} = {}", case.pointer, case.value);
}

#[test]
fn the_orders_pipeline_parses_with_steps_after_what_they_read() {
    let plan = parse(orders()).unwrap();
    let names: Vec<_> = plan.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["placed", "revenue"]);
    assert_eq!(plan.steps[1].source.as_str(), "orders");
}

/// The orders pipeline with files in place of its topic.
fn of_files(files: Value, format: Value) -> Value {
    let mut spec = orders();
    edit(&mut spec, "/sources/0/kafka", Value::Null);
    edit(&mut spec, "/sources/0/files", files);
    edit(&mut spec, "/sources/0/format", format);
    spec
}

#[test]
fn files_are_rows_or_lines_below_a_folder_that_nobody_writes() {
    let path = || json!({"path": "s3://lake/in"});
    assert!(parse(of_files(path(), json!({"csv": {}}))).is_ok());
    assert!(parse(of_files(path(), json!({}))).is_ok());
    let files = |code, field: &str| vec![(code, format!("spec.sources[0].{field}"))];
    let check = |files: Value, format: Value, expected: Vec<(Code, String)>| {
        let shown = format!("{files} {format}");
        assert_eq!(found(of_files(files, format)), expected, "{shown}");
    };
    for glob in ["", "/a", "a//b", "../a", "a**b", "**"] {
        let given = json!({"path": "s3://lake/in", "glob": glob});
        check(given, json!({}), files(Code::OutOfRange, "files.glob"));
    }
    let inside = json!({"path": "s3://lake/bronze/in"});
    check(inside, json!({}), files(Code::PathOverlap, "files.path"));
    let given = json!({"path": "s3://lake/in", "pollInterval": "0s"});
    check(
        given,
        json!({}),
        files(Code::OutOfRange, "files.pollInterval"),
    );
    for (format, field) in [
        (json!({"csv": {"delimiter": ",,"}}), "delimiter"),
        (json!({"csv": {"delimiter": "\n"}}), "delimiter"),
        (json!({"csv": {"quote": "é"}}), "quote"),
        (json!({"csv": {"quote": ","}}), "quote"),
        (json!({"csv": {"nullText": "a,b"}}), "nullText"),
    ] {
        let field = format!("format.csv.{field}");
        check(path(), format, files(Code::OutOfRange, &field));
    }
    let both = json!({"csv": {}, "json": {}});
    check(path(), both, files(Code::ExactlyOne, "format"));
    let mut nested = of_files(path(), json!({"csv": {}}));
    edit(
        &mut nested,
        "/sources/0/schema/fields/1/type",
        json!("list<int>"),
    );
    assert!(found(nested).contains(&(
        Code::Misplaced,
        "spec.sources[0].schema.fields[1].type".into()
    )));
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
fn a_circle_is_found_once_and_names_only_its_own_steps() {
    let circle = |edits: &[(&str, Value)]| {
        let mut spec = orders();
        for (pointer, value) in edits {
            edit(&mut spec, pointer, value.clone());
        }
        let found = parse(spec).unwrap_err();
        let circles = found.into_iter().filter(|v| v.code == Code::Cycle);
        circles.map(|v| (v.path, v.message)).collect::<Vec<_>>()
    };
    let step =
        |name: &str, from: &str| json!({"name": name, "from": from, "query": {"where": "true"}});
    let said = |path: &str, message: &str| (path.to_owned(), message.to_owned());
    assert_eq!(
        circle(&[("/steps/1/from", json!("revenue"))]),
        [said(
            "spec.steps[0].from",
            "`revenue`, `placed` read each other in a circle"
        )]
    );
    assert_eq!(
        circle(&[("/steps/2", step("a", "a")), ("/steps/0/from", json!("a"))]),
        [said("spec.steps[2].from", "`a` reads itself")]
    );
    assert_eq!(
        circle(&[
            ("/steps/1/from", json!("placed")),
            ("/steps/2", step("a", "b")),
            ("/steps/3", step("b", "a"))
        ]),
        [
            said("spec.steps[1].from", "`placed` reads itself"),
            said("spec.steps[2].from", "`a`, `b` read each other in a circle"),
        ]
    );
}

#[test]
fn a_sink_that_reads_a_sink_is_told_so() {
    let mut spec = orders();
    edit(&mut spec, "/sinks/1/from", json!("bronze"));
    let found = parse(spec).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        found[0].message,
        "`bronze` is a sink, and a sink cannot be read"
    );
    assert_eq!(
        found[0].note.as_deref(),
        Some("there are: `orders`, `placed`, `revenue`")
    );
}

#[test]
fn findings_come_in_the_order_of_the_manifest() {
    let mut spec = orders();
    edit(
        &mut spec,
        "/steps/0/aggregate/window/tumbling/size",
        json!("x"),
    );
    edit(&mut spec, "/steps/1/query", json!({}));
    let paths: Vec<_> = found(spec).into_iter().map(|(_, path)| path).collect();
    assert_eq!(
        paths,
        [
            "spec.steps[0].aggregate.window.tumbling.size",
            "spec.steps[1].query"
        ]
    );
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
fn a_generator_is_read_as_what_it_writes() {
    let of = |template: &str, format: Value| {
        let mut spec = orders();
        edit(&mut spec, "/sources/0/kafka", Value::Null);
        let generator = json!({"template": template});
        edit(&mut spec, "/sources/0/generator", generator);
        edit(&mut spec, "/sources/0/format", format);
        spec
    };
    let shop = |format: Value| {
        let columns = crate::source::Template::Shop.columns().unwrap();
        let typed = |name: &&str| match *name {
            "timestamp" => json!({"name": name, "type": "timestamp"}),
            name => json!({"name": name, "type": "string"}),
        };
        let mut spec = of("shop", format);
        let fields = columns.iter().map(typed).collect();
        edit(&mut spec, "/sources/0/schema/fields", Value::Array(fields));
        edit(&mut spec, "/sources/0/watermark/column", json!("timestamp"));
        spec["steps"] = json!([]);
        spec["sinks"] = json!([{"name": "out", "from": "orders", "stdout": {}}]);
        spec
    };
    let misplaced = |field: &str| vec![(Code::Misplaced, format!("spec.sources[0].{field}"))];
    let rows = || json!({"csv": {"header": false}});
    for template in ["orders", "activity"] {
        assert_eq!(found(of(template, json!({}))), []);
        assert_eq!(found(of(template, json!({"json": {}}))), []);
        assert_eq!(found(of(template, rows())), misplaced("format.csv"));
    }
    assert_eq!(found(shop(rows())), []);
    assert_eq!(found(shop(json!({}))), misplaced("format"));
    let header = json!({"csv": {}});
    assert_eq!(found(shop(header)), misplaced("format.csv.header"));
    let tabs = json!({"csv": {"header": false, "delimiter": "\t"}});
    assert_eq!(found(shop(tabs)), misplaced("format.csv.delimiter"));
    let mut moved = shop(rows());
    let fields = moved["sources"][0]["schema"]["fields"].as_array_mut();
    fields.unwrap().swap(0, 1);
    assert_eq!(found(moved), misplaced("schema.fields"));
}
