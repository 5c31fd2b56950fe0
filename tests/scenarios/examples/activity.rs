//! The activity example on embedded parts: events of which many were sent twice, against sums that are made from the producer's
//! ledger alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use evp_tests::{evp, root, succeed};
use jiff::Timestamp;
use serde_json::Value;

const EVENTS: &str = "6000";
const WINDOW: i64 = 300;

fn example(dir: &Path, words: &[&str]) -> Vec<u8> {
    let mut command = evp(dir);
    command.arg(words[0]).arg("-f");
    command.arg(root().join("examples/activity/pipeline.yaml"));
    command.args(&words[1..]).arg("--local").arg(dir);
    succeed(&mut command).stdout
}

fn query(dir: &Path, sql: &str) -> Vec<Value> {
    serde_json::from_slice(&example(dir, &["query", "-o", "json", sql])).unwrap()
}

/// Values of a topic by key, as files stand for it here, in their order.
fn topic(dir: &Path, name: &str) -> Vec<(String, Value)> {
    let folder = dir.join("topics").join(name);
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    // The epoch stands before the number of the file in it.
    let epoch = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.rsplit('-').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort_by_key(epoch);
    let mut records = Vec::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let mut record: Value = serde_json::from_str(line).unwrap();
            let key = record["key"].as_str().unwrap().to_owned();
            records.push((key, record["value"].take()));
        }
    }
    records
}

/// What the ledger says was sent: each event once, the first of its id.
fn sent(ledger: &Path) -> BTreeMap<String, Value> {
    let mut events = BTreeMap::new();
    for line in std::fs::read_to_string(ledger).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] != "malformed" {
            let event: Value = serde_json::from_str(line["value"].as_str().unwrap()).unwrap();
            let id = event["eventId"].as_str().unwrap().to_owned();
            events.entry(id).or_insert(event);
        }
    }
    events
}

/// Events and cents by user and start of the window, in seconds.
type Totals = BTreeMap<(String, i64), (i64, i64)>;

fn seconds(time: &Value) -> i64 {
    time.as_str()
        .unwrap()
        .parse::<Timestamp>()
        .unwrap()
        .as_second()
}

#[expect(clippy::cast_possible_truncation, reason = "amounts have two decimals")]
fn cents(amount: &Value) -> i64 {
    amount
        .as_f64()
        .map_or(0, |amount| (amount * 100.0).round() as i64)
}

fn totals(events: &BTreeMap<String, Value>) -> Totals {
    let mut totals = Totals::new();
    for event in events.values() {
        let start = seconds(&event["eventTime"]).div_euclid(WINDOW) * WINDOW;
        let user = event["userId"].as_str().unwrap().to_owned();
        let total = totals.entry((user, start)).or_default();
        total.0 += 1;
        total.1 += cents(&event["amount"]);
    }
    totals
}

fn total(row: &Value) -> ((String, i64), (i64, i64)) {
    let user = row["userId"].as_str().unwrap().to_owned();
    let window = (user, seconds(&row["window_start"]));
    (
        window,
        (row["events"].as_i64().unwrap(), cents(&row["total_amount"])),
    )
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn the_activity_example_holds_each_event_once_and_its_sums_also_when_all_is_sent_again() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (raw, ledger) = (dir.join("raw"), dir.join("sent.jsonl"));
    let mut produce = evp(dir);
    produce.args(["produce", "activity", "--limit", EVENTS, "--rate", "4"]);
    produce.args(["--duplicates", "0.2", "--malformed", "0.01", "--seed", "5"]);
    produce.args(["--start", "2026-01-01T00:00:00Z"]);
    succeed(
        produce
            .arg("--to")
            .arg(format!("dir:{}", raw.display()))
            .arg("--ledger")
            .arg(&ledger),
    );
    let events = sent(&ledger);
    let bound = format!("incoming=files:{}", raw.display());
    let run = ["run", "--until-end", "--bind", &bound];
    for again in [false, true] {
        if again {
            let file = std::fs::read_dir(&raw)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            std::fs::copy(&file, raw.join("again.jsonl")).unwrap();
        }
        example(dir, &run);
        let rows = query(dir, "SELECT \"eventId\" AS id FROM events_parquet");
        let ids: BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!((rows.len(), ids.len()), (events.len(), events.len()));
        let unique = topic(dir, "unique-events");
        let keys: BTreeSet<_> = unique.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(unique.len(), events.len());
        assert_eq!(keys, events.keys().cloned().collect());

        let expected = totals(&events);
        let changes = topic(dir, "mode-b-aggregates");
        let newest: Totals = changes.iter().map(|(_, value)| total(value)).collect();
        assert_eq!(newest, expected);
        let closed = query(dir, "SELECT * FROM totals_parquet");
        let shown: Totals = closed.iter().map(total).collect();
        assert_eq!(shown.len(), closed.len());
        assert!(!shown.is_empty() && shown.len() < expected.len());
        assert!(
            shown
                .iter()
                .all(|(window, total)| expected.get(window) == Some(total))
        );
    }
}
