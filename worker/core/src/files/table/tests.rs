//! Laws of the table of files.

use super::*;
use crate::protocol::digest::Digest;
use crate::protocol::head::StateFile;

const MEANING: &str = "files/1 s3://shop/raw";

/// A table as its owner has it, and the files that a head would name.
struct Kept {
    table: FileTable,
    state: StepState,
    files: BTreeMap<String, Vec<u8>>,
    epoch: u64,
}

fn kept() -> Kept {
    Kept {
        table: FileTable::default(),
        state: StepState::new(MEANING.to_owned()),
        files: BTreeMap::new(),
        epoch: 0,
    }
}

fn id(number: usize, version: u64) -> FileId {
    FileId {
        path: format!("day/{number:03}.csv").into(),
        size: 1000 + version,
        version: version.to_string().into(),
    }
}

fn at(rows: u64, done: bool) -> Progress {
    Progress {
        rows,
        lines: rows + 1,
        offset: rows * 10,
        done,
    }
}

impl Kept {
    /// Decides an epoch; the bytes it wrote.
    fn decide(&mut self) -> usize {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let writes = self.table.writes(&self.state).unwrap();
        let mut bytes = 0;
        let mut named = Vec::new();
        for (i, write) in writes.files.iter().enumerate() {
            let name = format!("{epoch}-{i}");
            bytes += write.bytes.len();
            self.files.insert(name.clone(), write.bytes.clone());
            let file = StateFile {
                name,
                length: write.bytes.len() as u64,
                sha256: Digest::of(&write.bytes),
            };
            named.push((write.at, file));
        }
        writes.change.record(&mut self.state, epoch, named);
        self.table.commit(epoch, &writes);
        bytes
    }

    fn restored(&self) -> FileTable {
        let mut table = FileTable::default();
        for run in self.state.runs() {
            for file in &run.files {
                table
                    .restore(MEANING, &self.files[&file.name], run.epoch)
                    .unwrap();
            }
        }
        table
    }
}

fn shown(table: &FileTable) -> Vec<(FileId, Progress)> {
    table.paths().filter_map(|path| table.get(path)).collect()
}

#[test]
fn rule_30_what_is_restored_is_what_was_decided_whatever_changed_in_between() {
    let mut random = crate::decode::tests::Random(7);
    for _ in 0..100 {
        let mut kept = kept();
        for _ in 0..random.below(60) {
            for _ in 0..random.below(6) {
                let (number, version) = (random.below(40), random.below(3) as u64);
                if random.chance(4) {
                    kept.table.forget(&id(number, 0).path);
                } else {
                    let at = at(random.below(9) as u64, random.chance(3));
                    kept.table.set(&id(number, version), at);
                }
            }
            kept.decide();
            assert_eq!(shown(&kept.restored()), shown(&kept.table));
        }
    }
}

#[test]
fn rule_30_a_restored_table_goes_on_as_the_one_that_was_never_gone() {
    let mut kept = kept();
    for round in 0..40 {
        kept.table.set(&id(round, 0), at(5, true));
        if round > 3 {
            kept.table.forget(&id(round - 3, 0).path);
        }
        kept.decide();
        kept.table = kept.restored();
    }
    let left: Vec<_> = kept.table.paths().map(ToString::to_string).collect();
    assert_eq!(
        left,
        ["day/000.csv", "day/037.csv", "day/038.csv", "day/039.csv"]
    );
}

#[test]
fn an_epoch_that_changes_little_writes_little() {
    let mut kept = kept();
    for number in 0..1000 {
        kept.table.set(&id(number, 0), at(5, true));
    }
    let all = kept.decide();
    kept.table.set(&id(1, 0), at(6, true));
    let one = kept.decide();
    assert!(one * 20 < all, "{one} of {all}");
    assert_eq!(kept.decide(), 0);
}

#[test]
fn a_file_is_never_known_less_than_it_was_unless_it_is_another_one() {
    let mut table = FileTable::default();
    table.set(&id(1, 0), at(5, true));
    table.set(&id(1, 0), at(3, false));
    assert_eq!(table.get("day/001.csv").unwrap().1, at(5, true));
    table.set(&id(1, 1), at(1, false));
    assert_eq!(table.get("day/001.csv").unwrap(), (id(1, 1), at(1, false)));
}

#[test]
fn a_table_of_another_folder_is_refused() {
    let mut kept = kept();
    kept.table.set(&id(1, 0), at(1, false));
    kept.decide();
    let file = kept.files.values().next().unwrap();
    let refused = FileTable::default().restore("files/1 s3://shop/other", file, Epoch(1));
    assert!(refused.unwrap_err().to_string().contains("s3://shop/raw"));
}
