//! The graph of one pipeline: raw batches in, rows for sinks, rejects and state changes out. Synchronous.
//!
//! [`Dataflow::close`] computes what the epoch would do; only [`Dataflow::commit`] makes it the state that the next epoch
//! opens on. An epoch that is not decided leaves no trace.

mod error;
mod flow;
mod input;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use evp_api::plan::{Late, Mode, NodeName, Plan, StepKind};

use crate::check::{CheckedPlan, StepPlanned};
use crate::dead_letter::Reject;
use crate::ledger::Ledger;
use crate::position::{Epoch, Micros, SplitId};
use crate::record::RawBatch;
use crate::state::StateChange;
use crate::step;
use crate::step::aggregate::Aggregate;
use crate::step::dedupe::Dedupe;
use crate::step::query::Query;
use crate::step::validate::Validate;
use crate::watermark::Snapshot;
pub use error::DataflowError;
use flow::Flow;
use input::Input;
use state::Closing;
pub use state::{Loaded, StateFacts, StateReader};

/// What a sink is handed.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkBatch {
    /// Rows to add.
    Rows(RecordBatch),
    /// One change per key: at most one a key and epoch, in no order. `delete[i]` removes the key of row i (its other
    /// columns mean nothing), else row i is upserted.
    Changes {
        /// Keys and values.
        rows: RecordBatch,
        /// One flag a row.
        delete: Vec<bool>,
    },
}

/// Watermarks of all sources, as the head keeps them.
pub type WatermarkSnapshots = BTreeMap<NodeName, Snapshot>;

/// Splits of each source that are idle (semantics 8).
pub type Idle = BTreeMap<NodeName, BTreeSet<SplitId>>;

/// A running dataflow.
#[derive(Debug)]
pub struct Dataflow {
    inputs: BTreeMap<NodeName, Input>,
    nodes: Vec<Node>,
    sinks: Vec<SinkEnd>,
    ledger: Ledger,
    now: Micros,
    most_state: usize,
}

/// One step of the graph, after what it reads.
#[derive(Debug)]
struct Node {
    name: NodeName,
    from: NodeName,
    source: NodeName,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Query(Query),
    Validate(Validate),
    Dedupe(Box<Dedupe>),
    Aggregate {
        aggregate: Box<Aggregate>,
        late: Late,
        /// A sink below it takes windows before they close.
        shows_changes: bool,
    },
}

/// Where rows leave the graph.
#[derive(Debug)]
struct SinkEnd {
    name: NodeName,
    from: NodeName,
    update: bool,
    /// Indices of the columns it writes; `None`: all.
    columns: Option<Vec<usize>>,
    /// The column of its node that must not be null in a row; `None`: all are let through.
    key: Option<usize>,
}

/// A rejected record with the source, step or sink that rejected it.
pub type Rejected = (NodeName, Reject);

/// What a raw batch became.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Rows for sinks.
    pub sinks: Vec<(NodeName, SinkBatch)>,
    /// Dead letters; their record indices count in the raw batch.
    pub rejected: Vec<Rejected>,
}

/// What an epoch does when it is decided.
#[derive(Debug)]
pub struct Closed {
    /// Rows of windows that close, changes of windows that changed.
    pub sinks: Vec<(NodeName, SinkBatch)>,
    /// Watermarks for the head.
    pub watermarks: WatermarkSnapshots,
    /// What changes in the state of each step; a step without change is absent.
    pub state: BTreeMap<NodeName, StateChange>,
    /// Counts of the epoch.
    pub ledger: Ledger,
    steps: BTreeMap<NodeName, Closing>,
}

