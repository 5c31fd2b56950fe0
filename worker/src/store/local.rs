//! Objects as files of a folder: exclusive lock, write, fsync, rename, fsync of the folder.
//!
//! The lock is held for one conditional write alone; ownership of a lane is the head's business.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use evp_core::protocol::digest::Digest;

use super::{Condition, ETag, PutOutcome, Store, StoreError};

/// A folder.
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    files: AtomicU64,
}

impl LocalStore {
    /// Objects below a folder that exists.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Folder {
            root: root.into(),
            files: AtomicU64::new(0),
        }))
    }

    async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Folder, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (folder, owned) = (Arc::clone(&self.0), name.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&folder, &owned)).await;
        let at = || self.0.root.join(name).display().to_string();
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) if e.kind() == io::ErrorKind::PermissionDenied => Err(StoreError::Denied {
                at: at(),
                source: Box::new(e),
            }),
            Ok(Err(e)) => Err(StoreError::Unavailable {
                at: at(),
                source: Box::new(e),
            }),
            Err(e) => Err(StoreError::Unavailable {
                at: at(),
                source: Box::new(e),
            }),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, StoreError> {
        self.run(name, |folder, name| read(&folder.root.join(name)))
            .await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.run(name, move |folder, name| {
            let target = folder.root.join(name);
            let aside = folder.write_aside(&target, &bytes)?;
            publish(&aside, &target)
        })
        .await
    }

    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<PutOutcome, StoreError> {
        let condition = condition.clone();
        self.run(name, move |folder, name| {
            folder.put_if(name, &bytes, &condition)
        })
        .await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.run(folder, |folder, below| {
            let mut names = Vec::new();
            walk(
                &folder.root.join(below),
                below.trim_end_matches('/'),
                &mut names,
            )?;
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.run(name, |folder, name| {
            match fs::remove_file(folder.root.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Folder {
    fn put_if(&self, name: &str, bytes: &[u8], condition: &Condition) -> io::Result<PutOutcome> {
        let lock_file = self.root.join(".lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_file)?;
        lock.lock()?;
        let target = self.root.join(name);
        let holds = match (condition, read(&target)?) {
            (Condition::Absent, there) => there.is_none(),
            (Condition::Matches(tag), there) => there.is_some_and(|(_, t)| t == *tag),
        };
        if !holds {
            return Ok(PutOutcome::Refused);
        }
        let aside = self.write_aside(&target, bytes)?;
        stamp(&mut lock, &aside)?;
        // The same inode before and after the rename: the tag can be told before it.
        let tag = etag(&File::open(&aside)?, bytes)?;
        publish(&aside, &target)?;
        Ok(PutOutcome::Won(tag))
    }

    /// Writes a hidden file beside the target, under a name that no other store over this folder uses, be it in this process
    /// or in a container where it has the same process id. A crash leaves it there; it is never read.
    fn write_aside(&self, target: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let parent = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        let (aside, mut file) = loop {
            let number = self.files.fetch_add(1, Ordering::Relaxed);
            let aside = parent.join(format!(".{}-{number}.tmp", std::process::id()));
            match File::create_new(&aside) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                created => break (aside, created?),
            }
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(aside)
    }
}

/// Gives the file a time of change later than that of every conditional write before it, so that equal contents written at
/// different times differ in their ETag, whatever the granularity of the file system's clock. The last one is in the lock file.
fn stamp(lock: &mut File, aside: &Path) -> io::Result<()> {
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    let last: u64 = text.trim().parse().unwrap_or(0);
    let file = File::options().write(true).open(aside)?;
    let now = file
        .metadata()?
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let stamp = u64::try_from(now.as_nanos())
        .unwrap_or(u64::MAX)
        .max(last + 1);
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_nanos(stamp)))?;
    file.sync_all()?;
    lock.rewind()?;
    write!(lock, "{stamp:020}")?;
    lock.sync_all()
}

/// Makes the file visible under its name, durably.
fn publish(aside: &Path, target: &Path) -> io::Result<()> {
    fs::rename(aside, target)?;
    match target.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Option<(Bytes, ETag)>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let tag = etag(&file, &bytes)?;
    Ok(Some((bytes.into(), tag)))
}

fn etag(file: &File, bytes: &[u8]) -> io::Result<ETag> {
    let meta = file.metadata()?;
    let (inode, seconds, nanos) = (meta.ino(), meta.mtime(), meta.mtime_nsec());
    Ok(ETag(format!(
        "{inode}-{seconds}.{nanos:09}-{}",
        Digest::of(bytes).short()
    )))
}

fn walk(dir: &Path, name: &str, names: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let child = format!("{name}/{file}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &child, names)?;
        } else if !file.starts_with('.') {
            names.push(child);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn won(store: &LocalStore, text: &'static str, condition: Condition) -> ETag {
        match store
            .put_if("0/head.json", Bytes::from(text), &condition)
            .await
            .unwrap()
        {
            PutOutcome::Won(tag) => tag,
            PutOutcome::Refused => panic!("refused"),
        }
    }

    #[tokio::test]
    async fn content_that_comes_back_is_not_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        for _ in 0..50 {
            store.delete("0/head.json").await.unwrap();
            let first = won(&store, "a", Condition::Absent).await;
            let second = won(&store, "b", Condition::Matches(first.clone())).await;
            let third = won(&store, "a", Condition::Matches(second)).await;
            let stale = store
                .put_if("0/head.json", Bytes::from("c"), &Condition::Matches(first))
                .await
                .unwrap();
            assert_eq!(stale, PutOutcome::Refused);
            assert_eq!(
                store.get("0/head.json").await.unwrap(),
                Some((Bytes::from("a"), third))
            );
        }
    }

    #[tokio::test]
    async fn an_object_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        won(&store, "a", Condition::Absent).await;
        let again = store
            .put_if("0/head.json", Bytes::from("b"), &Condition::Absent)
            .await
            .unwrap();
        assert_eq!(again, PutOutcome::Refused);
        let absent = store
            .put_if(
                "other",
                Bytes::from("b"),
                &Condition::Matches(ETag("x".into())),
            )
            .await
            .unwrap();
        assert_eq!(absent, PutOutcome::Refused);
    }

    #[tokio::test]
    async fn names_are_listed_without_what_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        store.put("0/state/2-b", Bytes::from("b")).await.unwrap();
        store.put("0/state/1-a", Bytes::from("a")).await.unwrap();
        fs::write(dir.path().join("0/state/.9-0.tmp"), "half").unwrap();
        assert_eq!(
            store.list("0/state").await.unwrap(),
            ["0/state/1-a", "0/state/2-b"]
        );
        assert_eq!(store.list("0/outbox").await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn two_stores_on_one_folder_never_mix_contents() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (LocalStore::new(dir.path()), LocalStore::new(dir.path()));
        for n in 0..100 {
            let (name_a, name_b) = (format!("0/epochs/a{n}"), format!("0/epochs/b{n}"));
            let (bytes_a, bytes_b) = (
                Bytes::from(vec![b'a'; 20_000]),
                Bytes::from(vec![b'b'; 30_000]),
            );
            let done = tokio::join!(
                a.put(&name_a, bytes_a.clone()),
                b.put(&name_b, bytes_b.clone())
            );
            assert!(done.0.is_ok() && done.1.is_ok(), "{done:?}");
            let read = |got: Option<(Bytes, ETag)>| got.map(|(bytes, _)| bytes);
            assert!(
                read(a.get(&name_a).await.unwrap()) == Some(bytes_a),
                "{name_a} has foreign content"
            );
            assert!(
                read(b.get(&name_b).await.unwrap()) == Some(bytes_b),
                "{name_b} has foreign content"
            );
        }
    }
}
