//! The `generator` source: sample events as if they came from a log, by the clock.
//!
//! [`SPLITS`] splits; event i is record i / [`SPLITS`] of split i % [`SPLITS`]. A record can be read once it is due, so a
//! start in the past gives a backlog. Time zero stands in every position ([`SplitPosition::started`]), hence a resumed run
//! makes the same events.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use evp_api::plan::GeneratorPlan;
use evp_core::position::{Micros, Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::{RawBatch, RawRecord, Reached};

use super::{Budget, Source, SourceError};
use crate::clock::SharedClock;
use crate::generate::{Events, Planting, Settings};

/// Splits of every generator source. A constant: another number would move every record.
pub const SPLITS: u64 = 3;

const COUNT: usize = 3;
const _: () = assert!(COUNT as u64 == SPLITS);

/// A generator source.
pub struct GeneratorSource {
    plan: GeneratorPlan,
    planting: Planting,
    back_dated: Duration,
    clock: SharedClock,
    events: Events,
    /// Number of the next event of each split, in units of its own.
    next: [u64; COUNT],
}

impl GeneratorSource {
    /// Reads nothing before [`Source::seek`]. `back_dated`: how long before the very first start event 0 was due.
    pub fn new(
        plan: GeneratorPlan,
        clock: SharedClock,
        planting: Planting,
        back_dated: Duration,
    ) -> Self {
        let events = events(&plan, planting, clock.now());
        Self {
            plan,
            planting,
            back_dated,
            clock,
            events,
            next: [0; COUNT],
        }
    }

    /// Events that can be read now.
    fn available(&self) -> u64 {
        self.events
            .settings()
            .due_by(self.clock.now())
            .min(self.plan.limit.unwrap_or(u64::MAX))
    }

    /// The split whose next event is due first, and that event's number.
    fn first(&self) -> (usize, u64) {
        (0..)
            .zip(self.next)
            .map(|(split, k)| (split, index(split as u64, k)))
            .min_by_key(|e| e.1)
            .unwrap_or((0, 0))
    }

    fn position(&self, k: u64) -> SplitPosition {
        SplitPosition {
            next: Position(i64::try_from(k).unwrap_or(i64::MAX)),
            started: Some(self.events.settings().started),
            ..SplitPosition::default()
        }
    }

    /// Waits until something is due, at most `wait`.
    async fn wait(&self, wait: Duration) {
        let (_, event) = self.first();
        let ended = self.plan.limit.is_some_and(|limit| event >= limit);
        let due = self.events.settings().wait(event, self.clock.now());
        let wait = if ended { wait } else { wait.min(due) };
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
    }

    fn take(&mut self, budget: Budget) -> RawBatch {
        let available = self.available();
        let mut raw = RawBatch {
            splits: (0..SPLITS).map(split_id).collect(),
            ..RawBatch::default()
        };
        while raw.records.len() < budget.records.max(1) {
            let (split, event) = self.first();
            if event >= available {
                break;
            }
            let event = self.events.event(event);
            let size = event.key.len() + event.value.len();
            if !raw.records.is_empty() && raw.bytes.len() + size > budget.bytes {
                break;
            }
            let position = self.position(self.next[split]).next;
            let key = Some(raw.hold(event.key.as_bytes()));
            let value = Some(raw.hold(&event.value));
            let split_number = u32::try_from(split).unwrap_or(0);
            raw.records.push(RawRecord {
                split: split_number,
                position,
                timestamp: whole_millis(event.due),
                key,
                value,
            });
            self.next[split] += 1;
        }
        raw.reached = (0..SPLITS)
            .zip(self.next)
            .map(|(split, k)| Reached {
                split: split_id(split),
                position: self.position(k),
                end: Some(self.position(records_of(split, available)).next),
            })
            .collect();
        raw
    }
}

#[async_trait]
impl Source for GeneratorSource {
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let started = known.and_then(started).unwrap_or_else(|| {
            let back = Micros::from(self.back_dated).0;
            whole_millis(Micros(self.clock.now().0.saturating_sub(back)))
        });
        let start = SplitPosition {
            started: Some(started),
            ..SplitPosition::default()
        };
        let new = (0..SPLITS)
            .map(split_id)
            .filter(|id| known.is_none_or(|k| !k.contains_key(id)));
        Ok(new.map(|id| (id, start.clone())).collect())
    }

    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        let started = started(positions).ok_or_else(|| SourceError::Stop {
            reason: "CheckpointDamaged",
            message: "the generator's positions do not say when it started".to_owned(),
        })?;
        self.events = events(&self.plan, self.planting, started);
        for (split, next) in (0..SPLITS).zip(&mut self.next) {
            let position = positions.get(&split_id(split)).map_or(0, |p| p.next.0);
            *next = u64::try_from(position).unwrap_or(0);
        }
        Ok(())
    }

    async fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        self.wait(wait).await;
        Ok(self.take(budget))
    }

    async fn vouch(&mut self, _: &SplitPositions) -> Result<(), SourceError> {
        Ok(())
    }

    /// With a limit all events, also those not yet due.
    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError> {
        let end = self.plan.limit.unwrap_or_else(|| self.available());
        Ok((0..SPLITS)
            .map(|s| (split_id(s), self.position(records_of(s, end))))
            .collect())
    }
}

fn events(plan: &GeneratorPlan, planting: Planting, started: Micros) -> Events {
    let GeneratorPlan {
        template,
        rate,
        seed,
        limit: _,
    } = *plan;
    let settings = Settings {
        seed,
        started,
        rate,
        partitions: 3,
        planting,
        idle: None,
    };
    Events::new(template, settings)
}

/// Timestamps as a log keeps them.
fn whole_millis(time: Micros) -> Micros {
    Micros(time.0 - time.0.rem_euclid(1_000))
}

fn started(positions: &SplitPositions) -> Option<Micros> {
    positions.values().find_map(|p| p.started)
}

fn split_id(split: u64) -> SplitId {
    SplitId(split.to_string())
}

/// Number of event k of a split.
fn index(split: u64, k: u64) -> u64 {
    k.saturating_mul(SPLITS).saturating_add(split)
}

/// How many of the first `events` are that split's.
fn records_of(split: u64, events: u64) -> u64 {
    events.saturating_add(SPLITS - 1 - split) / SPLITS
}
