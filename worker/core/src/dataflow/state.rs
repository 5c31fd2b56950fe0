//! The state of the graph's steps on its way into files and back, and how much of it is held.

use std::collections::BTreeMap;

use datafusion_common::DataFusionError;
use evp_api::plan::NodeName;

use super::{Closed, Dataflow, DataflowError, Node, Step};
use crate::position::{Epoch, Micros};
use crate::protocol::head::StepState;
use crate::state::{RestoreError, StateWrite};
use crate::step::aggregate::{self, Aggregate};
use crate::step::dedupe;
use crate::window::OpenWindow;

/// Open windows of a step that are listed one by one.
const LISTED_WINDOWS: usize = 10;

/// What a step that keeps state shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateFacts {
    /// Windows not yet closed.
    pub open_windows: usize,
    /// The first of them, by start; at most ten.
    pub windows: Vec<OpenWindow>,
    /// Keys that a `dedupe` remembers.
    pub keys: usize,
    /// Bytes, about.
    pub bytes: usize,
}

/// Reads state files of one step.
#[derive(Clone, Debug)]
pub enum StateReader {
    /// Of a `dedupe`.
    Dedupe(dedupe::Reader),
    /// Of an `aggregate`.
    Aggregate(aggregate::StateReader),
}

/// What a state file held.
#[derive(Debug)]
pub enum Loaded {
    /// Of a `dedupe`.
    Dedupe(dedupe::Loaded),
    /// Of an `aggregate`.
    Aggregate(Box<aggregate::Loaded>),
}

/// How a step with state closes an epoch.
#[derive(Debug)]
pub(super) enum Closing {
    Dedupe(dedupe::Closing),
    Aggregate(aggregate::Closing),
}

impl StateReader {
    /// What a file holds.
    pub fn read(&self, file: &[u8]) -> Result<Loaded, RestoreError> {
        Ok(match self {
            Self::Dedupe(reader) => Loaded::Dedupe(reader.read(file)?),
            Self::Aggregate(reader) => Loaded::Aggregate(Box::new(reader.read(file)?)),
        })
    }
}

impl Step {
    fn fingerprint(&self) -> Option<&str> {
        match self {
            Self::Query(_) | Self::Validate(_) => None,
            Self::Dedupe(dedupe) => Some(dedupe.fingerprint()),
            Self::Aggregate { aggregate, .. } => Some(aggregate.fingerprint()),
        }
    }

    fn facts(&self) -> Option<StateFacts> {
        Some(match self {
            Self::Query(_) | Self::Validate(_) => return None,
            Self::Dedupe(dedupe) => StateFacts {
                open_windows: 0,
                windows: Vec::new(),
                keys: dedupe.keys(),
                bytes: self.state_bytes(),
            },
            Self::Aggregate { aggregate, .. } => StateFacts {
                open_windows: aggregate.open_windows(),
                windows: aggregate.first_windows(LISTED_WINDOWS),
                keys: 0,
                bytes: self.state_bytes(),
            },
        })
    }

    fn state_bytes(&self) -> usize {
        match self {
            Self::Query(_) | Self::Validate(_) => 0,
            Self::Dedupe(dedupe) => dedupe.state_bytes(),
            Self::Aggregate { aggregate, .. } => aggregate.state_bytes(),
        }
    }
}

impl Dataflow {
    /// A step that a reset made begin anew takes in only windows that start at this instant or later; below aggregates later
    /// by their windows, since those that had begun there never come.
    pub fn begin_at(&mut self, step: &NodeName, from: Micros) {
        let above = self.aggregates_above(step);
        let longest = above.filter_map(Aggregate::longest_window);
        let from = Micros(longest.fold(from.0, i64::saturating_add));
        match self.step_mut(step) {
            Some(Step::Dedupe(dedupe)) => dedupe.begin_at(from),
            Some(Step::Aggregate { aggregate, .. }) => aggregate.begin_at(from),
            Some(Step::Query(_) | Step::Validate(_)) | None => {}
        }
    }

