//! A source that hands out what a script says, in place of what a manifest reads: for tests of a pipeline.
//!
//! The script comes in parts. A part is read as a whole, then the watermark is promised to its time, and nothing of the next
//! part is handed over before an epoch that holds both was vouched for: so an epoch is decided between two parts. A promise takes a
//! position in every split, as a control record of a log does, and a start from any positions goes on as if there had been
//! no end. Ends of splits are not told, so that no split is ever idle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evp_api::plan::NodeName;
use evp_core::files::{Place, Progress, SourceFile};
use evp_core::position::{Micros, Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::{Promise, RawBatch, RawRecord, Reached};

use super::{Budget, Source, SourceError};
use crate::clock::SharedClock;

/// Scripts by source.
pub type Scripts = BTreeMap<NodeName, Arc<Script>>;

/// What a source hands out.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Numbers of its partitions.
    pub partitions: Vec<i32>,
    /// One after the other.
    pub parts: Vec<Part>,
    /// The file that the records are said to stand in; `None`: the source reads no files.
    pub file: Option<Arc<SourceFile>>,
    /// Most records of a batch.
    pub most: usize,
}

/// Records between two promises.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// In the order in which they are handed out; those of a partition are in its order.
    pub records: Vec<Record>,
    /// Nothing older follows; `None`: that is not said, and nothing follows.
    pub advance_to: Option<Micros>,
}

/// One record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// One of the script's.
    pub partition: i32,
    /// Its bytes; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// `None`: it has no key.
    pub key: Option<Vec<u8>>,
    /// Time that the source gives it.
    pub timestamp: Micros,
    /// Its line, where records stand in a file.
    pub line: u64,
}

impl Script {
    /// Positions of each split at the end of so many parts.
    fn after(&self, parts: usize) -> BTreeMap<i32, i64> {
        let mut ends: BTreeMap<i32, i64> = self.partitions.iter().map(|&p| (p, 0)).collect();
        for part in &self.parts[..parts] {
            for record in &part.records {
                *ends.entry(record.partition).or_default() += 1;
            }
            let promise = i64::from(part.advance_to.is_some());
            ends.values_mut().for_each(|end| *end += promise);
        }
        ends
    }

    fn batch(&self) -> RawBatch {
        let partitions = self.partitions.iter();
        let mut batch = RawBatch {
            splits: partitions.map(|&p| SplitId::partition(p)).collect(),
            ..RawBatch::default()
        };
        batch.in_files.files.extend(self.file.clone());
        batch
    }

    /// Every record, as if it had been read at once.
    pub(crate) fn all(&self) -> RawBatch {
        let mut batch = self.batch();
        for record in self.parts.iter().flat_map(|part| &part.records) {
            add(&mut batch, record, 0, self);
        }
        batch
    }
}

/// A source with a script.
pub struct ScriptedSource {
    script: Arc<Script>,
    /// Positions at the end of so many parts.
    ends: Vec<BTreeMap<i32, i64>>,
    clock: SharedClock,
    next: BTreeMap<i32, i64>,
    /// What was vouched for.
    vouched: BTreeMap<i32, i64>,
}

impl ScriptedSource {
    /// Hands out nothing before [`Source::seek`].
    pub fn new(script: Arc<Script>, clock: SharedClock) -> Self {
        Self {
            ends: (0..=script.parts.len()).map(|n| script.after(n)).collect(),
            script,
            clock,
            next: BTreeMap::new(),
            vouched: BTreeMap::new(),
        }
    }

    /// The part that is not handed out yet, if its turn has come.
    fn due(&self) -> Option<usize> {
        let reached = |at: &BTreeMap<i32, i64>, ends: &BTreeMap<i32, i64>| {
            let at = |split| at.get(split).copied().unwrap_or_default();
            ends.iter().all(|(split, end)| at(split) >= *end)
        };
        let parts = 0..self.script.parts.len();
        let part = parts
            .into_iter()
            .find(|part| !reached(&self.next, &self.ends[part + 1]))?;
        reached(&self.vouched, &self.ends[part]).then_some(part)
    }

    /// As much of a part as there is room for, and with its last record what it promises.
    fn take(&mut self, number: usize, budget: Budget) -> RawBatch {
        let script = Arc::clone(&self.script);
        let part = &script.parts[number];
        let mut batch = script.batch();
        let mut at = self.ends[number].clone();
        let most = budget.records.min(script.most).max(1);
        for record in &part.records {
            let position = at.entry(record.partition).or_default();
            let next = self.next.entry(record.partition).or_default();
            if *position >= *next {
                let held = batch.bytes.len() + record.value.as_ref().map_or(0, Vec::len);
                let full = batch.records.len() >= most || held > budget.bytes;
                if full && !batch.records.is_empty() {
                    batch.reached = self.reached();
                    return batch;
                }
                add(&mut batch, record, *position, &script);
                *next = *position + 1;
            }
            *position += 1;
        }
        if let Some(time) = part.advance_to {
            let promise = |split: &SplitId| Promise {
                split: split.clone(),
                time,
            };
            batch.promises = batch.splits.iter().map(promise).collect();
            self.next.clone_from(&self.ends[number + 1]);
        }
        batch.reached = self.reached();
        batch
    }

    fn reached(&self) -> Vec<Reached> {
        let reached = |(&split, &next): (&i32, &i64)| Reached {
            split: SplitId::partition(split),
            position: position(next),
            end: None,
        };
        self.next.iter().map(reached).collect()
    }
}

