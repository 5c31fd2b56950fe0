//! `aggregate`: measures per window and group, kept as rows of partial aggregate state (protocol, State).
//!
//! An epoch gathers its own partial states; at its close they are merged with the stored rows of the groups it touched.
//! The merged rows are the new state, the state delta and the Update output at once. Until the epoch is decided nothing of
//! the stored state changes.

mod files;
mod gather;
mod groups;
mod late;
mod layout;
mod measures;
mod sessions;
mod store;
mod sum;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use evp_api::plan::WindowPlan;

use crate::check::AggregatePlanned;
use crate::dead_letter::Reject;
use crate::position::{Epoch, Micros};
use crate::protocol::head::StepState;
use crate::state::{RestoreError, StateChange, StateWrite};
use crate::step::{Compiled, Rows, evaluate};
use crate::window::{self, OpenWindow};
use groups::Groups;
use layout::Layout;
pub use layout::Loaded;
use measures::Measures;
use sessions::{Extent, Joined, Sessions};
use store::{Merged, State};

/// A running aggregate.
#[derive(Debug)]
pub struct Aggregate {
    plan: AggregatePlanned,
    measures: Measures,
    kept: Kept,
    open: Open,
    /// Windows that start earlier were begun before a reset.
    from: i64,
}

/// The stored state.
#[derive(Debug)]
enum Kept {
    /// Of windows that are cut beforehand.
    Windows(State),
    /// Of windows that merge.
    Sessions(Sessions),
}

/// What the open epoch gathered.
#[derive(Debug)]
struct Open {
    groups: Groups,
    partial: measures::Partial,
    /// Of sessions: times of each group's first and last row.
    extents: Vec<Extent>,
}

/// What pushing rows did.
#[derive(Debug, Default)]
pub struct Counted {
    /// Rows that went into a window.
    pub counted: u64,
    /// Rows that came too late.
    pub late: u64,
    /// Those of them that are of records, as rejects without a step's decision on them.
    pub late_records: Vec<Reject>,
    /// Rows on which SQL failed.
    pub rejects: Vec<Reject>,
}

/// Reads state files of one aggregate.
#[derive(Clone, Debug)]
pub struct StateReader(Arc<Layout>);

impl StateReader {
    /// What a file holds.
    pub fn read(&self, file: &[u8]) -> Result<Loaded, RestoreError> {
        self.0.read(file)
    }
}

/// What closing an epoch gave. Nothing of it counts before [`Aggregate::commit`].
#[derive(Debug)]
pub struct Closing {
    /// One row per (window, group) whose values changed; none of sessions.
    pub changed: RecordBatch,
    /// One row per group of the windows that closed.
    pub closed: RecordBatch,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Windows(Merged),
    Sessions(Joined),
}

impl Aggregate {
    /// An aggregate without state.
    pub fn new(plan: AggregatePlanned) -> Result<Self, DataFusionError> {
        let measures = Measures::new(&plan)?;
        let layout = Layout::new(&plan, &measures)?;
        let kept = match plan.plan.window {
            WindowPlan::Session { gap } => Kept::Sessions(Sessions::new(layout, gap)),
            WindowPlan::Tumbling { .. } | WindowPlan::Hopping { .. } => {
                Kept::Windows(State::new(layout))
            }
        };
        let open = opened(&plan, &measures)?;
        Ok(Self {
            plan,
            measures,
            kept,
            open,
            from: i64::MIN,
        })
    }

    /// Columns it gives out.
    pub fn output(&self) -> &SchemaRef {
        &self.plan.output
    }

    /// An epoch opens on the decided state.
    pub fn open(&mut self, now: Micros) -> Result<(), DataFusionError> {
        self.measures.open(&self.plan, now)?;
        self.abandon()
    }

    /// Forgets what the open epoch gathered.
    pub fn abandon(&mut self) -> Result<(), DataFusionError> {
        self.open = opened(&self.plan, &self.measures)?;
        Ok(())
    }

