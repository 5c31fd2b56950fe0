//! The startup probe: does the store refuse the second creator, and a writer with a stale ETag?

use bytes::Bytes;
use evp_core::protocol::paths;

use super::{Condition, ETag, PutOutcome, Store, StoreError};

/// Tries the store's conditions on an object of its own. `at` names the store for people.
///
/// An attempt without an answer fails as a whole: it is repeated with another nonce, never guessed about.
pub async fn probe(store: &dyn Store, at: &str, nonce: &str) -> Result<(), StoreError> {
    let name = paths::probe(nonce);
    let result = conditions(store, at, &name).await;
    // What a failed clean-up leaves is garbage of a few bytes.
    let deleted = store.delete(&name).await;
    result.and(deleted).map_err(|error| error.of(at))
}

async fn conditions(store: &dyn Store, at: &str, name: &str) -> Result<(), StoreError> {
    let put = async |text: &'static str, condition: &Condition| {
        store.put_if(name, Bytes::from(text), condition).await
    };
    let unfit = |why: &str| StoreError::Unfit {
        at: at.to_owned(),
        why: format!("{why}; use a store with conditional writes (If-None-Match and If-Match)"),
    };
    let PutOutcome::Won(first) = put("first", &Condition::Absent).await? else {
        return Err(unfit("it refused to create an object that is not there"));
    };
    if put("second", &Condition::Absent).await? != PutOutcome::Refused {
        return Err(unfit("it created an object that was there already"));
    }
    let read = tag(store, name).await?;
    if read.as_ref() != Some(&first) {
        return Err(unfit(
            "the ETag it answers to a write is not the one it answers to a read",
        ));
    }
    let PutOutcome::Won(_) = put("third", &Condition::Matches(first.clone())).await? else {
        return Err(unfit(
            "it refused to replace an object whose ETag is the one given",
        ));
    };
    match put("fourth", &Condition::Matches(first)).await? {
        PutOutcome::Refused => Ok(()),
        PutOutcome::Won(_) => Err(unfit(
            "it replaced an object whose ETag is not the one given",
        )),
    }
}

async fn tag(store: &dyn Store, name: &str) -> Result<Option<ETag>, StoreError> {
    Ok(store.get(name).await?.map(|(_, tag)| tag))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::fault::{Fault, FaultStore};
    use crate::store::local::LocalStore;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn memory_and_folders_are_fit() {
        let dir = tempfile::tempdir().unwrap();
        let stores: [Box<dyn Store>; 2] = [
            Box::new(MemoryStore::default()),
            Box::new(LocalStore::new(dir.path())),
        ];
        for store in stores {
            probe(store.as_ref(), "here", "n").await.unwrap();
            assert_eq!(store.list("probe").await.unwrap(), Vec::<String>::new());
        }
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_unfit() {
        let store = FaultStore::new(Arc::new(MemoryStore::default()));
        store.next("probe/n", 2, Fault::IgnoreCondition);
        let e = probe(&store, "s3://b/p", "n").await.unwrap_err();
        assert_eq!(e.reason(), evp_api::reason::STORE_UNFIT);
        assert!(
            e.to_string()
                .contains("created an object that was there already"),
            "{e}"
        );
    }
}
