//! The folder of a files source: which files are there and whole, and their bytes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use evp_api::plan::StoragePath;
use evp_core::files::FileId;
use evp_core::position::Micros;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::opened::Fault;
use super::{Parts, SourceError, of_store, unavailable};
use crate::store::StoreError;

/// Where files lie.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    store: Arc<dyn ObjectStore>,
    path: StoragePath,
    glob: Glob,
    /// How long a file must be unchanged; `None`: what is listed is whole.
    settle: Option<i64>,
    /// The folder, if it is one here.
    here: Option<std::path::PathBuf>,
}

/// A file of a listing.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: FileId,
    pub(super) modified: Micros,
    location: Path,
    etag: Option<String>,
}

/// What a listing shows.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files that are whole, in no order.
    pub(super) files: Vec<Listed>,
    /// Paths of those that may still be written.
    pub(super) unsettled: BTreeSet<Arc<str>>,
    /// Of the paths that were asked about, those of files that are there and do not match.
    pub(super) unmatched: BTreeSet<Arc<str>>,
}

impl Listed {
    /// Files are read in this order.
    pub(super) fn order(&self) -> (Micros, Arc<str>) {
        (self.modified, Arc::clone(&self.id.path))
    }
}

impl Folder {
    pub(super) fn open(parts: &Parts) -> Result<Self, SourceError> {
        let plan = &parts.plan;
        let storage = parts.storage.clone().reading_only();
        let location = storage.open(&plan.path).map_err(|e| of_store(&e))?;
        let is_remote = storage.is_remote(&plan.path);
        let micros = Micros::from(plan.settle).0;
        Ok(Self {
            store: location.object_store,
            path: plan.path.clone(),
            glob: Glob::new(&plan.glob),
            settle: (!is_remote).then_some(micros),
            here: location.url.to_file_path().ok().filter(|_| !is_remote),
        })
    }

    /// Lists the folder. `known`: is a path asked about, whether or not it matches?
    pub(super) async fn list(
        &self,
        now: Micros,
        known: impl Fn(&str) -> bool,
    ) -> Result<Listing, SourceError> {
        if let Some(here) = &self.here
            && !here.is_dir()
        {
            let what = format!(
                "there is no folder {}: make it, or change the path",
                here.display()
            );
            return Err(unavailable(what));
        }
        let mut listing = Listing::default();
        let mut objects = self.store.list(None);
        let failed = |e| of_store(&self.failed("", e));
        while let Some(meta) = objects.try_next().await.map_err(failed)? {
            let path: Arc<str> = meta.location.as_ref().into();
            // An object store may list the folder itself.
            if path.is_empty() {
                continue;
            }
            if !self.glob.matches(&path) {
                listing.unmatched.extend(Some(path).filter(|p| known(p)));
                continue;
            }
            let file = self.listed(path, meta);
            let settled = |settle| now.0.saturating_sub(file.modified.0) >= settle;
            if self.settle.is_none_or(settled) {
                listing.files.push(file);
            } else {
                listing.unsettled.insert(file.id.path);
            }
        }
        Ok(listing)
    }

    fn listed(&self, path: Arc<str>, meta: ObjectMeta) -> Listed {
        let modified = Micros(meta.last_modified.timestamp_micros());
        // A folder's own tag names the place on a disk: a copy would be another file.
        let version = match &meta.e_tag {
            Some(etag) if self.here.is_none() => etag.clone(),
            _ => modified.0.to_string(),
        };
        Listed {
            id: FileId {
                path,
                size: meta.size,
                version: version.into(),
            },
            modified,
            location: meta.location,
            etag: meta.e_tag,
        }
    }

    /// The bytes of a file from there on; a fault if it is another file by now, or once it was read.
    pub(super) fn read(
        &self,
        file: &Listed,
        from: u64,
    ) -> BoxStream<'static, Result<Bytes, Fault>> {
        if from >= file.id.size {
            return futures::stream::empty().boxed();
        }
        let reading = Reading {
            folder: self.clone(),
            file: file.clone(),
            left: file.id.size - from,
        };
        let opened = async move {
            let options = GetOptions {
                range: Some(GetRange::Offset(from)),
                if_match: reading.file.etag.clone(),
                ..GetOptions::default()
            };
            let got = reading
                .folder
                .store
                .get_opts(&reading.file.location, options);
            let stream = got.await.map_err(|e| reading.fault(e))?.into_stream();
            Ok(reading.checked(stream))
        };
        futures::stream::once(opened).try_flatten().boxed()
    }

    fn failed(&self, name: &str, error: object_store::Error) -> StoreError {
        use object_store::Error as E;
        let folder = &self.path;
        let at = if name.is_empty() {
            folder.to_string()
        } else {
            format!("{folder}/{name}")
        };
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => StoreError::Denied {
                at,
                source: error.into(),
            },
            error => StoreError::Unavailable {
                at,
                source: error.into(),
            },
        }
    }
}