    /// Reads state files of a step, in any thread; `None`: it keeps no state.
    pub fn state_reader(&self, step: &NodeName) -> Option<StateReader> {
        match &self.node(step)?.step {
            Step::Query(_) | Step::Validate(_) => None,
            Step::Dedupe(dedupe) => Some(StateReader::Dedupe(dedupe.reader())),
            Step::Aggregate { aggregate, .. } => Some(StateReader::Aggregate(aggregate.reader())),
        }
    }

    /// Takes in what a state file holds that `epoch` wrote; files of a bucket come in the order in which the head names them.
    /// [`DataflowError::StateTooLarge`]: it is more than may be held.
    pub fn restore_state(
        &mut self,
        step: &NodeName,
        loaded: Loaded,
        epoch: Epoch,
    ) -> Result<(), DataflowError> {
        match (self.step_mut(step), loaded) {
            (Some(Step::Dedupe(dedupe)), Loaded::Dedupe(loaded)) => dedupe.restore(&loaded, epoch),
            (Some(Step::Aggregate { aggregate, .. }), Loaded::Aggregate(loaded)) => {
                aggregate.restore(*loaded, epoch);
            }
            _ => {}
        }
        self.state_fits()
    }

    /// Fingerprints of the steps that keep state.
    pub fn fingerprints(&self) -> BTreeMap<NodeName, String> {
        let of = |node: &Node| Some((node.name.clone(), node.step.fingerprint()?.to_owned()));
        self.nodes.iter().filter_map(of).collect()
    }

    /// The files of what changes in the state of a step, beside those that `held` names; each is made when it is asked for.
    pub fn state_writes<'a>(
        &'a self,
        closed: &'a Closed,
        step: &NodeName,
        held: &'a StepState,
    ) -> Box<dyn Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a> {
        let step_of = self.node(step).map(|node| &node.step);
        match (step_of, closed.state.get(step), closed.steps.get(step)) {
            (Some(Step::Dedupe(dedupe)), Some(change), Some(_)) => {
                Box::new(dedupe.writes(change, held))
            }
            (
                Some(Step::Aggregate { aggregate, .. }),
                Some(change),
                Some(Closing::Aggregate(closing)),
            ) => aggregate.writes(closing, change, held),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// What the steps that keep state show.
    pub fn state_facts(&self) -> BTreeMap<NodeName, StateFacts> {
        let of = |node: &Node| Some((node.name.clone(), node.step.facts()?));
        self.nodes.iter().filter_map(of).collect()
    }

    pub(super) fn commit_step(
        &mut self,
        name: &NodeName,
        closing: Closing,
        epoch: Epoch,
    ) -> Result<(), DataflowError> {
        match (self.step_mut(name), closing) {
            (Some(Step::Dedupe(dedupe)), Closing::Dedupe(closing)) => {
                dedupe.commit(&closing, epoch);
            }
            (Some(Step::Aggregate { aggregate, .. }), Closing::Aggregate(closing)) => {
                aggregate.commit(closing, epoch)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn aggregates_above(&self, step: &NodeName) -> impl Iterator<Item = &Aggregate> {
        let first = self.node(step).and_then(|step| self.node(&step.from));
        let above = std::iter::successors(first, |below| self.node(&below.from));
        above.filter_map(|node| match &node.step {
            Step::Aggregate { aggregate, .. } => Some(aggregate.as_ref()),
            Step::Query(_) | Step::Validate(_) | Step::Dedupe(_) => None,
        })
    }

    fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| &node.name == name)
    }

    fn step_mut(&mut self, name: &NodeName) -> Option<&mut Step> {
        let node = self.nodes.iter_mut().find(|node| &node.name == name);
        node.map(|node| &mut node.step)
    }

    /// What is held may not outgrow its bound: a named condition, never a killed process.
    pub(super) fn state_fits(&self) -> Result<(), DataflowError> {
        let held = || self.nodes.iter().map(|n| (n.step.state_bytes(), &n.name));
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
