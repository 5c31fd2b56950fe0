//! Laws of the files source, on folders.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use evp_core::files::frame::Marks;
use evp_core::protocol::head::StepState;
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;
use crate::secrets::Secrets;

const CSV: Cut = Cut {
    framing: Framing::Rows(Marks {
        delimiter: b',',
        quote: b'"',
    }),
    has_header: true,
    most: 64,
};

const LINES: Cut = Cut {
    framing: Framing::Lines,
    has_header: false,
    most: 64,
};

struct World {
    dir: TempDir,
    plan: FilesPlan,
    cut: Cut,
    table: FileTable,
    next: i64,
}

fn world(cut: Cut) -> World {
    let dir = tempfile::tempdir().unwrap();
    let plan = FilesPlan {
        path: format!("file://{}", dir.path().display()).parse().unwrap(),
        glob: "**/*.csv".to_owned(),
        poll_interval: Duration::from_millis(1),
        settle: Duration::ZERO,
        on_change: OnChange::Fail,
    };
    World {
        dir,
        plan,
        cut,
        table: FileTable::default(),
        next: 0,
    }
}

impl World {
    /// Writes a file as if it were so many seconds old.
    fn write(&self, name: &str, age: u64, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        touch(&path, age);
    }

    /// A source that goes on from what is known.
    async fn source(&self) -> FilesSource {
        let mut source = FilesSource::new(Parts {
            plan: self.plan.clone(),
            cut: self.cut,
            storage: Storage::new(None, Secrets::new("/nowhere"), Vec::new()),
            clock: SystemClock::shared(),
        });
        source.remember(self.table.clone());
        let at = [(SplitId::partition(0), position(self.next))];
        source.seek(&at.into()).await.unwrap();
        source
    }

    /// Polls once and takes in what comes, as an epoch would.
    async fn poll(&mut self, source: &mut FilesSource, records: usize) -> Vec<String> {
        let budget = Budget {
            records,
            bytes: 1 << 20,
        };
        let batch = source.poll(budget, Duration::from_millis(1)).await.unwrap();
        self.take(&batch)
    }

    fn take(&mut self, batch: &RawBatch) -> Vec<String> {
        self.table.take_in(&batch.in_files);
        let record = |(i, record): (usize, &evp_core::record::RawRecord)| {
            assert_eq!(record.position.0, self.next);
            self.next += 1;
            let value = String::from_utf8_lossy(batch.value(record).unwrap());
            format!("{} {value}", batch.in_files.spot(i).unwrap())
        };
        batch.records.iter().enumerate().map(record).collect()
    }

    /// All that a new source reads until it says that it is at its end.
    async fn rest(&mut self) -> Vec<String> {
        let mut source = self.source().await;
        let mut all = Vec::new();
        loop {
            all.extend(self.poll(&mut source, 3).await);
            if source.reached().end == Some(Position(source.next)) {
                return all;
            }
        }
    }

    async fn fault(&mut self) -> (&'static str, String) {
        let mut source = self.source().await;
        let budget = Budget {
            records: 100,
            bytes: 1 << 20,
        };
        for _ in 0..10 {
            match source.poll(budget, Duration::from_millis(1)).await {
                Ok(batch) => drop(self.take(&batch)),
                Err(
                    SourceError::Stop { reason, message }
                    | SourceError::Unavailable { reason, message },
                ) => return (reason, message),
                Err(other) => panic!("{other}"),
            }
        }
        panic!("no fault")
    }
}

fn touch(path: &Path, age: u64) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(then).unwrap();
}

#[tokio::test]
async fn rule_30_files_are_read_once_in_the_order_of_time_and_name_with_their_lines() {
    let mut world = world(CSV);
    world.write("b.csv", 9, "a,b\n1,2\n\n\"x\ny\",3\r\n4,5");
    world.write("deep/a.csv", 5, "\u{feff}b,a\n6,7\n");
    world.write("a.csv", 5, "a\n");
    world.write(".hidden.csv", 5, "a\n1\n");
    world.write("other.txt", 5, "a\n1\n");
    let expected = [
        "b.csv:2 1,2",
        "b.csv:4 \"x\ny\",3",
        "b.csv:6 4,5",
        "deep/a.csv:2 6,7",
    ];
    assert_eq!(world.rest().await, expected);
    assert_eq!(world.rest().await, [""; 0]);
    world.write("late.csv", 99, "a\n8\n");
    assert_eq!(world.rest().await, ["late.csv:2 8"]);
}