    /// Windows that start before this were begun before a reset: what comes for them is late, so that a part never takes the
    /// place of a whole. A session that starts less than `gap` after it may be the rest of an older one and is not emitted.
    pub fn begin_at(&mut self, from: Micros) {
        self.from = from.0;
    }

    /// Windows of this are at most so long; `None`: sessions are not bounded.
    pub fn longest_window(&self) -> Option<i64> {
        match self.kept {
            Kept::Windows(_) => Some(window::length(self.plan.plan.window)),
            Kept::Sessions(_) => None,
        }
    }

    /// Takes rows in; `watermark` is that of the last decided epoch (semantics 5, 6).
    pub fn push(
        &mut self,
        rows: Rows,
        watermark: Option<Micros>,
    ) -> Result<Counted, DataFusionError> {
        let w = watermark.unwrap_or(Micros(i64::MIN));
        let judged = self.on_time(rows, w)?;
        let compiled = Compiled {
            exprs: self.measures.arguments(),
            name: &|argument| self.measure_of(argument),
        };
        let computed = evaluate(&compiled, judged.rows)?;
        let counted = computed.rows.batch.num_rows() as u64;
        if counted > 0 {
            self.gather(&computed.rows.batch, computed.values, w)?;
        }
        Ok(Counted {
            counted,
            late: judged.late,
            late_records: judged.late_records,
            rejects: computed.rejects,
        })
    }

    /// The measure that an argument belongs to.
    fn measure_of(&self, argument: usize) -> Option<String> {
        let of = measures::owners(&self.plan).nth(argument)?;
        Some(of.field.name().clone())
    }

    /// Closes the epoch at the new watermark: merges, finds what changed and which windows close. The stored state is as
    /// before until [`Self::commit`]. `shows_changes`: somebody takes windows before they close; what nobody takes is not judged.
    pub fn close(
        &mut self,
        watermark: Option<Micros>,
        shows_changes: bool,
    ) -> Result<Closing, DataFusionError> {
        let Self { open, measures, .. } = self;
        let nothing = RecordBatch::new_empty(self.plan.output.clone());
        match &self.kept {
            Kept::Windows(state) => {
                let merged = state.merge(&mut open.partial, &open.groups, measures)?;
                let changed = if shows_changes {
                    self.emit(merged.changed().collect())?
                } else {
                    nothing
                };
                let closes = |start: i64| watermark.is_some_and(|w| self.is_closed(start, w));
                let merged = state.closing(merged, closes);
                let closed = self.emit(state.closed_rows(&merged).into_iter().collect())?;
                Ok(Closing {
                    changed,
                    closed,
                    change: Change::Windows(merged),
                })
            }
            Kept::Sessions(sessions) => {
                let gathered = (&open.groups, open.extents.as_slice());
                let joined = sessions.join(&mut open.partial, gathered, measures)?;
                let closes = |last: i64| watermark.is_some_and(|w| self.is_closed(last, w));
                let joined = sessions.closing(joined, closes);
                let whole = joined.closed().filter(|(key, _)| self.is_whole(key));
                let closed = self.emit(whole.collect())?;
                Ok(Closing {
                    changed: nothing,
                    closed,
                    change: Change::Sessions(joined),
                })
            }
        }
    }

