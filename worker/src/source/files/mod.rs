//! The `files` source: files below a folder, each read once (semantics 4, 30).
//!
//! One split. Its position counts the records that were read; which files they came from, and how far, is a table
//! ([`FileTable`]) that the head keeps beside it. Here is a copy of that table which runs ahead with the reading. Files are
//! read one after the other in the order of a listing; a new one is made when all files of the last one are read. What is
//! listed late and is older is read like any other. Memory: one buffer of two records, the listing, the table.

mod listing;
mod opened;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use evp_api::plan::{FilesPlan, FormatPlan, OnChange, SourcePlan};
use evp_api::reason;
use evp_core::files::frame::Framing;
use evp_core::files::table::FileTable;
use evp_core::files::{Note, Progress};
use evp_core::position::{Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::{RawBatch, Reached};

use self::listing::{Folder, Listed};
use self::opened::{Opened, Went};
use super::{Budget, Source, SourceError};
use crate::clock::SharedClock;
use crate::store::{Storage, StoreError};

/// Shortest wait of a poll that finds nothing.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// A files source.
pub struct FilesSource {
    parts: Parts,
    /// Opened with the first look.
    folder: Option<Folder>,
    /// Records read so far.
    next: i64,
    /// What was read, this far ahead of the head.
    table: FileTable,
    /// Files of the last listing that are still to be read.
    queue: VecDeque<Listed>,
    /// Files of the last listing that are not settled yet.
    unsettled: usize,
    open: Option<Opened>,
    /// Of files that the last listing did not show any more; told with the next batch.
    gone: Vec<Note>,
    looked: Option<Duration>,
    told: Option<Reached>,
}

/// What a files source is made of.
pub struct Parts {
    /// The manifest's words.
    pub plan: FilesPlan,
    /// How a file is cut into records.
    pub cut: Cut,
    /// Where the path leads.
    pub storage: Storage,
    /// Time.
    pub clock: SharedClock,
}

/// How a file is cut into records.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Lines or rows.
    pub framing: Framing,
    /// The first record names the columns.
    pub has_header: bool,
    /// Bytes of the largest record.
    pub most: usize,
}

impl Cut {
    /// As the format of a source says.
    pub fn of(source: &SourcePlan) -> Self {
        Self {
            framing: Framing::from(&source.format),
            has_header: matches!(&source.format, FormatPlan::Csv(csv) if csv.header),
            most: source.max_record_bytes,
        }
    }
}

