//! A reset: the epoch that begins a new incarnation in the same head, to which a raised `resetNonce` consents once.
//!
//! Positions and watermarks go on. A step keeps its state only if that means the same and came the same way; the others
//! begin anew, and their windows up to the newest event time that was accepted are not emitted: they would be parts.

use std::collections::BTreeMap;

use evp_api::EventPipelineSpec;
use evp_api::plan::{NodeName, Plan};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::decide::Fingerprints;
use crate::position::Micros;

/// What resets left in a head; absent from one that was never reset.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reset {
    /// Incarnation of epoch 0, which `born.json` names.
    pub born: String,
    /// Steps that began anew, with the first instant at which a window of theirs may start.
    pub from: BTreeMap<NodeName, Micros>,
}

/// For each step the nodes that its rows come through, from the source down to itself.
pub type Chains = BTreeMap<NodeName, Vec<NodeName>>;

/// With what an incarnation begins.
#[derive(Clone, Debug)]
pub struct Begin<'a> {
    /// The nonce that is honoured with it.
    pub nonce: u64,
    /// 128 random bits in hex.
    pub incarnation: String,
    /// What the state of our steps means.
    pub fingerprints: &'a Fingerprints,
    /// Chains of the plan that decided the last epoch.
    pub before: &'a Chains,
    /// Chains of our plan.
    pub after: &'a Chains,
}

/// Chains of a spec; empty where it is no pipeline of this version.
pub fn chains(spec: &serde_json::Value) -> Chains {
    let plan = EventPipelineSpec::deserialize(spec).map(|spec| Plan::parse(&spec));
    let Ok(Ok(plan)) = plan else {
        return Chains::new();
    };
    let mut chains = Chains::new();
    // Each step comes after what it reads.
    for step in &plan.steps {
        let above = chains.get(&step.from).cloned();
        let mut chain = above.unwrap_or_else(|| vec![step.from.clone()]);
        chain.push(step.name.clone());
        chains.insert(step.name.clone(), chain);
    }
    chains
}

impl Body {
    /// Incarnation of epoch 0: the same over all resets.
    pub fn born(&self) -> &str {
        self.reset
            .as_ref()
            .map_or(&self.incarnation, |reset| &reset.born)
    }

    /// The epoch after this one, with a new incarnation. It has no intents; plan and sinks are still to be set.
    #[must_use]
    pub fn begin_anew(&self, begin: Begin<'_>, epoch_time: Micros) -> Self {
        let mut next = self.successor(epoch_time);
        let mut reset = Reset {
            born: self.born().to_owned(),
            from: self.reset.clone().unwrap_or_default().from,
        };
        let fits = |step: &NodeName, fingerprint: &str| {
            begin
                .fingerprints
                .get(step)
                .is_some_and(|f| f == fingerprint)
                && begin.before.get(step) == begin.after.get(step)
        };
        // What a source of files has read goes where its positions go: it stays, also while the source is out of the plan.
        let is_source = |name: &NodeName| {
            self.positions.contains_key(name) && !begin.fingerprints.contains_key(name)
        };
        next.state
            .retain(|step, state| is_source(step) || fits(step, &state.fingerprint));
        for step in self
            .state
            .keys()
            .filter(|step| !next.state.contains_key(*step))
        {
            let sources = [begin.before, begin.after].map(|chains| chains.get(step)?.first());
            let newest = sources
                .into_iter()
                .flatten()
                .filter_map(|s| self.watermarks.get(s)?.newest);
            if let Some(newest) = newest.max() {
                let from = reset.from.entry(step.clone()).or_insert(newest);
                // A window that starts at the newest event holds it, so it is a part too.
                *from = (*from).max(Micros(newest.0.saturating_add(1)));
            }
        }
        reset
            .from
            .retain(|step, _| begin.fingerprints.contains_key(step));
        next.incarnation = begin.incarnation;
        next.reset_nonce = begin.nonce;
        next.reset = Some(reset);
        next
    }
}

#[cfg(test)]
#[path = "reset_tests.rs"]
mod tests;
