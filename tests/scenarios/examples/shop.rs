//! Shop events as files: sent by `evp produce`, read by `evp run`, each row accounted for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evp_tests::{bed, evp, succeed};
use serde_json::Value;

/// CSV files, checked and kept; what is refused goes to the dead letters.
const MANIFEST: &str = r#"
apiVersion: eventpipeline.dev/v1alpha1
kind: EventPipeline
metadata: {name: shop-files}
spec:
  checkpoint: {interval: 1s, path: s3://shop/_checkpoints/files}
  deadLetter: {files: {path: s3://shop/error}}
  sources:
  - name: raw
    files: {path: s3://shop/raw, glob: "*.csv", settle: 0s}
    format: {csv: {header: true}}
    schema:
      fields:
      - {name: event_id, type: string}
      - {name: user_id, type: long}
      - {name: product_id, type: long}
      - {name: product_name, type: string, optional: true}
      - {name: category, type: string, optional: true}
      - {name: price, type: "decimal(10,2)"}
      - {name: event_type, type: string}
      - {name: timestamp, type: timestamp}
  steps:
  - name: valid
    from: raw
    validate:
      rules:
      - {name: price-not-negative, check: price >= 0}
      - {name: known-event-type, check: "event_type IN ('view', 'add_to_cart', 'purchase')"}
  - name: placed
    from: valid
    query: {select: "event_id, product_name, _meta.file AS file, _meta.line AS line"}
  sinks:
  - {name: kept, from: placed, delta: {path: s3://shop/kept}}
"#;

/// Rows of an answer.
fn query(dir: &Path, manifest: &Path, sql: &str) -> Vec<Value> {
    let mut command = evp(dir);
    command.args(["query", "-o", "json", "-f"]).arg(manifest);
    let output = succeed(command.arg("--local").arg(dir).arg(sql));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Files below a folder that a reader sees.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_seen = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with('.')
    };
    let mut files: Vec<_> = paths.filter(is_seen).collect();
    files.sort();
    files
}

/// Each file that is seen is whole: a header, and a line end after its last row.
fn lines(files: &[PathBuf]) -> usize {
    let rows = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"event_id,user_id,") && bytes.ends_with(b"\n"));
        bytes.split_inclusive(|&b| b == b'\n').count() - 1
    };
    files.iter().map(rows).sum()
}

fn manifest(dir: &Path) -> PathBuf {
    let manifest = dir.join("pipeline.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    manifest
}

fn run(dir: &Path, manifest: &Path, bindings: &[&str]) {
    let mut command = evp(dir);
    command.args(["run", "--until-end", "-f"]).arg(manifest);
    succeed(command.arg("--local").arg(dir).args(bindings));
}

/// A producer of small files that runs until it is told to stop.
fn producing(home: &Path, raw: &Path, ledger: &Path) -> Child {
    evp(home)
        .args(["produce", "shop", "--rate", "2000", "--file-rows", "70"])
        .args(["--malformed", "0.05", "--ledger"])
        .arg(ledger)
        .arg("--to")
        .arg(format!("dir:{}", raw.display()))
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Looks at all files again and again until there are so many.
fn wait_for_files(raw: &Path, count: usize) {
    let patience = std::time::Instant::now();
    while files(raw).len() < count {
        assert!(patience.elapsed() < Duration::from_secs(30));
        lines(&files(raw));
    }
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn rows_of_a_producer_that_is_interrupted_are_each_kept_or_refused_at_their_file_and_line() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (raw, ledger) = (dir.join("shop/raw"), dir.join("sent.jsonl"));
    let mut producer = producing(dir, &raw, &ledger);
    wait_for_files(&raw, 20);
    succeed(Command::new("kill").args(["-INT", &producer.id().to_string()]));
    assert!(producer.wait().unwrap().success());
    let told = std::fs::read_to_string(&ledger).unwrap();
    assert_eq!(lines(&files(&raw)), told.lines().count());
    assert_eq!(std::fs::read_dir(&raw).unwrap().count(), files(&raw).len());

    let manifest = manifest(dir);
    run(dir, &manifest, &[]);
    let place = |row: &Value| {
        let line = row["line"].as_u64().unwrap();
        (row["file"].as_str().unwrap().to_owned(), line)
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for line in told.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "malformed" {
            bad.push(place(&line));
        } else {
            good.push((place(&line), line["key"].to_string()));
        }
    }
    bad.sort();
    good.sort();
    let kept = query(dir, &manifest, "SELECT event_id, file, line FROM kept");
    let mut kept: Vec<_> = kept
        .iter()
        .map(|row| (place(row), row["event_id"].to_string()))
        .collect();
    kept.sort();
    assert_eq!(kept, good);
    // A message begins with the place.
    let sql = "SELECT split_part(message, ':', 1) AS file, \
               CAST(split_part(message, ':', 2) AS BIGINT) AS line FROM dead_letters";
    let refused = query(dir, &manifest, sql);
    let mut refused: Vec<_> = refused.iter().map(place).collect();
    refused.sort();
    assert_eq!(refused, bad);
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn whatever_a_killed_producer_left_to_see_is_whole_and_in_its_ledger() {
    let scratch = tempfile::tempdir().unwrap();
    let (raw, ledger) = (
        scratch.path().join("raw"),
        scratch.path().join("sent.jsonl"),
    );
    let mut producer = producing(scratch.path(), &raw, &ledger);
    wait_for_files(&raw, 20);
    producer.kill().unwrap();
    producer.wait().unwrap();
    let seen = files(&raw);
    let told = std::fs::read_to_string(&ledger).unwrap();
    // The last line may be cut off.
    let told = told
        .lines()
        .map_while(|line| serde_json::from_str::<Value>(line).ok());
    let is_seen = |line: &Value| {
        seen.iter()
            .any(|path| path.ends_with(line["file"].as_str().unwrap()))
    };
    assert_eq!(told.filter(is_seen).count(), lines(&seen));
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn a_generator_stands_in_for_files_of_csv() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let manifest = manifest(dir);
    let binding = "raw=generator:shop?limit=3000&backlog=10m";
    run(dir, &manifest, &["--bind", binding]);
    let sql = "SELECT count(*) AS rows, count(DISTINCT event_id) AS ids, count(DISTINCT product_name) AS names FROM kept";
    let counts = serde_json::json!([{"rows": 3_000, "ids": 3_000, "names": 15}]);
    assert_eq!(Value::from(query(dir, &manifest, sql)), counts);
}

#[test]
#[ignore = "needs an S3 server: run by ./tests/run examples"]
fn objects_of_a_bucket_are_put_whole_and_read_back() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for (key, value) in [
        ("accessKeyId", bed("EVP_BED_S3_ACCESS_KEY")),
        ("secretAccessKey", bed("EVP_BED_S3_SECRET_KEY")),
    ] {
        std::fs::create_dir_all(dir.join("secrets/lake")).unwrap();
        std::fs::write(dir.join("secrets/lake").join(key), value).unwrap();
    }
    let prefix = dir.file_name().unwrap().to_str().unwrap();
    let raw = format!("s3://{}/shop{prefix}/raw", bed("EVP_BED_S3_BUCKET"));
    let produce = |credentials: &dyn Fn(&mut Command)| {
        let mut command = evp(dir);
        command.args(["produce", "shop", "--limit", "250", "--to", &raw]);
        command.args(["--endpoint", &bed("EVP_BED_S3_ENDPOINT")]);
        command.args(["--region", &bed("EVP_BED_S3_REGION")]);
        command.args(["--start", "2026-01-01T12:00:00Z"]);
        credentials(&mut command);
        succeed(&mut command);
    };
    produce(&|command| {
        let secrets = dir.join("secrets");
        command
            .args(["--s3-secret", "lake", "--secrets"])
            .arg(secrets);
    });
    // Once more, by credentials of the environment: the same objects.
    produce(&|command| {
        command.env("AWS_ACCESS_KEY_ID", bed("EVP_BED_S3_ACCESS_KEY"));
        command.env("AWS_SECRET_ACCESS_KEY", bed("EVP_BED_S3_SECRET_KEY"));
    });
    let store = format!(
        "  objectStore:\n    s3:\n      endpoint: {}\n      region: {}\n      allowHttp: true\n{}{}  sources:",
        bed("EVP_BED_S3_ENDPOINT"),
        bed("EVP_BED_S3_REGION"),
        "      accessKeyId: {secretKeyRef: {name: lake, key: accessKeyId}}\n",
        "      secretAccessKey: {secretKeyRef: {name: lake, key: secretAccessKey}}\n",
    );
    let text = MANIFEST
        .replace("s3://shop/raw", &raw)
        .replace("  sources:", &store);
    let manifest = dir.join("pipeline.yaml");
    std::fs::write(&manifest, text).unwrap();
    // Only what is written is here.
    let lake = format!("s3://shop={}", dir.join("shop").display());
    let mut command = evp(dir);
    command
        .args(["run", "--until-end", "--remote", "-f"])
        .arg(&manifest);
    command.arg("--secrets").arg(dir.join("secrets"));
    succeed(command.args(["--bind", &lake]));
    let mut command = evp(dir);
    command.args(["query", "-o", "json", "-f"]).arg(&manifest);
    command.args(["--bind", &lake]);
    let sql = "SELECT count(*) AS rows, count(DISTINCT file) AS files FROM kept";
    let counts: Value = serde_json::from_slice(&succeed(command.arg(sql)).stdout).unwrap();
    assert_eq!(counts, serde_json::json!([{"rows": 250, "files": 3}]));
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn the_shop_example_keeps_each_good_event_once_and_routes_every_other_row() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (raw, ledger) = (dir.join("raw"), dir.join("sent.jsonl"));
    let mut produce = evp(dir);
    produce.args(["produce", "shop", "--limit", "3000", "--rate", "100"]);
    produce.args(["--start", "2026-01-01T00:00:00Z", "--duplicates", "0.1"]);
    produce
        .args(["--malformed", "0.05", "--ledger"])
        .arg(&ledger);
    succeed(produce.arg("--to").arg(format!("dir:{}", raw.display())));
    let (mut good, mut bad) = (BTreeSet::new(), 0);
    for line in std::fs::read_to_string(&ledger).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "malformed" {
            bad += 1;
        } else {
            good.insert(line["key"].as_str().unwrap().to_owned());
        }
    }
    let example = evp_tests::root().join("examples/shop/pipeline.yaml");
    let bound = format!("raw=files:{}", raw.display());
    for _ in 0..2 {
        run(dir, &example, &["--bind", &bound]);
        let kept = query(dir, &example, "SELECT event_id FROM user_events");
        let ids = kept
            .iter()
            .map(|row| row["event_id"].as_str().unwrap().to_owned());
        assert_eq!(kept.len(), good.len());
        assert_eq!(ids.collect::<BTreeSet<_>>(), good);
        let refused = query(dir, &example, "SELECT code FROM dead_letters");
        assert_eq!(refused.len(), bad);
    }
}

#[test]
#[ignore = "runs the program: run by ./tests/run examples"]
fn every_demo_runs_and_ends_with_rows_to_ask_for() {
    for (demo, table) in [("shop", "user_events"), ("activity", "events_parquet")] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        succeed(
            evp(dir)
                .args(["demo", demo, "--records", "5000", "--dir"])
                .arg(dir),
        );
        let sql = format!("SELECT count(*) AS n FROM {table}");
        let output = succeed(evp(dir).args(["query", "-o", "json"]).arg(dir).arg(sql));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(rows[0]["n"].as_i64().unwrap() > 4_500, "{demo}: {rows:?}");
    }
}
