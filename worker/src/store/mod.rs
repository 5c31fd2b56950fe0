//! Objects by name: the five verbs the checkpoint needs, and how a path of the manifest becomes a place.
//!
//! Owns: reaching object stores and folders. Does not own: what an object means, when to try again, what a name is.

pub mod contract;
mod durable;
#[cfg(test)]
pub(crate) mod fault;
pub mod local;
pub mod memory;
pub mod probe;
pub mod s3;
mod stand_in;

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use evp_api::plan::{S3Plan, StoragePath};
use evp_api::reason;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

pub(crate) use self::stand_in::Memory;
use self::stand_in::StandIn;
use crate::secrets::{self, Secrets};

/// What a store calls the present content of an object. Two contents never have the same one, not even equal contents that
/// were written at different times in a local folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ETag(pub String);

/// What must hold for a conditional write to happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// There is no such object.
    Absent,
    /// The object's content is the one this ETag stands for.
    Matches(ETag),
}

/// The answer to a conditional write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PutOutcome {
    /// Written; this is its ETag.
    Won(ETag),
    /// The store says that the condition does not hold. Still ambiguous: a repeated request may have met its own first
    /// arrival. Read back.
    Refused,
}

/// Objects below a folder. Names are relative, with slashes. A write is durable when it returns.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Content and ETag; `None`: there is no such object.
    async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, StoreError>;

    /// Writes, whatever is there.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Writes if the condition holds, in one attempt. After [`StoreError::Unavailable`] it may have happened.
    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<PutOutcome, StoreError>;

    /// Names of all objects below a folder (`0/state`). May lag behind; nothing exact may depend on it.
    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// Removes; an object that is not there is no error.
    async fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or one that says nothing. A write may have happened.
    #[error("{at} cannot be reached")]
    Unavailable {
        /// Object or folder.
        at: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Credentials or access are refused. A write did not happen.
    #[error(
        "{at} refuses access: check the credentials and that they may read, write, list and delete there"
    )]
    Denied {
        /// Object or folder.
        at: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There is no such bucket.
    #[error("the bucket of {at} does not exist: create it, or change the path")]
    NoBucket {
        /// Object or folder.
        at: String,
    },
    /// A credential is missing.
    #[error(transparent)]
    Secret(#[from] secrets::Error),
    /// It cannot work as it is set up.
    #[error("{at} cannot be used: {why}")]
    Unfit {
        /// Object or folder.
        at: String,
        /// What is wrong and what to do.
        why: String,
    },
}

impl StoreError {
    /// Reason of the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            // A Secret that went away while the store was in use comes wrapped in the client's error.
            Self::Unavailable { source, .. } if is_of_secret(source.as_ref()) => {
                reason::SECRET_MISSING
            }
            Self::Unavailable { .. } | Self::NoBucket { .. } => reason::STORE_UNAVAILABLE,
            Self::Denied { .. } => reason::STORE_DENIED,
            Self::Secret(_) => reason::SECRET_MISSING,
            Self::Unfit { .. } => reason::STORE_UNFIT,
        }
    }

    /// The world may heal without anybody changing the pipeline.
    pub fn heals(&self) -> bool {
        !matches!(self, Self::Unfit { .. })
    }

    /// The error and what is at its bottom, in one line. What lies between tells of attempts and how long they took: it would
    /// be another text each time.
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        if let Some(cause) = std::iter::successors(self.source(), |&e| e.source()).last() {
            let cause = answered(&cause.to_string());
            // Some libraries repeat their cause in their own message.
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        text
    }

    /// The same of a whole place, where it does not matter for which object it was found out.
    #[must_use]
    fn of(mut self, place: &str) -> Self {
        if let Self::Unavailable { at, .. } | Self::Denied { at, .. } | Self::NoBucket { at } =
            &mut self
        {
            place.clone_into(at);
        }
        self
    }
}

/// What a server said. S3's own answer is a document of which two elements are for people.
fn answered(text: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0)
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.lines().collect::<Vec<_>>().join(" "),
    }
}

