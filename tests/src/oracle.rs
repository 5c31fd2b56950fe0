//! The oracles of `tests/oracle`: what tables must hold, what foreign readers find in them, and whether these are the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{bed, root, succeed};

/// What the examples write, as the comparison calls it.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// Every record.
    Bronze,
    /// Windows.
    Gold,
    /// Records of a topic that could not be processed.
    DeadLetters,
    /// Events of users, each once.
    Events,
    /// What users did, in each window.
    Totals,
    /// The same of windows that are closed.
    Closed,
    /// Rows of the shop's table.
    UserEvents,
    /// Rows of the shop's files that are not in its table.
    Refused,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Bronze => "bronze",
            Self::Gold => "gold",
            Self::DeadLetters => "dead_letters",
            Self::Events => "events",
            Self::Totals => "totals",
            Self::Closed => "closed",
            Self::UserEvents => "user_events",
            Self::Refused => "refused",
        }
    }
}

/// What an example's pipeline must have made of what its producer sent.
#[derive(Debug)]
pub struct Expected {
    dir: PathBuf,
    /// The counts that the pipeline's own ledger must show.
    pub counts: Value,
}

fn program(name: &str) -> Command {
    Command::new(root().join("tests/oracle").join(name))
}

/// A foreign reader of a path or of an `s3://` address on the bed's server.
fn reading(reader: &str, at: &str) -> Command {
    let mut command = program(reader);
    if at.starts_with("s3://") {
        command
            .env("AWS_ENDPOINT", bed("EVP_BED_S3_ENDPOINT"))
            .env("AWS_ACCESS_KEY_ID", bed("EVP_BED_S3_ACCESS_KEY"))
            .env("AWS_SECRET_ACCESS_KEY", bed("EVP_BED_S3_SECRET_KEY"))
            .env("AWS_REGION", bed("EVP_BED_S3_REGION"));
    }
    command.arg(at);
    command
}

/// Evaluates ledgers of orders into files below `dir`.
pub fn evaluate(ledgers: &[&Path], dir: &Path) -> Expected {
    evaluated(program("evaluate.py").args(ledgers), dir)
}

/// Evaluates ledgers of activity into files below `dir`; those of `again` tell what was sent once all before was decided.
pub fn evaluate_activity(ledgers: &[&Path], again: &[&Path], dir: &Path) -> Expected {
    let mut program = program("evaluate_activity.py");
    evaluated(program.args(ledgers).arg("--again").args(again), dir)
}

/// Evaluates a shop's files into files below `dir`; rows of `forgotten` ones come too late to be remembered.
pub fn evaluate_shop(folder: &Path, ledgers: &[&Path], forgotten: &[&str], dir: &Path) -> Expected {
    let mut program = program("evaluate_shop.py");
    program.arg(folder).arg("--ledger").args(ledgers);
    evaluated(program.arg("--forgotten").args(forgotten), dir)
}

fn evaluated(program: &mut Command, dir: &Path) -> Expected {
    let evaluated = succeed(program.arg("--out").arg(dir));
    Expected {
        dir: dir.to_owned(),
        counts: serde_json::from_slice(&evaluated.stdout).expect("counts as JSON"),
    }
}

/// What the tables must hold once each partition is read up to its next offset, and nothing beyond.
pub fn evaluate_up_to(ledgers: &[&Path], positions: &BTreeMap<i32, i64>, dir: &Path) -> Expected {
    let file = dir.with_extension("positions.json");
    std::fs::create_dir_all(dir).expect("a folder for expectations");
    let text = serde_json::to_vec(positions).expect("positions as JSON");
    std::fs::write(&file, text).expect("a folder that can be written");
    let mut program = program("evaluate.py");
    evaluated(program.args(ledgers).arg("--by-positions").arg(file), dir)
}

/// Newest event time of each partition that ledgers have valid records of.
pub fn newest_event_times(ledgers: &[&Path]) -> Vec<Timestamp> {
    let evaluated = succeed(
        program("evaluate.py")
            .args(ledgers)
            .arg("--watermark-at-end"),
    );
    let told: Value = serde_json::from_slice(&evaluated.stdout).expect("watermarks as JSON");
    let partitions = told["partitions"].as_object().expect("partitions");
    let newest = |of: &Value| of["max_event_time"].as_str()?.parse().ok();
    partitions.values().filter_map(newest).collect()
}

