//! Laws of `validate`, and a naive evaluator beside it.

use serde_json::{Value, json};

use super::*;
use crate::dead_letter::RejectCode;

/// The rules of every law: on `n`, `d` and `kind`.
fn rules() -> Value {
    json!([
        {"name": "not-negative", "check": "n >= 0", "message": "n must not be negative"},
        {"name": "known-kind", "check": "kind IN ('a', 'b')"},
        {"name": "share", "check": "d IS NULL OR 12 / d > 1"}])
}

fn opened(rules: Value) -> Dataflow {
    let field = |name: &str, data_type: &str, optional: bool| json!({"name": name, "type": data_type, "optional": optional});
    let spec = json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "deadLetter": {"files": {"path": "s3://lake/_d"}},
        "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [field("kind", "string", true), field("n", "long", true), field("d", "long", true)]}}],
        "steps": [
            {"name": "valid", "from": "in", "validate": {"rules": rules}},
            {"name": "with-offset", "from": "valid", "query": {"select": "n, _meta.offset AS at"}}],
        "sinks": [{"name": "out", "from": "with-offset", "stdout": {}}]});
    let checked = check(&serde_json::from_value(spec).unwrap()).unwrap();
    let mut dataflow = Dataflow::new(&checked).unwrap();
    dataflow.open(Micros(0)).unwrap();
    dataflow
}

/// A record; `None` is left out.
type Record = (Option<&'static str>, Option<i64>, Option<i64>);

fn text(&(kind, n, d): &Record) -> String {
    let mut record = serde_json::Map::new();
    let given = [
        ("kind", kind.map(Value::from)),
        ("n", n.map(Value::from)),
        ("d", d.map(Value::from)),
    ];
    let given = given
        .into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), v?)));
    record.extend(given);
    Value::Object(record).to_string()
}

/// What became of a record.
#[derive(Debug, PartialEq)]
enum Fate {
    Passed,
    Rejected(RejectCode, String, Option<String>),
}

/// What the rules say, by hand.
fn expected(&(kind, n, d): &Record) -> Fate {
    if d == Some(0) {
        return Fate::Rejected(
            RejectCode::ExpressionFailed,
            "division by zero".into(),
            Some("share".into()),
        );
    }
    let mut broken = Vec::new();
    if n.is_none_or(|n| n < 0) {
        broken.push("not-negative: n must not be negative");
    }
    if !matches!(kind, Some("a" | "b")) {
        broken.push("known-kind");
    }
    if d.is_some_and(|d| 12 / d <= 1) {
        broken.push("share");
    }
    if broken.is_empty() {
        Fate::Passed
    } else {
        Fate::Rejected(RejectCode::RuleFailed, broken.join("; "), None)
    }
}

/// The fates of records, in their order; the step's counts must be those.
fn fates(records: &[Record]) -> Vec<Fate> {
    let mut dataflow = opened(rules());
    let texts: Vec<_> = records.iter().map(text).collect();
    let pushed = dataflow.push(&name("in"), &raw(0, &texts)).unwrap();
    let mut fates: Vec<Option<Fate>> = records.iter().map(|_| None).collect();
    let mut set = |record: usize, fate| {
        assert!(fates[record].replace(fate).is_none(), "one fate a record");
    };
    for (step, reject) in pushed.rejected {
        assert_eq!(step.as_str(), "valid");
        let fate = Fate::Rejected(reject.code, reject.message, reject.field);
        set(reject.record as usize, fate);
    }
    for (_, batch) in &pushed.sinks {
        let SinkBatch::Rows(rows) = batch else {
            panic!("{batch:?}")
        };
        // `_meta` passes: the offset tells which record the row is of.
        let (at, n) = (&rows["at"], &rows["n"]);
        let rows = at
            .as_primitive::<Int64Type>()
            .iter()
            .zip(n.as_primitive::<Int64Type>());
        for (at, n) in rows {
            let at = usize::try_from(at.unwrap()).unwrap();
            assert_eq!(n, records[at].1);
            set(at, Fate::Passed);
        }
    }
    let ledger = dataflow.close(&Idle::new()).unwrap().ledger;
    let counts = ledger
        .steps
        .get(&name("valid"))
        .copied()
        .unwrap_or_default();
    let passed = fates.iter().filter(|f| **f == Some(Fate::Passed)).count();
    assert_eq!(counts.input, records.len() as u64);
    assert_eq!(
        (counts.output, counts.input),
        (passed as u64, counts.output + counts.rejected)
    );
    fates.into_iter().map(Option::unwrap).collect()
}