    /// State rows to output rows.
    fn emit(&self, rows: Vec<(&[u8], &[u8])>) -> Result<RecordBatch, DataFusionError> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.plan.output.clone()));
        }
        let layout = self.layout();
        let mut columns = layout.keys_to_columns(rows.iter().map(|row| row.0))?;
        let starts = columns.remove(0);
        let mut states = layout.states_to_columns(rows.iter().map(|row| row.1))?;
        let last = match self.kept {
            Kept::Windows(_) => Arc::clone(&starts),
            Kept::Sessions(_) => states.remove(0),
        };
        let end = |t: i64| window::end(self.plan.plan.window, t);
        let ends: Int64Array = last.as_primitive::<Int64Type>().unary(end);
        let starts = starts.as_primitive::<Int64Type>();
        let mut output = vec![instants(starts), instants(&ends)];
        output.extend(columns);
        output.extend(self.measures.evaluate(&states, rows.len())?);
        Ok(RecordBatch::try_new(self.plan.output.clone(), output)?)
    }

    /// What a closing does to the buckets of state files.
    pub fn change(&self, closing: &Closing) -> StateChange {
        match (&self.kept, &closing.change) {
            (Kept::Windows(state), Change::Windows(merged)) => state.change(merged),
            (Kept::Sessions(sessions), Change::Sessions(joined)) => sessions.change(joined),
            _ => StateChange::default(),
        }
    }

    /// The files of a change, beside those that `held` names; each is made when it is asked for.
    pub fn writes<'a>(
        &'a self,
        closing: &'a Closing,
        change: &'a StateChange,
        held: &'a StepState,
    ) -> Box<dyn Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a> {
        match (&self.kept, &closing.change) {
            (Kept::Windows(state), Change::Windows(merged)) => {
                Box::new(files::writes((state, merged), change, held))
            }
            (Kept::Sessions(sessions), Change::Sessions(joined)) => {
                Box::new(files::writes((sessions, joined), change, held))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The epoch was decided.
    pub fn commit(&mut self, closing: Closing, epoch: Epoch) -> Result<(), DataFusionError> {
        match (&mut self.kept, closing.change) {
            (Kept::Windows(state), Change::Windows(merged)) => state.apply(merged, epoch),
            (Kept::Sessions(sessions), Change::Sessions(joined)) => sessions.apply(joined, epoch),
            _ => {}
        }
        self.abandon()
    }

    fn layout(&self) -> &Arc<Layout> {
        match &self.kept {
            Kept::Windows(state) => &state.layout,
            Kept::Sessions(sessions) => &sessions.layout,
        }
    }

    /// Reads files of this state, in any thread.
    pub fn reader(&self) -> StateReader {
        StateReader(Arc::clone(self.layout()))
    }

    /// Takes in what a file holds that `epoch` wrote. Files of a bucket come in the order in which the head names them.
    pub fn restore(&mut self, loaded: Loaded, epoch: Epoch) {
        match &mut self.kept {
            Kept::Windows(state) => state.take_in(loaded, epoch),
            Kept::Sessions(sessions) => sessions.take_in(loaded, epoch),
        }
    }

    /// Names what the state means: a head with another fingerprint does not fit.
    pub fn fingerprint(&self) -> &str {
        self.layout().fingerprint()
    }

    /// Windows that hold at least one group; sessions that are open.
    pub fn open_windows(&self) -> usize {
        match &self.kept {
            Kept::Windows(state) => state.windows.len(),
            Kept::Sessions(sessions) => sessions.len(),
        }
    }

    /// The first of them, by start.
    pub fn first_windows(&self, most: usize) -> Vec<OpenWindow> {
        let window = |(start, last): (i64, i64)| OpenWindow {
            start: Micros(start),
            end: Micros(window::end(self.plan.plan.window, last)),
            closes_at: self.closes_at(last),
        };
        match &self.kept {
            Kept::Windows(state) => {
                let starts = state.windows.keys().take(most);
                starts.map(|&start| window((start, start))).collect()
            }
            Kept::Sessions(sessions) => sessions.first(most).map(window).collect(),
        }
    }

    /// Bytes that the stored state and the open epoch hold, about.
    pub fn state_bytes(&self) -> usize {
        let stored = match &self.kept {
            Kept::Windows(state) => state.bytes(),
            Kept::Sessions(sessions) => sessions.bytes(),
        };
        let extents = self.open.extents.len() * size_of::<Extent>();
        stored + self.open.groups.bytes() + self.open.partial.bytes() + extents
    }
}

/// An epoch that gathered nothing.
fn opened(plan: &AggregatePlanned, measures: &Measures) -> Result<Open, DataFusionError> {
    Ok(Open {
        groups: Groups::new(plan)?,
        partial: measures.partial()?,
        extents: Vec::new(),
    })
}

fn instants(micros: &Int64Array) -> ArrayRef {
    let instants = TimestampMicrosecondArray::from(micros.values().to_vec());
    Arc::new(instants.with_timezone("UTC"))
}
