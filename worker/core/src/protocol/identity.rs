//! The identity of a sink: under which name its target remembers what was applied.

use std::fmt;

use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::paths::Lane;
use crate::position::Epoch;

/// Hex digest over checkpoint id, incarnation, lane, sink name, target and the epoch it was added at: the Delta app id, the
/// progress key, the file tag.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct SinkIdentity(pub String);

impl SinkIdentity {
    /// The first eight characters: the tag in names of files.
    pub fn id8(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for SinkIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What all sinks of a lane have in common.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace<'a> {
    /// Checkpoint id, from `owner.json`.
    pub checkpoint: &'a str,
    /// Incarnation, from the head.
    pub incarnation: &'a str,
    /// Lane.
    pub lane: &'a Lane,
}

impl Namespace<'_> {
    /// The name of a sink at its target that outlives resets, and being taken out and put back: whoever writes under it fences
    /// whoever did, also in an earlier life of the sink.
    pub fn lasting(&self, name: &NodeName, target: &str) -> SinkIdentity {
        let any = Namespace {
            incarnation: "",
            ..*self
        };
        any.sink(name, target, Epoch(0))
    }

    /// Identity of the sink `name` with this target (any text that changes when the target does), added at an epoch.
    ///
    /// Parts are joined with their lengths, so that no two different sets of parts read the same.
    pub fn sink(&self, name: &NodeName, target: &str, added_at: Epoch) -> SinkIdentity {
        let epoch = added_at.to_string();
        let parts = [
            self.checkpoint,
            self.incarnation,
            &self.lane.0,
            name.as_str(),
            target,
            &epoch,
        ];
        let framed = parts.map(|part| format!("{}:{part}", part.len()));
        SinkIdentity(Digest::of(framed.concat().as_bytes()).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_changes_the_identity() {
        let lane = Lane::default();
        let at = |checkpoint, incarnation, name, target, epoch| {
            let space = Namespace {
                checkpoint,
                incarnation,
                lane: &lane,
            };
            space.sink(&NodeName::new(name).unwrap(), target, Epoch(epoch))
        };
        let all = [
            at("c", "i", "gold", "s3://a/b", 0),
            at("d", "i", "gold", "s3://a/b", 0),
            at("c", "j", "gold", "s3://a/b", 0),
            at("c", "i", "goldx", "s3://a/b", 0),
            at("c", "i", "gold", "s3://a/c", 0),
            at("c", "i", "gold", "s3://a/b", 1),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], at("c", "i", "gold", "s3://a/b", 0));
    }

    #[test]
    fn a_lasting_name_outlives_resets() {
        let lane = Lane::default();
        let at = |incarnation, target| {
            let space = Namespace {
                checkpoint: "c",
                incarnation,
                lane: &lane,
            };
            space.lasting(&NodeName::new("gold").unwrap(), target)
        };
        assert_eq!(at("i", "kafka:a"), at("j", "kafka:a"));
        assert_ne!(at("i", "kafka:a"), at("i", "kafka:b"));
    }
}