impl FilesSource {
    /// Looks at nothing before the first poll.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            folder: None,
            next: 0,
            table: FileTable::default(),
            queue: VecDeque::new(),
            unsettled: 0,
            open: None,
            gone: Vec::new(),
            looked: None,
            told: None,
        }
    }

    fn folder(&mut self) -> Result<Folder, SourceError> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = Folder::open(&self.parts)?;
        Ok(self.folder.insert(folder).clone())
    }

    /// Lists the folder, if all that was listed is read and the time has come.
    async fn look(&mut self) -> Result<(), SourceError> {
        let now = self.parts.clock.elapsed();
        let is_due = self.due_in(now).is_zero();
        if !is_due || self.open.is_some() || !self.queue.is_empty() {
            return Ok(());
        }
        let (folder, time) = (self.folder()?, self.parts.clock.now());
        let known = |path: &str| self.table.get(path).is_some();
        let listing = folder.list(time, known).await?;
        self.looked = Some(now);
        self.unsettled = listing.unsettled.len();
        let listed: BTreeMap<_, _> = listing.files.iter().map(|f| (&f.id.path, f)).collect();
        // A file that the glob left out may match again one day.
        let is_gone = |path: &&std::sync::Arc<str>| {
            !listed.contains_key(*path)
                && !listing.unsettled.contains(*path)
                && !listing.unmatched.contains(*path)
        };
        let gone: Vec<_> = self.table.paths().filter(is_gone).cloned().collect();
        for path in gone {
            let known = self.table.get(&path);
            if let Some((id, at)) = known.filter(|(_, at)| !at.done && at.rows > 0) {
                return Err(lost(&id, at));
            }
            self.table.forget(&path);
            self.gone.push(Note::Gone(path));
        }
        let mut queue = Vec::new();
        for file in listing.files {
            match self.table.get(&file.id.path) {
                Some((id, at)) if id == file.id && at.done => {}
                Some((id, _)) if id != file.id && self.parts.plan.on_change == OnChange::Fail => {
                    return Err(changed(&id));
                }
                Some((id, at)) if id == file.id && at.offset > 0 => queue.push((false, file)),
                _ => queue.push((true, file)),
            }
        }
        // What was begun is finished first.
        queue.sort_by_key(|(is_new, file)| (*is_new, file.order()));
        self.queue = queue.into_iter().map(|(_, file)| file).collect();
        self.table.settle();
        Ok(())
    }

    /// Until the next look.
    fn due_in(&self, now: Duration) -> Duration {
        let interval = self.parts.plan.poll_interval;
        let since = |looked| interval.saturating_sub(now.saturating_sub(looked));
        self.looked.map_or(Duration::ZERO, since)
    }

    /// Opens the next file. `None`: all are read.
    async fn opened(&mut self) -> Result<Option<&mut Opened>, SourceError> {
        if self.open.is_none() {
            let folder = self.folder()?;
            while let Some(file) = self.queue.front() {
                let known = self.table.get(&file.id.path);
                let at = known.filter(|(id, _)| *id == file.id);
                let at = at.map_or(Progress::default(), |(_, at)| at);
                let opened = Opened::open(&folder, file.clone(), at, self.parts.cut).await;
                match opened {
                    Ok(opened) => {
                        self.open = Some(opened);
                        break;
                    }
                    Err(opened::Fault::Gone) if at.rows == 0 => {
                        tracing::warn!(file = %file.id, "was removed before anything of it was read");
                        self.queue.pop_front();
                    }
                    Err(fault) => return Err(self.refused(fault, at)),
                }
            }
        }
        Ok(self.open.as_mut())
    }

    /// What a fault of the file at the head of the queue means.
    fn refused(&mut self, fault: opened::Fault, at: Progress) -> SourceError {
        self.open = None;
        let Some(file) = self.queue.front() else {
            return unavailable("the file is not known".to_owned());
        };
        match fault {
            opened::Fault::Gone => lost(&file.id, at),
            opened::Fault::Changed
                if at.rows > 0 && self.parts.plan.on_change == OnChange::Fail =>
            {
                changed(&file.id)
            }
            opened::Fault::Changed => {
                let what = format!("{} is being changed; it is read anew", file.id);
                self.queue.clear();
                self.looked = None;
                unavailable(what)
            }
            opened::Fault::Store(error) => of_store(&error),
        }
    }

    /// Reads into the batch until it is full, or everything listed is read.
    async fn read(&mut self, batch: &mut RawBatch, budget: Budget) -> Result<(), SourceError> {
        let mut next = self.next;
        while batch.records.len() < budget.records.max(1) && batch.bytes.len() < budget.bytes {
            let Some(opened) = self.opened().await? else {
                break;
            };
            let went = opened.read(batch, budget, &mut next).await;
            let ((id, ended), at) = (opened.ended(), opened.progress());
            self.next = next;
            match went {
                Ok(Went::Full) => break,
                Ok(Went::Ended) => {
                    batch.in_files.notes.push(Note::Read(id, ended));
                    self.open = None;
                    self.queue.pop_front();
                }
                Err(fault) => return Err(self.refused(fault, at)),
            }
        }
        Ok(())
    }

    async fn look_and_read(
        &mut self,
        budget: Budget,
        wait: Duration,
    ) -> Result<RawBatch, SourceError> {
        self.look().await?;
        let mut batch = RawBatch {
            splits: vec![SplitId::partition(0)],
            ..RawBatch::default()
        };
        batch.in_files.notes.append(&mut self.gone);
        let read = self.read(&mut batch, budget).await;
        self.table.take_in(&batch.in_files);
        match read {
            // What was read is handed over first; the fault is met again.
            Err(error) if batch.records.is_empty() && batch.in_files.notes.is_empty() => {
                return Err(error);
            }
            _ => {}
        }
        let reached = self.reached();
        if self.told.as_ref() != Some(&reached) || !batch.in_files.notes.is_empty() {
            self.told = Some(reached.clone());
            batch.reached.push(reached);
        }
        if batch.reached.is_empty() {
            let due = self.due_in(self.parts.clock.elapsed());
            let wait = wait.min(due).max(LEAST_WAIT);
            self.parts.clock.sleep(wait).await;
        }
        Ok(batch)
    }

    /// The end: at least a record for each file that is not read to its end, for nobody knows more.
    fn reached(&self) -> Reached {
        let left = i64::try_from(self.queue.len() + self.unsettled).unwrap_or(i64::MAX);
        let looked = self.looked.is_some();
        Reached {
            split: SplitId::partition(0),
            position: position(self.next),
            end: looked.then(|| Position(self.next.saturating_add(left))),
        }
    }
}