#[tokio::test]
async fn rule_30_a_big_file_is_resumed_by_row_wherever_reading_stopped() {
    for cut in [CSV, LINES] {
        let mut text = "k,v\n".to_owned();
        for i in 0..500 {
            let value = match i % 7 {
                0 if !cut.has_header => "x".repeat(80),
                0 => "\"a\nb\"".to_owned(),
                3 => "\n".to_owned(),
                _ => i.to_string(),
            };
            writeln!(text, "{i},{value}").unwrap();
        }
        let mut whole = world(cut);
        whole.write("big.csv", 1, &text);
        let expected = whole.rest().await;
        for step in [1, 7, 100] {
            let mut world = world(cut);
            world.write("big.csv", 1, &text);
            let mut read = Vec::new();
            while read.len() < expected.len() {
                let mut source = world.source().await;
                read.extend(world.poll(&mut source, step).await);
                // What is read ahead and not taken in is read again.
                let _ = source
                    .poll(
                        Budget {
                            records: 9,
                            bytes: 99,
                        },
                        Duration::ZERO,
                    )
                    .await;
            }
            assert_eq!(read, expected);
            assert_eq!(world.rest().await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn rule_30_a_record_over_the_limit_is_one_bad_record_and_its_neighbours_are_read() {
    let mut world = world(LINES);
    let long = "x".repeat(1 << 20);
    world.write("a.csv", 1, &format!("1\n{long}\n2\n{long}"));
    let read = world.rest().await;
    let shown: Vec<_> = read.iter().map(|r| (&r[..7], r.len())).collect();
    assert_eq!(
        shown,
        [
            ("a.csv:1", 9),
            ("a.csv:2", 73),
            ("a.csv:3", 9),
            ("a.csv:4", 73)
        ]
    );
}

#[tokio::test]
async fn rule_30_a_changed_file_stops_the_source_or_is_read_as_another_one() {
    let mut world = world(CSV);
    world.write("a.csv", 9, "a\n1\n");
    assert_eq!(world.rest().await, ["a.csv:2 1"]);
    world.write("a.csv", 8, "a\n2\n");
    let (reason, message) = world.fault().await;
    assert_eq!(reason, "FileChanged", "{message}");
    assert!(message.starts_with("a.csv (4 bytes, "), "{message}");
    world.plan.on_change = OnChange::Reread;
    assert_eq!(world.rest().await, ["a.csv:2 2"]);
    assert_eq!(world.rest().await, [""; 0]);
}

#[tokio::test]
async fn rule_30_a_file_that_is_not_listed_any_more_is_forgotten_once_it_is_read() {
    let mut world = world(CSV);
    world.write("a.csv", 9, "a\n1\n2\n");
    let mut source = world.source().await;
    assert_eq!(world.poll(&mut source, 1).await, ["a.csv:2 1"]);
    let kept = fs::read(world.dir.path().join("a.csv")).unwrap();
    fs::remove_file(world.dir.path().join("a.csv")).unwrap();
    let (reason, message) = world.fault().await;
    assert_eq!(reason, "DataLost", "{message}");
    fs::write(world.dir.path().join("a.csv"), kept).unwrap();
    touch(&world.dir.path().join("a.csv"), 9);
    assert_eq!(world.rest().await, ["a.csv:3 2"]);
    fs::remove_file(world.dir.path().join("a.csv")).unwrap();
    assert_eq!(world.rest().await, [""; 0]);
    assert_eq!(world.table.paths().count(), 0);
}

#[tokio::test]
async fn rule_30_a_file_in_a_folder_counts_once_it_is_settled() {
    let mut world = world(CSV);
    world.plan.settle = Duration::from_hours(1);
    world.write("old.csv", 1, "a\n1\n");
    fs::write(world.dir.path().join("new.csv"), "a\n2\n").unwrap();
    let mut source = world.source().await;
    assert_eq!(world.poll(&mut source, 9).await, ["old.csv:2 1"]);
    // It is known to be there, so the end is not reached.
    assert_eq!(source.reached().end, Some(Position(2)));
    touch(&world.dir.path().join("new.csv"), 1);
    assert_eq!(world.rest().await, ["new.csv:2 2"]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_and_not_made() {
    let mut world = world(CSV);
    world.plan.path = format!("file://{}/none", world.dir.path().display())
        .parse()
        .unwrap();
    let (reason, message) = world.fault().await;
    assert_eq!(reason, "SourceUnavailable");
    assert!(message.contains("/none: make it"), "{message}");
    assert!(!world.dir.path().join("none").exists());
}

#[test]
fn a_glob_names_files() {
    let check = |glob: &str, path: &str, expected: bool| {
        assert_eq!(
            listing::Glob::new(glob).matches(path),
            expected,
            "{glob} {path}"
        );
    };
    let table: BTreeMap<(&str, &str), bool> = [
        (("*", "a.csv"), true),
        (("*", "d/a.csv"), false),
        (("*", ".a"), false),
        (("*.csv", "a.csv"), true),
        (("*.csv", "a.csv.tmp"), false),
        (("*.csv", ".csv"), false),
        (("**/*.csv", "a.csv"), true),
        (("**/*.csv", "d/e/a.csv"), true),
        (("**/*.csv", ".d/a.csv"), false),
        (("d/*/a?.csv", "d/x/a1.csv"), true),
        (("d/*/a?.csv", "d/x/a.csv"), false),
        (("é*.csv", "éa.csv"), true),
        (("?.csv", "é.csv"), true),
        (("a*b*c", "axxbxxc"), true),
        (("a*b*c", "axxcxxb"), false),
    ]
    .into();
    table
        .iter()
        .for_each(|((glob, path), expected)| check(glob, path, *expected));
}

#[test]
fn a_table_that_only_reads_has_nothing_to_write_after_it_settled() {
    let mut table = FileTable::default();
    let id = evp_core::files::FileId {
        path: "a".into(),
        size: 1,
        version: "1".into(),
    };
    table.set(&id, Progress::default());
    table.settle();
    let held = StepState::new("files/1 x".into());
    assert_eq!(table.writes(&held).unwrap().files.len(), 1);
    assert!(table.get("a").is_some());
}

#[tokio::test]
async fn a_file_without_a_header_is_read_to_its_end_like_any_other() {
    let mut world = world(CSV);
    for (name, text) in [("a.csv", ""), ("b.csv", "\n\n"), ("c.csv", "\u{feff}")] {
        world.write(name, 9, text);
    }
    world.write("d.csv", 3, "id\n1\n");
    assert_eq!(world.rest().await, ["d.csv:2 1"]);
    assert!(world.rest().await.is_empty());
}

#[tokio::test]
async fn a_file_that_the_glob_leaves_out_for_a_while_is_not_read_again() {
    let mut world = world(LINES);
    world.write("a1.csv", 9, "1\n");
    world.write("b1.csv", 8, "2\n");
    assert_eq!(world.rest().await.len(), 2);
    world.plan.glob = "b*.csv".to_owned();
    assert!(world.rest().await.is_empty());
    world.plan.glob = "*.csv".to_owned();
    assert!(world.rest().await.is_empty());
}

#[tokio::test]
async fn a_file_of_which_nothing_was_read_may_change() {
    let mut world = world(LINES);
    world.write("a.csv", 9, "1\n2\n");
    world.write("b.csv", 8, "3\n");
    let mut source = world.source().await;
    assert_eq!(world.poll(&mut source, 1).await, ["a.csv:1 1"]);
    world.write("b.csv", 1, "44\n5\n");
    let mut all = Vec::new();
    while all.len() < 3 {
        let budget = Budget {
            records: 1,
            bytes: 1 << 20,
        };
        // That it is another one by now is told, and looked at anew.
        match source.poll(budget, Duration::from_millis(1)).await {
            Ok(batch) => all.extend(world.take(&batch)),
            Err(SourceError::Unavailable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(all, ["a.csv:2 2", "b.csv:1 44", "b.csv:2 5"]);
}
