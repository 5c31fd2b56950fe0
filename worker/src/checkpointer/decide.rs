//! Deciding an epoch, and recording what was applied.

use bytes::Bytes;
use evp_api::reason;
use evp_core::protocol::care::Place;
use evp_core::protocol::digest::{Digest, canonical};
use evp_core::protocol::head::{Body, Head, KEPT, MAX_UNDONE, Owner};
use evp_core::protocol::paths;
use evp_core::protocol::reset::{Begin, chains};
use evp_core::protocol::retain;

use super::crash::Step;
use super::stop::Stop;
use super::{Checkpointer, CommitPermit};

impl Checkpointer {
    /// Decides an epoch that began as [`Checkpointer::open`]: before it nothing is visible, after it everything is rolled
    /// forward. Fills in parent, time of decision and totals. What `body` names must be durable.
    pub async fn decide(&mut self, mut body: Body) -> Result<CommitPermit, Stop> {
        self.check(&body)?;
        body.parent = Some(self.head.digest.clone());
        body.decided_time = self.io.clock.now();
        body.totals = self.head.body.totals.clone();
        body.totals.add(&body.ledger);
        self.put_apart(&mut body).await?;
        self.write_plan().await?;
        self.write_history().await?;
        // As late as can be: sinks and the store may have kept this epoch waiting.
        if retain::is_stale(body.epoch_time, self.io.clock.now()) {
            return Err(Stop::retried(
                reason::EPOCH_FAILED,
                format!(
                    "epoch {} waited for more than twelve hours to be decided, and files that it staged may be gone: it is \
                     computed again; nothing is lost",
                    body.epoch
                ),
            ));
        }
        let (epoch, rolling) = (body.epoch, self.rolling.with(&body));
        let mut recorded = rolling.clone();
        if mistaken!(RecordedBeforeApplied) {
            recorded.undone.clear();
        }
        let owner = self.head.owner.after_epoch(&self.head.body, &body);
        let head = self.seal(owner, body, recorded)?;
        self.swap(head, Step::HeadSwap).await?;
        self.rolling = rolling;
        self.copied = false;
        self.named.push_back(
            self.head
                .body
                .state_files()
                .map(|f| f.name.clone())
                .collect(),
        );
        while self.named.len() as u64 > KEPT {
            self.named.pop_front();
        }
        Ok(CommitPermit { epoch })
    }

    /// Begins a new incarnation, if the plan's nonce consents to it; everything must be rolled forward before. What cannot be
    /// read of the plan before counts as changed.
    pub async fn reset(&mut self) -> Result<(), Stop> {
        let last = &self.head.body;
        if self.reset_nonce <= last.reset_nonce {
            return Ok(());
        }
        let before = chains(&self.plan_of(last).await?);
        let ours = serde_json::from_slice(&self.plan.bytes).unwrap_or_default();
        let begin = Begin {
            nonce: self.reset_nonce,
            incarnation: self.io.ids.random128(),
            fingerprints: &self.fingerprints,
            before: &before,
            after: &chains(&ours),
        };
        let mut body = last.begin_anew(begin, self.io.clock.now());
        if mistaken!(EpochReusedByReset) {
            body.epoch = last.epoch;
        }
        body.plan = self.plan.digest.clone();
        body.set_sinks(&self.targets);
        let steps: Vec<_> = last
            .state
            .keys()
            .filter(|s| !body.state.contains_key(*s))
            .collect();
        tracing::info!(epoch = %body.epoch, nonce = self.reset_nonce, ?steps, "a new incarnation: the state of these steps is dropped");
        self.decide(body).await?;
        Ok(())
    }

    /// What was applied is not yet in the head. The next decided epoch records it; without one, [`Self::record_quietly`] does.
    pub fn has_unrecorded(&self) -> bool {
        self.rolling != self.head.rolling
    }

    /// Records what was applied without deciding an epoch.
    pub async fn record_quietly(&mut self) -> Result<(), Stop> {
        if !self.has_unrecorded() {
            return Ok(());
        }
        let head = self.seal(
            self.head.owner.clone(),
            self.head.body.clone(),
            self.rolling.clone(),
        )?;
        self.swap(head, Step::RecordSwap).await
    }

