//! What stands for object stores and folders where there are none: buckets in memory, below everything that makes them S3.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evp_api::plan::StoragePath;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::{Location, StoreError, s3};

/// The bucket that stands for this machine's folders; no real one may have such a name.
const FOLDERS: &str = "local-folders_";

/// What stands for places.
#[derive(Clone, Debug)]
pub(super) enum StandIn {
    /// Every bucket is this one.
    #[cfg(test)]
    One(Arc<dyn ObjectStore>),
    Memory(Memory),
}

/// Buckets that are there as long as this is: each is made when it is first named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>>);

impl Memory {
    fn bucket(&self, name: &str) -> Arc<dyn ObjectStore> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(name.to_owned());
        Arc::clone(bucket.or_insert_with(|| Arc::new(InMemory::new())))
    }
}

impl StandIn {
    pub(super) fn open(&self, path: &StoragePath) -> Result<Location, StoreError> {
        let (bucket, prefix) = match path {
            StoragePath::S3 { bucket, prefix } => (bucket.as_str(), prefix.as_str()),
            StoragePath::Local(dir) => (FOLDERS, dir.trim_start_matches('/')),
        };
        match self {
            #[cfg(test)]
            Self::One(one) => s3::open_on(one, bucket, prefix),
            Self::Memory(memory) => s3::open_on(&memory.bucket(bucket), bucket, prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::hold;
    use super::*;
    use crate::secrets::Secrets;
    use crate::store::Storage;

    #[tokio::test]
    async fn places_in_memory_keep_the_contract_and_their_distance() {
        let storage = Storage::new(None, Secrets::new("/nowhere"), Vec::new());
        let storage = storage.in_memory(Memory::default());
        let open = |path: &str| storage.open(&path.parse().unwrap()).unwrap();
        let paths = ["s3://lake/a", "s3://shop/a", "file:///lake/a"];
        for path in paths {
            hold(&open(path)).await.unwrap();
            let all = open(path);
            all.store
                .put("x", path.as_bytes().to_vec().into())
                .await
                .unwrap();
        }
        for path in paths {
            let (bytes, _) = open(path).store.get("x").await.unwrap().unwrap();
            assert_eq!(bytes, path.as_bytes());
        }
        assert!(!std::path::Path::new("/lake/a").exists());
    }
}
