//! Telling what became of the records that the manifest's `skip` names.

use evp_api::plan::{NodeName, SkipPlan};
use evp_core::position::{Position, Positions, SplitId};
use evp_core::record::RawBatch;

/// Named records that are still ahead.
#[derive(Debug)]
pub(super) struct Skips(Vec<SkipPlan>);

/// What became of a named record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// It is a dead letter of the open epoch.
    Skipped,
    /// The source went past the position, and there was no record.
    NotThere,
    /// It was passed before this run: it has been computed, or is a dead letter already.
    Past,
    /// The source has no such split.
    NoSplit,
}

impl Skips {
    /// `starts`: where each split is read on.
    pub(super) fn ahead(named: &[SkipPlan], starts: &Positions) -> Self {
        let (ahead, tell): (Vec<_>, Vec<_>) = named
            .iter()
            .map(|skip| (skip.clone(), at_start(skip, starts)))
            .partition(|(_, fate)| fate.is_none());
        for (skip, fate) in tell {
            told(&skip, fate.unwrap_or(Fate::Past));
        }
        Self(ahead.into_iter().map(|(skip, _)| skip).collect())
    }

    /// The open epoch took a batch in.
    pub(super) fn passed(&mut self, source: &NodeName, raw: &RawBatch) {
        self.0.retain(|skip| match passing(skip, source, raw) {
            Some(fate) => {
                told(skip, fate);
                false
            }
            None => true,
        });
    }
}

fn at_start(skip: &SkipPlan, starts: &Positions) -> Option<Fate> {
    let splits = starts.get(&skip.source);
    match splits.and_then(|splits| splits.get(&SplitId::partition(skip.split))) {
        None => Some(Fate::NoSplit),
        Some(at) => (at.next > Position(skip.position)).then_some(Fate::Past),
    }
}

fn passing(skip: &SkipPlan, source: &NodeName, raw: &RawBatch) -> Option<Fate> {
    if skip.source != *source {
        return None;
    }
    let (split, position) = (SplitId::partition(skip.split), Position(skip.position));
    let mut of_split = raw
        .records
        .iter()
        .filter(|record| raw.splits[record.split as usize] == split);
    if of_split.any(|record| record.position == position) {
        return Some(Fate::Skipped);
    }
    let mut reached = raw.reached.iter().filter(|r| r.split == split);
    reached
        .any(|r| r.position.next > position)
        .then_some(Fate::NotThere)
}

fn told(skip: &SkipPlan, fate: Fate) {
    let SkipPlan {
        source,
        split,
        position,
    } = skip;
    match fate {
        Fate::Skipped => {
            tracing::warn!(%source, split, position, "`skip`: the record becomes a dead letter");
        }
        Fate::NotThere => {
            tracing::warn!(%source, split, position, "`skip` names no record: the source has none there");
        }
        Fate::Past => {
            tracing::warn!(%source, split, position, "`skip` names a record that is passed already: take it out of the manifest");
        }
        Fate::NoSplit => {
            tracing::warn!(%source, split, position, "`skip` names no record: the source has no such split");
        }
    }
}

#[cfg(test)]
mod tests {
    use evp_core::position::{Micros, SplitPosition};
    use evp_core::record::{RawRecord, Reached};

    use super::*;

    fn orders() -> NodeName {
        NodeName::new("orders").unwrap()
    }

    fn skip(split: i32, position: i64) -> SkipPlan {
        SkipPlan {
            source: orders(),
            split,
            position,
        }
    }

    fn at(next: i64) -> SplitPosition {
        SplitPosition {
            next: Position(next),
            ..SplitPosition::default()
        }
    }

    /// Records of split 0 at these positions, after which it stands there.
    fn batch(positions: &[i64], next: i64) -> RawBatch {
        let record = |position: &i64| RawRecord {
            split: 0,
            position: Position(*position),
            timestamp: Micros(0),
            key: None,
            value: None,
        };
        let reached = Reached {
            split: SplitId::partition(0),
            position: at(next),
            end: None,
        };
        RawBatch {
            splits: vec![SplitId::partition(0)],
            records: positions.iter().map(record).collect(),
            reached: vec![reached],
            ..RawBatch::default()
        }
    }

    #[test]
    fn a_named_record_is_ahead_or_it_is_told_why_not() {
        let starts = [(orders(), [(SplitId::partition(0), at(5))].into())].into();
        let fates = [skip(0, 5), skip(0, 4), skip(1, 9)].map(|s| at_start(&s, &starts));
        assert_eq!(fates, [None, Some(Fate::Past), Some(Fate::NoSplit)]);
    }

    #[test]
    fn what_becomes_of_a_named_record_is_told_once() {
        let mut skips = Skips(vec![skip(0, 5), skip(0, 7), skip(0, 9), skip(1, 5)]);
        let raw = batch(&[4, 5, 8], 9);
        let fates: Vec<_> = skips
            .0
            .iter()
            .map(|s| passing(s, &orders(), &raw))
            .collect();
        let expected = [Some(Fate::Skipped), Some(Fate::NotThere), None, None];
        assert_eq!(fates, expected);
        skips.passed(&orders(), &raw);
        assert_eq!(skips.0, [skip(0, 9), skip(1, 5)]);
        skips.passed(&NodeName::new("others").unwrap(), &batch(&[9], 10));
        assert_eq!(skips.0.len(), 2);
    }
}