#[async_trait]
impl Source for FilesSource {
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let split = SplitId::partition(0);
        let is_known = known.is_some_and(|known| known.contains_key(&split));
        let new = (!is_known).then(|| (split, position(0)));
        Ok(new.into_iter().collect())
    }

    fn remember(&mut self, table: FileTable) {
        self.table = table;
        self.table.settle();
    }

    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        let at = positions.get(&SplitId::partition(0));
        let at = at.cloned().unwrap_or_default();
        if at.started.is_some() || at.topic_id.is_some() {
            return Err(SourceError::Stop {
                reason: reason::CHECKPOINT_DAMAGED,
                message: "the positions are those of another kind of source; give this one a name of its own"
                    .to_owned(),
            });
        }
        self.next = at.next.0;
        self.queue.clear();
        (self.open, self.looked, self.told) = (None, None, None);
        Ok(())
    }

    /// Dropped while it waits it may have read what nobody got: a seek is needed then.
    async fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        let polled = self.look_and_read(budget, wait).await;
        if polled.is_err() {
            // Where it stands is told anew once it can be read, so that nobody goes on taking it for troubled.
            self.told = None;
        }
        polled
    }

    /// Each read names the version of the file that it wants, or looks again when the file's last byte is read.
    async fn vouch(&mut self, _: &SplitPositions) -> Result<(), SourceError> {
        Ok(())
    }

    /// How many records there are is not known: the end is reached where this source says so.
    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError> {
        let end = SplitPosition {
            next: Position::OPEN,
            ..SplitPosition::default()
        };
        Ok([(SplitId::partition(0), end)].into())
    }
}

fn position(next: i64) -> SplitPosition {
    SplitPosition {
        next: Position(next),
        ..SplitPosition::default()
    }
}

fn changed(file: &evp_core::files::FileId) -> SourceError {
    SourceError::Stop {
        reason: reason::FILE_CHANGED,
        message: format!(
            "{file} was read, in part or as a whole, and is another file now; put it back, remove it, or read it as a new one \
             with `onChange: Reread`"
        ),
    }
}

fn lost(file: &evp_core::files::FileId, at: Progress) -> SourceError {
    SourceError::Stop {
        reason: reason::DATA_LOST,
        message: format!(
            "{file} was removed when {} of its records had been read; put it back",
            at.rows
        ),
    }
}

fn unavailable(message: String) -> SourceError {
    SourceError::Unavailable {
        reason: reason::SOURCE_UNAVAILABLE,
        message,
    }
}

fn of_store(error: &StoreError) -> SourceError {
    SourceError::Unavailable {
        reason: match error {
            StoreError::Denied { .. } => reason::SOURCE_DENIED,
            StoreError::Secret(_) => reason::SECRET_MISSING,
            _ => reason::SOURCE_UNAVAILABLE,
        },
        message: error.describe(),
    }
}