impl Dataflow {
    /// A dataflow without state.
    pub fn new(checked: &CheckedPlan) -> Result<Self, DataFusionError> {
        let plan = &checked.plan;
        let inputs = plan.sources.iter().map(|source| {
            let meta = checked.meta.get(&source.name).copied().unwrap_or_default();
            (source.name.clone(), Input::new(source, meta))
        });
        let nodes = plan
            .steps
            .iter()
            .zip(&checked.steps)
            .map(|(step, planned)| {
                let built = match planned {
                    StepPlanned::Query(query) => Step::Query(Query::new(query.clone())?),
                    StepPlanned::Validate(rules) => Step::Validate(Validate::new(rules.clone())?),
                    StepPlanned::Dedupe(planned) => {
                        Step::Dedupe(Box::new(Dedupe::new(planned.clone())?))
                    }
                    StepPlanned::Aggregate(planned) => Step::Aggregate {
                        late: planned.plan.late,
                        aggregate: Box::new(Aggregate::new(planned.clone())?),
                        shows_changes: shows_changes(plan, &step.name),
                    },
                };
                Ok(Node {
                    name: step.name.clone(),
                    from: step.from.clone(),
                    source: step.source.clone(),
                    step: built,
                })
            });
        Ok(Self {
            inputs: inputs.collect(),
            nodes: nodes.collect::<Result<_, DataFusionError>>()?,
            sinks: sink_ends(plan, checked),
            ledger: Ledger::default(),
            now: Micros(0),
            most_state: usize::MAX,
        })
    }

    /// Bounds the bytes that all steps together may hold, the open epoch's included. Beyond it
    /// [`DataflowError::StateTooLarge`].
    pub fn limit_state(&mut self, bytes: usize) {
        self.most_state = bytes;
    }

    /// Goes on from a head's watermarks.
    pub fn restore_watermarks(&mut self, snapshots: &WatermarkSnapshots) {
        for (name, snapshot) in snapshots {
            if let Some(input) = self.inputs.get_mut(name) {
                input.restore(snapshot.clone());
            }
        }
    }

    /// Opens an epoch; its time is "now" of semantics 9, 12 and 37.
    pub fn open(&mut self, now: Micros) -> Result<(), DataflowError> {
        self.now = now;
        self.ledger = Ledger::default();
        for node in &mut self.nodes {
            match &mut node.step {
                Step::Query(query) => query.open(now)?,
                Step::Validate(validate) => validate.open(now)?,
                Step::Dedupe(dedupe) => dedupe.abandon(),
                Step::Aggregate { aggregate, .. } => aggregate.open(now)?,
            }
        }
        Ok(())
    }

    /// A split is known, though nothing of it was read (semantics 4).
    pub fn register(&mut self, source: &NodeName, split: &SplitId) {
        if let Some(input) = self.inputs.get_mut(source) {
            input.register(split);
        }
    }

    /// Nothing older than this follows in a split.
    pub fn promise(&mut self, source: &NodeName, split: &SplitId, time: Micros) {
        if let Some(input) = self.inputs.get_mut(source) {
            input.promise(split, time);
        }
    }

    /// Counts records of a source that are dead-lettered without being computed.
    pub fn condemn(&mut self, source: &NodeName, records: u64) {
        let counts = self.ledger.sources.entry(source.clone()).or_default();
        counts.read += records;
        counts.dead_lettered += records;
    }

    /// Takes a raw batch of a source through the graph.
    pub fn push(&mut self, source: &NodeName, raw: &RawBatch) -> Result<Pushed, DataflowError> {
        let Some(input) = self.inputs.get_mut(source) else {
            return Err(DataflowError::UnknownSource(source.clone()));
        };
        let counts = self.ledger.sources.entry(source.clone()).or_default();
        let (rows, rejects) = input.take_in(raw, self.now, counts)?;
        let rejected = rejects.into_iter().map(|reject| (source.clone(), reject));
        let pushed = Pushed {
            sinks: Vec::new(),
            rejected: rejected.collect(),
        };
        let mut flow = Flow {
            graph: self,
            source,
            raw,
            pushed,
        };
        flow.feed(source, rows)?;
        let pushed = flow.pushed;
        self.state_fits()?;
        Ok(pushed)
    }

    /// Closes the epoch: watermarks, changed windows, closed windows, changes of state, counts. A failed balance is an error.
    pub fn close(&mut self, idle: &Idle) -> Result<Closed, DataflowError> {
        let none = BTreeSet::new();
        let watermark = |(name, input): (&NodeName, &Input)| {
            let closing = input.close(idle.get(name).unwrap_or(&none), self.now)?;
            Some((name.clone(), closing))
        };
        let mut closed = Closed {
            sinks: Vec::new(),
            watermarks: self.inputs.iter().filter_map(watermark).collect(),
            state: BTreeMap::new(),
            ledger: Ledger::default(),
            steps: BTreeMap::new(),
        };
        for at in 0..self.nodes.len() {
            self.close_step(at, &mut closed)?;
        }
        closed.ledger = self.ledger.clone();
        closed.ledger.balance().map_err(DataflowError::Unbalanced)?;
        Ok(closed)
    }

