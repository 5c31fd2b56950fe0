//! One epoch, from its opening to its sinks.

use std::time::Duration;

use evp_api::plan::NodeName;
use evp_api::reason;
use evp_core::dataflow::{Closed, Pushed, SinkBatch};
use evp_core::dead_letter::{DeadLetter, RejectCode};
use evp_core::position::{Positions, SplitPositions};
use evp_core::protocol::head::{Body, StateKind, StepState};
use evp_core::record::RawBatch;
use evp_core::state::wants_base;
use tokio_util::sync::CancellationToken;

use super::{Halt, Runtime, Until};
use crate::job::DEAD_LETTERS;
use crate::reader::Read;
use crate::report::{Decided, Letters, Reporter};
use crate::sink::dead_letters::dead_letter_batch;

/// How often reports are refreshed while nothing arrives.
const REFRESH: Duration = Duration::from_millis(500);

/// How an epoch ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Went {
    /// The next one opens.
    On,
    /// Told to stop, or everything asked for is done.
    Finished,
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Filled {
    /// The interval, the row or the byte bound.
    Bound,
    /// Told to stop.
    Stopped,
    /// Every position asked for is reached.
    Reached,
}

/// The epoch being filled.
struct Open {
    body: Body,
    since: Duration,
    records: u64,
    bytes: u64,
    letters: Letters,
}

impl Runtime {
    /// One epoch; a quiet one is not decided.
    pub(super) async fn epoch(
        &mut self,
        reporter: &mut Reporter,
        stop: &CancellationToken,
    ) -> Result<Went, Halt> {
        let mut body = self.checkpointer.open(self.clock.now());
        for (source, splits) in &self.starts {
            let at = body.positions.entry(source.clone()).or_default();
            for (split, start) in splits {
                at.entry(split.clone()).or_insert_with(|| start.clone());
            }
        }
        let mut open = Open {
            body,
            since: self.clock.elapsed(),
            records: 0,
            bytes: 0,
            letters: Letters::new(),
        };
        self.dataflow.open(open.body.epoch_time)?;
        let filled = self.fill(&mut open, reporter, stop).await?;
        let idle = self.activity.idle(self.polled);
        let closed = self.dataflow.close(&idle)?;
        let quiet = self.is_quiet(&open, &closed);
        if quiet {
            self.dataflow.abandon()?;
            self.checkpointer.record_quietly().await?;
        } else {
            self.commit(open, closed, reporter).await?;
        }
        reporter.moved(
            &self.activity,
            &self.checkpointer.body().positions,
            self.polled,
        );
        Ok(match filled {
            Filled::Stopped => Went::Finished,
            Filled::Reached if quiet => Went::Finished,
            _ => Went::On,
        })
    }

    /// Nothing changed: there is nothing to decide.
    fn is_quiet(&self, open: &Open, closed: &Closed) -> bool {
        let last = self.checkpointer.body();
        open.body.positions == last.positions
            && open.body.plan == last.plan
            && closed.watermarks == last.watermarks
            && closed.state.is_empty()
            && closed.sinks.is_empty()
    }

    async fn fill(
        &mut self,
        open: &mut Open,
        reporter: &mut Reporter,
        stop: &CancellationToken,
    ) -> Result<Filled, Halt> {
        let bounds = self.checked.plan.checkpoint.clone();
        loop {
            if self.is_reached(&open.body.positions) {
                return Ok(Filled::Reached);
            }
            let full = bounds.max_records.is_some_and(|most| open.records >= most)
                || open.bytes >= bounds.max_bytes;
            let left = bounds
                .interval
                .saturating_sub(self.clock.elapsed().saturating_sub(open.since));
            if full || left.is_zero() {
                return Ok(Filled::Bound);
            }
            let (source, raw) = match self.carried.take() {
                Some(carried) => carried,
                None => match self.next(left.min(REFRESH), reporter, stop).await? {
                    Next::Batch(source, raw) => (source, raw),
                    Next::Nothing => continue,
                    Next::Stopped => return Ok(Filled::Stopped),
                },
            };
            let more = raw.records.len() as u64;
            if open.records > 0
                && bounds
                    .max_records
                    .is_some_and(|most| open.records + more > most)
            {
                self.carried = Some((source, raw));
                return Ok(Filled::Bound);
            }
            self.take_in(open, &source, &raw).await?;
            reporter.moved(
                &self.activity,
                &self.checkpointer.body().positions,
                self.polled,
            );
        }
    }