impl Expected {
    /// Stops with the differences unless a foreign reader finds these very rows at `at`: a path or an `s3://` address.
    pub fn assert_equals(&self, table: Table, at: &str) {
        let reader = match table {
            Table::Bronze | Table::Gold => "delta-dump",
            _ => "parquet-dump",
        };
        let dumped = succeed(&mut reading(reader, at));
        // Several tables may be held against one expectation at the same time.
        let scratch = tempfile::tempdir().expect("a folder for rows");
        let actual = scratch.path().join("actual.jsonl");
        std::fs::write(&actual, dumped.stdout).expect("a folder that can be written");
        compare(table, &[], &self.file(table), &actual);
    }

    /// Stops with the differences unless the dumped rows are these and `more`: rows that another writer put there.
    pub fn assert_equals_dump(&self, table: Table, more: &[Value], actual: &Path) {
        let mut rows = std::fs::read(self.file(table)).expect("what is expected");
        for row in more {
            writeln!(rows, "{row}").expect("room in memory");
        }
        let expected = actual.with_extension("expected");
        std::fs::write(&expected, rows).expect("a folder that can be written");
        compare(table, &["--allow-empty"], &expected, actual);
    }

    /// Stops with the differences unless these rows, which a foreign reader found, are the very ones.
    pub fn assert_equals_rows(&self, table: Table, rows: &[Value]) {
        let dir = tempfile::tempdir().expect("a folder for rows");
        let actual = dir.path().join("actual.jsonl");
        let lines: Vec<_> = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&actual, lines.concat()).expect("a folder that can be written");
        compare(table, &[], &self.file(table), &actual);
    }

    /// Stops with the differences unless a foreign reader finds these very rows of the shop's files at `at`, each with its reason.
    pub fn assert_refused(&self, at: &str) {
        let letters: Vec<_> = parquet_rows(at).iter().map(refused).collect();
        self.assert_equals_rows(Table::Refused, &letters);
    }

    fn file(&self, table: Table) -> PathBuf {
        self.dir.join(format!("{}.jsonl", table.name()))
    }
}

/// A dead letter of the shop as its evaluation tells one: at the head of the message stands the place, in the rest the reason, which
/// names the field or each rule.
fn refused(letter: &Value) -> Value {
    let message = letter["message"].as_str().expect("a message");
    let parts: Vec<_> = message.splitn(3, ':').collect();
    let [file, line, reason] = parts[..] else {
        panic!("no file, line and reason: {message}");
    };
    let named = |name: &&str| reason.contains(*name);
    let field = letter["field"].as_str();
    assert!(
        !reason.trim().is_empty() && field.is_none_or(|field| named(&field)),
        "{message}"
    );
    let rules = ["price-not-negative", "known-event-type"];
    json!({
        "file": file,
        "line": line.parse::<u64>().expect("a line"),
        "raw": letter["raw"],
        "step": letter["step"],
        "code": letter["code"],
        "field": letter["field"],
        "rules": rules.into_iter().filter(named).collect::<Vec<_>>(),
    })
}

fn compare(table: Table, flags: &[&str], expected: &Path, actual: &Path) {
    succeed(
        program("compare.py")
            .args(["--table", table.name()])
            .args(flags)
            .args([expected, actual]),
    );
}

/// Rows of every version of a Delta table that its log still has, by a foreign reader, as `<version>.jsonl` below `dir`.
pub fn dump_versions(at: &str, dir: &Path) {
    let mut reader = reading("delta-dump", at);
    succeed(reader.args(["--versions", "all", "--out"]).arg(dir));
}

/// The commits of a Delta table, oldest first, by a foreign reader.
pub fn delta_history(at: &str) -> Vec<Value> {
    rows(reading("delta-dump", at).arg("--history"))
}

/// The rows of a Delta table, by a foreign reader.
pub fn delta_rows(at: &str) -> Vec<Value> {
    rows(&mut reading("delta-dump", at))
}

/// The rows of the Parquet files below a prefix, by a foreign reader.
pub fn parquet_rows(at: &str) -> Vec<Value> {
    rows(&mut reading("parquet-dump", at))
}

fn rows(reader: &mut Command) -> Vec<Value> {
    let dumped = succeed(reader).stdout;
    let lines = dumped.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).expect("a row as JSON"))
        .collect()
}
