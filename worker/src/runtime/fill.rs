//! Filling an epoch: rows flow until the interval, the row or the byte bound, whichever comes first.
//!
//! Owns the dataflow, what is read and what is staged. It does not know the checkpointer: an epoch is filled while the sinks
//! of the last one are rolled forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evp_api::plan::NodeName;
use evp_api::reason;
use evp_core::check::CheckedPlan;
use evp_core::dataflow::{Dataflow, DataflowError, Pushed, Rejected, SinkBatch};
use evp_core::dead_letter::{DeadLetter, Reject, RejectCode};
use evp_core::position::{Position, Positions, SplitPositions};
use evp_core::protocol::care::Place;
use evp_core::protocol::head::Body;
use evp_core::record::RawBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bound::RecordBound;
use super::poison::{self, Poison, Why};
use super::skip::Skips;
use super::tables::Tables;
use super::{Halt, Until};
use crate::activity::Activity;
use crate::clock::SharedClock;
use crate::job::{DEAD_LETTERS, Sinks};
use crate::reader::Read;
use crate::report::{Letters, Moving, Reporter};
use crate::sink::dead_letters::dead_letter_batch;

/// How often reports are refreshed while nothing arrives.
const REFRESH: Duration = Duration::from_millis(500);

/// Takes records in.
pub(super) struct Filler {
    pub(super) checked: Arc<CheckedPlan>,
    pub(super) dataflow: Dataflow,
    /// Where rows are staged. Others apply: a sink is staged to and rolled forward at the same time.
    pub(super) sinks: Sinks,
    pub(super) clock: SharedClock,
    pub(super) reads: mpsc::Receiver<Read>,
    pub(super) activity: Activity,
    /// Records that did not fit into the last epoch.
    pub(super) carried: Option<(NodeName, RawBatch)>,
    /// Time for which the sources could be polled (semantics 8).
    pub(super) polled: Duration,
    /// Sources that cannot be read, and why.
    pub(super) troubled: BTreeMap<NodeName, Halt>,
    pub(super) bound: RecordBound,
    pub(super) poison: Poison,
    /// Records that the manifest gives up and that are still ahead.
    pub(super) skips: Skips,
    /// Which files were read, for sources that read files.
    pub(super) tables: Tables,
    pub(super) until: Until,
}

/// Why reading ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Filled {
    /// The interval, the row or the byte bound.
    Bound,
    /// Told to stop.
    Stopped,
    /// Every position asked for is reached.
    Reached,
    /// It has not ended: the next record may kill, which is to be noted before it is computed.
    Suspect(Place),
}

/// The epoch being filled.
pub(super) struct Open {
    pub(super) body: Body,
    pub(super) since: Duration,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) letters: Letters,
    /// Positions of the newest decided epoch.
    pub(super) committed: Positions,
}