fn add(batch: &mut RawBatch, record: &Record, position: i64, script: &Script) {
    let key = record.key.as_deref().map(|bytes| batch.hold(bytes));
    let value = record.value.as_deref().map(|bytes| batch.hold(bytes));
    let mut partitions = script.partitions.iter();
    let split = partitions.position(|p| *p == record.partition);
    batch.records.push(RawRecord {
        split: u32::try_from(split.unwrap_or_default()).unwrap_or_default(),
        position: Position(position),
        timestamp: record.timestamp,
        key,
        value,
    });
    if script.file.is_some() {
        let rows = u64::try_from(position + 1).unwrap_or_default();
        batch.in_files.places.push(Place {
            file: 0,
            line: record.line,
            after: Progress {
                rows,
                lines: record.line,
                offset: rows,
                done: false,
            },
        });
    }
}

fn position(next: i64) -> SplitPosition {
    SplitPosition {
        next: Position(next),
        ..SplitPosition::default()
    }
}

fn positions(ends: BTreeMap<i32, i64>) -> SplitPositions {
    ends.into_iter()
        .map(|(split, end)| (SplitId::partition(split), position(end)))
        .collect()
}

fn numbered(positions: &SplitPositions) -> BTreeMap<i32, i64> {
    let number = |(split, at): (&SplitId, &SplitPosition)| Some((split.as_partition()?, at.next.0));
    positions.iter().filter_map(number).collect()
}

#[async_trait]
impl Source for ScriptedSource {
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let mut all = positions(self.ends[0].clone());
        all.retain(|split, _| known.is_none_or(|known| !known.contains_key(split)));
        Ok(all)
    }

    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        self.next = numbered(positions);
        self.vouched.clone_from(&self.next);
        Ok(())
    }

    async fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        if let Some(part) = self.due() {
            return Ok(self.take(part, budget));
        }
        self.clock.sleep(wait).await;
        Ok(RawBatch::default())
    }

    async fn vouch(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        self.vouched = numbered(positions);
        Ok(())
    }

    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError> {
        Ok(positions(self.ends.last().cloned().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::{BEGIN, VirtualClock, block_on};

    const BUDGET: Budget = Budget {
        records: 100,
        bytes: 1 << 20,
    };

    fn record(partition: i32, value: &str) -> Record {
        Record {
            partition,
            value: Some(value.as_bytes().to_vec()),
            key: None,
            timestamp: Micros(0),
            line: 1,
        }
    }

    /// Two partitions; a promise after three records, then one more record.
    fn script(most: usize) -> Arc<Script> {
        Arc::new(Script {
            partitions: vec![0, 1],
            parts: vec![
                Part {
                    records: [(0, "a"), (1, "b"), (0, "c")]
                        .map(|(p, v)| record(p, v))
                        .into(),
                    advance_to: Some(Micros(7)),
                },
                Part {
                    records: vec![record(1, "d")],
                    advance_to: None,
                },
            ],
            file: None,
            most,
        })
    }

    fn at(ends: [i64; 2]) -> SplitPositions {
        positions([(0, ends[0]), (1, ends[1])].into())
    }

    /// Values of a batch, positions that it reached, whether it promises.
    type Told = (Vec<String>, Vec<i64>, bool);

    fn told(batch: &RawBatch) -> Told {
        let text = |r| String::from_utf8(batch.value(r).unwrap().to_vec()).unwrap();
        (
            batch.records.iter().map(text).collect(),
            batch.reached.iter().map(|r| r.position.next.0).collect(),
            !batch.promises.is_empty(),
        )
    }

    /// What so many polls give from these positions on; before the last one these are vouched for.
    fn polled(from: [i64; 2], most: usize, polls: usize, vouched: Option<[i64; 2]>) -> Vec<Told> {
        let clock = Arc::new(VirtualClock::new(BEGIN, Duration::from_hours(1)));
        let mut source = ScriptedSource::new(script(most), clock.clone());
        let polls = block_on(&clock, async {
            source.seek(&at(from)).await.unwrap();
            let mut all = Vec::new();
            for poll in 1..=polls {
                if let Some(vouched) = vouched.filter(|_| poll == polls) {
                    source.vouch(&at(vouched)).await.unwrap();
                }
                all.push(told(
                    &source.poll(BUDGET, Duration::from_secs(1)).await.unwrap(),
                ));
            }
            all
        });
        polls.unwrap().unwrap()
    }

    fn expected(values: &[&str], reached: &[i64], promises: bool) -> Told {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        (values, reached.to_vec(), promises)
    }

    #[test]
    fn what_follows_a_promise_waits_until_the_promise_is_vouched_for() {
        let first = expected(&["a", "b", "c"], &[3, 2], true);
        let nothing = expected(&[], &[], false);
        let last = expected(&["d"], &[3, 3], false);
        let short = polled([0, 0], 9, 2, Some([2, 1]));
        assert_eq!(short, [first.clone(), nothing]);
        assert_eq!(polled([0, 0], 9, 2, Some([3, 2])), [first, last]);
    }

    #[test]
    fn a_source_that_begins_anywhere_hands_out_what_is_left_and_promises_again() {
        assert_eq!(polled([3, 1], 9, 1, None), [expected(&[], &[3, 2], true)]);
        assert_eq!(
            polled([1, 2], 9, 1, None),
            [expected(&["c"], &[3, 2], true)]
        );
        assert_eq!(
            polled([3, 2], 9, 1, None),
            [expected(&["d"], &[3, 3], false)]
        );
        assert_eq!(polled([3, 3], 9, 1, None), [expected(&[], &[], false)]);
    }

    #[test]
    fn a_part_in_several_batches_promises_with_its_last() {
        assert_eq!(
            polled([0, 0], 2, 2, None),
            [
                expected(&["a", "b"], &[1, 1], false),
                expected(&["c"], &[3, 2], true)
            ]
        );
    }
}
