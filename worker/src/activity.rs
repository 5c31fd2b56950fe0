//! Where each split stands against its end: lag, whether everything is read, and which splits are idle (semantics 8).
//!
//! Idleness is counted on a clock that runs only while the source could be polled: a worker that is busy committing has
//! not seen that a split is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evp_api::plan::NodeName;
use evp_core::position::{Position, Positions, SplitId, SplitPositions};
use evp_core::record::Reached;

/// Splits of all sources.
#[derive(Debug, Default)]
pub struct Activity {
    sources: BTreeMap<NodeName, Splits>,
}

#[derive(Debug)]
struct Splits {
    idle_timeout: Option<Duration>,
    splits: BTreeMap<SplitId, Split>,
}

#[derive(Debug, Default)]
struct Split {
    position: Position,
    end: Option<Position>,
    /// Polled time at which it was first seen at its end, without a record since. `None`: it is not at its end.
    quiet_since: Option<Duration>,
}

impl Activity {
    /// Starts to watch a source. `idle_timeout`: `None` where the source has no watermark.
    pub fn watch(
        &mut self,
        source: &NodeName,
        idle_timeout: Option<Duration>,
        start: &SplitPositions,
    ) {
        let splits = start
            .iter()
            .map(|(id, at)| {
                (
                    id.clone(),
                    Split {
                        position: at.next,
                        ..Split::default()
                    },
                )
            })
            .collect();
        self.sources.insert(
            source.clone(),
            Splits {
                idle_timeout,
                splits,
            },
        );
    }

    /// Takes in what a batch reached. `polled`: time for which the source could be polled so far.
    pub fn reached(&mut self, source: &NodeName, reached: &[Reached], polled: Duration) {
        let Some(splits) = self.sources.get_mut(source) else {
            return;
        };
        for r in reached {
            let split = splits.splits.entry(r.split.clone()).or_default();
            let moved = r.position.next != split.position;
            split.position = r.position.next;
            split.end = r.end.or(split.end);
            if split.end != Some(split.position) {
                split.quiet_since = None;
            } else if moved || split.quiet_since.is_none() {
                split.quiet_since = Some(polled);
            }
        }
    }

    /// A source cannot be asked: where its splits end is not known, and none of them was seen to be quiet.
    pub fn lost(&mut self, source: &NodeName) {
        let splits = self.sources.get_mut(source);
        for split in splits.into_iter().flat_map(|s| s.splits.values_mut()) {
            (split.end, split.quiet_since) = (None, None);
        }
    }

    /// Splits that were at their end for the source's idle timeout.
    pub fn idle(&self, polled: Duration) -> BTreeMap<NodeName, BTreeSet<SplitId>> {
        let idle = |splits: &Splits, split: &Split| match (splits.idle_timeout, split.quiet_since) {
            (Some(timeout), Some(since)) => polled.saturating_sub(since) >= timeout,
            _ => false,
        };
        let of_source = |splits: &Splits| {
            splits
                .splits
                .iter()
                .filter(|(_, split)| idle(splits, split))
                .map(|(id, _)| id.clone())
                .collect()
        };
        self.sources
            .iter()
            .map(|(name, splits)| (name.clone(), of_source(splits)))
            .collect()
    }

    /// For how long a split must still be polled in vain before it is idle. `None`: it has records that are not committed, or
    /// its source has no watermark.
    pub fn idle_in(
        &self,
        (source, split): (&NodeName, &SplitId),
        committed: &SplitPositions,
        polled: Duration,
    ) -> Option<Duration> {
        let splits = self.sources.get(source)?;
        let at = splits.splits.get(split)?;
        let waits = committed.get(split).map(|c| c.next) != at.end;
        let quiet = polled.saturating_sub(at.quiet_since.filter(|_| !waits)?);
        Some(splits.idle_timeout?.saturating_sub(quiet))
    }

    /// Records of a source between these positions and its end; splits whose end is not known count nothing.
    pub fn lag(&self, source: &NodeName, committed: &SplitPositions) -> i64 {
        let Some(splits) = self.sources.get(source) else {
            return 0;
        };
        let behind = |(id, split): (&SplitId, &Split)| {
            let at = committed.get(id).map_or(split.position, |at| at.next);
            split.end.map_or(0, |end| (end.0 - at.0).max(0))
        };
        splits.splits.iter().map(behind).sum()
    }

