//! The oracles of `tests/oracle`: what tables must hold, what foreign readers find in them, and whether these are the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{root, succeed};

/// Tables of the orders pipeline, as the comparison calls them.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// Every record.
    Bronze,
    /// Windows.
    Gold,
    /// Records that could not be processed.
    DeadLetters,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Bronze => "bronze",
            Self::Gold => "gold",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// What the orders pipeline must have made of a producer's ledger.
#[derive(Debug)]
pub struct Expected {
    dir: PathBuf,
    /// The counts that the pipeline's own ledger must show.
    pub counts: Value,
}

fn program(name: &str) -> Command {
    Command::new(root().join("tests/oracle").join(name))
}

/// Evaluates ledgers into files below `dir`.
pub fn evaluate(ledgers: &[&Path], dir: &Path) -> Expected {
    let evaluated = succeed(program("evaluate.py").args(ledgers).arg("--out").arg(dir));
    Expected {
        dir: dir.to_owned(),
        counts: serde_json::from_slice(&evaluated.stdout).expect("counts as JSON"),
    }
}

impl Expected {
    /// Stops with the differences unless a foreign reader finds these very rows at `at`: a path or an `s3://` address.
    pub fn assert_equals(&self, table: Table, at: &str) {
        let actual = self.dir.join(format!("{}-actual.jsonl", table.name()));
        let reader = match table {
            Table::Bronze | Table::Gold => "delta-dump",
            Table::DeadLetters => "parquet-dump",
        };
        let dumped = succeed(program(reader).arg(at));
        std::fs::write(&actual, dumped.stdout).expect("a folder that can be written");
        let expected = self.dir.join(format!("{}.jsonl", table.name()));
        succeed(
            program("compare.py")
                .args(["--table", table.name()])
                .args([expected, actual]),
        );
    }
}

/// The rows of a Delta table, by a foreign reader.
pub fn delta_rows(at: &str) -> Vec<Value> {
    rows(program("delta-dump").arg(at))
}

/// The rows of the Parquet files below a prefix, by a foreign reader.
pub fn parquet_rows(at: &str) -> Vec<Value> {
    rows(program("parquet-dump").arg(at))
}

fn rows(reader: &mut Command) -> Vec<Value> {
    let dumped = succeed(reader).stdout;
    let lines = dumped.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).expect("a row as JSON"))
        .collect()
}
