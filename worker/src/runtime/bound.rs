//! Most records of an epoch: what the manifest says, and less after processes died on the same epoch (semantics 38).
//!
//! A process that dies says nothing. If the lane changed hands again and again without a new epoch, one of the next records may
//! be what kills: the epoch is made smaller with each attempt, so that the records before it are committed, until it holds one
//! record, which is named in the log before it is computed. Each decided epoch doubles the bound again.

/// Take-overs without a new epoch that are no sign of anything: upgrades and moved pods make them too.
const HARMLESS: u32 = 2;

/// The bound of which the first suspect epoch takes half.
const WHOLE: u64 = 8192;

/// Most records of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordBound {
    configured: u64,
    /// `None`: nothing is suspected.
    careful: Option<u64>,
}

impl RecordBound {
    /// `configured`: `None` where the manifest sets no bound. `takeovers`: since the newest epoch was decided.
    pub(super) fn new(configured: Option<u64>, takeovers: u32) -> Self {
        let halvings = takeovers.saturating_sub(HARMLESS);
        let halved = WHOLE.checked_shr(halvings).unwrap_or(0).max(1);
        Self {
            configured: configured.unwrap_or(u64::MAX),
            careful: (halvings > 0).then_some(halved),
        }
    }

    /// Most records of the next epoch; at least one.
    pub(super) fn most(&self) -> u64 {
        self.careful.unwrap_or(u64::MAX).min(self.configured)
    }

    /// A record is computed alone, because it may be what kills.
    pub(super) fn suspects_one(&self) -> bool {
        self.careful == Some(1)
    }

    /// An epoch was decided: nothing in it kills.
    pub(super) fn decided(&mut self) {
        self.careful = self.careful.map(|n| n * 2).filter(|n| *n < WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_38_each_takeover_without_an_epoch_halves_the_next_one_down_to_one_record() {
        let most = |takeovers| RecordBound::new(Some(5000), takeovers).most();
        assert_eq!([0, 2, 3, 4, 5].map(most), [5000, 5000, 4096, 2048, 1024]);
        assert_eq!([14, 15, 16, u32::MAX].map(most), [2, 1, 1, 1]);
        assert!(RecordBound::new(None, 15).suspects_one());
    }

    #[test]
    fn rule_38_decided_epochs_lead_back_to_the_manifests_bound() {
        let mut bound = RecordBound::new(None, 14);
        let mut seen = Vec::new();
        while bound.most() < u64::MAX {
            seen.push(bound.most());
            bound.decided();
        }
        assert_eq!(seen, (1..13).map(|n| 1 << n).collect::<Vec<_>>());
    }
}
