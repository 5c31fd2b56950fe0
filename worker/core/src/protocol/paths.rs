//! The only place that spells the name of an object of a checkpoint. All names are relative to `<checkpoint.path>/`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::position::Epoch;

/// A lane: the unit of ownership with its own log of epochs.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Lane(pub String);

impl Default for Lane {
    /// The lane that owns all splits.
    fn default() -> Self {
        Self("0".into())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns the path.
pub const OWNER: &str = "owner.json";

/// A plan that an epoch was decided under.
pub fn plan(digest: &Digest) -> String {
    format!("plans/{digest}.json")
}

/// An object of the start-up probe of the store; deleted after it.
pub fn probe(nonce: &str) -> String {
    format!("probe/{nonce}")
}

impl Lane {
    /// Says that epoch 0 was decided.
    pub fn born(&self) -> String {
        format!("{self}/born.json")
    }

    /// The newest checkpoint.
    pub fn head(&self) -> String {
        format!("{self}/head.json")
    }

    /// Copy of a decided body. Twenty digits, so that names sort as numbers do.
    pub fn epoch(&self, epoch: Epoch) -> String {
        format!("{self}/epochs/{:020}.json", epoch.0)
    }

    /// Folder of the copies of decided bodies.
    pub fn epochs(&self) -> String {
        format!("{self}/epochs")
    }

    /// A state file, by its name in the head.
    pub fn state(&self, name: &str) -> String {
        format!("{self}/state/{name}")
    }

    /// Rows staged for a sink that cannot hold staged data, by name.
    pub fn outbox(&self, name: &str) -> String {
        format!("{self}/outbox/{name}")
    }

    /// An intent too large for the head, by name.
    pub fn intent(&self, name: &str) -> String {
        format!("{self}/intents/{name}")
    }
}

/// A name that nobody else writes: `<epoch>-<nonce>`. The epoch is the one being computed.
pub fn unique(epoch: Epoch, nonce: &str) -> String {
    format!("{epoch}-{nonce}")
}

/// The epoch that an object was written for, by its name below its folder; `None`: the name is not one of ours.
pub fn written_for(name: &str) -> Option<Epoch> {
    name.split(['-', '.']).next()?.parse().ok().map(Epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_epoch() {
        assert_eq!(written_for("17-00ff"), Some(Epoch(17)));
        assert_eq!(written_for("00000000000000000003.json"), Some(Epoch(3)));
        assert_eq!(written_for("notes.txt"), None);
    }

    #[test]
    fn names_are_those_of_the_protocol() {
        let lane = Lane::default();
        assert_eq!(lane.head(), "0/head.json");
        assert_eq!(lane.born(), "0/born.json");
        assert_eq!(lane.epoch(Epoch(17)), "0/epochs/00000000000000000017.json");
        assert_eq!(lane.state(&unique(Epoch(3), "ab")), "0/state/3-ab");
        assert_eq!(plan(&Digest("d1".into())), "plans/d1.json");
    }

    #[test]
    fn epochs_sort_by_name_up_to_the_last() {
        let lane = Lane::default();
        assert!(lane.epoch(Epoch(9)) < lane.epoch(Epoch(10)));
        assert!(lane.epoch(Epoch(u64::MAX - 1)) < lane.epoch(Epoch(u64::MAX)));
    }
}