    /// The split stands where its end was last seen.
    pub fn at_end(&self, source: &NodeName, split: &SplitId) -> bool {
        let split = self.sources.get(source).and_then(|s| s.splits.get(split));
        split.is_some_and(|split| split.end == Some(split.position))
    }

    /// Every split's end is known and committed.
    pub fn caught_up(&self, committed: &Positions) -> bool {
        self.sources.iter().all(|(name, splits)| {
            splits.splits.iter().all(|(id, split)| {
                let at = committed
                    .get(name)
                    .and_then(|of| of.get(id))
                    .map(|at| at.next);
                at.is_some() && at == split.end
            })
        })
    }

    /// Number of splits of a source.
    pub fn splits(&self, source: &NodeName) -> usize {
        self.sources
            .get(source)
            .map_or(0, |splits| splits.splits.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evp_core::position::SplitPosition;

    fn source() -> NodeName {
        NodeName::new("orders").unwrap()
    }

    fn at(next: i64) -> SplitPosition {
        SplitPosition {
            next: Position(next),
            ..SplitPosition::default()
        }
    }

    fn reach(position: i64, end: i64) -> [Reached; 1] {
        [Reached {
            split: SplitId::partition(0),
            position: at(position),
            end: Some(Position(end)),
        }]
    }

    fn watched() -> Activity {
        let mut activity = Activity::default();
        let start = SplitPositions::from([(SplitId::partition(0), at(0))]);
        activity.watch(&source(), Some(Duration::from_mins(1)), &start);
        activity
    }

    fn idle(activity: &Activity, polled: u64) -> usize {
        activity.idle(Duration::from_secs(polled))[&source()].len()
    }

    #[test]
    fn rule_8_a_split_is_idle_once_it_was_at_its_end_for_the_timeout() {
        let mut activity = watched();
        activity.reached(&source(), &reach(5, 5), Duration::from_secs(10));
        assert_eq!(idle(&activity, 69), 0);
        assert_eq!(idle(&activity, 70), 1);
    }

    #[test]
    fn rule_8_a_split_below_its_high_watermark_is_not_idle() {
        let mut activity = watched();
        activity.reached(&source(), &reach(5, 5), Duration::from_secs(0));
        activity.reached(&source(), &reach(5, 6), Duration::from_secs(50));
        assert_eq!(idle(&activity, 600), 0);
    }

    #[test]
    fn rule_8_a_record_starts_the_timeout_anew() {
        let mut activity = watched();
        activity.reached(&source(), &reach(5, 5), Duration::from_secs(0));
        activity.reached(&source(), &reach(6, 6), Duration::from_secs(50));
        assert_eq!(idle(&activity, 109), 0);
        assert_eq!(idle(&activity, 110), 1);
    }

    #[test]
    fn rule_8_a_time_in_which_a_source_could_not_be_asked_makes_no_split_idle() {
        let mut activity = watched();
        activity.reached(&source(), &reach(5, 5), Duration::from_secs(0));
        activity.lost(&source());
        assert_eq!(idle(&activity, 600), 0);
        let unknown = Reached {
            end: None,
            ..reach(5, 5)[0].clone()
        };
        activity.reached(&source(), &[unknown], Duration::from_mins(10));
        assert_eq!(idle(&activity, 900), 0);
        activity.reached(&source(), &reach(5, 5), Duration::from_mins(15));
        assert_eq!(idle(&activity, 959), 0);
        assert_eq!(idle(&activity, 960), 1);
    }

    #[test]
    fn lag_counts_from_the_committed_position_to_the_end() {
        let mut activity = watched();
        activity.reached(&source(), &reach(5, 9), Duration::ZERO);
        let committed = SplitPositions::from([(SplitId::partition(0), at(2))]);
        assert_eq!(activity.lag(&source(), &committed), 7);
        assert!(!activity.caught_up(&Positions::from([(source(), committed)])));
        let all = SplitPositions::from([(SplitId::partition(0), at(9))]);
        assert!(activity.caught_up(&Positions::from([(source(), all)])));
    }
}