    fn is_reached(&self, positions: &Positions) -> bool {
        let Until::Reached(ends) = &self.until else {
            return false;
        };
        ends.iter().all(|(source, ends)| {
            let none = SplitPositions::new();
            let at = positions.get(source).unwrap_or(&none);
            ends.iter()
                .all(|(split, end)| at.get(split).is_some_and(|at| at.next >= end.next))
        })
    }

    /// The next batch, if one comes in time. Only this wait counts as time in which the sources could be polled.
    async fn next(
        &mut self,
        wait: Duration,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Next, Halt> {
        let before = self.clock.elapsed();
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Next::Stopped),
            read = self.reads.recv() => read,
            () = self.clock.sleep(wait) => return Ok(self.waited(before)),
        };
        self.waited(before);
        match read {
            Some(Read::Batch(source, raw)) => {
                reporter.source_trouble(None);
                Ok(Next::Batch(source, raw))
            }
            Some(Read::Unavailable(_, error)) => {
                let halt = Halt::from(error);
                tracing::warn!(code = halt.reason, "{}", halt.message);
                reporter.source_trouble(Some((halt.reason, &halt.message)));
                Ok(Next::Nothing)
            }
            Some(Read::Stopped(_, error)) => Err(error.into()),
            None => Err(Halt::wait(
                reason::SOURCE_UNAVAILABLE,
                "the readers ended; they are started anew",
            )),
        }
    }

    fn waited(&mut self, before: Duration) -> Next {
        self.polled += self.clock.elapsed().saturating_sub(before);
        Next::Nothing
    }

    async fn take_in(
        &mut self,
        open: &mut Open,
        source: &NodeName,
        raw: &RawBatch,
    ) -> Result<(), Halt> {
        let pushed = self.dataflow.push(source, raw)?;
        let letters = letters(&pushed, source, raw, &open.body);
        for letter in &letters {
            *open
                .letters
                .entry((letter.step.clone(), letter.code))
                .or_default() += 1;
        }
        for (sink, batch) in pushed.sinks {
            self.stage(&sink, batch).await?;
        }
        self.keep(letters).await?;
        let at = open.body.positions.entry(source.clone()).or_default();
        for reached in &raw.reached {
            if at
                .insert(reached.split.clone(), reached.position.clone())
                .is_none()
            {
                self.dataflow.register(source, &reached.split);
            }
        }
        self.activity.reached(source, &raw.reached, self.polled);
        open.records += raw.records.len() as u64;
        open.bytes += raw.byte_len() as u64;
        Ok(())
    }

    async fn stage(&mut self, name: &NodeName, batch: SinkBatch) -> Result<(), Halt> {
        match self.sinks.get_mut(name) {
            Some(sink) => Ok(sink.stage(batch).await?),
            None => Ok(()),
        }
    }

    /// Dead letters go with the good rows of their epoch; without a place for them the first one stops the pipeline.
    async fn keep(&mut self, mut letters: Vec<DeadLetter>) -> Result<(), Halt> {
        let Some(first) = letters.first() else {
            return Ok(());
        };
        let Some(plan) = &self.checked.plan.dead_letter else {
            let DeadLetter {
                source,
                split,
                position,
                code,
                message,
                step,
                ..
            } = first;
            return Err(Halt::person(
                reason::RECORD_REFUSED,
                format!(
                    "{step} refused the record at position {position} of {source}, split {split} ({code:?}: {message}); \
                    give the pipeline a `deadLetter` to route such records to, or repair the source"
                ),
            ));
        };
        if !plan.raw {
            letters.iter_mut().for_each(|letter| letter.raw = None);
        }
        let Some(name) = NodeName::new(DEAD_LETTERS) else {
            return Ok(());
        };
        self.stage(&name, SinkBatch::Rows(dead_letter_batch(&letters)))
            .await
    }

    /// Makes the epoch durable, decides it, and rolls its sinks forward.
    async fn commit(
        &mut self,
        mut open: Open,
        mut closed: Closed,
        reporter: &mut Reporter,
    ) -> Result<(), Halt> {
        for (sink, batch) in std::mem::take(&mut closed.sinks) {
            self.stage(&sink, batch).await?;
        }
        let body = &mut open.body;
        for (name, sink) in &mut self.sinks {
            if let Some(intent) = sink.seal(body.epoch).await? {
                debug_assert!(body.sinks.contains_key(name));
                if !body.add_intent(name, intent) {
                    return Err(Halt::failed_epoch(format!(
                        "sink {name} is not in the plan"
                    )));
                }
            }
        }
        self.store_state(body, &closed).await?;
        body.watermarks = closed.watermarks.clone();
        body.ledger = closed.ledger.clone();
        body.totals.add(&closed.ledger);
        body.decided_time = self.clock.now();
        self.holders = std::mem::take(&mut closed.holders);
        let permit = self.checkpointer.decide(open.body.clone()).await?;
        self.dataflow.commit(closed)?;
        let applied = self.checkpointer.apply(permit, &mut self.sinks).await?;
        for (name, applied) in applied {
            if let Some(version) = applied.version {
                self.versions.insert(name, version);
            }
        }
        reporter.decided(Decided {
            checked: &self.checked,
            body: self.checkpointer.body(),
            term: self.checkpointer.term(),
            holders: &self.holders,
            state: &self.dataflow.state_facts(),
            versions: &self.versions,
            letters: open.letters,
        });
        Ok(())
    }

    /// Writes the state deltas; where they have grown, the state before this epoch becomes a new base first.
    async fn store_state(&mut self, body: &mut Body, closed: &Closed) -> Result<(), Halt> {
        for (step, fingerprint) in self.dataflow.fingerprints() {
            let state = body.state.entry(step.clone()).or_insert_with(|| StepState {
                fingerprint,
                files: Vec::new(),
            });
            let Some(delta) = closed.state.get(&step) else {
                continue;
            };
            let lengths = |kind| {
                state
                    .files
                    .iter()
                    .filter(move |f| f.kind == kind)
                    .map(|f| f.length)
            };
            let base: u64 = lengths(StateKind::Base).sum();
            let deltas: Vec<u64> = lengths(StateKind::Delta).collect();
            if !deltas.is_empty() && wants_base(base, &deltas) {
                let Some(whole) = self.dataflow.state_base(&step) else {
                    continue;
                };
                let whole = whole.map_err(Halt::failed_epoch)?;
                let file = self
                    .checkpointer
                    .state()
                    .put(body.epoch, StateKind::Base, whole.into())
                    .await?;
                state.files = vec![file];
            }
            let file = self
                .checkpointer
                .state()
                .put(body.epoch, StateKind::Delta, delta.clone().into())
                .await?;
            state.files.push(file);
        }
        Ok(())
    }
}

