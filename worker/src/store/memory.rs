//! Objects in memory: the store's twin for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, ETag, PutOutcome, Store, StoreError};

/// A map with versions.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    writes: u64,
    by_name: BTreeMap<String, (Bytes, ETag)>,
}

impl Objects {
    fn put(&mut self, name: &str, bytes: Bytes) -> ETag {
        self.writes += 1;
        let tag = ETag(self.writes.to_string());
        self.by_name.insert(name.to_owned(), (bytes, tag.clone()));
        tag
    }
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, StoreError> {
        Ok(self.objects().by_name.get(name).cloned())
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.objects().put(name, bytes);
        Ok(())
    }

    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<PutOutcome, StoreError> {
        let mut objects = self.objects();
        let holds = match (condition, objects.by_name.get(name)) {
            (Condition::Absent, there) => there.is_none(),
            (Condition::Matches(tag), there) => there.is_some_and(|(_, t)| t == tag),
        };
        Ok(if holds {
            PutOutcome::Won(objects.put(name, bytes))
        } else {
            PutOutcome::Refused
        })
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        Ok(self
            .objects()
            .by_name
            .keys()
            .filter(|n| n.starts_with(&folder))
            .cloned()
            .collect())
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.objects().by_name.remove(name);
        Ok(())
    }
}
