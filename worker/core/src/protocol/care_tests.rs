use super::*;
use crate::position::{Epoch, SplitPosition};

fn source() -> NodeName {
    NodeName::new("orders").unwrap()
}

fn split(number: i32) -> SplitId {
    SplitId::partition(number)
}

fn record(number: i32, position: i64) -> Place {
    Place {
        source: source(),
        split: split(number),
        position: Position(position),
    }
}

/// A body whose splits stand here.
fn at(positions: &[i64]) -> Body {
    let stand = |(number, next): (i32, &i64)| {
        let at = SplitPosition {
            next: Position(*next),
            ..SplitPosition::default()
        };
        (split(number), at)
    };
    Body {
        epoch: Epoch(1),
        positions: [(source(), (0..).zip(positions).map(stand).collect())].into(),
        ..Body::blank()
    }
}

/// A lane whose processes die on a record, and what the head says after each.
struct Lane0 {
    owner: Owner,
    positions: Vec<i64>,
    deaths: u32,
}

impl Lane0 {
    fn new(splits: usize) -> Self {
        Self {
            owner: Owner::first("pod"),
            positions: vec![0; splits],
            deaths: 0,
        }
    }

    fn dies(&mut self, configured: u64) {
        self.deaths += 1;
        self.owner = self.owner.taken_by("pod").after_death(configured);
    }

    /// Most records of the next epoch, if it reads this split alone.
    fn bound(&self, number: i32) -> u64 {
        let care = self.owner.care.as_ref();
        care.map_or(u64::MAX, |c| c.bound(&source(), &split(number)))
    }

    fn decides(&mut self, number: usize, records: i64) {
        let last = at(&self.positions);
        self.positions[number] += records;
        self.owner = self.owner.after_epoch(&last, &at(&self.positions));
    }
}

#[test]
fn rule_38_each_death_without_an_epoch_halves_the_next_one_down_to_one_record() {
    let mut lane = Lane0::new(1);
    let mut seen = Vec::new();
    for _ in 0..17 {
        lane.dies(5000);
        seen.push(lane.bound(0));
    }
    let halved = [2500, 1250, 625, 312, 156, 78, 39, 19, 9, 4, 2, 1, 1, 1, 1];
    assert_eq!(seen[..2], [u64::MAX; 2]);
    assert_eq!(seen[2..], halved);
}

#[test]
fn rule_38_what_was_learnt_outlives_the_epochs_decided_before_the_record() {
    let mut lane = Lane0::new(1);
    (0..5).for_each(|_| lane.dies(u64::MAX));
    assert_eq!(lane.bound(0), 1024);
    lane.decides(0, 1024);
    // The half that is left may hold it: no larger epoch is tried.
    assert_eq!((lane.bound(0), lane.owner.takeovers), (1024, 0));
    lane.dies(u64::MAX);
    assert_eq!(lane.bound(0), 1024);
    lane.dies(u64::MAX);
    assert_eq!(lane.bound(0), 512);
}

#[test]
fn rule_38_processes_that_die_of_something_else_while_all_splits_move_on_leave_the_bounds_alone() {
    let mut lane = Lane0::new(2);
    (0..6).for_each(|_| lane.dies(u64::MAX));
    for _ in 0..30 {
        lane.decides(0, 1);
        lane.decides(1, 1);
        lane.decides(1, 1);
        lane.dies(u64::MAX);
    }
    assert_eq!((lane.bound(0), lane.bound(1)), (512, u64::MAX));
}

#[test]
fn rule_38_decided_epochs_lead_back_to_the_manifests_bound() {
    let mut lane = Lane0::new(1);
    (0..20).for_each(|_| lane.dies(u64::MAX));
    let mut seen = Vec::new();
    while lane.bound(0) < u64::MAX {
        seen.push(lane.bound(0));
        lane.decides(0, 1);
    }
    let doubled: Vec<_> = std::iter::once(1).chain((0..13).map(|n| 1 << n)).collect();
    assert_eq!(seen, doubled);
    // Other splits may be read first by each process, so that nothing else would tell that it dies again.
    lane.dies(u64::MAX);
    lane.dies(u64::MAX);
    assert_eq!(lane.bound(0), 4096);
}

/// Wherever the record stands, and whatever other splits are read first by each process: it is found, after few deaths.
#[test]
fn rule_38_a_record_that_kills_is_computed_alone_whatever_else_is_read_first() {
    for killer in [0, 1, 2, 7, 100, 4095, 4096, 8191, 20_000] {
        for others_first in [0, 1, 5, 40] {
            let mut lane = Lane0::new(2);
            // Nothing is suspected as long as each process decides an epoch, of whatever.
            (0..3).for_each(|_| lane.dies(u64::MAX));
            let alone = loop {
                for _ in 0..others_first {
                    let most = lane.bound(1).min(8192);
                    lane.decides(1, i64::try_from(most).unwrap());
                }
                let most = i64::try_from(lane.bound(0).min(8192)).unwrap();
                let left = killer - lane.positions[0];
                if left >= most {
                    lane.decides(0, most);
                } else if most == 1 {
                    break left == 0;
                } else {
                    lane.dies(u64::MAX);
                }
                assert!(lane.deaths < 45, "{killer} {others_first}");
            };
            assert!(alone, "{killer} {others_first}");
            println!("{killer} {others_first}: {} deaths", lane.deaths);
        }
    }
}

#[test]
fn rule_38_a_pod_computes_a_record_alone_three_times_and_a_new_pod_again() {
    let mut care = Care::first(2);
    for times in 1..=DEATHS {
        care = care.computing(&record(0, 7), "a").unwrap();
        assert_eq!(care.alone.last().unwrap().times, times);
        // Others are computed alone in between.
        care = care.computing(&record(1, 3), "b").unwrap().after_death();
    }
    assert_eq!(care.computing(&record(0, 7), "a"), Err(DEATHS));
    assert!(care.computing(&record(0, 7), "c").is_ok());
    assert!(care.computing(&record(0, 8), "a").is_ok());
    let passed = care.after_epoch(&at(&[7, 3]), &at(&[8, 3])).unwrap();
    let left: Vec<_> = passed.alone.iter().map(|a| &a.record).collect();
    assert_eq!(left, [&record(1, 3)]);
}

#[test]
fn rule_38_what_is_suspected_is_forgotten_after_so_many_epochs_without_a_death() {
    let mut lane = Lane0::new(2);
    (0..20).for_each(|_| lane.dies(u64::MAX));
    for _ in 0..CALM - 1 {
        lane.decides(0, 1);
    }
    assert_eq!((lane.bound(0), lane.bound(1)), (u64::MAX, 1));
    lane.decides(0, 1);
    assert_eq!(lane.owner.care, None);
}
