//! Files of tables in folders here, durable when a write returns.
//!
//! The file system of `object_store` leaves flushing to the machine: after a power cut, the head could name a data file whose
//! content never reached the disk. Here a file is flushed before it gets its name, and the folder after.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};

const NAME: &str = "DurableFiles";

/// The machine's files, by absolute path.
#[derive(Clone, Debug, Default)]
pub(super) struct DurableFiles(Arc<LocalFileSystem>);

impl fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

impl DurableFiles {
    async fn flush(&self, location: &Path) -> Result<()> {
        let target = self.0.path_to_filesystem(location)?;
        blocking(location, move || {
            File::open(&target)?.sync_all()?;
            flush_parent(&target)
        })
        .await
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.0.put_opts(location, payload, opts).await,
        };
        let target = self.0.path_to_filesystem(location)?;
        blocking(location, move || write(&target, &payload, create)).await?;
        let meta = self.0.head(location).await?;
        Ok(PutResult {
            e_tag: meta.e_tag,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(DurableUpload {
            upload: self.0.put_multipart_opts(location, opts).await?,
            files: self.clone(),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // A copy that must not replace anything is a hard link: its content is flushed already.
        let linked = options.mode == CopyMode::Create;
        self.0.copy_opts(from, to, options).await?;
        if linked {
            let target = self.0.path_to_filesystem(to)?;
            return blocking(to, move || flush_parent(&target)).await;
        }
        self.flush(to).await
    }
}

#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    files: DurableFiles,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.complete().await?;
        self.files.flush(&self.location).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Writes aside, flushes, then gives the file its name.
fn write(target: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let (aside, mut file) = new_aside(target)?;
    let written = payload
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    let named = written.and_then(|()| {
        if create {
            fs::hard_link(&aside, target)
        } else {
            fs::rename(&aside, target)
        }
    });
    if create || named.is_err() {
        // Left behind it is garbage that no listing shows.
        let _ = fs::remove_file(&aside);
    }
    named.and_then(|()| flush_parent(target))
}

/// A file that only we write, under a name that [`LocalFileSystem`] hides: `<name>#<digits>`.
fn new_aside(target: &FilePath) -> io::Result<(PathBuf, File)> {
    let mut number = 0_u64;
    loop {
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let aside = PathBuf::from(name);
        match File::create_new(&aside) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => return Ok((aside, created?)),
        }
    }
}

fn flush_parent(target: &FilePath) -> io::Result<()> {
    match target.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

async fn blocking(
    location: &Path,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await?;
    let path = location.to_string();
    done.map_err(|e| {
        let kind = e.kind();
        let source = Box::new(e);
        match kind {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
            io::ErrorKind::NotFound => Error::NotFound { path, source },
            io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
            _ => Error::Generic {
                store: NAME,
                source,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn an_object_is_created_once_and_replaced_at_will() {
        let dir = tempfile::tempdir().unwrap();
        let files = DurableFiles::default();
        let folder = Path::from_absolute_path(dir.path()).unwrap();
        let path = folder.clone().join("log").join("0.json");
        let put = async |text: &'static str, mode: PutMode| {
            files
                .put_opts(&path, PutPayload::from(text), mode.into())
                .await
        };
        put("a", PutMode::Create).await.unwrap();
        let again = put("b", PutMode::Create).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        let replaced = put("c", PutMode::Overwrite).await.unwrap();
        let found = files.get(&path).await.unwrap();
        assert_eq!(found.meta.e_tag, replaced.e_tag);
        assert_eq!(found.bytes().await.unwrap(), "c");
        let mut upload = files
            .put_multipart(&folder.clone().join("data"))
            .await
            .unwrap();
        upload.put_part("rows".into()).await.unwrap();
        upload.complete().await.unwrap();
        let all: Vec<_> = files.list(Some(&folder)).try_collect().await.unwrap();
        assert_eq!(all.len(), 2, "nothing is left aside: {all:?}");
        assert_eq!(fs::read_dir(dir.path().join("log")).unwrap().count(), 1);
    }
}
