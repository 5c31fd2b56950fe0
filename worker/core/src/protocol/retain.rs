//! What is kept of a lane's past, and what of its objects is garbage. Decisions only; who deletes is the sweep.
//!
//! No clock takes part in what a recovery needs. An object's name tells the epoch that it was written for, and it is first
//! named by that epoch or never: so what the newest heads do not name, and is of an epoch that [`KEPT`] others followed, is
//! named by nobody ever again. Whoever wrote it and still means to decide its epoch finds that the head has moved.
//!
//! Copies of bodies are read by audits alone and kept for a time, counted in epoch time. Which ones are kept stands in the head
//! before any is deleted, so that an audit knows a copy that was collected from one that was lost.

use super::body::Body;
use super::head::{Head, KEPT};
use super::paths::written_for;
use crate::position::{Epoch, Micros};

/// How long files that an epoch staged at its targets must be left alone by all others: rules of buckets, a table's VACUUM.
pub const GRACE: Micros = Micros(24 * 3_600_000_000);

/// Whether an epoch that opened then has files that may be gone before they are committed: it is computed anew, not decided.
pub fn is_stale(opened: Micros, now: Micros) -> bool {
    now.0.saturating_sub(opened.0) > GRACE.0 / 2
}

/// The newest epoch that the history may begin at: the copies of the last epochs and of what is undone stay, however old.
pub fn latest_start(head: &Head) -> Epoch {
    let undone = head.rolling.undone.first();
    let kept = head.body.epoch.0.saturating_sub(KEPT);
    Epoch(undone.map_or(kept, |oldest| oldest.epoch.0.min(kept)))
}

/// Whether a copy is older than the history goes back, as of the newest epoch.
pub fn is_over(copy: &Body, newest: &Body, history: Micros) -> bool {
    copy.epoch_time.0.saturating_add(history.0) < newest.epoch_time.0
}

/// Whether an object that no kept head names is garbage: its name in its folder. Names that are not ours are left alone.
pub fn is_garbage(name: &str, head: &Head) -> bool {
    written_for(name).is_some_and(|epoch| epoch < latest_start(head))
}

#[cfg(test)]
mod tests {

    use super::*;

    use crate::protocol::digest::Digest;
    use crate::protocol::head::{Owner, Rolling, Undone};

    fn body(epoch: u64, time: i64) -> Body {
        Body {
            epoch: Epoch(epoch),
            parent: Some(Digest("p".into())),
            epoch_time: Micros(time),
            decided_time: Micros(time),
            ..Body::blank()
        }
    }

    fn head(epoch: u64, undone: &[u64]) -> Head {
        let undone = undone.iter().map(|epoch| Undone {
            epoch: Epoch(*epoch),
            plan: Digest("q".into()),
            intents: Vec::new(),
        });
        let rolling = Rolling {
            undone: undone.collect(),
            ..Rolling::default()
        };
        Head::seal("n".into(), Owner::first("p"), body(epoch, 0), rolling).unwrap()
    }

    #[test]
    fn what_the_last_epochs_and_the_undone_ones_wrote_is_no_garbage() {
        let garbage = |name, head: &Head| is_garbage(name, head);
        let settled = head(100, &[]);
        assert_eq!(
            ["79-a", "80-a", "100-a", "101-a", "notes.txt"].map(|name| garbage(name, &settled)),
            [true, false, false, false, false]
        );
        let waiting = head(100, &[60, 100]);
        assert_eq!(
            ["59-a", "60-a", "79-a"].map(|name| garbage(name, &waiting)),
            [true, false, false]
        );
        assert!(!garbage("0-a", &head(5, &[])));
    }

    #[test]
    fn an_epoch_is_stale_when_half_the_grace_is_over() {
        let stale = |now| is_stale(Micros(7), Micros(7 + now));
        assert_eq!(
            [-1, 0, GRACE.0 / 2, GRACE.0 / 2 + 1].map(stale),
            [false, false, false, true]
        );
    }

    #[test]
    fn a_copy_is_over_when_the_newest_epoch_is_later_by_more_than_the_history() {
        let newest = body(9, 1_000);
        let over = |time| is_over(&body(1, time), &newest, Micros(100));
        assert_eq!([899, 900, 1_000].map(over), [true, false, false]);
    }
}
