//! Tests of a whole pipeline, as `tests.yaml` beside a manifest says them: records in, rows out, in virtual time.
//!
//! Real: everything from the decoder to the sinks, the checkpoint and the store above its client, mapped as `evp run --local`
//! maps it. In place of what is outside stand the scripts of the sources ([`crate::source::script`]), a clock that does not wait
//! and objects in memory. Each test runs plainly, then with a crash after each commit, then with the partitions interleaved
//! otherwise, and must give the same each time.

mod cell;
mod diff;
mod encode;
mod expect;
mod faults;
mod file;
mod found;
mod given;
pub mod junit;
mod life;
mod shuffle;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use evp_api::plan::NodeName;
use evp_core::ledger::StepCounts;

use self::expect::{Expected, Letters, Row};
use self::found::Found;
use self::life::{Lived, live};
use crate::source::script::Scripts;

pub use self::file::{Test, read};
pub use self::subject::Subject;

/// Most commits that are each followed by a crash in a run of its own; of more of them the first ones are.
const MOST_CRASHES: u64 = 50;

/// How a test was run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variant {
    /// As it is written.
    Plain,
    /// The process died when it had decided so many epochs, and another one went on.
    Crash(u64),
    /// Partitions were read in another order, by this seed.
    Interleaved(u64),
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Crash(commit) => write!(f, "crash after commit {commit}"),
            Self::Interleaved(seed) => write!(f, "interleaving {seed}"),
        }
    }
}

/// What became of a test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Variants that gave what was expected.
    pub passed: Vec<Variant>,
    /// The first that did not, and what is wrong, a line each.
    pub failed: Option<(Variant, String)>,
}

/// Runs a test in all its variants, up to the first that fails.
pub fn run(subject: &Subject, test: &Test) -> Outcome {
    let mut outcome = Outcome {
        passed: Vec::new(),
        failed: None,
    };
    let commits = outcome.take(
        Variant::Plain,
        variant(subject, (test, &test.scripts), None),
    );
    let Some(Lived { head, .. }) = commits else {
        return outcome;
    };
    for commit in 1..=head.body.epoch.0.min(MOST_CRASHES) {
        let crashed = variant(subject, (test, &test.scripts), Some(commit));
        if outcome.take(Variant::Crash(commit), crashed).is_none() {
            return outcome;
        }
    }
    for (seed, scripts) in shuffle::interleavings(&test.scripts) {
        let interleaved = variant(subject, (test, &scripts), None);
        if outcome
            .take(Variant::Interleaved(seed), interleaved)
            .is_none()
        {
            return outcome;
        }
    }
    outcome
}

impl Outcome {
    fn take(&mut self, variant: Variant, ran: Result<Lived, String>) -> Option<Lived> {
        match ran {
            Ok(lived) => {
                self.passed.push(variant);
                Some(lived)
            }
            Err(why) => {
                self.failed = Some((variant, why));
                None
            }
        }
    }
}

fn variant(
    subject: &Subject,
    (test, scripts): (&Test, &Scripts),
    crash_after: Option<u64>,
) -> Result<Lived, String> {
    let lived = live(subject, (test, scripts), crash_after)?;
    let lives = 1 + u64::from(crash_after.is_some());
    if lived.lives != lives {
        return Err(format!("{} processes ran instead of {lives}", lived.lives));
    }
    // Readers are others than the worker: they have time of their own, and threads.
    let reading = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let reading = reading.map_err(|e| format!("it cannot be read: {e}"))?;
    let wrong = reading.block_on(compare(&Found::of(subject, &lived), &test.expected, &lived));
    if wrong.is_empty() {
        Ok(lived)
    } else {
        Err(wrong.concat())
    }
}

/// All that is not as expected.
async fn compare(found: &Found<'_>, expected: &Expected, lived: &Lived) -> Vec<String> {
    let Expected {
        sinks,
        dead_letters,
        late,
        duplicates,
    } = expected;
    let mut wrong = Vec::new();
    for (name, expected) in sinks {
        match found.sink(name).await {
            Ok(found) => wrong.extend(diff::diff(name.as_str(), expected, &found)),
            Err(why) => wrong.push(format!("{name} cannot be read: {why}\n")),
        }
    }
    let steps = &lived.head.body.totals.steps;
    wrong.extend(counts("late", late, steps, |counts| counts.late));
    wrong.extend(counts("duplicates", duplicates, steps, |counts| {
        counts.duplicates
    }));
    if dead_letters.is_some() || !wrong.is_empty() {
        match found.letters().await {
            Ok(found) => wrong.extend(letters(dead_letters.as_ref(), &found)),
            Err(why) => wrong.push(format!("the dead letters cannot be read: {why}\n")),
        }
    }
    wrong
}

/// What is wrong with the dead letters. Where they are not compared and something else is wrong, they may tell why.
fn letters(expected: Option<&Letters>, found: &[Row]) -> Option<String> {
    let listed = || -> String {
        let rows = found.iter().map(|row| format!("  {}\n", cell::shown(row)));
        rows.collect()
    };
    match expected {
        Some(Letters::Rows(rows)) => diff::diff("deadLetters", rows, found),
        Some(Letters::Count(count)) if found.len() as u64 != *count => Some(format!(
            "deadLetters: {count} expected, {} found\n{}",
            found.len(),
            listed()
        )),
        None if !found.is_empty() => Some(format!(
            "note: there are dead letters, of which the test says nothing\n{}",
            listed()
        )),
        Some(Letters::Count(_)) | None => None,
    }
}

fn counts(
    what: &str,
    expected: &BTreeMap<NodeName, u64>,
    found: &BTreeMap<NodeName, StepCounts>,
    of: fn(&StepCounts) -> u64,
) -> Vec<String> {
    let count = |step| found.get(step).map_or(0, of);
    expected
        .iter()
        .filter(|(step, expected)| count(step) != **expected)
        .map(|(step, expected)| {
            format!(
                "{what}: {step} counts {}, expected {expected}\n",
                count(step)
            )
        })
        .collect()
}
