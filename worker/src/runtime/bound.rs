//! Most records of an epoch: what the manifest says, and less while a record is looked for that kills (semantics 38).
//!
//! How much less is in the head ([`Care`]): a process that dies says nothing.

use evp_api::plan::NodeName;
use evp_core::protocol::care::{Care, Place};
use evp_core::record::RawBatch;

use super::poison;

/// Most records of the open epoch.
#[derive(Clone, Debug)]
pub(super) struct RecordBound {
    configured: u64,
    /// `None`: nothing is suspected.
    care: Option<Care>,
    /// The least of the bounds of the splits that the open epoch holds records of.
    open: u64,
    /// The record that the head says is computed alone.
    noted: Option<Place>,
}

impl RecordBound {
    /// `configured`: `None` where the manifest sets no bound.
    pub(super) fn new(configured: Option<u64>, care: Option<&Care>) -> Self {
        let configured = configured.unwrap_or(u64::MAX);
        Self {
            configured,
            care: care.cloned(),
            open: configured,
            noted: None,
        }
    }

    /// A new epoch opens.
    pub(super) fn opened(&mut self, care: Option<&Care>) {
        self.care = care.cloned();
        self.open = self.configured;
    }

    /// An epoch with so many records takes no more.
    pub(super) fn is_full(&self, records: u64) -> bool {
        records >= self.open
    }

    /// How many of the batch's first records the open epoch takes, which holds so many already. At least one of an empty one.
    pub(super) fn takes(&self, source: &NodeName, raw: &RawBatch, held: u64) -> usize {
        let (mut open, mut taken) = (self.open, 0);
        for record in &raw.records {
            open = open.min(self.of(source, raw, record.split));
            if held + taken as u64 >= open {
                break;
            }
            taken += 1;
        }
        taken
    }

    /// The epoch took these records in.
    pub(super) fn took(&mut self, source: &NodeName, raw: &RawBatch) {
        for record in &raw.records {
            self.open = self.open.min(self.of(source, raw, record.split));
        }
    }

    /// The batch's first record, if it may be what kills and the head does not say yet that it is computed now.
    pub(super) fn suspect(&self, source: &NodeName, raw: &RawBatch) -> Option<Place> {
        let care = self.care.as_ref()?;
        let first = raw.records.first()?;
        let (split, position) = poison::place(raw, 0);
        let place = Place {
            source: source.clone(),
            split,
            position,
        };
        let alone = care.bound(source, &raw.splits[first.split as usize]) == 1;
        (alone && self.noted.as_ref() != Some(&place)).then_some(place)
    }

    /// The head says that this record is computed alone.
    pub(super) fn noted(&mut self, record: Place) {
        self.noted = Some(record);
    }

    fn of(&self, source: &NodeName, raw: &RawBatch, split: u32) -> u64 {
        let split = &raw.splits[split as usize];
        let care = self.care.as_ref();
        care.map_or(u64::MAX, |care| care.bound(source, split))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evp_core::position::{Micros, Position, SplitId};
    use evp_core::protocol::care::Trust;
    use evp_core::record::RawRecord;

    use super::*;

    fn source() -> NodeName {
        NodeName::new("orders").unwrap()
    }

    /// A batch of records of these splits, in this order.
    fn batch(splits: &[u32]) -> RawBatch {
        let record = |(position, split): (i64, &u32)| RawRecord {
            split: *split,
            position: Position(position),
            timestamp: Micros(0),
            key: None,
            value: None,
        };
        RawBatch {
            splits: (0..2).map(SplitId::partition).collect(),
            records: (0..).zip(splits).map(record).collect(),
            ..RawBatch::default()
        }
    }

    /// Bounds of the first split and of the second.
    fn care(others: u64, most: u64) -> Care {
        let trust = Trust { most, passed: true };
        let splits = BTreeMap::from([(SplitId::partition(1), trust)]);
        Care {
            others,
            splits: [(source(), splits)].into(),
            calm: 0,
            alone: Vec::new(),
        }
    }

    #[test]
    fn an_epoch_takes_no_more_than_any_of_its_splits_allows() {
        let bound = RecordBound::new(Some(5), Some(&care(2, 4)));
        let takes = |splits: &[u32], held| bound.takes(&source(), &batch(splits), held);
        assert_eq!(
            [takes(&[0; 9], 0), takes(&[0; 9], 1), takes(&[0; 9], 2)],
            [2, 1, 0]
        );
        assert_eq!(
            [
                takes(&[1; 9], 0),
                takes(&[1, 1, 0, 0], 0),
                takes(&[1, 0, 0], 0)
            ],
            [4, 2, 2]
        );
        assert_eq!(
            RecordBound::new(Some(5), None).takes(&source(), &batch(&[0; 9]), 2),
            3
        );
    }

    #[test]
    fn what_an_epoch_holds_binds_what_it_takes_next() {
        let mut bound = RecordBound::new(None, Some(&care(2, 4)));
        bound.took(&source(), &batch(&[0]));
        assert!(!bound.is_full(1) && bound.is_full(2));
        assert_eq!(bound.takes(&source(), &batch(&[1; 9]), 1), 1);
        bound.opened(Some(&care(2, 4)));
        assert!(!bound.is_full(3));
    }

    #[test]
    fn a_record_that_may_kill_is_suspect_until_the_head_says_so() {
        let mut bound = RecordBound::new(None, Some(&care(1, 4)));
        let suspect = bound.suspect(&source(), &batch(&[0, 1])).unwrap();
        assert_eq!(
            (suspect.split.0.as_str(), suspect.position),
            ("0", Position(0))
        );
        bound.noted(suspect);
        assert_eq!(bound.suspect(&source(), &batch(&[0, 1])), None);
        assert_eq!(bound.suspect(&source(), &batch(&[1, 0])), None);
        assert_eq!(
            RecordBound::new(None, None).suspect(&source(), &batch(&[0])),
            None
        );
    }
}