fn check_all(records: &[Record]) {
    let expected: Vec<_> = records.iter().map(expected).collect();
    assert_eq!(fates(records), expected, "{records:?}");
}

#[test]
fn a_row_that_breaks_rules_is_one_dead_letter_that_names_all_of_them() {
    check_all(&[
        (Some("a"), Some(1), None),
        (Some("c"), Some(-1), Some(12)),
        (Some("b"), Some(-1), Some(2)),
    ]);
}

#[test]
fn a_rule_that_is_null_is_broken() {
    check_all(&[(None, Some(1), None), (Some("a"), None, Some(1))]);
}

#[test]
fn rule_38_a_row_on_which_a_check_fails_harms_no_neighbour() {
    check_all(&[
        (Some("a"), Some(1), Some(0)),
        (Some("a"), Some(2), Some(1)),
        (Some("x"), Some(3), Some(0)),
        (Some("x"), Some(4), Some(3)),
    ]);
}

#[test]
fn random_rows_meet_the_fate_that_a_naive_evaluation_gives_them() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % n
    };
    for _ in 0..500 {
        let records: Vec<Record> = (0..below(40))
            .map(|_| {
                let kind =
                    [None, Some("a"), Some("b"), Some("c")][usize::try_from(below(4)).unwrap()];
                let n = (below(5) > 0).then(|| i64::try_from(below(7)).unwrap() - 2);
                let d = (below(3) > 0).then(|| i64::try_from(below(16)).unwrap() - 1);
                (kind, n, d)
            })
            .collect();
        check_all(&records);
    }
}

#[test]
fn a_row_without_the_key_that_a_topic_needs_is_a_dead_letter_and_stays_in_the_other_sinks() {
    let spec = json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "deadLetter": {"files": {"path": "s3://lake/_d"}},
        "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [{"name": "kind", "type": "string", "optional": true}, {"name": "n", "type": "long"}]}}],
        "steps": [{"name": "positive", "from": "in", "query": {"where": "n > 0"}}],
        "sinks": [
            {"name": "log", "from": "positive",
             "kafka": {"bootstrapServers": "k:1", "topic": "log", "keyColumn": "kind"}},
            {"name": "out", "from": "positive", "stdout": {}}]});
    let checked = check(&serde_json::from_value(spec).unwrap()).unwrap();
    let mut dataflow = Dataflow::new(&checked).unwrap();
    dataflow.open(Micros(0)).unwrap();
    let records = [
        r#"{"n":0}"#,
        r#"{"n":1,"kind":"a"}"#,
        r#"{"n":2}"#,
        r#"{"n":3,"kind":"b"}"#,
    ]
    .map(str::to_owned);
    let pushed = dataflow.push(&name("in"), &raw(0, &records)).unwrap();
    let rejects = pushed.rejected.iter();
    let rejects: Vec<_> = rejects
        .map(|(sink, r)| (sink.as_str(), r.record, r.code))
        .collect();
    assert_eq!(rejects, [("log", 2, RejectCode::NullKey)]);
    let rows = |batch: &SinkBatch| match batch {
        SinkBatch::Rows(rows) => rows.column(1).as_primitive::<Int64Type>().values().to_vec(),
        SinkBatch::Changes { .. } => panic!("{batch:?}"),
    };
    let sinks: Vec<_> = pushed
        .sinks
        .iter()
        .map(|(sink, batch)| (sink.as_str(), rows(batch)))
        .collect();
    assert_eq!(sinks, [("log", vec![1, 3]), ("out", vec![1, 2, 3])]);
    let ledger = dataflow.close(&Idle::new()).unwrap().ledger;
    assert_eq!(
        (ledger.sinks[&name("log")], ledger.sinks[&name("out")]),
        (2, 3)
    );
    assert_eq!(ledger.steps[&name("log")].rejected, 1);
}
