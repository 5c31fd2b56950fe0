//! Records on which the engine itself fails (semantics 38): a panic, or an error that no row can be blamed for.
//!
//! Such a record is found by bisecting its batch in a dataflow of its own. The epoch is then computed anew from the last
//! checkpoint, without it: a dataflow that panicked is not used again.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use evp_api::plan::NodeName;
use evp_core::position::{Position, SplitId};
use evp_core::record::RawBatch;

/// Records that are dead letters without being computed; it outlives the runs of a lane in one process.
#[derive(Clone, Debug, Default)]
pub struct Poison(Arc<Mutex<BTreeMap<NodeName, BTreeSet<Place>>>>);

type Place = (SplitId, Position);

impl Poison {
    /// These records of the batch are not computed again.
    pub(super) fn add(&self, source: &NodeName, raw: &RawBatch, records: &[usize]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = records.iter().map(|&record| place(raw, record));
        known.entry(source.clone()).or_default().extend(places);
    }

    /// Indices of the batch's records that were found before.
    pub(super) fn of(&self, source: &NodeName, raw: &RawBatch) -> Vec<usize> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(places) = known.get(source) else {
            return Vec::new();
        };
        let is_known = |record: &usize| places.contains(&place(raw, *record));
        (0..raw.records.len()).filter(is_known).collect()
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
        assert_eq!(poison.clone().of(&source, &batch(50)), [3, 4]);
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        assert_eq!(guarded(|| 1), Ok(1));
        let told: Result<(), _> = guarded(|| panic!("no {}", "more"));
        assert_eq!(told, Err("a panic: no more".to_owned()));
    }
}
