//! What the records of a Kafka sink say: which record each is, and its row as foreign readers tell rows of tables.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::topic::Record;

/// Columns of the examples that are times: readers of tables tell them to the microsecond.
const TIMES: [&str; 5] = [
    "event_timestamp",
    "eventTime",
    "kafka_ingest_ts",
    "window_start",
    "window_end",
];

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let found = record.headers.iter().find(|(key, _)| key == name);
    &found.unwrap().1
}

/// A header that is a number.
pub(crate) fn number(record: &Record, name: &str) -> u64 {
    header(record, name).parse().unwrap()
}

/// No two records of one sink are the same one, and epochs follow each other in every partition.
pub(crate) fn assert_told_apart(records: &[Record]) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
    let sinks: BTreeSet<_> = records.iter().map(|r| header(r, "evp-sink")).collect();
    assert!(sinks.len() <= 1, "{sinks:?}");
    for record in records {
        let (epoch, row) = (number(record, "evp-epoch"), number(record, "evp-row"));
        assert!(seen.insert((epoch, row)), "{record:?}");
        let before = last.insert(record.partition, (epoch, row));
        assert!(
            before.is_none_or(|before| before < (epoch, row)),
            "{record:?}"
        );
    }
}

/// A record's row.
pub(crate) fn value(record: &Record) -> Value {
    let mut row: Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
    for name in TIMES {
        if let Some(time) = row.get(name).and_then(Value::as_str) {
            let time: jiff::Timestamp = time.parse().unwrap();
            row[name] = json!(time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
        }
    }
    row
}

/// The last change of each window, which these columns name. All changes of one have one key, so one partition and one order, and
/// each counts more than the one before it.
pub(crate) fn newest(changes: &[Record], names: &[&str], grows: &str) -> Vec<Value> {
    let mut windows: BTreeMap<String, Value> = BTreeMap::new();
    for change in changes.iter().map(value) {
        let key: String = names.iter().map(|name| change[name].to_string()).collect();
        let before = windows.insert(key, change.clone());
        let count = |row: &Value| row[grows].as_i64().unwrap();
        assert!(before.is_none_or(|before| count(&before) < count(&change)));
    }
    windows.into_values().collect()
}