/// A file while it is read.
struct Reading {
    folder: Folder,
    file: Listed,
    /// Bytes that are still to come.
    left: u64,
}

impl Reading {
    fn fault(&self, error: object_store::Error) -> Fault {
        match error {
            object_store::Error::NotFound { .. } => Fault::Gone,
            object_store::Error::Precondition { .. } => Fault::Changed,
            error => Fault::Store(self.folder.failed(&self.file.id.path, error)),
        }
    }

    /// The stream, and at its end whether it was the file that was listed.
    fn checked(
        self,
        stream: BoxStream<'static, object_store::Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes, Fault>> {
        let next = |state: Option<(Self, BoxStream<'static, _>)>| async move {
            let (mut reading, mut stream) = state?;
            match stream.next().await {
                Some(Ok(bytes)) => {
                    let bytes: Bytes = bytes;
                    let left = reading.left.checked_sub(bytes.len() as u64);
                    reading.left = left.unwrap_or(0);
                    let step = if left.is_some() {
                        Ok(bytes)
                    } else {
                        Err(Fault::Changed)
                    };
                    Some((step, Some((reading, stream))))
                }
                Some(Err(e)) => Some((Err(reading.fault(e)), None)),
                None => match reading.ended().await {
                    ControlFlow::Continue(()) => None,
                    ControlFlow::Break(fault) => Some((Err(fault), None)),
                },
            }
        };
        futures::stream::unfold(Some((self, stream)), next).boxed()
    }

    /// An object is replaced as a whole; a file here may have been written on while it was read.
    async fn ended(&self) -> ControlFlow<Fault> {
        if self.left > 0 {
            return ControlFlow::Break(Fault::Changed);
        }
        if self.folder.here.is_none() {
            return ControlFlow::Continue(());
        }
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let there = self.folder.store.get_opts(&self.file.location, options);
        match there.await {
            Ok(got) => {
                let now = self.folder.listed(Arc::clone(&self.file.id.path), got.meta);
                if now.id == self.file.id {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(Fault::Changed)
                }
            }
            // All of it was read.
            Err(object_store::Error::NotFound { .. }) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(self.fault(e)),
        }
    }
}

/// Names of files: `*` and `?` stand for parts of a name that do not begin with a dot, `**` for any folders.
#[derive(Clone, Debug)]
pub(super) struct Glob(Vec<String>);

impl Glob {
    pub(super) fn new(text: &str) -> Self {
        Self(text.split('/').map(str::to_owned).collect())
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        parts_match(&self.0, &parts)
    }
}

fn parts_match(glob: &[String], path: &[&str]) -> bool {
    match (glob.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            let here = parts_match(rest, path);
            let into = |(folder, below): (&&str, &[&str])| {
                !folder.starts_with('.') && parts_match(glob, below)
            };
            here || path.split_first().is_some_and(into)
        }
        (Some((first, glob)), Some((name, path))) => {
            let shown = first.starts_with('.') || !name.starts_with('.');
            shown && name_matches(first.as_bytes(), name) && parts_match(glob, path)
        }
        _ => false,
    }
}

fn name_matches(glob: &[u8], name: &str) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => {
            let starts = name.char_indices().map(|(at, _)| at);
            let mut starts = starts.chain([name.len()]);
            starts.any(|at| name_matches(rest, &name[at..]))
        }
        Some((b'?', rest)) => {
            let mut letters = name.chars();
            letters.next().is_some() && name_matches(rest, letters.as_str())
        }
        Some((letter, rest)) => {
            let name = name.as_bytes();
            name.first() == Some(letter) && name_bytes_match(rest, &name[1..])
        }
    }
}

/// The rest of a name, which may begin inside a letter of several bytes.
fn name_bytes_match(glob: &[u8], name: &[u8]) -> bool {
    match std::str::from_utf8(name) {
        Ok(name) => name_matches(glob, name),
        Err(_) => match (glob.split_first(), name.split_first()) {
            (Some((g, glob)), Some((n, name))) => g == n && name_bytes_match(glob, name),
            _ => false,
        },
    }
}
