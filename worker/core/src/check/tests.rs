//! Laws of the one judge.

use evp_api::plan::Code;

use super::*;

fn orders() -> serde_json::Value {
    serde_json::json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "sources": [{"name": "orders", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "region", "type": "string"},
                {"name": "total", "type": "double"}, {"name": "at", "type": "timestamp"}]},
            "watermark": {"column": "at", "delay": "10m"}}],
        "steps": [
            {"name": "placed", "from": "orders", "query": {"where": "region = 'eu'"}},
            {"name": "revenue", "from": "placed", "aggregate": {"window": {"tumbling": {"size": "5m"}},
                "groupBy": ["region"], "measures": "count(*) AS n, sum(total) AS total"}}],
        "sinks": [
            {"name": "bronze", "from": "orders", "delta": {"path": "s3://lake/bronze", "partitionBy": ["region"]}},
            {"name": "gold", "from": "revenue", "mode": "Update", "delta": {"path": "s3://lake/gold"}}]})
}

fn judge(spec: &serde_json::Value) -> Result<CheckedPlan, Vec<Violation>> {
    check(&serde_json::from_value(spec.clone()).unwrap())
}

/// Changes one value and expects exactly this finding.
fn finds(pointer: &str, value: serde_json::Value, code: Code, path: &str) -> Violation {
    let mut spec = orders();
    *spec.pointer_mut(pointer).unwrap() = value;
    let mut found = judge(&spec).unwrap_err();
    let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
    assert_eq!(brief, [(code, path)], "{found:#?}");
    found.remove(0)
}

#[test]
fn an_aggregate_gives_its_window_its_groups_and_its_measures() {
    let checked = judge(&orders()).unwrap();
    let gold = &checked.sinks[&NodeName::new("gold").unwrap()];
    let names: Vec<_> = gold.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(
        names,
        ["window_start", "window_end", "region", "n", "total"]
    );
}

#[test]
fn every_rule_that_cannot_be_planned_is_found_at_its_check() {
    let mut spec = orders();
    spec["steps"][0] = serde_json::json!({"name": "placed", "from": "orders", "validate": {"rules": [
        {"name": "fits", "check": "_meta.offset >= 0"}, {"name": "a", "check": "totl > 0"},
        {"name": "b", "check": "total + 1"}, {"name": "c", "check": "sum(total) > 1"}, {"name": "d", "check": "total >"}]}});
    let found = judge(&spec).unwrap_err();
    let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
    let at = |i: usize| format!("spec.steps[0].validate.rules[{i}].check");
    assert_eq!(
        brief,
        [
            (Code::UnknownColumn, &*at(1)),
            (Code::SqlPlan, &*at(2)),
            (Code::SqlFunction, &*at(3)),
            (Code::SqlSyntax, &*at(4)),
        ]
    );
    spec["steps"][0]["validate"]["rules"] =
        serde_json::json!([{"name": "fits", "check": "total > 0"}]);
    // The event time passes, and so do the columns that are asked for below.
    judge(&spec).unwrap();
}

#[test]
fn rule_7_an_aggregate_over_an_aggregate_needs_the_end_of_its_windows() {
    let hours = |select: &str| {
        let mut spec = orders();
        let steps = spec["steps"].as_array_mut().unwrap();
        steps.push(
            serde_json::json!({"name": "some", "from": "revenue", "query": {"select": select}}),
        );
        steps.push(
            serde_json::json!({"name": "hours", "from": "some", "aggregate": {
            "window": {"tumbling": {"size": "1h"}}, "measures": "sum(n) AS n"}}),
        );
        spec
    };
    judge(&hours("window_end, n")).unwrap();
    for select in ["n", "window_start AS window_end, n"] {
        let found = judge(&hours(select)).unwrap_err();
        let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
        assert_eq!(brief, [(Code::UnknownColumn, "spec.steps[3].from")]);
        assert_eq!(
            found[0].message,
            "`some` must pass `window_end`, the event time of aggregate `revenue`, unchanged"
        );
    }
}

