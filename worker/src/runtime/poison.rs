//! Records on which the engine itself fails (semantics 38): a panic, or an error that no row can be blamed for.
//!
//! Such a record is found by bisecting its batch in a dataflow of its own. The epoch is then computed anew from the last
//! checkpoint, without it: a dataflow that panicked is not used again. A record that kills the process is named by the
//! manifest's `skip`, and is not computed either.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evp_api::plan::{NodeName, SkipPlan};
use evp_core::position::{Position, SplitId};
use evp_core::record::RawBatch;

/// Records that are dead letters without being computed, and what else outlives the runs of a lane in one process.
#[derive(Clone, Debug, Default)]
pub struct Poison(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    records: Mutex<BTreeMap<NodeName, BTreeMap<Place, Why>>>,
    /// The lane was ours before: what ended that run has not killed the process.
    owned: AtomicBool,
    /// For crash tests: the record that kills.
    deadly: Option<(NodeName, Place)>,
}

/// Why a record is not computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// The engine failed on it.
    Fails,
    /// The manifest says so.
    Skipped,
}

pub(super) type Place = (SplitId, Position);

impl Poison {
    /// For crash tests: the process ends itself when it is about to compute this record, `SOURCE/SPLIT/POSITION`.
    pub fn deadly(record: &str) -> Result<Self, String> {
        let mut parts = record.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (source, split, position) = (NodeName::new(next()), next(), next().parse());
        match (source, position, parts.next()) {
            (Some(source), Ok(position), None) if !split.is_empty() => Ok(Self(Arc::new(Known {
                deadly: Some((source, (SplitId(split.to_owned()), Position(position)))),
                ..Known::default()
            }))),
            _ => Err(format!("`{record}` must be SOURCE/SPLIT/POSITION")),
        }
    }

    /// These records of the batch are not computed again.
    pub(super) fn add(&self, source: &NodeName, raw: &RawBatch, records: &[usize]) {
        let mut known = self.records();
        let places = records
            .iter()
            .map(|&record| (place(raw, record), Why::Fails));
        known.entry(source.clone()).or_default().extend(places);
    }

    /// These records are not computed.
    pub(super) fn skip(&self, records: &[SkipPlan]) {
        let mut known = self.records();
        for record in records {
            let place = (SplitId::partition(record.split), Position(record.position));
            let of_source = known.entry(record.source.clone()).or_default();
            of_source.insert(place, Why::Skipped);
        }
    }

    /// Those of the batch's records that are not computed, by index.
    pub(super) fn of(&self, source: &NodeName, raw: &RawBatch) -> Vec<(usize, Why)> {
        let known = self.records();
        let Some(places) = known.get(source) else {
            return Vec::new();
        };
        let why = |record: usize| Some((record, *places.get(&place(raw, record))?));
        (0..raw.records.len()).filter_map(why).collect()
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<NodeName, BTreeMap<Place, Why>>> {
        let records = self.0.records.lock();
        records.unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane was ours before, in this process.
    pub(super) fn owned(&self) -> bool {
        self.0.owned.load(Ordering::Relaxed)
    }

    /// The lane is ours.
    pub(super) fn own(&self) {
        self.0.owned.store(true, Ordering::Relaxed);
    }

    /// Ends the process if one of these records is the one that kills.
    pub(super) fn kill(&self, source: &NodeName, raw: &RawBatch) {
        if let Some((deadly, at)) = &self.0.deadly
            && deadly == source
            && (0..raw.records.len()).any(|record| place(raw, record) == *at)
        {
            tracing::error!("crash test: the process ends on this record");
            std::process::abort();
        }
    }
}

/// Where a record stands.
pub(super) fn place(raw: &RawBatch, record: usize) -> Place {
    let record = &raw.records[record];
    (raw.splits[record.split as usize].clone(), record.position)
}

/// Computes; a panic is an error that says what it said.
pub(super) fn guarded<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| format!("a panic: {}", said(&*panic)))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

/// The records that fail alone. None: only together.
pub(super) fn find(raw: &RawBatch, fails: &mut dyn FnMut(&RawBatch) -> bool) -> Vec<usize> {
    let mut found = Vec::new();
    bisect(raw, 0..raw.records.len(), fails, &mut found);
    found
}

fn bisect(
    raw: &RawBatch,
    range: Range<usize>,
    fails: &mut dyn FnMut(&RawBatch) -> bool,
    found: &mut Vec<usize>,
) {
    if range.is_empty() || !fails(&raw.only(range.clone())) {
        return;
    }
    if range.len() == 1 {
        return found.push(range.start);
    }
    let middle = range.start + range.len() / 2;
    bisect(raw, range.start..middle, fails, found);
    bisect(raw, middle..range.end, fails, found);
}

#[cfg(test)]
mod tests {
    use evp_core::position::Micros;
    use evp_core::record::RawRecord;

    use super::*;

    fn batch(records: i64) -> RawBatch {
        let record = |position| RawRecord {
            split: 0,
            position: Position(position),
            timestamp: Micros(0),
            key: None,
            value: None,
        };
        RawBatch {
            splits: vec![SplitId::partition(0)],
            records: (0..records).map(record).collect(),
            ..RawBatch::default()
        }
    }

    #[test]
    fn rule_38_the_records_that_panic_are_found_and_their_neighbours_are_not() {
        let poisonous = [3, 4, 99];
        let mut fails = |part: &RawBatch| {
            let compute = || {
                let is_bad = |r: &RawRecord| poisonous.contains(&r.position.0);
                assert!(!part.records.iter().any(is_bad), "such a record");
            };
            guarded(compute).is_err()
        };
        let raw = batch(100);
        let found = find(&raw, &mut fails);
        assert_eq!(found, [3, 4, 99]);
        assert!(find(&batch(3), &mut fails).is_empty());
        let (poison, source) = (Poison::default(), NodeName::new("orders").unwrap());
        poison.add(&source, &raw, &found);
        let known = [(3, Why::Fails), (4, Why::Fails)];
        assert_eq!(poison.clone().of(&source, &batch(50)), known);
        let skip = |split, position| SkipPlan {
            source: source.clone(),
            split,
            position,
        };
        poison.skip(&[skip(0, 7), skip(1, 8)]);
        assert_eq!(poison.of(&source, &batch(50))[2..], [(7, Why::Skipped)]);
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        assert_eq!(guarded(|| 1), Ok(1));
        let told: Result<(), _> = guarded(|| panic!("no {}", "more"));
        assert_eq!(told, Err("a panic: no more".to_owned()));
    }
}
