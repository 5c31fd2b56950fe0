//! `--to dir:…` and `--to s3://…`: files that are seen only once they are whole.
//!
//! A file in a folder is written under a name that begins with a dot, synced and renamed; an object is put at once. What a
//! file holds is in the ledger, on disk, before the file is seen. A file that is there already is never replaced.

use std::fs::{File, create_dir_all, rename};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evp_api::plan::Template;

use super::ledger::{Ledger, Placed};
use super::target::{Cut, Place, storage};
use super::{Error, Pace, ProduceArgs};
use crate::generate::{Event, Events, Settings};
use crate::store::{Condition, PutOutcome, Store, StoreError};

/// Events between two looks at the clock and the signal.
const AT_ONCE: u64 = 1_000;

/// Bytes at which an object ends whatever else is asked for: until then it is held in memory.
const MOST_BYTES: usize = 64 << 20;

/// Attempts to put an object; each is read back when its outcome is unknown.
const ATTEMPTS: u32 = 5;

/// Where files come to be.
enum Folder {
    Dir(PathBuf),
    Bucket(Arc<dyn Store>),
}

/// Writes events to one file after the other.
struct Writer {
    folder: Folder,
    template: Template,
    /// Event time of the first event: part of each name, so that each run has names of its own.
    started: i64,
    cut: Cut,
    ledger: Ledger,
    open: Option<Open>,
    /// Files that were begun.
    begun: u64,
    /// Rows that were written.
    rows: i64,
}

/// The file that is being written.
struct Open {
    name: String,
    body: Body,
    /// Of the process's time.
    since: Duration,
    rows: u64,
    lines: u64,
    bytes: usize,
}

enum Body {
    /// Under a name that nobody reads.
    Hidden(PathBuf, BufWriter<File>),
    Held(Vec<u8>),
}

/// Writes until the limit or a signal; then the open file is finished.
pub(super) async fn write(
    args: &ProduceArgs,
    settings: Settings,
    mut pace: Pace,
    place: Place,
) -> Result<u64, Error> {
    let cut = Cut::of(args, &place);
    let folder = Folder::open(args, place)?;
    let events = Events::new(args.template, settings);
    let mut writer = Writer::new(
        folder,
        &events,
        cut,
        Ledger::create(args.ledger.as_deref())?,
    );
    let mut stop = std::pin::pin!(super::to_kafka::interrupted());
    loop {
        let due = tokio::select! {
            biased;
            () = &mut stop => None,
            due = pace.due(&events, AT_ONCE) => due,
        };
        let Some(due) = due else { break };
        for index in due {
            let now = pace.clock.elapsed();
            writer.add(&events.event(index), now).await?;
        }
        writer.end_old(pace.clock.elapsed()).await?;
    }
    writer.end().await?;
    Ok(u64::try_from(writer.rows).unwrap_or(0))
}

impl Folder {
    fn open(args: &ProduceArgs, place: Place) -> Result<Self, Error> {
        Ok(match place {
            Place::Dir(dir) => {
                create_dir_all(&dir).map_err(Error::file(&dir))?;
                Self::Dir(dir)
            }
            Place::Bucket(path) => Self::Bucket(storage(&args.files).open(&path)?.store),
        })
    }

    /// A file of that name that nobody sees yet.
    fn begin(&self, name: &str) -> Result<Body, Error> {
        let Self::Dir(dir) = self else {
            return Ok(Body::Held(Vec::new()));
        };
        let path = dir.join(name);
        if path.exists() {
            return Err(taken(&path.display().to_string()));
        }
        let hidden = dir.join(format!(".{name}.open"));
        let file = File::create(&hidden).map_err(Error::file(&hidden))?;
        Ok(Body::Hidden(hidden, BufWriter::new(file)))
    }

    /// Makes it seen.
    async fn show(&self, name: &str, body: Body) -> Result<(), Error> {
        match (self, body) {
            (Self::Dir(dir), Body::Hidden(hidden, mut file)) => {
                let written = file.flush().and_then(|()| file.get_ref().sync_all());
                written.map_err(Error::file(&hidden))?;
                let path = dir.join(name);
                rename(&hidden, &path).map_err(Error::file(&path))?;
                sync(dir).map_err(Error::file(dir))
            }
            (Self::Bucket(store), Body::Held(bytes)) => put(store.as_ref(), name, bytes).await,
            (Self::Dir(_), Body::Held(_)) | (Self::Bucket(_), Body::Hidden(..)) => {
                unreachable!("a body is begun by the folder that shows it")
            }
        }
    }
}

fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn taken(name: &str) -> Error {
    Error::Usage(format!(
        "{name} is there already and is not replaced: take another --start or another --to"
    ))
}

/// Puts an object that is not there. After an unknown outcome it is read back: equal bytes are ours, or as good.
async fn put(store: &dyn Store, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
    let bytes = Bytes::from(bytes);
    for attempt in 1.. {
        let unknown = match store.put_if(name, bytes.clone(), &Condition::Absent).await {
            Ok(PutOutcome::Won(_)) => return Ok(()),
            Ok(PutOutcome::Refused) => None,
            Err(error @ StoreError::Unavailable { .. }) => Some(error),
            Err(error) => return Err(error.into()),
        };
        match (store.get(name).await?, unknown) {
            (Some((there, _)), _) if there == bytes => return Ok(()),
            (Some(_), _) => {
                return Err(taken(name));
            }
            (None, Some(error)) if attempt >= ATTEMPTS => return Err(error.into()),
            (None, None) if attempt >= ATTEMPTS => break,
            (None, _) => {}
        }
    }
    Err(Error::Unreachable(format!(
        "the store refuses {name} and does not have it"
    )))
}

