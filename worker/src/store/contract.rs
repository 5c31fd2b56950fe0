//! What the worker relies on in a store: one suite for the twins in memory, for folders and for a real S3 server, so that a
//! twin cannot promise what the server does not keep.

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::{Condition, ETag, Location, PutOutcome, Store, StoreError};

/// Writers that meet at one object.
const RACERS: usize = 8;

/// A promise that is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// What was expected.
    #[error("not kept: {0}")]
    Promise(&'static str),
    /// A request of the checkpoint failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request of a table failed.
    #[error(transparent)]
    Objects(#[from] Error),
}

fn keeps(promise: &'static str, holds: bool) -> Result<(), Broken> {
    if holds {
        Ok(())
    } else {
        Err(Broken::Promise(promise))
    }
}

/// All of it, in an empty folder.
pub async fn hold(place: &Location) -> Result<(), Broken> {
    hold_verbs(place.store.as_ref()).await?;
    hold_objects(place.object_store.as_ref()).await
}

/// The checkpoint's five verbs, in an empty folder.
pub async fn hold_verbs(store: &dyn Store) -> Result<(), Broken> {
    create_once(store).await?;
    compare_and_swap(store).await?;
    put_list_and_delete(store).await?;
    one_of_many(store).await
}

async fn put_if(
    store: &dyn Store,
    (name, text): (&str, &'static str),
    condition: &Condition,
) -> Result<Option<ETag>, Broken> {
    let bytes = Bytes::from_static(text.as_bytes());
    Ok(match store.put_if(name, bytes, condition).await? {
        PutOutcome::Won(tag) => Some(tag),
        PutOutcome::Refused => None,
    })
}

async fn holds(store: &dyn Store, name: &str, text: &str, tag: &ETag) -> Result<bool, Broken> {
    let there = store.get(name).await?;
    Ok(there.is_some_and(|(bytes, found)| bytes == text.as_bytes() && found == *tag))
}

async fn create_once(store: &dyn Store) -> Result<(), Broken> {
    let absent = store.get("c/once").await?.is_none();
    keeps("what is not there is told as such", absent)?;
    let Some(tag) = put_if(store, ("c/once", "first"), &Condition::Absent).await? else {
        return Err(Broken::Promise("what is not there can be created"));
    };
    let read = holds(store, "c/once", "first", &tag).await?;
    keeps(
        "what was created is read at once, with the ETag of the answer",
        read,
    )?;
    let second = put_if(store, ("c/once", "second"), &Condition::Absent).await?;
    keeps("the second creator is refused", second.is_none())?;
    let same = put_if(store, ("c/once", "first"), &Condition::Absent).await?;
    keeps("so is one who writes the same", same.is_none())?;
    let read = holds(store, "c/once", "first", &tag).await?;
    keeps("who is refused changes nothing", read)?;
    store.delete("c/once").await?;
    let again = put_if(store, ("c/once", "again"), &Condition::Absent).await?;
    keeps("what was deleted can be created", again.is_some())
}

async fn compare_and_swap(store: &dyn Store) -> Result<(), Broken> {
    let stray = Condition::Matches(ETag("\"none\"".to_owned()));
    let nothing = match put_if(store, ("s/swap", "x"), &stray).await {
        Ok(swapped) => swapped.is_none(),
        // S3 answers that there is no such object: nothing was written either.
        Err(Broken::Store(_)) => true,
        Err(e) => return Err(e),
    };
    keeps("what is not there is not replaced", nothing)?;
    let Some(first) = put_if(store, ("s/swap", "one"), &Condition::Absent).await? else {
        return Err(Broken::Promise("what is not there can be created"));
    };
    let now = Condition::Matches(first.clone());
    let Some(second) = put_if(store, ("s/swap", "two"), &now).await? else {
        return Err(Broken::Promise("who names the present ETag replaces"));
    };
    keeps("another content has another ETag", first != second)?;
    let read = holds(store, "s/swap", "two", &second).await?;
    keeps("what was replaced is read at once", read)?;
    let stale = put_if(store, ("s/swap", "three"), &now).await?;
    keeps("who names a former ETag is refused", stale.is_none())?;
    let repeated = put_if(store, ("s/swap", "two"), &now).await?;
    keeps("so is one who repeats his own success", repeated.is_none())?;
    let read = holds(store, "s/swap", "two", &second).await?;
    keeps("who is refused changes nothing", read)
}

async fn put_list_and_delete(store: &dyn Store) -> Result<(), Broken> {
    for name in ["l/a/1", "l/a/2", "l/ab/3", "l/4"] {
        store.put(name, Bytes::from_static(b"old")).await?;
        store.put(name, Bytes::from_static(b"new")).await?;
        let there = store.get(name).await?;
        let is_new = there.is_some_and(|(bytes, _)| bytes == "new");
        keeps("a plain write replaces and is read at once", is_new)?;
    }
    let mut names = store.list("l/a").await?;
    names.sort();
    keeps(
        "a folder lists what is in it, by whole names",
        names == ["l/a/1", "l/a/2"],
    )?;
    store.delete("l/a/1").await?;
    store.delete("l/a/1").await?;
    let gone = store.get("l/a/1").await?.is_none();
    keeps("what was deleted is gone, and may be deleted again", gone)?;
    let empty = store.list("l/none").await?.is_empty();
    keeps("a folder that is not there is empty", empty)
}

async fn one_of_many(store: &dyn Store) -> Result<(), Broken> {
    let texts = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let create = |at: usize| put_if(store, ("r/race", texts[at]), &Condition::Absent);
    let won = join_all((0..RACERS).map(create)).await;
    let won: Vec<_> = won.into_iter().collect::<Result<_, _>>()?;
    keeps(
        "of many creators one wins",
        won.iter().flatten().count() == 1,
    )?;
    let Some((_, tag)) = store.get("r/race").await? else {
        return Err(Broken::Promise("what was created is there"));
    };
    let now = Condition::Matches(tag);
    let texts = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let swap = |at: usize| put_if(store, ("r/race", texts[at]), &now);
    let won = join_all((0..RACERS).map(swap)).await;
    let won: Vec<_> = won.into_iter().collect::<Result<_, _>>()?;
    keeps(
        "of many who replace one wins",
        won.iter().flatten().count() == 1,
    )
}

/// What tables and folders of files need, in an empty folder.
pub async fn hold_objects(store: &dyn ObjectStore) -> Result<(), Broken> {
    let (log, copy) = (Path::from("t/log/0.json"), Path::from("t/copy"));
    let create =
        |text: &'static str| store.put_opts(&log, text.into(), PutOptions::from(PutMode::Create));
    create("version").await?;
    let second = create("other").await;
    let refused = matches!(
        second,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
    );
    keeps("a version of a log is put once", refused)?;
    let bytes = store.get(&log).await?.bytes().await?;
    keeps("and stays as it is", bytes == "version")?;
    let meta = store.head(&log).await?;
    keeps("a size is that of the bytes", meta.size == 7)?;
    let listed: Vec<_> = store.list(Some(&Path::from("t/log"))).try_collect().await?;
    let same = |listed: &object_store::ObjectMeta| {
        (listed.size, listed.last_modified.timestamp()) == (7, meta.last_modified.timestamp())
    };
    let as_told = listed.len() == 1 && same(&listed[0]);
    keeps(
        "a list shows at once what was written, as a HEAD tells it",
        as_told,
    )?;
    store.copy(&log, &copy).await?;
    store.copy(&log, &copy).await?;
    let bytes = store.get(&copy).await?.bytes().await?;
    keeps(
        "a copy has the same bytes, also made twice",
        bytes == "version",
    )?;
    let missing = Path::from("t/missing");
    let is_missing = |e: Option<Error>| matches!(e, Some(Error::NotFound { .. }));
    let copied = store.copy(&missing, &copy).await.err();
    keeps("what is not there is not copied", is_missing(copied))?;
    let read = store.get(&missing).await.err();
    keeps("nor read", is_missing(read))?;
    let looked_at = store.head(&missing).await.err();
    keeps("nor looked at", is_missing(looked_at))?;
    store.delete(&log).await?;
    let read = store.get(&log).await.err();
    keeps("what was deleted is gone", is_missing(read))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evp_api::plan::StoragePath;
    use object_store::memory::InMemory;

    use super::*;
    use crate::secrets::Secrets;
    use crate::store::memory::MemoryStore;
    use crate::store::{Storage, fault};

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_contract() {
        hold_verbs(&MemoryStore::default()).await.unwrap();
    }

    #[tokio::test]
    async fn the_bucket_of_the_simulation_keeps_the_contract() {
        let path: StoragePath = "s3://lake/contract".parse().unwrap();
        let place = Storage::on(Arc::new(InMemory::new())).open(&path).unwrap();
        hold(&place).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_keeps_the_contract() {
        let scratch = tempfile::tempdir().unwrap();
        let path = StoragePath::Local(scratch.path().display().to_string());
        let storage = Storage::new(None, Secrets::new("/nowhere"), Vec::new());
        hold(&storage.open(&path).unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_ignores_a_condition_breaks_it() {
        let store = fault::FaultStore::new(Arc::new(MemoryStore::default()));
        store.next("s/swap", 4, fault::Fault::IgnoreCondition);
        let broken = hold_verbs(&store).await.unwrap_err().to_string();
        assert!(broken.contains("a former ETag is refused"), "{broken}");
    }
}