    fn close_step(&mut self, at: usize, closed: &mut Closed) -> Result<(), DataflowError> {
        let node = &mut self.nodes[at];
        let name = node.name.clone();
        let of_source = closed.watermarks.get(&node.source);
        let watermark = of_source.and_then(|closing| closing.watermark);
        let (change, closing) = match &mut node.step {
            Step::Query(_) | Step::Validate(_) => return Ok(()),
            Step::Dedupe(dedupe) => {
                let closing = dedupe.close(watermark);
                (dedupe.change(&closing), Closing::Dedupe(closing))
            }
            Step::Aggregate {
                aggregate,
                shows_changes,
                ..
            } => {
                let closing = aggregate
                    .close(watermark, *shows_changes)
                    .map_err(|e| failed_at_close(&name, e))?;
                (aggregate.change(&closing), Closing::Aggregate(closing))
            }
        };
        if !change.is_empty() {
            closed.state.insert(name.clone(), change);
        }
        if let Closing::Aggregate(closing) = &closing {
            let none_goes = vec![false; closing.changed.num_rows()];
            self.changes(&name, &closing.changed, &none_goes, &mut closed.sinks)?;
            self.closed_rows(&name, &closing.closed, &mut closed.sinks)?;
        }
        closed.steps.insert(name, closing);
        Ok(())
    }

    /// The epoch was decided, as this one.
    pub fn commit(&mut self, closed: Closed, epoch: Epoch) -> Result<(), DataflowError> {
        for (name, closing) in closed.watermarks {
            if let Some(input) = self.inputs.get_mut(&name) {
                input.commit(closing);
            }
        }
        for (name, closing) in closed.steps {
            self.commit_step(&name, closing, epoch)?;
        }
        Ok(())
    }

    /// The open epoch is forgotten; the next one opens on the last decided state.
    pub fn abandon(&mut self) -> Result<(), DataflowError> {
        self.inputs.values_mut().for_each(Input::abandon);
        for node in &mut self.nodes {
            match &mut node.step {
                Step::Query(_) | Step::Validate(_) => {}
                Step::Dedupe(dedupe) => dedupe.abandon(),
                Step::Aggregate { aggregate, .. } => aggregate.abandon()?,
            }
        }
        Ok(())
    }
}

/// A sink in `Update` mode hangs on this aggregate, with nothing but steps without memory between.
fn shows_changes(plan: &Plan, aggregate: &NodeName) -> bool {
    let updates = plan.sinks.iter().filter(|sink| sink.mode == Mode::Update);
    let above = |from: &NodeName| {
        let mut above = std::iter::successors(plan.step(from), |step| plan.step(&step.from));
        above.find(|step| matches!(step.kind, StepKind::Aggregate(_)))
    };
    let mut above = updates.filter_map(|sink| above(&sink.from));
    above.any(|step| &step.name == aggregate)
}

fn sink_ends(plan: &Plan, checked: &CheckedPlan) -> Vec<SinkEnd> {
    let end = |sink: &evp_api::plan::SinkPlan| {
        let above = checked.columns.get(&sink.from)?;
        let written = checked.sinks.get(&sink.name)?;
        let columns = (written.fields().len() < above.fields().len()).then(|| {
            written
                .fields()
                .iter()
                .filter_map(|f| above.index_of(f.name()).ok())
                .collect()
        });
        let update = sink.mode == Mode::Update;
        let key = sink.kind.key_column();
        let key = key.and_then(|key| above.index_of(key).ok());
        Some(SinkEnd {
            name: sink.name.clone(),
            from: sink.from.clone(),
            update,
            columns,
            key: key.filter(|&i| above.field(i).is_nullable()),
        })
    };
    plan.sinks.iter().filter_map(end).collect()
}

/// A sum that its type cannot hold is named; anything else is the engine's.
fn failed_at_close(step: &NodeName, error: DataFusionError) -> DataflowError {
    match step::kind_of(&error) {
        Some(why) => DataflowError::Overflow {
            step: step.clone(),
            why: why.to_owned(),
        },
        None => error.into(),
    }
}

/// Flags of rows that a mask refuses.
fn refused(mask: &BooleanArray) -> Vec<bool> {
    (0..mask.len()).map(|i| !mask.value(i)).collect()
}

#[cfg(test)]
mod tests;
