//! The table of files that were read, whole or in part: kept among the state files that the head names (semantics 30).
//!
//! It is a step's state in form: one bucket, whose runs are written by the rules of [`tiers`]. A file is forgotten once it is
//! no longer listed. What an epoch that is not decided took in stays here, for whoever took it in is gone with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion_common::{DataFusionError, exec_datafusion_err};
use evp_api::plan::{FilesPlan, NodeName, Plan, SourceKind};

use super::{FileId, InFiles, Note, Progress};
use crate::position::Epoch;
use crate::protocol::head::{Bucket, StepState};
use crate::state::{self, RunAt, Section, StateChange, StateWrite, tiers};

/// The only bucket.
const BUCKET: Bucket = Bucket(0);

/// Files of one state file: about 2 MiB with paths of 100 bytes.
const PART: usize = if cfg!(test) { 7 } else { 16_384 };

/// Files by path, with how far each was read.
#[derive(Clone, Debug, Default)]
pub struct FileTable {
    rows: BTreeMap<Arc<str>, Row>,
    /// Paths that changed or went since the last decided epoch.
    open: BTreeSet<Arc<str>>,
    /// Paths that went since the oldest run that says they were there, with the epoch of it.
    gone: BTreeMap<Arc<str>, Epoch>,
}

#[derive(Clone, Debug)]
struct Row {
    size: u64,
    version: Arc<str>,
    at: Progress,
    changed: Epoch,
}

/// What an epoch writes of a table.
#[derive(Debug, Default)]
pub struct TableWrites {
    /// What changes.
    pub change: StateChange,
    /// Its files.
    pub files: Vec<StateWrite>,
}

/// What the table of each source that reads files means, by the source's name.
pub fn fingerprints(plan: &Plan) -> BTreeMap<NodeName, String> {
    let files = plan.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Files(files) => Some((source.name.clone(), fingerprint(files))),
        SourceKind::Kafka(_) | SourceKind::Generator(_) => None,
    });
    files.collect()
}

/// Files of another folder are other files.
fn fingerprint(plan: &FilesPlan) -> String {
    format!("files/1 {}", plan.path)
}

impl FileTable {
    /// How far the file at that path was read, and which it was.
    pub fn get(&self, path: &str) -> Option<(FileId, Progress)> {
        let (path, row) = self.rows.get_key_value(path)?;
        let id = FileId {
            path: Arc::clone(path),
            size: row.size,
            version: Arc::clone(&row.version),
        };
        Some((id, row.at))
    }

