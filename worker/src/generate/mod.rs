//! Seeded sample events: event i is a pure function of the settings and i, so a resumed run makes the same again.
//!
//! Owns what an event is, when it is due and what is planted ([`Events`]); what a record says is a file a template. Knows nothing
//! of splits, topics or files.

mod activity;
mod draw;
mod events;
mod orders;
mod shop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use evp_api::plan::Template;
use evp_core::position::Micros;

pub use events::Events;

/// What an event was meant to be; the word in the producer's ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As it should be.
    Good,
    /// The key and value of an earlier good event once more. Some of `activity` say another amount.
    Duplicate,
    /// Event time up to five minutes back: within half of a ten-minute delay.
    Disorder,
    /// Event time at least an hour back.
    Late,
    /// Event time at least a day ahead.
    Future,
    /// Refused by the schema, or a rule, of the template's reference pipeline.
    Malformed,
}

/// One event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Its number.
    pub index: u64,
    /// What it was meant to be.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// Its event time (of a malformed one: the time it would have had).
    pub time: Micros,
    /// When it is due.
    pub due: Micros,
    /// Hash of the key modulo the number of partitions.
    pub partition: u32,
}

/// Shares of events that are no good, each in 0..=1, together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Planting {
    /// Of [`Kind::Duplicate`].
    pub duplicates: f64,
    /// Of [`Kind::Disorder`].
    pub disorder: f64,
    /// Of [`Kind::Late`].
    pub late: f64,
    /// Of [`Kind::Future`].
    pub future: f64,
    /// Of [`Kind::Malformed`].
    pub malformed: f64,
    /// First event that may be late.
    pub late_from: u64,
}

/// No event between `from` and `to` has a key of that partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdlePartition {
    /// The partition.
    pub partition: u32,
    /// First event that avoids it.
    pub from: u64,
    /// First event that does not.
    pub to: u64,
}

/// All that the events are a function of.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Same seed, same events.
    pub seed: u64,
    /// When event 0 is due.
    pub started: Micros,
    /// Events a second; at least 1.
    pub rate: u64,
    /// Partitions that keys are spread over; at least 1.
    pub partitions: u32,
    /// What is planted.
    pub planting: Planting,
    /// A partition that stays silent for a while.
    pub idle: Option<IdlePartition>,
}

impl Settings {
    /// When event `index` is due.
    pub fn due(&self, index: u64) -> Micros {
        let after = u128::from(index) * 1_000_000 / u128::from(self.rate.max(1));
        Micros(
            self.started
                .0
                .saturating_add(i64::try_from(after).unwrap_or(i64::MAX)),
        )
    }

    /// How many events are due at `now`.
    pub fn due_by(&self, now: Micros) -> u64 {
        let Ok(elapsed) = u64::try_from(now.0.saturating_sub(self.started.0)) else {
            return 0;
        };
        let due = u128::from(elapsed) * u128::from(self.rate.max(1)) / 1_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How long after `now` event `index` is due; zero: it is.
    pub fn wait(&self, index: u64, now: Micros) -> Duration {
        Duration::from_micros(u64::try_from(self.due(index).0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// Events a second where nobody says how many.
pub fn usual_rate(template: Template) -> u64 {
    match template {
        Template::Shop => 10,
        Template::Orders | Template::Activity => 5,
    }
}

/// `2026-01-01T12:00:00.123456Z`.
pub fn rfc3339(time: Micros) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| String::new(), |t| format!("{t:.6}"))
}
