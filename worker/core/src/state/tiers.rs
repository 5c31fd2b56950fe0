//! Which runs of a bucket's files stay when a change is written, and which are written anew with it.
//!
//! A bucket's first run holds all its rows (the base), each later one the rows that changed after the run before it. A change
//! is a run of tier 0; the eighth of a tier takes the seven before it in and is of the next tier; beyond 30 % of the base all
//! rows become a new base. So a byte that changes is written at most once a tier and 4 1/3 times as part of a base, and what
//! does not change is not written again. A run always takes in the newest ones: that its rows changed after the run before it
//! is all there is to know.

use crate::protocol::head::Run;

/// Runs of a tier that make one of the next.
const FAN: usize = 8;

/// What to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    /// The oldest runs, which stay as they are. 0: a new base is written.
    pub(crate) kept: usize,
    /// Tier of the run that is written in place of the others.
    pub(crate) tier: u8,
}

/// Bytes that a change may have without a new base.
pub(crate) fn most(runs: &[Run]) -> u64 {
    let Some((base, deltas)) = runs.split_first() else {
        return 0;
    };
    let deltas: u64 = deltas.iter().map(Run::bytes).sum();
    (base.bytes() / 10 * 3).saturating_sub(deltas)
}

/// Decides what is written with a change of so many bytes.
pub(crate) fn plan(runs: &[Run], change: u64) -> Plan {
    if runs.is_empty() || change > most(runs) {
        return Plan { kept: 0, tier: 0 };
    }
    let (mut kept, mut tier) = (runs.len(), 0);
    loop {
        let deltas = runs[1..kept].iter().rev();
        let same = deltas.take_while(|run| run.tier == tier).count();
        if same + 1 < FAN {
            return Plan { kept, tier };
        }
        kept -= same;
        tier += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;
    use crate::protocol::digest::Digest;
    use crate::protocol::head::StateFile;

    fn run(epoch: u64, tier: u8, length: u64) -> Run {
        let file = StateFile {
            name: format!("{epoch}-x"),
            length,
            sha256: Digest::of(b""),
        };
        Run {
            epoch: Epoch(epoch),
            tier,
            files: vec![file],
        }
    }

    /// Writes changes of these sizes beside a base; the runs there are then, and the bytes that each change cost.
    fn written(base: u64, changes: impl Iterator<Item = u64>) -> (Vec<Run>, Vec<u64>) {
        let (mut runs, mut cost) = (vec![run(0, 0, base)], Vec::new());
        for (change, epoch) in changes.zip(1..) {
            let plan = plan(&runs, change);
            // No two changes are of the same rows, so that nothing is saved by a merge.
            let merged = runs.split_off(plan.kept);
            let bytes = merged.iter().map(Run::bytes).sum::<u64>() + change;
            runs.push(run(epoch, plan.tier, bytes));
            cost.push(bytes);
        }
        (runs, cost)
    }

    #[test]
    fn the_eighth_change_takes_seven_in_and_the_eighth_of_these_seven_of_them() {
        let tiers = |changes: usize| {
            let (runs, _) = written(1 << 40, std::iter::repeat_n(1, changes));
            runs[1..].iter().map(|run| run.tier).collect::<Vec<_>>()
        };
        assert_eq!(tiers(7), [0; 7]);
        assert_eq!(tiers(8), [1]);
        assert_eq!(tiers(17), [1, 1, 0]);
        assert_eq!(tiers(63), [[1; 7], [0; 7]].concat());
        assert_eq!(tiers(64), [2]);
        assert_eq!(tiers(512), [3]);
    }

    #[test]
    fn changes_beyond_30_percent_of_the_base_make_a_new_one() {
        let base = [run(0, 0, 1_000), run(1, 0, 200)];
        assert_eq!(most(&base), 100);
        assert_eq!(plan(&base, 100).kept, 2);
        assert_eq!(plan(&base, 101), Plan { kept: 0, tier: 0 });
        assert_eq!(plan(&[], 1), Plan { kept: 0, tier: 0 });
    }

    #[test]
    fn a_byte_that_changes_is_written_a_bounded_number_of_times_however_large_the_state_is() {
        for base in [1_000, 1_000_000, 1_000_000_000_u64] {
            for change in [1, 10, 1_000, 100_000_u64] {
                let epochs = 20_000;
                let (runs, cost) = written(base, std::iter::repeat_n(change, epochs));
                let changed = change * epochs as u64;
                let tiers = runs.iter().map(|run| run.tier).max().map_or(0, u64::from);
                let total: u64 = cost.iter().sum();
                assert!(
                    total <= changed * (6 + tiers) + base,
                    "{base} {change}: {total} for {changed}, {tiers} tiers"
                );
                assert!(
                    runs.len() as u64 <= 1 + 7 * (tiers + 1),
                    "{base} {change}: {} runs",
                    runs.len()
                );
            }
        }
    }
}