    /// Paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rows.keys()
    }

    /// Takes in what a batch read.
    pub fn take_in(&mut self, read: &InFiles) {
        let mut last: Option<u32> = None;
        for place in read.places.iter().rev() {
            if last != Some(place.file) {
                last = Some(place.file);
                if let Some(file) = read.files.get(place.file as usize) {
                    self.set(&file.id, place.after);
                }
            }
        }
        for note in &read.notes {
            match note {
                Note::Read(id, at) => self.set(id, *at),
                Note::Gone(path) => self.forget(path),
            }
        }
    }

    /// The file was read so far. What is known already of the same file is never less.
    pub fn set(&mut self, id: &FileId, at: Progress) {
        let row = Row {
            size: id.size,
            version: Arc::clone(&id.version),
            at,
            changed: Epoch(0),
        };
        if let Some(known) = self.rows.get(&id.path)
            && (known.size, &known.version) == (row.size, &row.version)
            && (known.at.offset, known.at.done) >= (at.offset, at.done)
        {
            return;
        }
        self.rows.insert(Arc::clone(&id.path), row);
        self.gone.remove(&id.path);
        self.open.insert(Arc::clone(&id.path));
    }

    /// The file is no longer listed.
    pub fn forget(&mut self, path: &Arc<str>) {
        if self.rows.remove(path).is_some() {
            self.open.insert(Arc::clone(path));
        }
    }

    /// What the open epoch writes beside the files that `held` names.
    pub fn writes(&self, held: &StepState) -> Result<TableWrites, DataFusionError> {
        let runs = held.buckets.get(&BUCKET).map_or(&[][..], Vec::as_slice);
        if self.open.is_empty() && !runs.is_empty() {
            return Ok(TableWrites::default());
        }
        let delta = self.encode(
            &held.fingerprint,
            &self.changes(|changed| changed.is_none()),
        )?;
        let bytes = delta.iter().map(|file| file.len() as u64).sum();
        let plan = tiers::plan(runs, bytes);
        let files = match plan.kept.checked_sub(1) {
            None => self.encode(&held.fingerprint, &self.rows.keys().collect::<Vec<_>>())?,
            Some(_) if plan.kept == runs.len() => delta,
            Some(newest) => {
                let after = runs[newest].epoch;
                let since = |changed: Option<Epoch>| changed.is_none_or(|at| at > after);
                self.encode(&held.fingerprint, &self.changes(since))?
            }
        };
        let at = RunAt {
            bucket: BUCKET,
            kept: plan.kept,
            tier: plan.tier,
        };
        let files = files.into_iter().map(|bytes| StateWrite { at, bytes });
        Ok(TableWrites {
            change: StateChange {
                changed: [BUCKET].into(),
                ..StateChange::default()
            },
            files: files.collect(),
        })
    }

    /// The open epoch was decided with these writes.
    pub fn commit(&mut self, epoch: Epoch, writes: &TableWrites) {
        if writes.files.iter().any(|file| file.at.kept == 0) {
            self.gone.clear();
        }
        for path in std::mem::take(&mut self.open) {
            match self.rows.get_mut(&path) {
                Some(row) => row.changed = epoch,
                None => drop(self.gone.insert(path, epoch)),
            }
        }
    }

    /// For who only reads: what changed is nobody's to write.
    pub fn settle(&mut self) {
        self.open.clear();
        self.gone.clear();
    }

    /// Takes in a file that `epoch` wrote; files come in the order in which the head names them.
    pub fn restore(
        &mut self,
        fingerprint: &str,
        file: &[u8],
        epoch: Epoch,
    ) -> Result<(), DataFusionError> {
        let decoded = state::decode(file)?;
        if decoded.fingerprint != fingerprint {
            let found = decoded.fingerprint;
            return Err(exec_datafusion_err!(
                "written for `{found}`, not for `{fingerprint}`"
            ));
        }
        for section in decoded.sections {
            for batch in &section.batches {
                self.restore_rows(batch, epoch)?;
            }
        }
        Ok(())
    }

    fn restore_rows(&mut self, batch: &RecordBatch, epoch: Epoch) -> Result<(), DataFusionError> {
        let torn = || exec_datafusion_err!("not a table of files");
        let text = |i: usize| batch.column(i).as_string_opt::<i32>().ok_or_else(torn);
        let number = |i: usize| {
            let column = batch.column(i).as_primitive_opt::<Int64Type>();
            column.ok_or_else(torn)
        };
        let flag = |i: usize| batch.column(i).as_boolean_opt().ok_or_else(torn);
        if batch.num_columns() != FIELDS.len() {
            return Err(torn());
        }
        let (paths, versions) = (text(0)?, text(2)?);
        let (sizes, rows, lines, offsets) = (number(1)?, number(3)?, number(4)?, number(5)?);
        let (done, gone) = (flag(6)?, flag(7)?);
        let of = |column: &Int64Array, i: usize| column.value(i).cast_unsigned();
        for i in 0..batch.num_rows() {
            let path: Arc<str> = paths.value(i).into();
            if gone.value(i) {
                self.rows.remove(&path);
                self.gone.insert(path, epoch);
                continue;
            }
            self.gone.remove(&path);
            let row = Row {
                size: of(sizes, i),
                version: versions.value(i).into(),
                at: Progress {
                    rows: of(rows, i),
                    lines: of(lines, i),
                    offset: of(offsets, i),
                    done: done.value(i),
                },
                changed: epoch,
            };
            self.rows.insert(path, row);
        }
        Ok(())
    }

    /// Paths that changed or went at a time that is asked for; `None`: in the open epoch.
    fn changes(&self, asked: impl Fn(Option<Epoch>) -> bool) -> Vec<&Arc<str>> {
        let when = |path: &Arc<str>, at: Epoch| (!self.open.contains(path)).then_some(at);
        let changed = self
            .rows
            .iter()
            .filter(|(path, row)| asked(when(path, row.changed)));
        let gone = self
            .gone
            .iter()
            .filter(|(path, at)| asked(when(path, **at)));
        let just_gone = self.open.iter().filter(|path| {
            !self.rows.contains_key(*path) && !self.gone.contains_key(*path) && asked(None)
        });
        let paths = changed.map(|(path, _)| path);
        paths
            .chain(gone.map(|(path, _)| path))
            .chain(just_gone)
            .collect()
    }

    /// Files that hold these paths; a first one also if there are none.
    fn encode(
        &self,
        fingerprint: &str,
        paths: &[&Arc<str>],
    ) -> Result<Vec<Vec<u8>>, DataFusionError> {
        let mut parts: Vec<_> = paths.chunks(PART).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let file = |part: &&[&Arc<str>]| {
            let section = Section::new("files", &fields(), self.columns(part))?;
            state::encode(fingerprint, &[section])
        };
        parts.iter().map(file).collect()
    }

    fn columns(&self, paths: &[&Arc<str>]) -> Vec<ArrayRef> {
        let row = |path: &&Arc<str>| self.rows.get(*path);
        let number = |of: fn(&Row) -> u64| -> ArrayRef {
            let values = paths.iter().map(|p| row(p).map_or(0, of).cast_signed());
            Arc::new(Int64Array::from_iter_values(values))
        };
        let versions = paths.iter().map(|p| row(p).map_or("", |r| &*r.version));
        let flag = |of: fn(Option<&Row>) -> bool| -> ArrayRef {
            let values = paths.iter().map(|p| Some(of(row(p))));
            Arc::new(values.collect::<BooleanArray>())
        };
        vec![
            Arc::new(StringArray::from_iter_values(paths.iter().map(|p| &***p))),
            number(|r| r.size),
            Arc::new(StringArray::from_iter_values(versions)),
            number(|r| r.at.rows),
            number(|r| r.at.lines),
            number(|r| r.at.offset),
            flag(|r| r.is_some_and(|r| r.at.done)),
            flag(|r| r.is_none()),
        ]
    }
}

/// Columns of a state file.
const FIELDS: [(&str, DataType); 8] = [
    ("path", DataType::Utf8),
    ("size", DataType::Int64),
    ("version", DataType::Utf8),
    ("rows", DataType::Int64),
    ("lines", DataType::Int64),
    ("offset", DataType::Int64),
    ("done", DataType::Boolean),
    ("gone", DataType::Boolean),
];

fn fields() -> Vec<Field> {
    let field = |(name, data_type)| Field::new(name, data_type, false);
    FIELDS.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests;
