//! What is refused, field by field; and laws over all of it.

use super::*;
use crate::plan::Code::*;

#[expect(clippy::too_many_lines, reason = "a table of cases, one a line")]
fn values() -> Vec<Case> {
    vec![
        at("/checkpoint/path", json!("gs://lake/x"), StoragePath),
        at("/checkpoint/interval", json!("soon"), Duration),
        at("/checkpoint/interval", json!("0s"), OutOfRange),
        at("/checkpoint/interval", json!("2h"), OutOfRange),
        at("/checkpoint/history", json!("7d"), Duration),
        at("/checkpoint/history", json!("0h"), OutOfRange),
        at("/checkpoint/maxBytesPerEpoch", json!("64Mb"), Quantity),
        at("/checkpoint/maxBytesPerEpoch", json!("0"), OutOfRange),
        at("/checkpoint/maxRecordsPerEpoch", json!(0), OutOfRange),
        at("/checkpoint/adoptFrom", json!(""), OutOfRange),
        at("/checkpoint/adoptFrom", json!("a b"), OutOfRange),
        at("/checkpoint/adoptFrom", json!("u".repeat(129)), OutOfRange),
        of(
            "/skip",
            json!([{"source": "nobody", "split": "0", "position": 1}]),
            UnknownSource,
            "skip[0].source",
        ),
        of(
            "/skip",
            json!([{"source": "orders", "split": "01", "position": 1}]),
            OutOfRange,
            "skip[0].split",
        ),
        of(
            "/skip",
            json!([{"source": "orders", "split": "0", "position": -1}]),
            OutOfRange,
            "skip[0].position",
        ),
        of(
            "/objectives",
            json!({"freshness": "now"}),
            Duration,
            "objectives.freshness",
        ),
        of(
            "/objectives",
            json!({"maxDeadLetterPercent": 101}),
            OutOfRange,
            "objectives.maxDeadLetterPercent",
        ),
        of(
            "/workers",
            json!({"resources": {"limits": {"memory": "1.5Gi"}}}),
            Quantity,
            "workers.resources.limits.memory",
        ),
        of(
            "/workers",
            json!({"resources": {"requests": {"cpu": "."}}}),
            Quantity,
            "workers.resources.requests.cpu",
        ),
        of(
            "/workers",
            json!({"resources": {"requests": {"cpu": "1.5"}, "limits": {"cpu": "1499m"}}}),
            OutOfRange,
            "workers.resources.requests.cpu",
        ),
        of(
            "/workers",
            json!({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}}),
            OutOfRange,
            "workers.resources.requests.memory",
        ),
        at("/sources/0/kafka/bootstrapServers", json!("kafka"), Address),
        at(
            "/sources/0/kafka/bootstrapServers",
            json!("kafka://a:9092"),
            Address,
        ),
        at(
            "/sources/0/kafka/bootstrapServers",
            json!("a:9092,b:0"),
            Address,
        ),
        at("/sources/0/kafka/topic", json!(".."), Address),
        of(
            "/sources/0/kafka/startFrom",
            json!("Time"),
            Together,
            "sources[0].kafka.startTime",
        ),
        of(
            "/sources/0/kafka/startFrom",
            json!("Offsets"),
            Together,
            "sources[0].kafka.startOffsets",
        ),
        at(
            "/sources/0/kafka/startTime",
            json!("2026-01-01T00:00:00Z"),
            Together,
        ),
        of(
            "/sources/0/kafka/sasl",
            json!({"mechanism": "PLAIN", "username": "", "password": secret("a", "b")}),
            OutOfRange,
            "sources[0].kafka.sasl.username",
        ),
        of(
            "/sources/0/kafka/sasl",
            json!({"mechanism": "PLAIN", "username": "u", "password": secret("../a", "b")}),
            Secret,
            "sources[0].kafka.sasl.password.secretKeyRef.name",
        ),
        of(
            "/sources/0/kafka/tls",
            json!({"ca": secret("a", "../b")}),
            Secret,
            "sources[0].kafka.tls.ca.secretKeyRef.key",
        ),
        at(
            "/sources/0/kafka/tls",
            json!({"cert": secret("a", "b")}),
            Together,
        ),
        at("/sources/0/schema/fields/0/type", json!("strng"), DataType),
        of(
            "/sources/0/schema/fields/0/name",
            json!("region"),
            DuplicateField,
            "sources[0].schema.fields[1].name",
        ),
        at("/sources/0/schema/fields/0/name", json!("_meta"), Name),
        at(
            "/sources/0/schema/fields/0/unit",
            json!("ms"),
            TimestampOption,
        ),
        at(
            "/sources/0/schema/fields/0/zone",
            json!("UTC"),
            TimestampOption,
        ),
        at(
            "/sources/0/schema/fields/3/zone",
            json!("Mars/Base"),
            OutOfRange,
        ),
        at(
            "/sources/0/schema/fields/3/zone",
            json!("+99:99"),
            OutOfRange,
        ),
        at(
            "/sources/0/schema/maxRecordBytes",
            json!("65Mi"),
            OutOfRange,
        ),
        at("/sources/0/watermark/delay", json!("10 min"), Duration),
        at("/sources/0/watermark/idleTimeout", json!("0s"), OutOfRange),
        at("/sources/0/watermark/column", json!("att"), WatermarkColumn),
        at(
            "/sources/0/watermark/column",
            json!("region"),
            WatermarkColumn,
        ),
        of(
            "/sources/0/schema/fields/3/optional",
            json!(true),
            WatermarkColumn,
            "sources[0].watermark.column",
        ),
        of(
            "/sources/0/generator",
            json!({"template": "orders"}),
            ExactlyOne,
            "sources[0]",
        ),
        at("/sinks/0/name", json!("Bronze"), Name),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table of cases, one a line")]
fn graph() -> Vec<Case> {
    vec![
        at("/objectStore", json!({}), ExactlyOne),
        of(
            "/objectStore",
            s3("https://"),
            Address,
            "objectStore.s3.endpoint",
        ),
        of(
            "/objectStore",
            s3("https://a/b?c"),
            Address,
            "objectStore.s3.endpoint",
        ),
        of(
            "/objectStore",
            s3("minio:9000"),
            Address,
            "objectStore.s3.endpoint",
        ),
        of(
            "/objectStore",
            s3("http://minio:9000"),
            Together,
            "objectStore.s3.endpoint",
        ),
        of(
            "/objectStore",
            json!({"s3": {"accessKeyId": secret("a", "b")}}),
            Together,
            "objectStore.s3",
        ),
        of(
            "/objectStore",
            json!({"s3": {"endpoint": "http://a", "allowHttp": true, "ca": secret("a", "b")}}),
            Misplaced,
            "objectStore.s3.ca",
        ),
        at("/deadLetter", json!({}), ExactlyOne),
        at(
            "/deadLetter/files/path",
            json!("s3://lake/a?b"),
            StoragePath,
        ),
        at(
            "/steps/0/aggregate/window/tumbling/size",
            json!("0s"),
            OutOfRange,
        ),
        at(
            "/steps/0/aggregate/window/tumbling/origin",
            json!("today"),
            Instant,
        ),
        at("/steps/0/aggregate/window", json!({}), ExactlyOne),
        hops("5m", "6m"),
        hops("24h1m", "1m"),
        hops("5m", "0s"),
        of(
            "/steps/0/aggregate/window",
            json!({"hopping": {"size": "x", "slide": "1m"}}),
            Duration,
            "steps[0].aggregate.window.hopping.size",
        ),
        of(
            "/steps/0/aggregate/window",
            json!({"hopping": {"size": "5m", "slide": "1m", "origin": "today"}}),
            Instant,
            "steps[0].aggregate.window.hopping.origin",
        ),
        of(
            "/steps/2",
            json!({"name": "per-hour", "from": "revenue", "aggregate": {
                "window": {"tumbling": {"size": "1h"}}, "measures": "sum(n) AS n", "late": "DeadLetter"}}),
            Misplaced,
            "steps[2].aggregate.late",
        ),
        of(
            "/steps/0/aggregate/groupBy",
            json!(["region", "region"]),
            DuplicateColumn,
            "steps[0].aggregate.groupBy[1]",
        ),
        at("/steps/0/aggregate/groupBy/0", json!(""), OutOfRange),
        at("/steps/0/aggregate/measures", json!(" "), OutOfRange),
        at("/steps/1/query", json!({}), ExactlyOne),
        of(
            "/steps/1",
            rules(json!([])),
            OutOfRange,
            "steps[1].validate.rules",
        ),
        of(
            "/steps/1",
            rules(json!([{"name": "a", "check": " "}])),
            OutOfRange,
            "steps[1].validate.rules[0].check",
        ),
        of(
            "/steps/1",
            rules(json!([{"name": "a", "check": "true", "message": ""}])),
            OutOfRange,
            "steps[1].validate.rules[0].message",
        ),
        of(
            "/steps/1",
            rules(json!([{"name": "A b", "check": "true"}])),
            Name,
            "steps[1].validate.rules[0].name",
        ),
        of(
            "/steps/1",
            rules(json!([{"name": "a", "check": "true"}, {"name": "a", "check": "false"}])),
            DuplicateName,
            "steps[1].validate.rules[1].name",
        ),
        of(
            "/steps/2",
            json!({"name": "valid", "from": "revenue", "validate": {"rules": [{"name": "a", "check": "n > 0"}]}}),
            Misplaced,
            "steps[2].validate",
        ),
        of(
            "/steps/0/query",
            json!({"where": "true"}),
            ExactlyOne,
            "steps[0]",
        ),
        at("/steps/1/from", json!("order"), UnknownFrom),
        at("/sinks/0/from", json!("order"), UnknownFrom),
        at("/sinks/0/name", json!("orders"), DuplicateName),
        at("/sinks/0/name", json!("dead-letters"), DuplicateName),
        at("/sinks/0/keys", json!(["order_id"]), NotBuilt),
        of("/sinks/0/stdout", json!({}), ExactlyOne, "sinks[0]"),
        of(
            "/sinks/0/delta/partitionBy",
            json!(["region", "region"]),
            DuplicateColumn,
            "sinks[0].delta.partitionBy[1]",
        ),
        at("/sinks/1/delta/partitionBy", json!(["region"]), NotBuilt),
        at("/sinks/1/keys", json!(["region"]), KeysChanged),
        at(
            "/sinks/1/delta/path",
            json!("s3://lake/bronze/gold"),
            PathOverlap,
        ),
        at("/sinks", json!([]), OutOfRange),
    ]
}

/// A sink beside the others that writes topic `log`, with this said otherwise.
fn log(mode: &str, from: &str, field: &str, value: Value) -> Value {
    let mut sink = json!({"name": "log", "from": from, "mode": mode,
        "kafka": {"bootstrapServers": "kafka:9092", "topic": "log", "keyColumn": "region"}});
    edit(&mut sink, field, value);
    sink
}

fn logs() -> Vec<Case> {
    let append = |field, value, code, path: &str| {
        of(
            "/sinks/9",
            log("Append", "orders", field, value),
            code,
            path,
        )
    };
    let update = |field, value, code, path: &str| {
        of(
            "/sinks/9",
            log("Update", "revenue", field, value),
            code,
            path,
        )
    };
    let both = json!({"bootstrapServers": "kafka:9092", "topic": "order-events"});
    let (topic, kafka) = ("/kafka/topic", "sinks[2].kafka");
    vec![
        append(topic, json!("a b"), Address, &format!("{kafka}.topic")),
        append(
            "/kafka/bootstrapServers",
            json!("kafka"),
            Address,
            &format!("{kafka}.bootstrapServers"),
        ),
        append(
            "/kafka/progressTopic",
            json!("log"),
            OutOfRange,
            &format!("{kafka}.progressTopic"),
        ),
        append("/kafka", both, Cycle, &format!("{kafka}.topic")),
        append(
            "/kafka/tls",
            json!({"key": secret("k", "k")}),
            Together,
            &format!("{kafka}.tls"),
        ),
        append(
            "/kafka/keyColumn",
            json!(""),
            OutOfRange,
            &format!("{kafka}.keyColumn"),
        ),
        append("/stdout", json!({}), ExactlyOne, "sinks[2]"),
        update(
            "/keys",
            json!(["window_start", "region"]),
            Misplaced,
            "sinks[2].keys",
        ),
        update(
            "/kafka/keyColumn",
            Value::Null,
            Together,
            &format!("{kafka}.keyColumn"),
        ),
        update("/from", json!("orders"), NotBuilt, "sinks[2].mode"),
    ]
}

#[test]
fn a_log_takes_rows_and_changes_and_takes_nothing_back() {
    logs().iter().for_each(check);
    let with = |query: Value| {
        let mut spec = orders();
        edit(
            &mut spec,
            "/steps/9",
            json!({"name": "big", "from": "revenue", "query": query}),
        );
        edit(
            &mut spec,
            "/sinks/9",
            log("Update", "big", "/kafka/keyColumn", json!("region")),
        );
        found(spec)
    };
    assert_eq!(with(json!({"select": "*"})), []);
    let refused = [(Misplaced, "spec.sinks[2].mode".to_owned())];
    assert_eq!(with(json!({"where": "n > 1"})), refused);
    let mut closed = orders();
    edit(
        &mut closed,
        "/steps/9",
        json!({"name": "big", "from": "revenue", "query": {"where": "n > 1"}}),
    );
    edit(
        &mut closed,
        "/sinks/9",
        log("Append", "big", "/kafka/keyColumn", json!("region")),
    );
    assert_eq!(
        found(closed),
        [],
        "a window that closed is never taken back"
    );
}

fn hops(size: &str, slide: &str) -> Case {
    let window = json!({"hopping": {"size": size, "slide": slide}});
    let at = "steps[0].aggregate.window.hopping.slide";
    of("/steps/0/aggregate/window", window, OutOfRange, at)
}

fn rules(rules: Value) -> Value {
    json!({"name": "placed", "from": "orders", "validate": {"rules": rules}})
}

fn secret(name: &str, key: &str) -> Value {
    json!({"secretKeyRef": {"name": name, "key": key}})
}

fn s3(endpoint: &str) -> Value {
    json!({"s3": {"endpoint": endpoint}})
}

fn postgres() -> Value {
    json!({"host": "db", "database": "shop", "table": "t", "username": "u", "password": secret("a", "b")})
}

/// A sink of the orders that writes to PostgreSQL, with one field changed.
fn to_postgres(edits: &[(&str, Value)]) -> Value {
    let mut sink = json!({"name": "bronze", "from": "orders", "postgres": postgres()});
    for (pointer, value) in edits {
        edit(&mut sink, pointer, value.clone());
    }
    sink
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_postgres_sink_takes_keys_in_both_modes_and_is_refused_at_its_fields() {
    let check = |edits: &[(&str, Value)], expected: &[(Code, &str)]| {
        let mut spec = orders();
        spec["sinks"][0] = to_postgres(edits);
        let expected: Vec<_> = expected
            .iter()
            .map(|(code, path)| (*code, format!("spec.sinks[0].{path}")))
            .collect();
        let found = match parse(spec) {
            Ok(_) => Vec::new(),
            Err(found) => found.into_iter().map(|v| (v.code, v.path)).collect(),
        };
        assert_eq!(found, expected, "{edits:?}");
    };
    check(&[], &[]);
    check(&[("/keys", json!(["order_id"]))], &[]);
    check(
        &[("/keys", json!(["order_id"])), ("/mode", json!("Update"))],
        &[],
    );
    check(&[("/mode", json!("Update"))], &[(Together, "keys")]);
    check(
        &[("/keys", json!(["a", "a"]))],
        &[(DuplicateColumn, "keys[1]")],
    );
    check(
        &[("/postgres/host", json!("db:5432"))],
        &[(Address, "postgres.host")],
    );
    check(&[("/postgres/host", json!("::1"))], &[]);
    check(
        &[("/postgres/port", json!(70_000))],
        &[(OutOfRange, "postgres.port")],
    );
    check(
        &[("/postgres/table", json!(""))],
        &[(OutOfRange, "postgres.table")],
    );
    check(
        &[("/postgres/schema", json!("x".repeat(64)))],
        &[(OutOfRange, "postgres.schema")],
    );
    check(
        &[("/postgres/table", json!("eventpipeline_progress"))],
        &[(Misplaced, "postgres.table")],
    );
    check(
        &[("/postgres/password", secret("../a", "b"))],
        &[(Secret, "postgres.password.secretKeyRef.name")],
    );
    check(
        &[("/postgres/tls", json!({"key": secret("a", "b")}))],
        &[(Together, "postgres.tls")],
    );
    check(
        &[(
            "/postgres/createTable",
            json!({"indexes": [["a"], ["a"], ["b", "b"], []]}),
        )],
        &[
            (OutOfRange, "postgres.createTable.indexes[3]"),
            (DuplicateColumn, "postgres.createTable.indexes[1]"),
            (DuplicateColumn, "postgres.createTable.indexes[2][1]"),
        ],
    );
}

#[test]
fn what_does_not_fit_is_found_at_its_field_and_nothing_else_is() {
    values().iter().chain(&graph()).for_each(check);
}

#[test]
fn what_must_go_with_something_else_is_found_without_it() {
    let without = |taken: &str, pointer: &str, value: Value, code: Code, path: &str| {
        let mut spec = orders();
        edit(&mut spec, taken, Value::Null);
        edit(&mut spec, pointer, value);
        assert_eq!(found(spec), [(code, path.to_owned())]);
    };
    let dead_letters = [
        (
            "/steps/0/aggregate/late",
            "DeadLetter",
            "spec.steps[0].aggregate.late",
        ),
        (
            "/sources/0/kafka/onDataLoss",
            "RecordGap",
            "spec.sources[0].kafka.onDataLoss",
        ),
        (
            "/sources/0/schema/unknownFields",
            "DeadLetter",
            "spec.sources[0].schema.unknownFields",
        ),
    ];
    for (pointer, value, path) in dead_letters {
        without("/deadLetter", pointer, json!(value), DeadLetterNeeded, path);
    }
    without(
        "/deadLetter",
        "/skip",
        json!([{"source": "orders", "split": "0", "position": 1}]),
        DeadLetterNeeded,
        "spec.skip",
    );
    check(&of(
        "/sources/0/watermark",
        json!(null),
        WatermarkNeeded,
        "steps[0].aggregate.window",
    ));
    let partitions = "/sinks/0/delta/partitionBy";
    let mode = json!("Update");
    without(
        partitions,
        "/sinks/0/mode",
        mode,
        NotBuilt,
        "spec.sinks[0].mode",
    );
    let generator = json!({"template": "orders", "seed": -1});
    without(
        "/sources/0/kafka",
        "/sources/0/generator",
        generator,
        OutOfRange,
        "spec.sources[0].generator.seed",
    );
}

#[test]
fn rule_17_sessions_need_a_key_and_a_sink_that_appends() {
    let sessions = json!({"session": {"gap": "5m"}});
    let windows = "/steps/0/aggregate/window";
    check(&of(windows, sessions.clone(), Misplaced, "sinks[1].mode"));
    let mut keyless = orders();
    edit(&mut keyless, windows, sessions);
    edit(&mut keyless, "/steps/0/aggregate/groupBy", json!([]));
    edit(&mut keyless, "/sinks/1/mode", json!("Append"));
    let group_by = "spec.steps[0].aggregate.groupBy";
    assert_eq!(found(keyless), [(OutOfRange, group_by.to_owned())]);
}

/// One of them is right beside the other, or means another thing.
fn go_together(a: &str, b: &str) -> bool {
    let pairs = [
        ["/sources/0/kafka/startFrom", "/sources/0/kafka/startTime"],
        [
            "/sources/0/schema/fields/0/type",
            "/sources/0/schema/fields/0/unit",
        ],
        [
            "/sources/0/schema/fields/0/type",
            "/sources/0/schema/fields/0/zone",
        ],
    ];
    pairs
        .iter()
        .any(|pair| pair.contains(&a) && pair.contains(&b))
}

/// Two mistakes are both told, whichever they are: nobody should have to mend one to hear of the other.
#[test]
fn no_finding_hides_another() {
    let cases: Vec<_> = values().into_iter().chain(graph()).collect();
    // Below an unknown or duplicate name nothing is known.
    let breaks_the_chain =
        |case: &Case| case.pointer.ends_with("/from") || case.path.ends_with("].name");
    let cases: Vec<_> = cases
        .iter()
        .filter(|case| !breaks_the_chain(case))
        .collect();
    for (i, a) in cases.iter().enumerate() {
        for b in &cases[..i] {
            let nested = a.pointer.starts_with(b.pointer) || b.pointer.starts_with(a.pointer);
            if nested || go_together(a.pointer, b.pointer) {
                continue;
            }
            let mut spec = orders();
            edit(&mut spec, a.pointer, a.value.clone());
            if spec
                .pointer(b.pointer.rsplit_once('/').unwrap().0)
                .is_none()
            {
                continue;
            }
            edit(&mut spec, b.pointer, b.value.clone());
            let found = found(spec);
            for case in [a, b] {
                let told = (case.code, case.path.clone());
                assert!(
                    found.contains(&told),
                    "{} and {}: {found:?}",
                    a.pointer,
                    b.pointer
                );
            }
        }
    }
}

/// Every value of the manifest replaced by odd ones: parsing ends, and a refusal says why.
#[test]
fn a_refusal_always_says_why() {
    let odd = [
        json!(""),
        json!("x"),
        json!("é/☃"),
        json!("s3://a"),
        json!("s3:///"),
        json!("0"),
        json!("99999h99999h"),
        json!(-1),
        json!(0),
        json!(i64::MAX),
        json!(true),
        json!([]),
        json!({}),
        json!(null),
        json!([""]),
        json!("+é:é"),
    ];
    let (mut refused, mut spec) = (0, orders());
    edit(&mut spec, "/objectStore", s3("https://a:1"));
    edit(
        &mut spec,
        "/sources/1",
        json!({"name": "more", "generator": {"template": "orders", "rate": 1, "seed": 1, "limit": 1},
        "schema": {"fields": [{"name": "at", "type": "timestamp", "zone": "+01:00", "unit": "ms"}], "maxRecordBytes": "1Ki"}}),
    );
    assert!(parse(spec.clone()).is_ok());
    for pointer in pointers(&spec, "") {
        for value in &odd {
            let mut spec = spec.clone();
            edit(&mut spec, &pointer, value.clone());
            let Ok(spec) = serde_json::from_value(spec) else {
                continue;
            };
            if let Err(found) = Plan::parse(&spec) {
                assert!(!found.is_empty(), "{pointer} = {value}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

fn pointers(value: &Value, at: &str) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(k, v)| (format!("{at}/{k}"), v))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, v)| (format!("{at}/{i}"), v))
            .collect(),
        _ => Vec::new(),
    };
    inner
        .into_iter()
        .flat_map(|(at, value)| [vec![at.clone()], pointers(value, &at)].concat())
        .collect()
}
