//! A store that fails where a test wants it to, and lets others run before each request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, ETag, PutOutcome, Store, StoreError};

/// What happens to one conditional write or delete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It is done and the reply is lost.
    ReplyLost,
    /// It is not done, and nobody says so.
    Lost,
    /// It is done, then repeated by something in between: the reply says that it was refused.
    DoneAndRefused,
    /// It is refused for good.
    Denied,
    /// It is done whatever the condition says.
    IgnoreCondition,
    /// Nothing is wrong: skips one write.
    None,
}

/// Faults by name of the object, consumed in order by its conditional writes and deletes.
#[derive(Debug)]
pub(crate) struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
}

impl FaultStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
        }
    }

    /// The `nth` conditional write or delete of this object from now on, counted from 1, meets the fault.
    pub(crate) fn next(&self, name: &str, nth: usize, fault: Fault) {
        let mut queue = VecDeque::from(vec![Fault::None; nth - 1]);
        queue.push_back(fault);
        self.faults.lock().unwrap().push((name.to_owned(), queue));
    }

    fn fault(&self, name: &str) -> Fault {
        let mut faults = self.faults.lock().unwrap();
        let fault = faults
            .iter_mut()
            .find(|(n, q)| n == name && !q.is_empty())
            .and_then(|(_, q)| q.pop_front());
        fault.unwrap_or(Fault::None)
    }
}

fn lost(name: &str) -> StoreError {
    StoreError::Unavailable {
        at: name.to_owned(),
        source: "connection reset".into(),
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, StoreError> {
        tokio::task::yield_now().await;
        self.inner.get(name).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(name, bytes).await
    }

    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<PutOutcome, StoreError> {
        tokio::task::yield_now().await;
        match self.fault(name) {
            Fault::None => self.inner.put_if(name, bytes, condition).await,
            Fault::Lost => Err(lost(name)),
            Fault::ReplyLost => self
                .inner
                .put_if(name, bytes, condition)
                .await
                .and(Err(lost(name))),
            Fault::DoneAndRefused => self
                .inner
                .put_if(name, bytes, condition)
                .await
                .map(|_| PutOutcome::Refused),
            Fault::Denied => Err(StoreError::Denied {
                at: name.to_owned(),
                source: "403".into(),
            }),
            Fault::IgnoreCondition => {
                self.inner.put(name, bytes).await?;
                let (_, tag) = self.inner.get(name).await?.unwrap();
                Ok(PutOutcome::Won(tag))
            }
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list(folder).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        match self.fault(name) {
            Fault::Lost => Err(lost(name)),
            _ => self.inner.delete(name).await,
        }
    }
}