#[test]
fn what_an_aggregate_means_is_part_of_what_the_one_below_it_means() {
    let fingerprints = |lateness: &str, measures: &str| {
        let mut spec = orders();
        spec["sources"][0]["watermark"]["allowedLateness"] = lateness.into();
        spec["steps"][1]["aggregate"]["measures"] = measures.into();
        let hours = serde_json::json!({"name": "hours", "from": "revenue", "aggregate": {
            "window": {"tumbling": {"size": "1h"}}, "measures": "sum(n) AS n"}});
        spec["steps"].as_array_mut().unwrap().push(hours);
        let checked = judge(&spec).unwrap();
        let running = crate::dataflow::Dataflow::new(&checked).unwrap();
        running.fingerprints().into_values().collect::<Vec<_>>()
    };
    let same = fingerprints("0s", "count(*) AS n");
    assert_eq!(same, fingerprints("0s", "count(*) AS n"));
    for other in [
        fingerprints("1s", "count(*) AS n"),
        fingerprints("0s", "sum(total) AS n"),
    ] {
        assert!(same.iter().zip(&other).all(|(a, b)| a != b), "{other:?}");
    }
}

#[test]
fn distinct_values_of_sessions_are_refused_by_name() {
    let mut spec = orders();
    spec["steps"][1]["aggregate"]["window"] = serde_json::json!({"session": {"gap": "5m"}});
    spec["steps"][1]["aggregate"]["measures"] = "count(DISTINCT id) AS ids".into();
    spec["sinks"][1]["mode"] = "Append".into();
    let found = judge(&spec).unwrap_err();
    let path = "spec.steps[1].aggregate.measures";
    assert_eq!(
        (found[0].code, found[0].path.as_str()),
        (Code::SqlFunction, path)
    );
}

#[test]
fn an_unknown_group_column_is_named_with_what_there_is() {
    let path = "spec.steps[1].aggregate.groupBy[0]";
    let found = finds(
        "/steps/1/aggregate/groupBy/0",
        "regoin".into(),
        Code::UnknownColumn,
        path,
    );
    assert_eq!(found.help.as_deref(), Some("did you mean `region`?"));
    assert_eq!(
        found.note.as_deref(),
        Some("`placed` has: id, region, total, at")
    );
}

#[test]
fn mistakes_in_sql_are_found_at_their_text() {
    finds(
        "/steps/0/query/where",
        "regoin = 'eu'".into(),
        Code::UnknownColumn,
        "spec.steps[0].query.where",
    );
    finds(
        "/steps/0/query/where",
        "count(*) > 1".into(),
        Code::SqlFunction,
        "spec.steps[0].query.where",
    );
    let measures = "/steps/1/aggregate/measures";
    finds(
        measures,
        "total AS n".into(),
        Code::SqlFunction,
        "spec.steps[1].aggregate.measures",
    );
    finds(
        measures,
        "sum(total)".into(),
        Code::MeasureName,
        "spec.steps[1].aggregate.measures",
    );
    finds(
        measures,
        "sum(total) AS region".into(),
        Code::DuplicateColumn,
        "spec.steps[1].aggregate.measures",
    );
    finds(
        measures,
        "approx_distinct(id) AS n".into(),
        Code::SqlPlan,
        "spec.steps[1].aggregate.measures",
    );
}

#[test]
fn a_partition_column_must_exist() {
    let path = "spec.sinks[0].delta.partitionBy[0]";
    finds(
        "/sinks/0/delta/partitionBy/0",
        "regio".into(),
        Code::UnknownColumn,
        path,
    );
}

/// With a third sink, into a topic.
fn logged(mode: &str, from: &str, key: &str) -> serde_json::Value {
    let mut spec = orders();
    let sink = serde_json::json!({"name": "log", "from": from, "mode": mode,
        "kafka": {"bootstrapServers": "k:1", "topic": "log", "keyColumn": key}});
    spec["sinks"].as_array_mut().unwrap().push(sink);
    spec
}

