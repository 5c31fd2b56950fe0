//! The counts of one epoch that must balance (semantics 28), and their running totals.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

/// Counts of one epoch, or totals of all epochs so far.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ledger {
    /// Per source.
    pub sources: BTreeMap<NodeName, SourceCounts>,
    /// Per step; and per sink that refused rows, which come into it and nothing else.
    pub steps: BTreeMap<NodeName, StepCounts>,
    /// Rows or changes handed to each sink.
    pub sinks: BTreeMap<NodeName, u64>,
}

/// `read = decoded + tombstones + dead_lettered`; gaps count apart.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceCounts {
    /// Records read.
    pub read: u64,
    /// Became rows.
    pub decoded: u64,
    /// Tombstones dropped.
    pub tombstones: u64,
    /// Rejected by decoding or by the future bound.
    pub dead_lettered: u64,
    /// Gap rows written.
    pub gaps: u64,
}

/// `input = output + filtered + late + duplicates + rejected`, of which each kind of step has its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepCounts {
    /// Rows in.
    pub input: u64,
    /// Rows out, or taken into windows (aggregates).
    pub output: u64,
    /// Refused by `where`.
    pub filtered: u64,
    /// Came after their windows had closed.
    pub late: u64,
    /// Dropped because a row of the same key had come.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// Those of them that were not the same in every column.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conflicts: u64,
    /// Dead-lettered by the step.
    pub rejected: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Ledger {
    /// `Err` names the first source or step whose counts do not balance.
    pub fn balance(&self) -> Result<(), String> {
        for (name, c) in &self.sources {
            if c.read != c.decoded + c.tombstones + c.dead_lettered {
                return Err(format!("source {name}: {c:?}"));
            }
        }
        for (name, c) in &self.steps {
            if c.input != c.output + c.filtered + c.late + c.duplicates + c.rejected {
                return Err(format!("step {name}: {c:?}"));
            }
        }
        Ok(())
    }

    /// Adds another epoch's counts.
    pub fn add(&mut self, other: &Self) {
        for (name, c) in &other.sources {
            let mine = self.sources.entry(name.clone()).or_default();
            mine.read += c.read;
            mine.decoded += c.decoded;
            mine.tombstones += c.tombstones;
            mine.dead_lettered += c.dead_lettered;
            mine.gaps += c.gaps;
        }
        for (name, c) in &other.steps {
            let mine = self.steps.entry(name.clone()).or_default();
            mine.input += c.input;
            mine.output += c.output;
            mine.filtered += c.filtered;
            mine.late += c.late;
            mine.duplicates += c.duplicates;
            mine.conflicts += c.conflicts;
            mine.rejected += c.rejected;
        }
        for (name, rows) in &other.sinks {
            *self.sinks.entry(name.clone()).or_default() += rows;
        }
    }
}
