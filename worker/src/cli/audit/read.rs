//! The objects of a checkpoint, read newest first and handed to the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use evp_core::position::Epoch;
use evp_core::protocol::audit::{Audit, Named, Objects, Verdict};
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Body, Head, parse};
use evp_core::protocol::paths::{self, Lane};
use futures::StreamExt;

use crate::cli::Fault;
use crate::sink::outbox::staged;
use crate::store::{Location, Store};

/// Copies asked for at the same time. Each is a few KiB; one with large intents a few hundred.
const IN_FLIGHT: usize = 16;

/// What every start reads, in the order in which a start reads it: in reverse of its creation.
pub(super) async fn objects(store: &dyn Store) -> Result<Objects, Fault> {
    let lane = Lane::default();
    let born = store.get(&lane.born()).await?;
    let head = store.get(&lane.head()).await?;
    let owner = store.get(paths::OWNER).await?;
    Ok(Objects {
        owner: owner.map(|(bytes, _)| parse(&bytes)),
        head: head.map(|(bytes, _)| Head::from_bytes(&bytes)),
        born: born.map(|(bytes, _)| parse(&bytes)),
    })
}

/// Reads for an audit.
pub(super) struct Reader {
    location: Location,
    lane: Lane,
    audit: Audit,
    /// Objects that were looked at; bounded by the epochs whose objects are kept.
    seen: BTreeSet<String>,
    /// Plans that bodies name, with the newest epoch that does.
    plans: BTreeMap<Digest, Epoch>,
}

impl Reader {
    pub(super) fn begin(
        location: Location,
        name: &str,
        range: RangeInclusive<Epoch>,
        objects: Objects,
    ) -> Self {
        let lane = Lane::default();
        Self {
            location,
            audit: Audit::begin(lane.clone(), name, range, objects),
            lane,
            seen: BTreeSet::new(),
            plans: BTreeMap::new(),
        }
    }

    pub(super) fn audit(&mut self) -> &mut Audit {
        &mut self.audit
    }

    pub(super) fn end(self) -> Verdict {
        self.audit.end()
    }

    /// The head's body and the copies of the range, each with the objects that it names. Without a head there is nothing to
    /// begin at.
    pub(super) async fn bodies(&mut self, range: &RangeInclusive<Epoch>) -> Result<(), Fault> {
        let Some(newest) = self.audit.head().map(|head| head.body.clone()) else {
            return Ok(());
        };
        self.body(&newest).await?;
        // The copy after the last of the range vouches for it; the head's own need not be there.
        let first = range.end().next().min(newest.epoch);
        let store = self.location.store.clone();
        let lane = self.lane.clone();
        let copies = (range.start().0..=first.0).rev().map(|epoch| {
            let (store, name) = (store.clone(), lane.epoch(Epoch(epoch)));
            async move { (Epoch(epoch), store.get(&name).await) }
        });
        let mut copies = futures::stream::iter(copies).buffered(IN_FLIGHT);
        while let Some((epoch, found)) = copies.next().await {
            let bytes = found?.map(|(bytes, _)| bytes);
            if bytes.is_none() {
                self.look_again().await?;
            }
            if let Some(body) = self.audit.copy(epoch, bytes.as_deref()).cloned() {
                self.body(&body).await?;
            }
        }
        let beyond = newest.epoch.next();
        let is_there = self.get(&self.lane.epoch(beyond)).await?.is_some();
        if is_there {
            self.look_again().await?;
        }
        self.audit.beyond(beyond, is_there);
        Ok(())
    }

    async fn body(&mut self, body: &Body) -> Result<(), Fault> {
        self.plans.entry(body.plan.clone()).or_insert(body.epoch);
        for named in self.audit.named(body, staged) {
            if self.seen.insert(named.object.clone()) {
                self.object(&named).await?;
            }
        }
        Ok(())
    }

    async fn object(&mut self, named: &Named) -> Result<(), Fault> {
        let found = self.get(&named.object).await?;
        if found.is_none() {
            self.look_again().await?;
        }
        let found = found.map(|bytes| (bytes.len() as u64, Digest::of(&bytes)));
        self.audit.object(named, found);
        Ok(())
    }

    /// Judges the plans; gives the head's, if it is intact.
    pub(super) async fn plans(&mut self) -> Result<Option<Bytes>, Fault> {
        let newest = self.audit.head().map(|head| head.body.plan.clone());
        let mut plan = None;
        for (digest, epoch) in std::mem::take(&mut self.plans) {
            let bytes = self.get(&paths::plan(&digest)).await?;
            self.audit.plan(&digest, epoch, bytes.as_deref());
            if newest.as_ref() == Some(&digest) {
                plan = bytes.filter(|bytes| Digest::of(bytes) == digest);
            }
        }
        Ok(plan)
    }

    /// What is not there may have been collected by a pipeline that went on since the head was read.
    pub(super) async fn look_again(&mut self) -> Result<(), Fault> {
        let head = self.get(&self.lane.head()).await?;
        if let Some(Ok(head)) = head.map(|bytes| Head::from_bytes(&bytes)) {
            self.audit.moved_on(&head);
        }
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Fault> {
        let found = self.location.store.get(name).await?;
        Ok(found.map(|(bytes, _)| bytes))
    }
}