/// What waiting for a batch gave.
enum Next {
    Batch(NodeName, RawBatch),
    Nothing,
    Stopped,
}

/// Rejects and gaps as dead letters.
fn letters(pushed: &Pushed, source: &NodeName, raw: &RawBatch, body: &Body) -> Vec<DeadLetter> {
    let rejected = pushed.rejected.iter().map(|(step, reject)| {
        let record = &raw.records[reject.record as usize];
        DeadLetter {
            raw: raw.value(record).map(<[u8]>::to_vec),
            source: source.clone(),
            split: raw.splits[record.split as usize].clone(),
            position: record.position,
            step: step.clone(),
            code: reject.code,
            message: reject.message.clone(),
            field: reject.field.clone(),
            epoch: body.epoch,
            time: body.epoch_time,
        }
    });
    let gaps = raw.gaps.iter().map(|gap| DeadLetter {
        raw: None,
        source: source.clone(),
        split: gap.split.clone(),
        position: gap.from,
        step: source.clone(),
        code: RejectCode::RecordGap,
        message: format!(
            "records {} to {} were deleted before they were read",
            gap.from,
            gap.to.0 - 1
        ),
        field: None,
        epoch: body.epoch,
        time: body.epoch_time,
    });
    rejected.chain(gaps).collect()
}
