//! The producer's own record of what it sent.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Error;
use crate::generate::{Event, Kind};

/// A ledger; without a file it keeps nothing.
pub(super) struct Ledger {
    file: Option<(PathBuf, BufWriter<File>)>,
}

/// Where the target put a record.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    /// Of a row in a file: the file's name and the line, from 1.
    pub(super) line: Option<(&'a str, u64)>,
}

#[derive(Serialize)]
struct Line<'a> {
    i: u64,
    kind: Kind,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Ledger {
    /// Creates the file; it must not be there, for it may be the only record of an earlier run.
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Error> {
        let open = |path: &Path| {
            let file = File::create_new(path).map_err(Error::file(path))?;
            Ok::<_, Error>((path.to_owned(), BufWriter::new(file)))
        };
        Ok(Self {
            file: path.map(open).transpose()?,
        })
    }

    pub(super) fn add(&mut self, event: &Event, placed: Placed<'_>) -> Result<(), Error> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let Placed {
            partition,
            offset,
            timestamp,
            line,
        } = placed;
        let text = std::str::from_utf8(&event.value).ok();
        let line = Line {
            i: event.index,
            kind: event.kind,
            partition,
            offset,
            timestamp,
            file: line.map(|(file, _)| file),
            line: line.map(|(_, line)| line),
            key: &event.key,
            value: text,
            value_base64: text.is_none().then(|| STANDARD.encode(&event.value)),
        };
        let written = serde_json::to_writer(&mut *file, &line)
            .map_err(Into::into)
            .and_then(|()| file.write_all(b"\n"));
        written.map_err(Error::file(path))
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(Error::file(path)),
            None => Ok(()),
        }
    }

    /// On disk.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        match &self.file {
            Some((path, file)) => file.get_ref().sync_all().map_err(Error::file(path)),
            None => Ok(()),
        }
    }
}