#[test]
fn the_key_of_a_record_is_a_column_with_one_text() {
    let found = |spec: &serde_json::Value| {
        let found = judge(spec).err().unwrap_or_default();
        let brief = found.into_iter().map(|v| (v.code, v.path));
        brief.collect::<Vec<_>>()
    };
    let fault = |code| vec![(code, "spec.sinks[2].kafka.keyColumn".to_owned())];
    let check = |mode, from, key, expected| {
        assert_eq!(
            found(&logged(mode, from, key)),
            expected,
            "{mode} {from} {key}"
        );
    };
    check("Append", "orders", "region", vec![]);
    check("Append", "orders", "at", vec![]);
    check("Append", "orders", "regio", fault(Code::UnknownColumn));
    check("Append", "orders", "total", fault(Code::ColumnType));
    check("Append", "revenue", "n", vec![]);
    check("Update", "revenue", "region", vec![]);
    check("Update", "revenue", "window_start", vec![]);
    check("Update", "revenue", "n", fault(Code::Misplaced));
    // No record stands behind a window without a region.
    let mut optional = logged("Append", "revenue", "region");
    optional["sources"][0]["schema"]["fields"][1]["optional"] = true.into();
    optional["sinks"].as_array_mut().unwrap().drain(..2);
    let mut above = optional.clone();
    assert_eq!(
        found(&optional),
        [(Code::ColumnType, "spec.sinks[0].kafka.keyColumn".to_owned())]
    );
    above["sinks"][0]["from"] = "orders".into();
    assert_eq!(found(&above), []);
    let named = serde_json::json!({"name": "named", "from": "revenue", "query": {"select": "*, coalesce(region, 'none') AS key"}});
    optional["steps"].as_array_mut().unwrap().push(named);
    optional["sinks"][0]["from"] = "named".into();
    optional["sinks"][0]["kafka"]["keyColumn"] = "key".into();
    assert_eq!(found(&optional), []);
}

#[test]
fn the_digest_names_the_meaning_and_not_what_the_operator_alone_uses() {
    let digest = |spec: &serde_json::Value| judge(spec).unwrap().digest;
    let (mut suspended, mut changed) = (orders(), orders());
    suspended["suspend"] = true.into();
    changed["checkpoint"]["interval"] = "5s".into();
    assert_eq!(digest(&orders()), digest(&suspended));
    assert_ne!(digest(&orders()), digest(&changed));
}

/// A query between the aggregate and gold.
fn shaped(select: &str) -> Result<CheckedPlan, Vec<Violation>> {
    let mut spec = orders();
    let steps = spec["steps"].as_array_mut().unwrap();
    steps.push(
        serde_json::json!({"name": "shaped", "from": "revenue", "query": {"select": select}}),
    );
    spec["sinks"][1]["from"] = "shaped".into();
    judge(&spec)
}

#[test]
fn rule_18_a_query_below_an_aggregate_passes_the_keys_unchanged() {
    let changed = |select: &str| {
        let found = shaped(select).unwrap_err();
        assert!(
            found.iter().all(|v| v.path == "spec.sinks[1].from"),
            "{found:#?}"
        );
        found.iter().map(|v| v.code).collect::<Vec<_>>()
    };
    assert!(shaped("*, total / n AS mean").is_ok());
    assert!(shaped("region, window_start, n").is_ok());
    assert_eq!(changed("window_start, n"), [Code::KeysChanged]);
    assert_eq!(
        changed("window_start, upper(region) AS region, n"),
        [Code::KeysChanged]
    );
    assert_eq!(
        changed("window_end AS window_start, region, n"),
        [Code::KeysChanged]
    );
    assert_eq!(
        changed("window_end AS window_start, 'eu' AS region, n").len(),
        2
    );
}

#[test]
fn an_aggregate_is_given_the_event_time_of_its_source_unchanged() {
    let path = "spec.steps[1].from";
    for select in [
        "id, region, total",
        "* EXCLUDE (at), at + INTERVAL '1 day' AS at",
    ] {
        let query = serde_json::json!({"select": select});
        finds("/steps/0/query", query, Code::UnknownColumn, path);
    }
}

#[test]
fn a_part_of_meta_is_grouped_by_under_a_name_of_its_own() {
    let path = "spec.steps[1].aggregate.groupBy[0]";
    let found = finds(
        "/steps/1/aggregate/groupBy/0",
        "_meta.partition".into(),
        Code::UnknownColumn,
        path,
    );
    let help = "give it a name in a query: _meta.partition AS partition";
    assert_eq!(found.help.as_deref(), Some(help));
}