impl Filler {
    pub(super) async fn fill(
        &mut self,
        open: &mut Open,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Filled, Halt> {
        let bounds = self.checked.plan.checkpoint.clone();
        loop {
            if self.is_reached(&open.body.positions) {
                return Ok(Filled::Reached);
            }
            let full = self.bound.is_full(open.records)
                || open.bytes >= bounds.max_bytes
                || self.sinks.values().any(|sink| sink.is_full());
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
            if let Some(record) = self.suspect(open, &source, &raw) {
                self.carried = Some((source, raw));
                return Ok(Filled::Suspect(record));
            }
            let Some(raw) = self.within(open, &source, raw) else {
                return Ok(Filled::Bound);
            };
            self.take_in(open, &source, &raw).await?;
            let committed = &open.committed;
            reporter.moved(&Moving {
                committed,
                ..self.moving(&open.body)
            });
        }
    }

    /// Where the sources stand against this body.
    pub(super) fn moving<'a>(&'a self, body: &'a Body) -> Moving<'a> {
        Moving {
            checked: &self.checked,
            activity: &self.activity,
            polled: self.polled,
            committed: &body.positions,
            watermarks: &body.watermarks,
        }
    }

    /// As many records as there is room for; the others are carried into the next epoch. `None`: there is no room.
    fn within(&mut self, open: &Open, source: &NodeName, raw: RawBatch) -> Option<RawBatch> {
        let room = self.bound.takes(source, &raw, open.records);
        if room == raw.records.len() {
            return Some(raw);
        }
        if room == 0 {
            self.carried = Some((source.clone(), raw));
            return None;
        }
        let (now, later) = raw.split_at(room);
        if !mistaken!(CarriedDropped) {
            self.carried = Some((source.clone(), later));
        }
        Some(now)
    }

    /// The next record, if the open epoch takes it alone because it may kill, and nobody knows yet that it is computed now.
    fn suspect(&self, open: &Open, source: &NodeName, raw: &RawBatch) -> Option<Place> {
        let suspect = self.bound.suspect(source, raw)?;
        let first = raw.only(0..1);
        let computed = open.records == 0 && self.poison.of(source, &first).is_empty();
        computed.then_some(suspect)
    }

    fn is_reached(&self, positions: &Positions) -> bool {
        let Until::Reached(ends) = &self.until else {
            return false;
        };
        ends.iter().all(|(source, ends)| {
            let none = SplitPositions::new();
            let at = positions.get(source).unwrap_or(&none);
            ends.iter().all(|(split, end)| match end.next {
                Position::OPEN => self.activity.at_end(source, split),
                end => at.get(split).is_some_and(|at| at.next >= end),
            })
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
        match read {
            Some(Read::Batch(source, raw)) => {
                self.waited(before);
                // Only what was told here is taken back: it may be a sink that is waited for.
                if self.troubled.remove(&source).is_some() {
                    self.tell_trouble(reporter);
                }
                Ok(Next::Batch(source, raw))
            }
            // While a source could not be asked, its splits were not seen to be quiet: this wait counts for nobody.
            Some(Read::Unavailable(source, error)) => {
                let halt = Halt::from(error);
                tracing::warn!(code = halt.reason, "{}", halt.message);
                self.activity.lost(&source);
                self.troubled.insert(source, halt);
                self.tell_trouble(reporter);
                Ok(Next::Nothing)
            }
            Some(Read::Stopped(_, error)) => Err(error.into()),
            None => Err(Halt::wait(
                reason::SOURCE_UNAVAILABLE,
                "the readers ended; they are started anew",
            )),
        }
    }

    /// What keeps the first troubled source from being read; nothing, once none is.
    fn tell_trouble(&self, reporter: &Reporter) {
        let first = self.troubled.values().next();
        reporter.source_trouble(first.map(|halt| (halt.reason, halt.message.as_str())));
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
        let (pushed, letters) = self.compute(source, raw, &open.body)?;
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
        for promise in &raw.promises {
            self.dataflow.promise(source, &promise.split, promise.time);
        }
        self.tables.take_in(source, raw);
        self.skips.passed(source, raw);
        self.bound.took(source, raw);
        self.activity.reached(source, &raw.reached, self.polled);
        open.records += raw.records.len() as u64;
        open.bytes += raw.byte_len() as u64;
        Ok(())
    }

    /// Takes a batch through the dataflow, but for records on which it failed before and those that are skipped: they are dead
    /// letters.
    fn compute(
        &mut self,
        source: &NodeName,
        raw: &RawBatch,
        body: &Body,
    ) -> Result<(Pushed, Vec<DeadLetter>), Halt> {
        let poisonous = self.poison.of(source, raw);
        if poisonous.is_empty() {
            let pushed = self.push(source, raw, body)?;
            let letters = letters(&pushed.rejected, source, raw, body);
            return Ok((pushed, letters));
        }
        self.dataflow.condemn(source, poisonous.len() as u64);
        let is_sound = |record: &usize| poisonous.iter().all(|(at, _)| at != record);
        let sound = raw.only((0..raw.records.len()).filter(is_sound));
        let pushed = self.push(source, &sound, body)?;
        let rejects: Vec<_> = poisonous.iter().map(|&at| poisoned(source, at)).collect();
        let mut all = letters(&rejects, source, raw, body);
        all.extend(letters(&pushed.rejected, source, &sound, body));
        Ok((pushed, all))
    }

    /// Where the engine itself fails, the records that it fails on are found and remembered; the epoch is computed anew.
    fn push(&mut self, source: &NodeName, raw: &RawBatch, body: &Body) -> Result<Pushed, Halt> {
        self.poison.kill(source, raw);
        let failure = match poison::guarded(|| self.dataflow.push(source, raw)) {
            Ok(Err(DataflowError::Compute(e))) => e.strip_backtrace(),
            Err(panic) => panic,
            Ok(pushed) => return Ok(pushed?),
        };
        let found = poison::find(raw, &mut |part| fails(&self.checked, source, part, body));
        let Some(&first) = found.first() else {
            return Err(Halt::failed_epoch(failure));
        };
        self.poison.add(source, raw, &found);
        let (split, position) = poison::place(raw, first);
        Err(Halt::failed_epoch(format!(
            "{} records fail alone and become dead letters, the first at position {position} of {source}, split {split}: \
             {failure}",
            found.len()
        )))
    }

    pub(super) async fn stage(&mut self, name: &NodeName, batch: SinkBatch) -> Result<(), Halt> {
        match self.sinks.get_mut(name) {
            Some(sink) => Ok(sink.stage(batch).await?),
            None => Ok(()),
        }
    }

    /// Dead letters go with the good rows of their epoch; without a place for them the first one stops the pipeline.
    pub(super) async fn keep(&mut self, mut letters: Vec<DeadLetter>) -> Result<(), Halt> {
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
}

/// What waiting for a batch gave.
enum Next {
    Batch(NodeName, RawBatch),
    Nothing,
    Stopped,
}

/// Does the engine fail on these records alone, with no state?
fn fails(checked: &CheckedPlan, source: &NodeName, raw: &RawBatch, body: &Body) -> bool {
    let computed = poison::guarded(|| {
        let mut alone = Dataflow::new(checked)?;
        alone.open(body.epoch_time)?;
        alone.push(source, raw)
    });
    matches!(computed, Err(_) | Ok(Err(DataflowError::Compute(_))))
}

fn poisoned(source: &NodeName, (record, why): (usize, Why)) -> Rejected {
    let (code, message) = match why {
        Why::Fails => (
            RejectCode::PoisonRecord,
            "the engine fails on it; please report it with the worker's log",
        ),
        Why::Skipped => (
            RejectCode::Skipped,
            "the manifest's `skip` names it: it was not computed",
        ),
    };
    let reject = Reject {
        record: u32::try_from(record).unwrap_or(u32::MAX),
        code,
        message: message.to_owned(),
        field: None,
    };
    (source.clone(), reject)
}

/// Rejects and gaps as dead letters.
fn letters(
    rejected: &[Rejected],
    source: &NodeName,
    raw: &RawBatch,
    body: &Body,
) -> Vec<DeadLetter> {
    let rejected = rejected.iter().map(|(step, reject)| {
        let record = &raw.records[reject.record as usize];
        DeadLetter {
            raw: raw.value(record).map(<[u8]>::to_vec),
            source: source.clone(),
            split: raw.splits[record.split as usize].clone(),
            position: record.position,
            step: step.clone(),
            code: reject.code,
            message: match raw.in_files.spot(reject.record as usize) {
                Some(spot) => format!("{spot}: {}", reject.message),
                None => reject.message.clone(),
            },
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
