//! What is suspected after processes died on the same epoch (semantics 38): arithmetic over the owner's part of the head.
//!
//! A process that dies says nothing. If the lane changed hands again and again without a new epoch, one of the next records may
//! be what kills: epochs are made smaller with each death, so that the records before it are committed, until one holds a single
//! record, which is noted here before it is computed.
//!
//! Each split has a bound of its own, which binds every epoch that holds a record of it. A death halves the bounds of the splits
//! of which the dead process decided nothing; a split's second decided epoch in a life begins to double its bound. So whatever
//! other splits are read first, the bound of the split whose next record kills comes down to one; and processes that die of
//! something else, while every split moves on, leave the bounds as they are.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use serde::{Deserialize, Serialize};

use super::head::{Body, Owner};
use crate::position::{Position, SplitId};

/// Take-overs without a new epoch that are no sign of anything: upgrades and moved pods make them too.
pub const HARMLESS: u32 = 2;

/// The bound of which the first suspect epoch takes half; a split that reaches it again is bounded no more.
pub const WHOLE: u64 = 8192;

/// Decided epochs without a death after which nothing is suspected any more.
pub const CALM: u32 = 1000;

/// Deaths of a pod's processes while they compute one record alone, after which it is computed no more in that pod. A new pod
/// tries again: it may have more memory, or another version.
pub const DEATHS: u32 = 3;

/// Records that are remembered as computed alone: at most one a split and death, so the newest say enough.
const REMEMBERED: usize = 64;

/// Where a record stands.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Source.
    pub source: NodeName,
    /// Split.
    pub split: SplitId,
    /// Position.
    pub position: Position,
}

/// A record that was about to be computed alone, and of which no epoch was decided.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alone {
    /// The record.
    pub record: Place,
    /// The pod that was about to.
    pub pod: String,
    /// How often.
    pub times: u32,
}

/// How epochs are kept small while a record is looked for that kills.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Care {
    /// Most records of an epoch that holds one of a split that `splits` does not name; at least one.
    pub others: u64,
    /// Splits of which epochs were decided since something is suspected.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<NodeName, BTreeMap<SplitId, Trust>>,
    /// Epochs decided since the last death.
    pub calm: u32,
    /// Records that were computed alone and may have killed, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone: Vec<Alone>,
}

/// How many records of a split an epoch is trusted with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// Most records of an epoch that holds one of it; at least one.
    pub most: u64,
    /// An epoch that read it was decided since the last death.
    pub passed: bool,
}

impl Trust {
    fn after_death(self) -> Self {
        Self {
            most: if self.passed {
                self.most
            } else {
                half(self.most)
            },
            passed: false,
        }
    }

    /// The record that kills may be the next one all the same: only the second epoch of a life raises the bound.
    fn after_epoch(self) -> Self {
        let most = if self.passed {
            self.most * 2
        } else {
            self.most
        };
        Self {
            most: most.min(WHOLE),
            passed: true,
        }
    }
}

fn half(most: u64) -> u64 {
    (most / 2).max(1)
}

impl Care {
    /// `configured`: most records of an epoch as the manifest says.
    fn first(configured: u64) -> Self {
        Self {
            others: half(WHOLE.min(configured)),
            splits: BTreeMap::new(),
            calm: 0,
            alone: Vec::new(),
        }
    }

    fn after_death(mut self) -> Self {
        self.others = half(self.others);
        for trust in self.splits.values_mut().flat_map(BTreeMap::values_mut) {
            *trust = trust.after_death();
        }
        self.calm = 0;
        self
    }

    /// After an epoch: nothing that it holds kills. `None`: nothing is suspected any more.
    fn after_epoch(&self, last: &Body, decided: &Body) -> Option<Self> {
        let mut next = self.clone();
        next.calm += 1;
        for (source, splits) in &decided.positions {
            let before = last.positions.get(source);
            for (split, at) in splits {
                if before.and_then(|b| b.get(split)).map(|b| b.next) != Some(at.next) {
                    let trust = self.trust(source, split).after_epoch();
                    let of_source = next.splits.entry(source.clone()).or_default();
                    of_source.insert(split.clone(), trust);
                }
            }
        }
        next.alone.retain(|alone| {
            let at = decided.positions.get(&alone.record.source);
            at.and_then(|splits| splits.get(&alone.record.split))
                .is_none_or(|at| at.next <= alone.record.position)
        });
        (next.calm < CALM).then_some(next)
    }

    fn trust(&self, source: &NodeName, split: &SplitId) -> Trust {
        let known = self.splits.get(source).and_then(|t| t.get(split));
        known.copied().unwrap_or(Trust {
            most: self.others,
            passed: false,
        })
    }

    /// Most records of an epoch that holds a record of this split.
    pub fn bound(&self, source: &NodeName, split: &SplitId) -> u64 {
        match self.trust(source, split).most {
            WHOLE.. => u64::MAX,
            most => most,
        }
    }

    /// Notes that a pod is about to compute a record alone. `Err`: it died of that [`DEATHS`] times.
    pub fn computing(&self, record: &Place, pod: &str) -> Result<Self, u32> {
        let mut next = self.clone();
        let known = next.alone.iter().position(|a| a.record == *record);
        let known = known.map(|at| next.alone.remove(at));
        let times = known.filter(|a| a.pod == pod).map_or(0, |a| a.times);
        if times >= DEATHS {
            return Err(times);
        }
        next.alone.push(Alone {
            record: record.clone(),
            pod: pod.to_owned(),
            times: times + 1,
        });
        let surplus = next.alone.len().saturating_sub(REMEMBERED);
        next.alone.drain(..surplus);
        Ok(next)
    }
}

impl Owner {
    /// A process begins to own the lane, and the one before it decided nothing since `takeovers` were counted: it may have
    /// died of what comes next. `configured`: most records of an epoch as the manifest says.
    #[must_use]
    pub fn after_death(self, configured: u64) -> Self {
        let care = match self.care {
            Some(care) => Some(care.after_death()),
            None => (self.takeovers > HARMLESS).then(|| Care::first(configured)),
        };
        Self { care, ..self }
    }

    /// The owner in the head that decides an epoch after `last`.
    #[must_use]
    pub fn after_epoch(&self, last: &Body, decided: &Body) -> Self {
        let care = self.care.as_ref();
        Self {
            takeovers: 0,
            care: care.and_then(|care| care.after_epoch(last, decided)),
            ..self.clone()
        }
    }
}

#[cfg(test)]
#[path = "care_tests.rs"]
mod tests;
