//! What is decided, told by the command line from the checkpoint alone: `evp audit`, `evp progress`, `evp dead-letters`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use evp_tests::{evp, succeed};
use serde_json::Value;

/// A demo that ran twice and left its checkpoint, its tables and its dead letters.
struct Decided {
    scratch: tempfile::TempDir,
}

impl Decided {
    fn new() -> Self {
        let decided = Self {
            scratch: tempfile::tempdir().unwrap(),
        };
        for _ in 0..2 {
            let demo = ["demo", "orders", "--for", "3s", "--dir"];
            succeed(evp(decided.dir()).args(demo).arg(decided.dir()));
        }
        decided
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn ask(&self, command: &str, args: &[&str]) -> Command {
        let mut asked = evp(self.dir());
        asked.arg(command).arg("-f");
        asked.arg(self.dir().join("pipeline.yaml")).arg("--local");
        asked.arg(self.dir()).args(args);
        asked
    }

    fn json(&self, command: &str, args: &[&str]) -> Value {
        let output = succeed(self.ask(command, args).args(["-o", "json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn checkpoint(&self) -> PathBuf {
        self.dir().join("lake/_checkpoints/orders")
    }

    /// Objects of the checkpoint that an epoch needs or keeps, by name: of many of one kind the first, the last and one between.
    /// Outboxes of epochs that were applied are garbage.
    fn objects(&self) -> Vec<String> {
        let below = self.checkpoint();
        let mut objects = Vec::new();
        let mut folders = vec![below.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&below).unwrap().to_str().unwrap();
                match path.is_dir() {
                    true if name.ends_with("outbox") => {}
                    true => folders.push(path),
                    false if name == ".lock" => {}
                    false => objects.push(name.to_owned()),
                }
            }
        }
        objects.sort();
        let kind = |object: &String| object.rsplit_once('/').map(|(kind, _)| kind.to_owned());
        objects
            .chunk_by(|a, b| kind(a).is_some() && kind(a) == kind(b))
            .flat_map(|alike| [0, alike.len() / 2, alike.len() - 1].map(|at| alike[at].clone()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// What an audit finds, by the objects it names.
    fn found(&self) -> Vec<String> {
        let output = self.ask("audit", &["-o", "json"]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = answer["findings"].as_array().unwrap();
        let clean = answer["clean"].as_bool().unwrap();
        assert_eq!(clean, findings.is_empty());
        assert_eq!(output.status.code(), Some(i32::from(!clean)), "{answer:#}");
        let object = |finding: &Value| finding["object"].as_str().unwrap().to_owned();
        findings.iter().map(object).collect()
    }
}

#[test]
#[ignore = "runs the command: by ./tests/run examples"]
fn an_audit_finds_nothing_in_what_was_decided_and_names_each_object_that_is_lost_cut_or_flipped() {
    let decided = Decided::new();
    let said = succeed(&mut decided.ask("audit", &[])).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("no gap, no overlap, balanced"), "{said}");
    assert_eq!(decided.found(), Vec::<String>::new());

    let objects = decided.objects();
    for kind in [
        "0/born",
        "0/epochs/",
        "0/head",
        "0/state/",
        "owner",
        "plans/",
    ] {
        let there = objects.iter().any(|object| object.starts_with(kind));
        assert!(there, "no {kind} in {objects:?}");
    }
    for object in &objects {
        let path = decided.checkpoint().join(object);
        let whole = std::fs::read(&path).unwrap();
        let half = whole.len() / 2;
        let mut flipped = whole.clone();
        flipped[half] ^= 1;
        for damaged in [None, Some(&whole[..half]), Some(&flipped[..])] {
            match damaged {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            }
            let found = decided.found();
            let length = damaged.map(<[u8]>::len);
            assert!(found.contains(object), "{object}, {length:?}: {found:?}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(decided.found(), Vec::<String>::new());
}

#[test]
#[ignore = "runs the command: by ./tests/run examples"]
fn progress_and_dead_letters_tell_the_counts_of_the_audit() {
    let decided = Decided::new();
    let audited = decided.json("audit", &[]);
    let read = &audited["totals"]["sources"]["orders"];
    let progress = decided.json("progress", &[]);
    assert_eq!(progress["epoch"], audited["to"]);
    let splits = progress["sources"][0]["splits"].as_array().unwrap();
    let positions = splits
        .iter()
        .map(|split| split["position"].as_u64().unwrap());
    assert_eq!(positions.sum::<u64>(), read["read"].as_u64().unwrap());
    let letters = read["deadLettered"].as_u64().unwrap();
    assert!(letters > 0, "{read}");
    let sinks = progress["sinks"].as_array().unwrap();
    let told = sinks.iter().find(|sink| sink["name"] == "dead-letters");
    assert_eq!(told.unwrap()["rows"], letters);
    let listed = decided.json("dead-letters", &["--limit", "10000"]);
    assert_eq!(listed["rows"].as_array().unwrap().len() as u64, letters);
    let malformed = decided.json("dead-letters", &["--limit", "10000", "--code", "Malformed"]);
    let malformed = malformed["rows"].as_array().unwrap();
    assert!(!malformed.is_empty() && (malformed.len() as u64) < letters);
    assert!(malformed.iter().all(|letter| letter["code"] == "Malformed"));
}

#[test]
#[ignore = "runs the command: by ./tests/run examples"]
fn where_nothing_was_decided_the_commands_say_so_and_leave_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let decided = Decided { scratch };
    let example = evp_tests::root().join("examples/orders/pipeline.yaml");
    std::fs::copy(example, decided.dir().join("pipeline.yaml")).unwrap();
    for command in ["audit", "progress"] {
        let output = decided.ask(command, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{command}: {said}");
        assert!(said.contains("no epoch was decided"), "{command}: {said}");
    }
    assert!(!decided.dir().join("lake").exists());
}
