//! Laws of [`Reader`] over a log in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use evp_core::position::{Micros, Position, SplitId, SplitPosition};

use super::*;
use crate::clock::Clock;
use crate::source::{Source, share};

/// A clock that jumps to the end of every wait.
#[derive(Default)]
struct Leaping(Mutex<Duration>);

#[async_trait]
impl Clock for Leaping {
    fn now(&self) -> Micros {
        Micros(0)
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
        tokio::task::yield_now().await;
    }
}

/// Number of the log's splits from each instant on; each starts at position 7 and a poll moves all that are assigned by one.
struct Log {
    clock: SharedClock,
    grows: BTreeMap<Duration, i32>,
    assigned: SplitPositions,
}

fn at(next: i64) -> SplitPosition {
    SplitPosition {
        next: Position(next),
        ..SplitPosition::default()
    }
}

#[async_trait]
impl Source for Log {
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let grown = self.grows.range(..=self.clock.elapsed()).next_back();
        let there = (0..grown.map_or(0, |(_, n)| *n)).map(SplitId::partition);
        let new = there.filter(|id| known.is_none_or(|k| !k.contains_key(id)));
        Ok(new.map(|id| (id, at(7))).collect())
    }

    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        self.assigned.clone_from(positions);
        Ok(())
    }

    async fn poll(&mut self, _: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        self.clock.sleep(wait).await;
        let moved = self.assigned.iter_mut().map(|(split, position)| {
            position.next.0 += 1;
            Reached {
                split: split.clone(),
                position: position.clone(),
                end: None,
            }
        });
        Ok(RawBatch {
            reached: moved.collect(),
            ..RawBatch::default()
        })
    }

    async fn vouch(&mut self, _: &SplitPositions) -> Result<(), SourceError> {
        Ok(())
    }

    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError> {
        Ok(SplitPositions::new())
    }
}

#[tokio::test]
async fn rule_24_a_split_found_later_is_read_from_its_start_and_the_others_go_on() {
    let clock: SharedClock = Arc::new(Leaping::default());
    let (batches, mut reads) = mpsc::channel(READ_AHEAD);
    let first = SplitPositions::from([(SplitId::partition(0), at(100))]);
    let grows = [(Duration::ZERO, 1), (Duration::from_secs(10), 2)];
    let reader = Reader {
        name: NodeName::new("orders").unwrap(),
        source: share(Box::new(Log {
            clock: clock.clone(),
            grows: grows.into(),
            assigned: SplitPositions::new(),
        })),
        positions: first,
        budget: Budget {
            records: 1,
            bytes: 1,
        },
        batches,
        clock: clock.clone(),
        crash: CrashPoints::none(),
    };
    let stop = CancellationToken::new();
    let mut seen: BTreeMap<SplitId, Vec<i64>> = BTreeMap::new();
    let reading = async {
        while let Some(Read::Batch(_, batch)) = reads.recv().await {
            for reached in batch.reached {
                let positions = seen.entry(reached.split).or_default();
                positions.push(reached.position.next.0);
            }
            if seen
                .get(&SplitId::partition(1))
                .is_some_and(|p| p.len() == 3)
            {
                stop.cancel();
            }
        }
    };
    tokio::join!(reader.run(stop.clone()), reading);
    assert_eq!(seen[&SplitId::partition(1)][..3], [7, 8, 9]);
    let steady: Vec<i64> = (101..).take(seen[&SplitId::partition(0)].len()).collect();
    assert_eq!(seen[&SplitId::partition(0)], steady);
    assert!(clock.elapsed() >= LOOK_EVERY);
}