fn is_of_secret(e: &(dyn StdError + 'static)) -> bool {
    e.is::<secrets::Error>() || e.source().is_some_and(is_of_secret)
}

/// An object-store path that is a folder here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalMapping {
    /// `s3://bucket[/prefix]`.
    pub prefix: String,
    /// The folder that stands for it.
    pub dir: PathBuf,
}

/// A path, opened.
#[derive(Clone, Debug)]
pub struct Location {
    /// The checkpoint's verbs, rooted at the path.
    pub store: Arc<dyn Store>,
    /// The same place for readers and writers of tables, rooted at the path.
    pub object_store: Arc<dyn ObjectStore>,
    /// The whole bucket, or `/`.
    pub root: Arc<dyn ObjectStore>,
    /// The path below `root`.
    pub prefix: Path,
    /// The path, without a slash at its end.
    pub url: Url,
}

impl Location {
    /// An empty place in memory, for tests.
    pub fn memory() -> Self {
        let root: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let url = Url::parse("memory:///").unwrap_or_else(|_| unreachable!("a constant"));
        Self {
            store: Arc::new(memory::MemoryStore::default()),
            object_store: Arc::clone(&root),
            root,
            prefix: Path::default(),
            url,
        }
    }
}

/// All places that a pipeline's paths can name.
#[derive(Clone, Debug)]
pub struct Storage {
    s3: Option<S3Plan>,
    secrets: Secrets,
    mappings: Vec<LocalMapping>,
    all_local: Option<PathBuf>,
    /// Folders that are not there are not made.
    reading_only: bool,
    /// What stands for every place.
    stand_in: Option<StandIn>,
}

impl Storage {
    /// `s3`: `None`: everything ambient. Paths below a mapping's prefix are folders here.
    pub fn new(s3: Option<S3Plan>, secrets: Secrets, mappings: Vec<LocalMapping>) -> Self {
        Self {
            s3,
            secrets,
            mappings,
            all_local: None,
            reading_only: false,
            stand_in: None,
        }
    }

    /// Makes this store the one bucket there is.
    #[cfg(test)]
    pub(crate) fn on(bucket: Arc<dyn ObjectStore>) -> Self {
        Self {
            stand_in: Some(StandIn::One(bucket)),
            ..Self::new(None, Secrets::new("/nowhere"), Vec::new())
        }
    }

    /// Makes every bucket and every folder a place in this memory.
    #[must_use]
    pub(crate) fn in_memory(self, memory: Memory) -> Self {
        Self {
            stand_in: Some(StandIn::Memory(memory)),
            ..self
        }
    }

    /// Makes no folder: what is not there is empty.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self {
            reading_only: true,
            ..self
        }
    }

    /// Makes `s3://bucket/prefix` the folder `dir/bucket/prefix`, where no mapping says otherwise.
    #[must_use]
    pub fn with_all_local(mut self, dir: impl Into<PathBuf>) -> Self {
        self.all_local = Some(dir.into());
        self
    }

    /// The path lies in an object store, not in a folder here.
    pub fn is_remote(&self, path: &StoragePath) -> bool {
        self.folder(path).is_none()
    }

    /// Opens a path. A folder is created unless it is only read; nothing is asked of an object store yet.
    pub fn open(&self, path: &StoragePath) -> Result<Location, StoreError> {
        if let Some(stand_in) = &self.stand_in {
            return stand_in.open(path);
        }
        let open_local = |dir: &FilePath| open_local(dir, self.reading_only);
        match (self.folder(path), path) {
            (Some(dir), _) => open_local(&dir),
            (None, StoragePath::S3 { bucket, prefix }) => {
                s3::open(self.s3.as_ref(), &self.secrets, bucket, prefix)
            }
            (None, StoragePath::Local(dir)) => open_local(FilePath::new(dir)),
        }
    }

    /// The folder that stands for a path; the longest prefix wins. `None`: it is in an object store.
    fn folder(&self, path: &StoragePath) -> Option<PathBuf> {
        let StoragePath::S3 { bucket, prefix } = path else {
            let StoragePath::Local(dir) = path else {
                return None;
            };
            return Some(dir.into());
        };
        let text = path.to_string();
        let below = |m: &LocalMapping| -> Option<(usize, PathBuf)> {
            let from = m.prefix.trim_end_matches('/');
            match text.strip_prefix(from)? {
                "" => Some((from.len(), m.dir.clone())),
                rest => Some((from.len(), m.dir.join(rest.strip_prefix('/')?))),
            }
        };
        let mapped = self
            .mappings
            .iter()
            .filter_map(below)
            .max_by_key(|(length, _)| *length);
        mapped
            .map(|(_, dir)| dir)
            .or_else(|| Some(self.all_local.as_ref()?.join(bucket).join(prefix)))
    }
}