#[test]
fn mistakes_in_measures_are_pointed_at() {
    let found = finds(
        "/steps/1/aggregate/measures",
        "count(*) AS n, total + 1 AS more".into(),
        Code::SqlFunction,
        "spec.steps[1].aggregate.measures",
    );
    assert_eq!(found.span, Some((15, 24)));
    let found = finds(
        "/steps/1/aggregate/measures",
        "count(*) AS n, summ(total) AS total".into(),
        Code::SqlPlan,
        "spec.steps[1].aggregate.measures",
    );
    assert_eq!(
        (found.span, found.help.as_deref()),
        (Some((15, 19)), Some("did you mean `sum`?"))
    );
}

#[test]
fn what_cannot_run_is_not_accepted() {
    let measures = "/steps/1/aggregate/measures";
    let path = "spec.steps[1].aggregate.measures";
    finds(measures, "max(total > 1) AS m".into(), Code::SqlPlan, path);
}

#[test]
fn a_delta_table_must_be_able_to_hold_every_column() {
    let refused = |select: &str, code| {
        let query = serde_json::json!({"select": select});
        let mut spec = orders();
        spec["steps"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({"name": "shaped", "from": "orders", "query": query}));
        spec["sinks"][0]["from"] = "shaped".into();
        let found = judge(&spec).unwrap_err();
        let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
        assert_eq!(
            brief,
            [(code, "spec.sinks[0].from")],
            "{select}: {found:#?}"
        );
    };
    refused("region, total * 2", Code::ColumnType);
    refused("region, total AS \"a b\"", Code::ColumnType);
    refused("region, id AS Region", Code::DuplicateColumn);
    refused("region, CAST(1 AS BIGINT UNSIGNED) AS n", Code::ColumnType);
    refused("region, INTERVAL '1 day' AS n", Code::ColumnType);
}

#[test]
fn all_findings_are_reported_at_once() {
    let mut spec = orders();
    spec["steps"][0]["query"]["where"] = "regoin = 'eu'".into();
    spec["sinks"][0]["delta"]["partitionBy"] = serde_json::json!(["regio"]);
    let found = judge(&spec).unwrap_err();
    let paths: Vec<_> = found.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.steps[0].query.where",
            "spec.sinks[0].delta.partitionBy[0]"
        ]
    );
}

#[test]
fn a_postgres_table_is_found_by_columns_that_are_written_and_named_as_the_server_names() {
    let table = |indexes: serde_json::Value| {
        serde_json::json!({"host": "db", "database": "d", "table": "t", "username": "u",
            "password": {"secretKeyRef": {"name": "s", "key": "k"}}, "createTable": {"indexes": indexes}})
    };
    let finds = |keys: &[&str],
                 select: &str,
                 indexes: serde_json::Value,
                 expected: &[(Code, &str)]| {
        let mut spec = orders();
        spec["steps"][0] =
            serde_json::json!({"name": "placed", "from": "orders", "query": {"select": select}});
        spec["sinks"] = serde_json::json!([{"name": "t", "from": "placed", "keys": keys, "postgres": table(indexes)}]);
        spec["steps"].as_array_mut().unwrap().truncate(1);
        let found = judge(&spec).err().unwrap_or_default();
        let brief: Vec<_> = found.iter().map(|v| (v.code, v.path.as_str())).collect();
        assert_eq!(brief, expected, "{found:#?}");
    };
    let none = || serde_json::json!([]);
    finds(
        &["id"],
        "id, upper(region) AS region",
        serde_json::json!([["region"]]),
        &[],
    );
    finds(
        &["idd"],
        "id",
        none(),
        &[(Code::UnknownColumn, "spec.sinks[0].keys[0]")],
    );
    finds(
        &[],
        "id",
        serde_json::json!([["id", "nobody"]]),
        &[(
            Code::UnknownColumn,
            "spec.sinks[0].postgres.createTable.indexes[0][1]",
        )],
    );
    finds(
        &[],
        "id AS ctid",
        none(),
        &[(Code::ColumnType, "spec.sinks[0].from")],
    );
    let long = format!("id AS {}", "x".repeat(64));
    finds(
        &[],
        &long,
        none(),
        &[(Code::ColumnType, "spec.sinks[0].from")],
    );
}
