//! A file that is being read: a stream of its bytes from some record on, cut into records.

use std::sync::Arc;

use bytes::Bytes;
use evp_core::files::frame::Frame;
use evp_core::files::{FileId, Place, Progress, SourceFile};
use evp_core::position::{Micros, Position};
use evp_core::record::{RawBatch, RawRecord};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::listing::{Folder, Listed};
use super::{Budget, Cut};
use crate::store::StoreError;

/// Fewest bytes that are read before records are looked for again: a record that is looked at more than once is looked at a
/// number of times that does not grow with it.
const READ: usize = 256 << 10;

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that is being read.
pub(super) struct Opened {
    file: Arc<SourceFile>,
    modified: Micros,
    bytes: BytesOf,
    /// How far records were handed over.
    at: Progress,
    cut: Cut,
    /// The beginning of a record that is too long, whose line has not ended yet.
    long: Option<Vec<u8>>,
}

/// Bytes that are here and not yet taken.
struct BytesOf {
    stream: BoxStream<'static, Result<Bytes, Fault>>,
    here: Vec<u8>,
    taken: usize,
    is_all: bool,
}

/// How reading ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Went {
    /// The batch is full.
    Full,
    /// The file is read to its end.
    Ended,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not there any more.
    Gone,
    /// It is another file now.
    Changed,
    /// The store does not give it.
    Store(StoreError),
}

impl Opened {
    /// Opens a file to read on from there.
    pub(super) async fn open(
        folder: &Folder,
        listed: Listed,
        at: Progress,
        cut: Cut,
    ) -> Result<Self, Fault> {
        let mut opened = Self {
            bytes: BytesOf::new(folder, &listed, 0),
            file: Arc::new(SourceFile {
                id: listed.id.clone(),
                header: None,
            }),
            modified: listed.modified,
            at: Progress::default(),
            cut,
            long: None,
        };
        if at.offset == 0 || cut.has_header {
            opened.begin().await?;
        }
        if at.offset > 0 {
            opened.bytes = BytesOf::new(folder, &listed, at.offset);
            opened.at = at;
        }
        Ok(opened)
    }

    /// What comes before the first record.
    async fn begin(&mut self) -> Result<(), Fault> {
        self.bytes.more().await?;
        if self.bytes.rest().starts_with(BYTE_ORDER_MARK) {
            self.take(BYTE_ORDER_MARK.len());
        }
        while self.cut.has_header && !(self.bytes.is_all && self.bytes.rest().is_empty()) {
            let Cut { framing, most, .. } = self.cut;
            match framing.first(self.bytes.rest(), self.bytes.is_all, most) {
                Frame::Record { value, end } => {
                    let header = self.bytes.rest()[value].to_vec();
                    let id = self.file.id.clone();
                    let header = Some(header);
                    self.file = Arc::new(SourceFile { id, header });
                    self.take(end);
                    break;
                }
                Frame::Blank { end } => self.take(end),
                Frame::More if self.bytes.is_all => break,
                Frame::More => self.bytes.more().await?,
                // No header: that is told with each record.
                Frame::TooLong => {
                    while !self.end_of_line() && !self.bytes.is_all {
                        self.bytes.more().await?;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// How far records were handed over.
    pub(super) fn progress(&self) -> Progress {
        self.at
    }

    /// The file, as it is known once it is read to its end.
    pub(super) fn ended(&self) -> (FileId, Progress) {
        let at = Progress {
            done: true,
            ..self.at
        };
        (self.file.id.clone(), at)
    }

    /// Reads records into the batch; `next` is the position of the next one.
    pub(super) async fn read(
        &mut self,
        batch: &mut RawBatch,
        budget: Budget,
        next: &mut i64,
    ) -> Result<Went, Fault> {
        let Cut { framing, most, .. } = self.cut;
        loop {
            if batch.records.len() >= budget.records.max(1) || batch.bytes.len() >= budget.bytes {
                return Ok(Went::Full);
            }
            if self.long.is_some() {
                let ended = self.end_of_line();
                if !ended && !self.bytes.is_all {
                    self.bytes.more().await?;
                    continue;
                }
                let value = self.long.take().unwrap_or_default();
                let line = self.at.lines + u64::from(!ended);
                self.push((batch, next), &value, line);
                continue;
            }
            match framing.first(self.bytes.rest(), self.bytes.is_all, most) {
                Frame::Record { value, end } => {
                    if !batch.records.is_empty() && batch.bytes.len() + value.len() > budget.bytes {
                        return Ok(Went::Full);
                    }
                    let line = self.at.lines + 1;
                    let value = self.bytes.rest()[value].to_vec();
                    self.take(end);
                    self.push((batch, next), &value, line);
                }
                Frame::Blank { end } => self.take(end),
                Frame::TooLong => {
                    self.long = Some(self.bytes.rest()[..=most].to_vec());
                }
                Frame::More if self.bytes.is_all => return Ok(Went::Ended),
                Frame::More => self.bytes.more().await?,
            }
            if self.long.is_none() && self.bytes.is_all && self.bytes.rest().is_empty() {
                return Ok(Went::Ended);
            }
        }
    }

    /// Takes the rest of a line; false: it is not here.
    fn end_of_line(&mut self) -> bool {
        let rest = self.bytes.rest();
        let end = rest.iter().position(|&b| b == b'\n');
        self.take(end.map_or(rest.len(), |end| end + 1));
        end.is_some()
    }

    /// These bytes are dealt with.
    fn take(&mut self, count: usize) {
        let lines = self.bytes.rest()[..count].iter().filter(|&&b| b == b'\n');
        self.at.lines += lines.count() as u64;
        self.at.offset += count as u64;
        self.bytes.taken += count;
    }

    fn push(&mut self, (batch, next): (&mut RawBatch, &mut i64), value: &[u8], line: u64) {
        self.at.rows += 1;
        let files = &mut batch.in_files.files;
        if files
            .last()
            .is_none_or(|last| !Arc::ptr_eq(last, &self.file))
        {
            files.push(Arc::clone(&self.file));
        }
        let file = u32::try_from(files.len() - 1).unwrap_or(u32::MAX);
        batch.in_files.places.push(Place {
            file,
            line,
            after: self.at,
        });
        let value = Some(batch.hold(value));
        batch.records.push(RawRecord {
            split: 0,
            position: Position(*next),
            timestamp: self.modified,
            key: None,
            value,
        });
        *next += 1;
    }
}

impl BytesOf {
    fn new(folder: &Folder, file: &Listed, from: u64) -> Self {
        Self {
            stream: folder.read(file, from),
            here: Vec::new(),
            taken: 0,
            is_all: false,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.here[self.taken..]
    }

    /// Reads on: as many bytes again as are here, or to the end.
    async fn more(&mut self) -> Result<(), Fault> {
        self.here.drain(..self.taken);
        self.taken = 0;
        let wanted = self.here.len() + READ.max(self.here.len());
        while self.here.len() < wanted {
            let Some(bytes) = self.stream.next().await else {
                self.is_all = true;
                break;
            };
            self.here.extend_from_slice(&bytes?);
        }
        Ok(())
    }
}
