//! What outlives every process: the objects, and a record of all that was done to them.
//!
//! Watches each write of the head as it happens: what was decided, by whom, in which order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

/// The decision object.
pub(super) const HEAD: &str = "checkpoint/0/head.json";

/// Folders whose files readers see as soon as they have their name.
const PUBLISHED: [&str; 2] = ["dead-letters", "once"];

/// One bucket in memory: conditional writes, entity tags and read-after-write as S3 has them.
#[derive(Debug, Default)]
pub(super) struct Universe {
    pub(super) objects: Arc<InMemory>,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Each request: who, what, where, what became of it.
    trace: Vec<String>,
    heads: Vec<Decision>,
    wrong: Vec<String>,
}

/// A head as it was written.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) by: String,
    pub(super) head: Value,
    pub(super) bytes: Bytes,
}

impl Decision {
    pub(super) fn epoch(&self) -> u64 {
        self.head["body"]["epoch"].as_u64().unwrap_or_default()
    }

    pub(super) fn undone(&self) -> usize {
        self.head["rolling"]["undone"]
            .as_array()
            .map_or(0, Vec::len)
    }

    pub(super) fn reset_nonce(&self) -> u64 {
        self.head["body"]["resetNonce"].as_u64().unwrap_or_default()
    }

    /// Next unread record of each split.
    pub(super) fn positions(&self) -> [u64; 3] {
        let splits = &self.head["body"]["positions"]["orders"];
        ["0", "1", "2"].map(|split| splits[split]["next"].as_u64().unwrap_or_default())
    }
}

impl Universe {
    fn record<T>(&self, with: impl FnOnce(&mut Record) -> T) -> T {
        with(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn trace(&self, line: String) {
        self.record(|r| r.trace.push(line));
    }

    /// Requests so far, and what else was noted.
    pub(super) fn traced(&self) -> usize {
        self.record(|r| r.trace.len())
    }

    pub(super) fn take_trace(&self) -> Vec<String> {
        self.record(|r| std::mem::take(&mut r.trace))
    }

    /// A predicate does not hold.
    pub(super) fn wrong(&self, what: String) {
        self.record(|r| r.wrong.push(what));
    }

    pub(super) fn found_wrong(&self) -> Vec<String> {
        self.record(|r| r.wrong.clone())
    }

    pub(super) fn heads(&self) -> Vec<Decision> {
        self.record(|r| r.heads.clone())
    }

    pub(super) fn head(&self) -> Option<Decision> {
        self.record(|r| r.heads.last().cloned())
    }

    /// An object was written. `Some`: the head, as it now is.
    pub(super) fn written(&self, by: &str, path: &Path, bytes: &Bytes) -> Option<Decision> {
        if path.as_ref() != HEAD {
            return None;
        }
        let head = serde_json::from_slice(bytes).unwrap_or_default();
        let decision = Decision {
            by: by.to_owned(),
            head,
            bytes: bytes.clone(),
        };
        self.record(|r| r.heads.push(decision.clone()));
        Some(decision)
    }

    /// An object came to be that readers see: not before its epoch is decided.
    pub(super) fn appears(&self, by: &str, path: &Path, bytes: Option<&Bytes>) {
        let published = PUBLISHED.iter().find_map(|folder| {
            let name = path.as_ref().strip_prefix(folder)?;
            name.strip_prefix('/')
        });
        let epoch = match (published, bytes) {
            (Some(name), _) => {
                // `<tag>-<epoch>-<number>.<suffix>`; readers skip what begins with an underscore.
                let epoch = name.rsplit('-').nth(1).filter(|_| !name.starts_with('_'));
                epoch.and_then(|e| e.parse().ok())
            }
            (None, Some(bytes)) if path.as_ref().contains("/_delta_log/") => {
                let mut lines = bytes.split(|b| *b == b'\n');
                lines.find_map(|line| {
                    let action: Value = serde_json::from_slice(line).ok()?;
                    action["txn"]["version"].as_u64()
                })
            }
            _ => None,
        };
        let decided = self.head().map(|head| head.epoch());
        if epoch > decided && epoch.is_some() {
            self.wrong(format!(
                "{by} shows {path} after epoch {decided:?} was decided"
            ));
        }
    }

    /// An object is about to go: nothing that the head names may.
    pub(super) fn deletes(&self, by: &str, path: &Path) {
        let Some(head) = self.head() else { return };
        let name = path.filename().unwrap_or_default();
        if path.as_ref().starts_with("checkpoint/0/") && head.head.to_string().contains(name) {
            self.wrong(format!("{by} deletes {path}, which the head names"));
        }
    }

    pub(super) async fn get(&self, path: &str) -> Option<Bytes> {
        let found = self.objects.get(&Path::from(path)).await.ok()?;
        found.bytes().await.ok()
    }

    /// All objects.
    pub(super) async fn copy(&self) -> BTreeMap<String, Bytes> {
        let mut copy = BTreeMap::new();
        for name in self.list("").await {
            let bytes = self.get(&name).await.unwrap_or_default();
            copy.insert(name, bytes);
        }
        copy
    }

    /// Names of all objects below a folder, sorted.
    pub(super) async fn list(&self, folder: &str) -> Vec<String> {
        use futures::TryStreamExt;
        let folder = Path::from(folder);
        let found: Vec<_> = self
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .unwrap_or_default();
        let mut names: Vec<_> = found.iter().map(|m| m.location.to_string()).collect();
        names.sort();
        names
    }
}
