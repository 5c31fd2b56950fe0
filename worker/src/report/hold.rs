//! Why a source's watermark stands where it stands.

use std::collections::BTreeSet;

use evp_api::plan::SourcePlan;
use evp_api::progress::{Release, SourceProgress, WatermarkHold};
use evp_core::position::{Micros, SplitId};
use evp_core::watermark::Snapshot;

use super::Moving;

/// Writes what holds the watermark and what lets it go on into a source's progress.
pub(super) fn tell(
    told: &mut SourceProgress,
    (source, snapshot): (&SourcePlan, &Snapshot),
    moving: &Moving<'_>,
    idle: &BTreeSet<SplitId>,
) {
    let Some(watermark) = &source.watermark else {
        return;
    };
    let holder = snapshot.holder(idle);
    let committed = moving.committed.get(&source.name);
    let idle_in = holder.zip(committed).and_then(|(split, committed)| {
        let of = (&source.name, split);
        moving.activity.idle_in(of, committed, moving.polled)
    });
    let delay = Micros::from(watermark.delay).0;
    told.held_by = holder.map(|split| format!("partition {split}"));
    told.hold = Some(WatermarkHold {
        since: snapshot.since.map(|since| since.0),
        release: match (holder, idle_in) {
            (None, _) => Release::AnyRecord,
            (Some(_), None) => Release::Backlog,
            (Some(_), Some(_)) => Release::Record,
        },
        newer_than: snapshot.watermark.map(|w| w.0.saturating_add(delay)),
        idle_in: idle_in.map(|time| Micros::from(time).0),
    });
}

#[cfg(test)]
mod tests {
    use evp_core::position::{Position, SplitPosition, SplitPositions};
    use evp_core::record::Reached;

    use std::time::Duration;

    use super::*;
    use crate::activity::Activity;

    const SECOND: i64 = 1_000_000;

    /// Orders in two partitions, each read up to its end and committed up to here; the second has never had a record that
    /// counts.
    fn told(committed: [(i64, i64); 2], idle: &[i32]) -> SourceProgress {
        let split = SplitId::partition;
        let checked = super::super::tests::checked();
        let source = &checked.plan.sources[0];
        let at = |next| SplitPosition {
            next: Position(next),
            ..SplitPosition::default()
        };
        let mut activity = Activity::default();
        let timeout = source.watermark.as_ref().map(|w| w.idle_timeout);
        activity.watch(&source.name, timeout, &SplitPositions::new());
        let mut positions = SplitPositions::new();
        for (n, (next, end)) in (0..).zip(committed) {
            let reached = Reached {
                split: split(n),
                position: at(end),
                end: Some(Position(end)),
            };
            activity.reached(&source.name, &[reached], Duration::from_secs(5));
            positions.insert(split(n), at(next));
        }
        let snapshot = Snapshot {
            watermark: Some(Micros(SECOND)),
            splits: [(split(0), Some(Micros(9 * SECOND))), (split(1), None)].into(),
            since: Some(Micros(3)),
            newest: None,
        };
        let mut told = SourceProgress::default();
        let idle = idle.iter().map(|&n| split(n)).collect();
        let watermarks = [(source.name.clone(), snapshot)].into();
        let moving = Moving {
            checked: &checked,
            activity: &activity,
            polled: Duration::from_secs(15),
            committed: &[(source.name.clone(), positions)].into(),
            watermarks: &watermarks,
        };
        tell(
            &mut told,
            (source, &watermarks[&source.name]),
            &moving,
            &idle,
        );
        told
    }

    #[test]
    fn a_split_that_holds_the_watermark_is_named_with_what_releases_it() {
        let check = |told: SourceProgress, by: Option<&str>, release, idle_in: Option<i64>| {
            let hold = told.hold.unwrap();
            assert_eq!(told.held_by.as_deref(), by);
            assert_eq!((hold.release, hold.idle_in), (release, idle_in));
            assert_eq!(hold.since, Some(3));
            // The watermark, and the ten minutes that it stays behind.
            assert_eq!(hold.newer_than, Some(601 * SECOND));
        };
        let second = Some("partition 1");
        check(told([(5, 5), (0, 7)], &[]), second, Release::Backlog, None);
        let fifty = Some(50 * SECOND);
        check(told([(5, 5), (7, 7)], &[]), second, Release::Record, fifty);
        let first = Some("partition 0");
        check(told([(5, 8), (7, 7)], &[1]), first, Release::Backlog, None);
        check(
            told([(5, 5), (7, 7)], &[0, 1]),
            None,
            Release::AnyRecord,
            None,
        );
    }
}