impl Writer {
    fn new(folder: Folder, events: &Events, cut: Cut, ledger: Ledger) -> Self {
        Self {
            folder,
            template: events.template(),
            started: events.settings().started.0,
            cut,
            ledger,
            open: None,
            begun: 0,
            rows: 0,
        }
    }

    fn begin(&mut self, now: Duration) -> Result<Open, Error> {
        self.begun += 1;
        let (template, started) = (self.template.name(), self.started);
        let columns = self.template.columns();
        let suffix = columns.map_or("jsonl", |_| "csv");
        let name = match self.cut.rows {
            Some(_) => format!("{template}-{started}-{:06}.{suffix}", self.begun),
            None => format!("{template}-{started}.{suffix}"),
        };
        let mut open = Open {
            body: self.folder.begin(&name)?,
            name,
            since: now,
            rows: 0,
            lines: 0,
            bytes: 0,
        };
        if let Some(columns) = columns {
            open.line(columns.join(",").as_bytes())?;
        }
        Ok(open)
    }

    /// Writes one row, and ends the file if it is the last one of it.
    async fn add(&mut self, event: &Event, now: Duration) -> Result<(), Error> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now)?,
        };
        let line = open.line(&event.value)?;
        open.rows += 1;
        let placed = Placed {
            partition: 0,
            offset: self.rows,
            timestamp: event.due.0 / 1_000,
            line: Some((&open.name, line)),
        };
        self.ledger.add(event, placed)?;
        self.rows += 1;
        let is_full = self.cut.rows.is_some_and(|rows| open.rows >= rows);
        let is_large = matches!(open.body, Body::Held(_)) && open.bytes >= MOST_BYTES;
        self.open = Some(open);
        if is_full || is_large {
            self.end().await?;
        }
        Ok(())
    }

    /// Ends a file that was begun long enough ago.
    async fn end_old(&mut self, now: Duration) -> Result<(), Error> {
        let is_old = |open: &Open| {
            let age = now.saturating_sub(open.since);
            self.cut.every.is_some_and(|every| age >= every)
        };
        if self.open.as_ref().is_some_and(is_old) {
            self.end().await?;
        }
        Ok(())
    }

    /// Tells of the open file, then lets it be seen.
    async fn end(&mut self) -> Result<(), Error> {
        self.ledger.sync()?;
        match self.open.take() {
            Some(Open { name, body, .. }) => self.folder.show(&name, body).await,
            None => Ok(()),
        }
    }
}

impl Open {
    /// Writes one record and its line end; the number of its first line, from 1.
    fn line(&mut self, record: &[u8]) -> Result<u64, Error> {
        let number = self.lines + 1;
        let ends = record.split(|&b| b == b'\n').count();
        self.lines += ends as u64;
        self.bytes += record.len() + 1;
        match &mut self.body {
            Body::Hidden(path, file) => {
                let written = file.write_all(record).and_then(|()| file.write_all(b"\n"));
                written.map_err(Error::file(path))?;
            }
            Body::Held(bytes) => {
                bytes.extend_from_slice(record);
                bytes.push(b'\n');
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use evp_core::position::Micros;

    use super::*;
    use crate::generate::Planting;
    use crate::store::Location;

    fn events() -> Events {
        let settings = Settings {
            seed: 1,
            started: Micros(0),
            rate: 10,
            partitions: 1,
            planting: Planting::default(),
            idle: None,
        };
        Events::new(Template::Shop, settings)
    }

    fn writer(folder: Folder) -> Writer {
        let cut = Cut {
            rows: Some(100),
            every: Some(Duration::from_secs(10)),
        };
        Writer::new(folder, &events(), cut, Ledger::create(None).unwrap())
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_is_hidden_until_it_is_whole_and_ends_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(Folder::Dir(dir.path().to_owned()));
        let second = Duration::from_secs(1);
        writer.add(&events().event(0), second).await.unwrap();
        writer.end_old(10 * second).await.unwrap();
        writer.add(&events().event(1), 10 * second).await.unwrap();
        assert_eq!(names(dir.path()), [".shop-0-000001.csv.open"]);
        writer.end_old(11 * second).await.unwrap();
        assert_eq!(names(dir.path()), ["shop-0-000001.csv"]);
        // No row, no file.
        writer.end_old(99 * second).await.unwrap();
        writer.end().await.unwrap();
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_there_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("shop-0-000001.csv");
        std::fs::write(&there, "mine").unwrap();
        let mut writer = writer(Folder::Dir(dir.path().to_owned()));
        let refused = writer.add(&events().event(0), Duration::ZERO).await;
        assert!(matches!(refused, Err(Error::Usage(_))));
        assert_eq!(std::fs::read(there).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn an_object_is_put_whole_and_never_replaces_another() {
        let store = Location::memory().store;
        let mut first = writer(Folder::Bucket(Arc::clone(&store)));
        first.add(&events().event(0), Duration::ZERO).await.unwrap();
        let name = "shop-0-000001.csv";
        assert!(store.get(name).await.unwrap().is_none());
        first.end().await.unwrap();
        let (bytes, _) = store.get(name).await.unwrap().unwrap();
        assert_eq!(bytes.split_inclusive(|&b| b == b'\n').count(), 2);
        // The same events once more are the same object; others are not.
        let mut again = writer(Folder::Bucket(Arc::clone(&store)));
        again.add(&events().event(0), Duration::ZERO).await.unwrap();
        again.end().await.unwrap();
        let mut other = writer(Folder::Bucket(store));
        other.add(&events().event(1), Duration::ZERO).await.unwrap();
        assert!(matches!(other.end().await, Err(Error::Usage(_))));
    }
}