fn open_local(dir: &FilePath, reading_only: bool) -> Result<Location, StoreError> {
    let at = dir.display().to_string();
    let io = |source: std::io::Error| StoreError::Unavailable {
        at: at.clone(),
        source: Box::new(source),
    };
    let unfit = |why: String| StoreError::Unfit {
        at: at.clone(),
        why,
    };
    if !reading_only {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    let dir = match dir.canonicalize() {
        Err(e) if reading_only && e.kind() == std::io::ErrorKind::NotFound => {
            std::path::absolute(dir)
        }
        found => found,
    };
    let dir = dir.map_err(io)?;
    let url = Url::from_file_path(&dir).map_err(|()| unfit("it is no absolute path".into()))?;
    let prefix = Path::from_absolute_path(&dir).map_err(|e| unfit(e.to_string()))?;
    let root: Arc<dyn ObjectStore> = Arc::new(durable::DurableFiles::default());
    Ok(Location {
        store: Arc::new(local::LocalStore::new(dir)),
        object_store: Arc::new(PrefixStore::new(Arc::clone(&root), prefix.clone())),
        root,
        prefix,
        url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> Storage {
        let map = |prefix: &str, dir: &str| LocalMapping {
            prefix: prefix.into(),
            dir: dir.into(),
        };
        let maps = vec![map("s3://lake", "/m/lake"), map("s3://lake/hot", "/m/hot")];
        Storage::new(None, Secrets::new("/nowhere"), maps)
    }

    #[track_caller]
    fn check(storage: &Storage, path: &str, expected: Option<&str>) {
        let path: StoragePath = path.parse().unwrap();
        assert_eq!(storage.folder(&path), expected.map(PathBuf::from));
        assert_eq!(storage.is_remote(&path), expected.is_none());
    }

    #[test]
    fn the_longest_mapping_wins_and_ends_at_a_slash() {
        check(&storage(), "s3://lake/orders/x", Some("/m/lake/orders/x"));
        check(&storage(), "s3://lake/hot/x", Some("/m/hot/x"));
        check(&storage(), "s3://lake/hotter/x", Some("/m/lake/hotter/x"));
        check(&storage(), "s3://lakeside/x", None);
        check(&storage(), "file:///data/x", Some("/data/x"));
    }

    #[track_caller]
    fn tells(cause: &str, expected: &str) {
        let denied = StoreError::Denied {
            at: "s3://lake/x/probe/1".to_owned(),
            source: std::io::Error::other(std::io::Error::other(cause.to_owned())).into(),
        };
        let told = denied.of("s3://lake/x").describe();
        let (who, what) = told.split_once(" delete there: ").unwrap();
        assert!(who.starts_with("s3://lake/x refuses access"), "{told}");
        assert_eq!(what, expected);
    }

    #[test]
    fn an_error_tells_its_deepest_cause_in_one_line_that_is_the_same_each_time() {
        tells("Connection refused", "Connection refused");
        tells("one\ntwo", "one two");
        let document = "403: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message>\
                        <RequestId>18E9FFC4FE25E68D</RequestId></Error>";
        tells(document, "SignatureDoesNotMatch: Check your key.");
    }

    #[test]
    fn what_is_only_read_is_not_made() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("lake");
        let path: StoragePath = format!("file://{}", dir.display()).parse().unwrap();
        storage().reading_only().open(&path).unwrap();
        assert!(!dir.exists());
        storage().open(&path).unwrap();
        assert!(dir.exists());
    }

    #[test]
    fn all_local_takes_what_no_mapping_does() {
        let storage = storage().with_all_local("/all");
        check(&storage, "s3://lake/x", Some("/m/lake/x"));
        check(&storage, "s3://other/x", Some("/all/other/x"));
    }
}
