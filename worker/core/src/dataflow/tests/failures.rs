//! Laws of what cannot be computed, and of rows that come late.

use serde_json::{Value, json};

use super::*;

const NOW: Micros = Micros(1_000 * MINUTE);

/// Records `{"n", "at"}` into 5-minute windows of `measures`, and below them a query.
fn opened(measures: &str, below: Value) -> Dataflow {
    let field = |name: &str, data_type: &str| json!({"name": name, "type": data_type});
    let mut at = field("at", "timestamp");
    at["unit"] = "us".into();
    let spec = json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "deadLetter": {"files": {"path": "s3://lake/_d"}},
        "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [field("kind", "string"), field("n", "long"), at]},
            "watermark": {"column": "at", "delay": "1m", "idleTimeout": "1m"}}],
        "steps": [
            {"name": "sums", "from": "in", "aggregate": {"window": {"tumbling": {"size": "5m"}}, "groupBy": ["kind"],
                "measures": measures, "late": "DeadLetter"}},
            {"name": "below", "from": "sums", "query": below}],
        "sinks": [{"name": "gold", "from": "below", "mode": "Update", "delta": {"path": "s3://lake/gold"}}]});
    let checked = check(&serde_json::from_value(spec).unwrap()).unwrap();
    let mut dataflow = Dataflow::new(&checked).unwrap();
    dataflow.open(NOW).unwrap();
    dataflow
}

fn push(dataflow: &mut Dataflow, split: i32, records: &[(i64, i64)]) -> Pushed {
    let record = |(n, at): &(i64, i64)| format!(r#"{{"kind":"a","n":{n},"at":{at}}}"#);
    let records: Vec<_> = records.iter().map(record).collect();
    dataflow.push(&name("in"), &raw(split, &records)).unwrap()
}

fn decided(dataflow: &mut Dataflow, idle: &[i32]) {
    let idle = idle.iter().copied().map(SplitId::partition).collect();
    let closed = dataflow.close(&Idle::from([(name("in"), idle)])).unwrap();
    dataflow.commit(closed, Epoch(1)).unwrap();
    dataflow.open(NOW).unwrap();
}

fn all() -> Value {
    json!({"select": "*"})
}

#[test]
fn rule_10_a_late_row_of_a_split_that_came_late_says_so() {
    let mut dataflow = opened("count(*) AS n", all());
    push(&mut dataflow, 0, &[(1, 100 * MINUTE)]);
    push(&mut dataflow, 1, &[(1, 10 * MINUTE)]);
    decided(&mut dataflow, &[1]);
    for (split, why) in [(0, ""), (1, " (AfterIdle: "), (2, " (NewSplit: ")] {
        let pushed = push(&mut dataflow, split, &[(1, MINUTE)]);
        let [(step, late)] = pushed.rejected.as_slice() else {
            panic!("one late row: {:?}", pushed.rejected)
        };
        let said = format!("the row came after its window had closed{why}");
        assert_eq!(step.as_str(), "sums");
        assert!(late.message.starts_with(&said), "{}", late.message);
        assert_eq!(late.message.contains('('), !why.is_empty());
    }
}

#[test]
fn state_beyond_its_bound_is_an_error_that_names_the_step() {
    let mut dataflow = opened("count(*) AS n", all());
    dataflow.limit_state(1);
    let error = dataflow
        .push(
            &name("in"),
            &raw(0, &[r#"{"kind":"a","n":1,"at":1}"#.into()]),
        )
        .unwrap_err();
    let DataflowError::StateTooLarge {
        step,
        bytes,
        allowed,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((step.as_str(), allowed), ("sums", 1));
    assert!(bytes > 1);
}

#[test]
fn rule_38_a_sum_that_outgrows_its_type_fails_the_epoch_and_names_the_step() {
    let mut dataflow = opened("sum(n) AS total", all());
    push(&mut dataflow, 0, &[(i64::MAX, 1), (1, 2)]);
    let error = dataflow.close(&Idle::new()).unwrap_err();
    assert!(
        matches!(&error, DataflowError::Overflow { step, .. } if step.as_str() == "sums"),
        "{error}"
    );
}

#[test]
fn rule_38_a_window_that_a_query_cannot_compute_fails_the_epoch_and_names_the_query() {
    let below = json!({"select": "window_start, window_end, kind, 10 / total AS share"});
    let mut dataflow = opened("sum(n) AS total", below);
    push(&mut dataflow, 0, &[(0, 1)]);
    let error = dataflow.close(&Idle::new()).unwrap_err();
    let why = "step below cannot compute a row of a window: division by zero";
    assert!(error.to_string().starts_with(why), "{error}");
}

#[test]
fn rule_18_a_window_that_where_refuses_is_deleted_by_its_key_though_its_values_cannot_be_computed()
{
    let below = json!({"select": "window_start, window_end, kind, 10 / total AS share", "where": "total <> 0"});
    let mut dataflow = opened("sum(n) AS total", below);
    push(&mut dataflow, 0, &[(0, 1), (2, 6 * MINUTE)]);
    let closed = dataflow.close(&Idle::new()).unwrap();
    let [(_, SinkBatch::Changes { rows, delete })] = closed.sinks.as_slice() else {
        panic!("changes of gold: {:?}", closed.sinks)
    };
    let shares = rows["share"].as_primitive::<Int64Type>();
    let changes: Vec<_> = delete.iter().zip(shares).collect();
    assert_eq!(changes, [(&true, Some(0)), (&false, Some(5))]);
}
