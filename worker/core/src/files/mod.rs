//! Records that lie in files: where each one stands, and which files were read how far (semantics 30).
//!
//! Owns the words for a file's identity and progress, the cutting of a file into records ([`frame`]) and the table that an
//! epoch keeps ([`table`]). Reads nothing.

pub mod frame;
pub mod table;

use std::fmt;
use std::sync::Arc;

/// One file as it was when it was listed: another size or version under the same path is another file.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId {
    /// Path below the source's folder.
    pub path: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// What differs once the content does: an object's `ETag`, or when a file was modified.
    pub version: Arc<str>,
}

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Records taken in.
    pub rows: u64,
    /// Lines before the next record.
    pub lines: u64,
    /// Bytes before the next record.
    pub offset: u64,
    /// Nothing follows.
    pub done: bool,
}

/// A file that records of a batch were read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceFile {
    /// Which.
    pub id: FileId,
    /// Its first record, where that names the columns.
    pub header: Option<Vec<u8>>,
}

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Index into [`InFiles::files`].
    pub file: u32,
    /// Its first line, counted from 1.
    pub line: u64,
    /// How far the file is read once this record is.
    pub after: Progress,
}

/// What became known of a file beside its records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Note {
    /// It is read so far, though no record says so: what was left held none.
    Read(FileId, Progress),
    /// It is no longer listed.
    Gone(Arc<str>),
}

/// What a batch knows of the files it was read from; empty for sources that read no files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InFiles {
    /// The files.
    pub files: Vec<Arc<SourceFile>>,
    /// Record → its place; as many as there are records, or none.
    pub places: Vec<Place>,
    /// What holds once all records of the batch are taken in.
    pub notes: Vec<Note>,
}

impl InFiles {
    /// Place of a record.
    pub fn place(&self, record: usize) -> Option<&Place> {
        self.places.get(record)
    }

    /// File of a record.
    pub fn file(&self, record: usize) -> Option<&Arc<SourceFile>> {
        self.files.get(self.place(record)?.file as usize)
    }

    /// `file:line` of a record, as people look for it.
    pub fn spot(&self, record: usize) -> Option<String> {
        let (file, place) = (self.file(record)?, self.place(record)?);
        Some(format!("{}:{}", file.id.path, place.line))
    }

    /// The places of these records, without notes.
    #[must_use]
    pub(crate) fn only(&self, records: &[usize]) -> Self {
        Self {
            files: self.files.clone(),
            places: records
                .iter()
                .filter_map(|&at| self.place(at).copied())
                .collect(),
            notes: Vec::new(),
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes, {})", self.path, self.size, self.version)
    }
}
