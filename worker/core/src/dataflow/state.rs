//! The state of the graph's steps on its way into files and back, and how much of it is held.

use std::collections::BTreeMap;

use datafusion_common::DataFusionError;
use evp_api::plan::NodeName;

use super::{Closed, Dataflow, DataflowError, Step};
use crate::position::{Epoch, Micros};
use crate::protocol::head::StepState;
use crate::state::StateWrite;
use crate::step::aggregate::{Aggregate, Loaded, StateReader};

/// What a step that keeps state shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateFacts {
    /// Windows not yet closed.
    pub open_windows: usize,
    /// Bytes, about.
    pub bytes: usize,
}

impl Dataflow {
    /// A step that a reset made begin anew takes in only windows that start at this instant or later; below aggregates later
    /// by their windows, since those that had begun there never come.
    pub fn begin_at(&mut self, step: &NodeName, from: Micros) {
        let above = self.aggregates_above(step);
        let longest = above.filter_map(Aggregate::longest_window);
        let from = Micros(longest.fold(from.0, i64::saturating_add));
        if let Some(aggregate) = self.aggregate_mut(step) {
            aggregate.begin_at(from);
        }
    }

    /// Reads state files of a step, in any thread; `None`: it keeps no state.
    pub fn state_reader(&self, step: &NodeName) -> Option<StateReader> {
        self.aggregate(step).map(Aggregate::reader)
    }

    /// Takes in what a state file holds that `epoch` wrote; files of a bucket come in the order in which the head names them.
    /// [`DataflowError::StateTooLarge`]: it is more than may be held.
    pub fn restore_state(
        &mut self,
        step: &NodeName,
        loaded: Loaded,
        epoch: Epoch,
    ) -> Result<(), DataflowError> {
        if let Some(aggregate) = self.aggregate_mut(step) {
            aggregate.restore(loaded, epoch);
        }
        self.state_fits()
    }

    /// Fingerprints of the steps that keep state.
    pub fn fingerprints(&self) -> BTreeMap<NodeName, String> {
        self.aggregates()
            .map(|(name, aggregate)| (name.clone(), aggregate.fingerprint().to_owned()))
            .collect()
    }

    /// The files of what changes in the state of a step, beside those that `held` names; each is made when it is asked for.
    pub fn state_writes<'a>(
        &'a self,
        closed: &'a Closed,
        step: &NodeName,
        held: &'a StepState,
    ) -> impl Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a {
        let change = closed.state.get(step);
        let closing = closed.aggregates.get(step);
        let writes = self
            .aggregate(step)
            .zip(change)
            .zip(closing)
            .map(|((aggregate, change), closing)| aggregate.writes(closing, change, held));
        writes.into_iter().flatten()
    }

    /// What the steps that keep state show.
    pub fn state_facts(&self) -> BTreeMap<NodeName, StateFacts> {
        let facts = |a: &Aggregate| StateFacts {
            open_windows: a.open_windows(),
            bytes: a.state_bytes(),
        };
        self.aggregates()
            .map(|(name, aggregate)| (name.clone(), facts(aggregate)))
            .collect()
    }

    pub(super) fn aggregates(&self) -> impl Iterator<Item = (&NodeName, &Aggregate)> {
        self.nodes.iter().filter_map(|node| match &node.step {
            Step::Aggregate { aggregate, .. } => Some((&node.name, aggregate.as_ref())),
            Step::Query(_) | Step::Validate(_) => None,
        })
    }

    fn aggregates_above(&self, step: &NodeName) -> impl Iterator<Item = &Aggregate> {
        let node = |name: &NodeName| self.nodes.iter().find(|node| &node.name == name);
        let first = node(step).and_then(|step| node(&step.from));
        let above = std::iter::successors(first, move |below| node(&below.from));
        above.filter_map(|node| match &node.step {
            Step::Aggregate { aggregate, .. } => Some(aggregate.as_ref()),
            Step::Query(_) | Step::Validate(_) => None,
        })
    }

    fn aggregate(&self, name: &NodeName) -> Option<&Aggregate> {
        let mut all = self.aggregates();
        all.find(|(step, _)| *step == name).map(|(_, found)| found)
    }

    pub(super) fn aggregate_mut(&mut self, name: &NodeName) -> Option<&mut Aggregate> {
        let node = self.nodes.iter_mut().find(|node| &node.name == name)?;
        match &mut node.step {
            Step::Aggregate { aggregate, .. } => Some(aggregate),
            Step::Query(_) | Step::Validate(_) => None,
        }
    }

    /// What is held may not outgrow its bound: a named condition, never a killed process.
    pub(super) fn state_fits(&self) -> Result<(), DataflowError> {
        let held = || self.aggregates().map(|(name, a)| (a.state_bytes(), name));
        let bytes = held().map(|(bytes, _)| bytes).sum();
        match held().max() {
            Some((_, step)) if bytes > self.most_state => Err(DataflowError::StateTooLarge {
                step: step.clone(),
                bytes,
                allowed: self.most_state,
            }),
            _ => Ok(()),
        }
    }
}
