//! Conditional writes and what became of them. After anything but a plain success: read back, never guess.

use bytes::Bytes;
use evp_core::protocol::decide::{Attempt, Found, ReadBack, read_back};
use evp_core::protocol::head::Head;

use super::Checkpointer;
use super::crash::{Moment, Step};
use super::io::{Backoff, Io, STORE};
use super::stop::Stop;
use crate::store::{Condition, ETag, PutOutcome, StoreError};

/// What a write that is tried until it is known became.
#[derive(Debug)]
pub(super) enum Written {
    /// It is there.
    Ours(ETag),
    /// Something else is: content and ETag; `None`: the object that was to be replaced is gone.
    Theirs(Option<(Bytes, ETag)>),
}

impl Io {
    /// Writes until it is known what became of it. `ours` tells our own write by its content.
    pub(super) async fn put_once(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
        ours: impl Fn(&Bytes) -> bool,
    ) -> Result<Written, Stop> {
        let mut backoff = Backoff::new(STORE);
        loop {
            let error = match self.store.put_if(name, bytes.clone(), condition).await {
                Ok(PutOutcome::Won(tag)) => {
                    backoff.done(self);
                    return Ok(Written::Ours(tag));
                }
                Ok(PutOutcome::Refused) => race(name),
                Err(e @ StoreError::Unavailable { .. }) => e,
                Err(e) => return Err(e.into()),
            };
            let there = self.get(name).await?;
            match (&there, condition) {
                (Some((content, tag)), _) if ours(content) && !mistaken!(OwnWriteNotKnown) => {
                    return Ok(Written::Ours(tag.clone()));
                }
                (Some((_, tag)), _) if mistaken!(ZombieUnfenced) => {
                    let now = Condition::Matches(tag.clone());
                    return Box::pin(self.put_once(name, bytes, &now, ours)).await;
                }
                (None, Condition::Absent) => {}
                (Some((_, tag)), Condition::Matches(old)) if tag == old => {}
                _ => return Ok(Written::Theirs(there)),
            }
            self.again(&mut backoff, error).await?;
        }
    }
}

/// Refused, and yet nothing changed: a race in flight.
fn race(name: &str) -> StoreError {
    let source = "the store refused a conditional write whose condition holds".into();
    StoreError::Unavailable {
        at: name.to_owned(),
        source,
    }
}

/// What is at the head's name.
pub(super) fn parse_head(there: Option<&(Bytes, ETag)>) -> Found<Head> {
    there.map(|(bytes, _)| Head::from_bytes(bytes))
}

impl Checkpointer {
    /// Replaces the head by one of our own. After `Err` this checkpointer writes no more.
    pub(super) async fn swap(&mut self, head: Head, step: Step) -> Result<(), Stop> {
        let (name, url) = (self.lane.head(), self.io.url.clone());
        let bytes = head
            .to_bytes()
            .map_err(|e| Stop::unreadable(&url, &name, &e))?;
        let condition = Condition::Matches(self.etag.clone());
        let ours = |bytes: &Bytes| Head::from_bytes(bytes).is_ok_and(|h| h.write == head.write);
        self.io.crash.hit(step, Moment::Before);
        let there = match self
            .io
            .put_once(&name, bytes.into(), &condition, ours)
            .await?
        {
            Written::Ours(tag) => {
                self.io.crash.hit(step, Moment::After);
                self.etag = tag;
                self.head = head;
                return Ok(());
            }
            Written::Theirs(there) => there,
        };
        let changed = || Stop::damaged(&url, "head.json changed while it was read back");
        Err(self
            .verdict(&head.write, there.as_ref())
            .unwrap_or_else(changed))
    }

    /// Why the lane is no longer as we left it; `None`: it is. `nonce` is that of our last write, or of one under way.
    pub(super) fn verdict(&self, nonce: &str, there: Option<&(Bytes, ETag)>) -> Option<Stop> {
        let (name, url, ours) = (self.lane.head(), &self.io.url, &self.head);
        let attempt = Attempt {
            nonce,
            term: ours.owner.term,
            born: ours.body.born(),
            epoch: ours.body.epoch,
            unchanged: there.is_some_and(|(_, tag)| *tag == self.etag),
        };
        let found = parse_head(there);
        let found = found.as_ref().map(|f| f.as_ref().map_err(Clone::clone));
        match read_back(attempt, found) {
            ReadBack::Fenced { term, pod } => Some(Stop::fenced(url, term, &pod)),
            ReadBack::Newer(format) => Some(Stop::newer(url, &name, format)),
            ReadBack::Behind(epoch) => Some(Stop::behind(url, Some(epoch.0), ours.body.epoch.0)),
            ReadBack::Damaged(what) => Some(Stop::damaged(url, &what)),
            ReadBack::Won | ReadBack::TryAgain => None,
        }
    }
}
