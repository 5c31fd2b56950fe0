//! What lies in the bucket below a test's prefix, read and written beside the pipeline, without asking it.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::site::Site;
use crate::parts::bucket;

/// The objects of a test.
#[derive(Clone)]
pub(crate) struct Objects {
    prefix: Path,
    store: Arc<dyn ObjectStore>,
}

impl Objects {
    /// On the server without encryption.
    pub(crate) fn of(site: &Site) -> Self {
        Self {
            prefix: Path::from(site.namespace.as_str()),
            store: Arc::new(bucket()),
        }
    }

    fn at(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Vec<u8>> {
        match self.store.get(&self.at(path)).await {
            Ok(found) => Some(found.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Names of the objects of a folder, in their order.
    pub(crate) async fn names(&self, folder: &str) -> Vec<String> {
        let found = self.store.list(Some(&self.at(folder)));
        let names = found.map_ok(|object| object.location.filename().unwrap().to_owned());
        let mut names: Vec<_> = names.try_collect().await.unwrap();
        names.sort();
        names
    }

    /// The same bytes once more, under another name.
    pub(crate) async fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.at(from), self.at(to));
        self.store.copy(&from, &to).await.unwrap();
    }

    /// Copies a folder's objects into a folder here.
    pub(crate) async fn download(&self, folder: &str, to: PathBuf) -> PathBuf {
        std::fs::create_dir_all(&to).unwrap();
        for name in self.names(folder).await {
            let bytes = self.get(&format!("{folder}/{name}")).await.unwrap();
            std::fs::write(to.join(name), bytes).unwrap();
        }
        to
    }

    /// The body of the newest checkpoint.
    pub(crate) async fn head(&self) -> Option<Value> {
        let head = self.get("checkpoint/0/head.json").await?;
        Some(serde_json::from_slice::<Value>(&head).unwrap()["body"].take())
    }

    /// The newest decided epoch.
    pub(crate) async fn epoch(&self) -> Option<u64> {
        self.head().await?["epoch"].as_u64()
    }

    /// Waits for an epoch that is decided after this one.
    pub(crate) async fn epoch_after(&self, site: &Site, before: Option<u64>) {
        let next = async || self.epoch().await.filter(|now| Some(*now) > before);
        site.until("one more epoch", next).await;
    }

    /// Waits until so many records of a source are decided, whatever became of them.
    pub(crate) async fn until_read(&self, site: &Site, source: &str, records: usize) {
        let read = async || {
            let head = self.head().await?;
            (head["totals"]["sources"][source]["read"] == records).then_some(())
        };
        site.until(&format!("{records} records read"), read).await;
    }
}
