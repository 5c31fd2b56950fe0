//! The orders example and the demo of it, run by the command line on embedded parts, their tables read by foreign readers.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use evp_tests::oracle::{self, Table};
use evp_tests::{evp, root, succeed};
use serde_json::Value;

/// Splits of a generator source: event i is record i / SPLITS of split i % SPLITS.
const SPLITS: u64 = 3;

fn below(dir: &Path, path: &str) -> String {
    dir.join("lake").join(path).display().to_string()
}

/// When event 0 was due: the timestamp of the first record of the first split.
fn started(bronze: &[Value]) -> String {
    let first = bronze
        .iter()
        .find(|row| row["kafka_partition"] == 0 && row["kafka_offset"] == 0);
    first.unwrap()["kafka_ingest_ts"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The producer writes one file; a generator source deals the same events to its splits.
fn dealt(ledger: &str) -> String {
    let deal = |(index, line): (usize, &str)| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let index = index as u64;
        record["partition"] = (index % SPLITS).into();
        record["offset"] = (index / SPLITS).into();
        format!("{record}\n")
    };
    ledger.lines().enumerate().map(deal).collect()
}

#[test]
#[ignore = "needs the foreign readers: run by ./tests/run examples"]
fn the_orders_example_holds_what_an_evaluation_of_its_events_says() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    succeed(
        evp(dir)
            .args(["run", "--until-end", "-f"])
            .arg(root().join("examples/orders/pipeline.yaml"))
            .args([
                "--bind",
                "orders=generator:orders?rate=40&seed=7&limit=60000&backlog=30m",
            ])
            .arg("--local")
            .arg(dir),
    );
    let start = started(&oracle::delta_rows(&below(dir, "bronze/order_events")));
    let sent = dir.join("sent.jsonl");
    succeed(
        evp(dir)
            .args(["produce", "orders", "--rate", "40", "--seed", "7"])
            .args(["--limit", "60000", "--start", &start, "--ledger"])
            .arg(&sent)
            .arg("--to")
            .arg(format!("dir:{}", dir.join("sent").display())),
    );
    let ledger = dir.join("ledger.jsonl");
    std::fs::write(&ledger, dealt(&std::fs::read_to_string(sent).unwrap())).unwrap();
    let expected = oracle::evaluate(&[&ledger], &dir.join("expected"));
    assert_eq!(expected.counts["read"], 60_000);
    expected.assert_equals(Table::Bronze, &below(dir, "bronze/order_events"));
    expected.assert_equals(Table::Gold, &below(dir, "gold/order_revenue_windows"));
}

#[test]
#[ignore = "needs the foreign readers: run by ./tests/run examples"]
fn the_demo_resumes_and_each_of_its_events_is_in_bronze_or_in_dead_letters_once() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut read = Vec::new();
    for _ in 0..2 {
        succeed(
            evp(dir)
                .args(["demo", "orders", "--for", "3s", "--dir"])
                .arg(dir),
        );
        let bronze = oracle::delta_rows(&below(dir, "bronze/order_events"));
        let dead = oracle::parquet_rows(&below(dir, "_dead_letters/orders"));
        let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let kept = bronze
            .iter()
            .map(|row| (&row["kafka_partition"], &row["kafka_offset"]));
        for (split, position) in kept {
            let split = seen.entry(split.as_u64().unwrap()).or_default();
            split.push(position.as_u64().unwrap());
        }
        for row in &dead {
            let split = row["split"].as_str().unwrap().parse().unwrap();
            let positions = seen.entry(split).or_default();
            positions.push(row["position"].as_u64().unwrap());
        }
        for positions in seen.values_mut() {
            positions.sort_unstable();
            let all: Vec<_> = (0..positions.len() as u64).collect();
            assert_eq!(*positions, all, "a gap or a double");
        }
        read.push(seen.values().map(Vec::len).sum::<usize>());
    }
    assert!(read[0] > 0 && read[1] > read[0], "{read:?}");
}

/// The lines below the folder that stands for a topic.
fn records(dir: &Path, topic: &str) -> Vec<Value> {
    let files = std::fs::read_dir(dir.join("topics").join(topic)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let lines = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let lines = lines.flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    });
    lines.collect()
}

#[test]
#[ignore = "needs the foreign readers: run by ./tests/run examples"]
fn a_topic_that_the_manifest_writes_is_a_folder_of_a_local_run_and_no_broker_is_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut manifest: Value = serde_saphyr::from_str(
        &std::fs::read_to_string(root().join("examples/orders/pipeline.yaml")).unwrap(),
    )
    .unwrap();
    let kafka = |topic: &str, key: &str| serde_json::json!({"bootstrapServers": "nowhere:9092", "topic": topic, "keyColumn": key});
    let sinks = manifest["spec"]["sinks"].as_array_mut().unwrap();
    sinks.push(serde_json::json!({"name": "log", "from": "with-offsets", "kafka": kafka("log", "order_id")}));
    sinks.push(serde_json::json!({"name": "totals", "from": "revenue", "mode": "Update", "kafka": kafka("totals", "region")}));
    let file = dir.join("pipeline.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let mut run = evp(dir);
    run.args(["run", "--until-end", "-f"]).arg(&file).args([
        "--bind",
        "orders=generator:orders?rate=40&seed=7&limit=6000&backlog=30m",
    ]);
    let refused = run.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("--local"),
        "{said}"
    );
    succeed(run.arg("--local").arg(dir));
    let bronze = oracle::delta_rows(&below(dir, "bronze/order_events"));
    let ids = |rows: &[Value], id: fn(&Value) -> &Value| {
        let mut ids: Vec<_> = rows
            .iter()
            .map(|row| id(row).as_str().unwrap().to_owned())
            .collect();
        ids.sort_unstable();
        ids
    };
    let log = records(dir, "log");
    assert_eq!(log.len(), 6000);
    assert_eq!(
        ids(&log, |line| &line["key"]),
        ids(&bronze, |row| &row["order_id"])
    );
    assert_eq!(
        ids(&log, |line| &line["value"]["order_id"]),
        ids(&bronze, |row| &row["order_id"])
    );
    let totals = records(dir, "totals");
    assert!(
        !totals.is_empty()
            && totals
                .iter()
                .all(|line| line["key"] == line["value"]["region"])
    );
    let mut audit = evp(dir);
    succeed(
        audit
            .args(["audit", "-f"])
            .arg(&file)
            .arg("--local")
            .arg(dir),
    );
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn a_reader_that_has_enough_of_an_answer_hears_no_complaint() {
    let scratch = tempfile::tempdir().unwrap();
    let (reader, answer) = std::io::pipe().unwrap();
    drop(reader);
    let mut query = evp(scratch.path());
    query
        .args(["query", "-f"])
        .arg(root().join("examples/orders/pipeline.yaml"));
    query.arg("--local").arg(scratch.path()).arg("SELECT 1");
    let mut query = query
        .stdout(answer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    query
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        query.wait().unwrap().success() && !said.contains("printed"),
        "{said}"
    );
}