    /// Notes in the head that a record is about to be computed alone, for it may be what kills (semantics 38): a process that
    /// dies says nothing. `Err`: this pod died of it often enough.
    pub async fn compute_alone(&mut self, record: &Place) -> Result<(), Stop> {
        let owner = &self.head.owner;
        let Some(care) = &owner.care else {
            return Ok(());
        };
        let care = care
            .computing(record, &owner.pod)
            .map_err(|deaths| Stop::kills(record, deaths))?;
        let Place {
            source,
            split,
            position,
        } = record;
        tracing::warn!(%source, %split, %position, "processes died before this: the record is computed alone");
        let owner = Owner {
            care: Some(care),
            ..owner.clone()
        };
        let head = self.seal(owner, self.head.body.clone(), self.rolling.clone())?;
        self.swap(head, Step::RecordSwap).await
    }

    /// A plan that an epoch was decided under.
    pub async fn plan(&self, digest: &Digest) -> Result<serde_json::Value, Stop> {
        let name = paths::plan(digest);
        let damaged = |what: &str| Stop::damaged(&self.io.url, &format!("{name} {what}"));
        let Some((bytes, _)) = self.io.get(&name).await? else {
            return Err(damaged("is gone"));
        };
        if Digest::of(&bytes) != *digest {
            return Err(damaged("does not have the content its name says"));
        }
        serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))
    }

    fn seal(
        &self,
        owner: Owner,
        body: Body,
        rolling: evp_core::protocol::head::Rolling,
    ) -> Result<Head, Stop> {
        let unreadable = |e| Stop::unreadable(&self.io.url, &self.lane.head(), &e);
        Head::seal(self.io.ids.nonce(), owner, body, rolling).map_err(unreadable)
    }

    /// What must hold of a body before it is decided; anything else is a defect of ours and decides nothing.
    fn check(&self, body: &Body) -> Result<(), Stop> {
        let last = &self.head.body;
        let stop = |reason, what: String| {
            let message = format!(
                "epoch {}: {what}; nothing of it was written. This is a defect: please report it",
                body.epoch
            );
            Err(Stop::stalled(reason, message))
        };
        if let Err(counts) = body.ledger.balance() {
            return stop(
                reason::LEDGER_UNBALANCED,
                format!("the counts do not balance ({counts})"),
            );
        }
        let resets = body.reset_nonce > last.reset_nonce && self.rolling.undone.is_empty();
        let life = |body: &Body| {
            let Body {
                checkpoint, lane, ..
            } = body;
            (checkpoint.clone(), body.born().to_owned(), lane.clone())
        };
        let same = (life(body), body.epoch, &body.plan)
            == (life(last), last.epoch.next(), &self.plan.digest);
        if !same || (body.incarnation != last.incarnation) != resets {
            return stop(
                reason::CHECKPOINT_DAMAGED,
                format!("it does not follow epoch {} under our plan", last.epoch),
            );
        }
        let undone = self.rolling.undone.len();
        if !self.asked || (undone > 0 && body.plan != last.plan) {
            // The marker of an epoch that a restored head has forgotten would pass for that of the next one.
            return stop(
                reason::CHECKPOINT_DAMAGED,
                "the sinks were not rolled forward first".to_owned(),
            );
        }
        if !body.intents.is_empty() && undone >= MAX_UNDONE {
            return stop(
                reason::SINK_UNAVAILABLE,
                format!("{MAX_UNDONE} decided epochs wait for their sinks"),
            );
        }
        Ok(())
    }

    async fn write_plan(&mut self) -> Result<(), Stop> {
        if !self.plan.written && self.head.body.plan != self.plan.digest && !mistaken!(PlanNotKept)
        {
            let bytes = Bytes::from(self.plan.bytes.clone());
            self.io
                .put(Step::PlanPut, &paths::plan(&self.plan.digest), bytes)
                .await?;
        }
        self.plan.written = true;
        Ok(())
    }

    /// The copy of the newest body; written again after a restart, with the same content.
    async fn write_history(&mut self) -> Result<(), Stop> {
        if !self.copied && !mistaken!(HistoryLeftOut) {
            let body = &self.head.body;
            let name = self.lane.epoch(body.epoch);
            let bytes = canonical(body)
                .map_err(|e| Stop::damaged(&self.io.url, &format!("{name}: {e}")))?;
            self.io.put(Step::HistoryPut, &name, bytes.into()).await?;
            self.copied = true;
        }
        Ok(())
    }
}
