//! `aggregate`: measures per window and group, kept as rows of partial aggregate state (protocol, State).
//!
//! An epoch gathers its own partial states; at its close they are merged with the stored rows of the groups it touched.
//! The merged rows are the new state, the state delta and the Update output at once. Until the epoch is decided nothing of
//! the stored state changes.

mod files;
mod groups;
mod layout;
mod measures;
mod store;
mod sum;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;

use crate::check::AggregatePlanned;
use crate::dead_letter::{Reject, RejectCode};
use crate::position::{Epoch, Micros};
use crate::protocol::head::StepState;
use crate::state::{StateChange, StateWrite};
use crate::step::{Compiled, Rows, evaluate};
use crate::window;
use groups::Groups;
use layout::Layout;
pub use layout::{Loaded, RestoreError};
use measures::Measures;
use store::{Merged, State};

/// A running aggregate.
#[derive(Debug)]
pub struct Aggregate {
    plan: AggregatePlanned,
    measures: Measures,
    state: State,
    open: Open,
    /// Windows that start earlier were begun before a reset.
    from: i64,
}

/// What the open epoch gathered.
#[derive(Debug)]
struct Open {
    groups: Groups,
    partial: measures::Partial,
}

/// What pushing rows did.
#[derive(Debug, Default)]
pub struct Counted {
    /// Rows that went into a window.
    pub counted: u64,
    /// Late rows, as rejects without a step's decision on them.
    pub late: Vec<Reject>,
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
    /// One row per (window, group) whose values changed.
    pub changed: RecordBatch,
    /// One row per group of the windows that closed.
    pub closed: RecordBatch,
    merged: Merged,
}

impl Aggregate {
    /// An aggregate without state.
    pub fn new(plan: AggregatePlanned) -> Result<Self, DataFusionError> {
        let measures = Measures::new(&plan)?;
        let state = State::new(Layout::new(&plan, &measures)?);
        let open = Open {
            groups: Groups::new(&plan)?,
            partial: measures.partial()?,
        };
        Ok(Self {
            plan,
            measures,
            state,
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
        self.open = Open {
            groups: Groups::new(&self.plan)?,
            partial: self.measures.partial()?,
        };
        Ok(())
    }

    /// Windows that start before this were begun before a reset: what comes for them is late, so that a part never takes the
    /// place of a whole.
    pub fn begin_at(&mut self, from: Micros) {
        self.from = from.0;
    }

    /// Takes rows in; `watermark` is that of the last decided epoch (semantics 5, 6).
    pub fn push(
        &mut self,
        rows: Rows,
        watermark: Option<Micros>,
    ) -> Result<Counted, DataFusionError> {
        let (rows, late) = self.on_time(rows, watermark)?;
        let before = rows.batch.num_rows();
        let compiled = Compiled {
            exprs: self.measures.arguments(),
            name: &|argument| self.measure_of(argument),
        };
        let computed = evaluate(&compiled, rows)?;
        let batch = &computed.rows.batch;
        debug_assert_eq!(before, batch.num_rows() + computed.rejects.len());
        if batch.num_rows() > 0 {
            let starts = self.starts(batch);
            let assigned = self.open.groups.assign(&starts, batch, &self.plan.groups)?;
            let gathered = measures::Gathered {
                values: &computed.values,
                groups: &assigned,
                starts: &starts,
            };
            self.measures.update(
                &mut self.open.partial,
                &gathered,
                &self.open.groups,
                &self.state,
            )?;
        }
        Ok(Counted {
            counted: batch.num_rows() as u64,
            late,
            rejects: computed.rejects,
        })
    }

    /// The measure that an argument belongs to.
    fn measure_of(&self, argument: usize) -> Option<String> {
        let of = measures::owners(&self.plan).nth(argument)?;
        Some(of.field.name().clone())
    }

    /// Window start of each row.
    fn starts(&self, batch: &RecordBatch) -> Int64Array {
        let times = batch
            .column(self.plan.event_time)
            .as_primitive::<TimestampMicrosecondType>();
        times
            .values()
            .iter()
            .map(|&t| window::start(self.plan.plan.window, t))
            .collect::<Vec<_>>()
            .into()
    }

    /// A row is late iff `window_end + allowedLateness ≤ W`; equal is late for the window, not for the row's own time.
    fn on_time(
        &self,
        rows: Rows,
        watermark: Option<Micros>,
    ) -> Result<(Rows, Vec<Reject>), DataFusionError> {
        let w = watermark.unwrap_or(Micros(i64::MIN));
        if watermark.is_none() && self.from == i64::MIN || mistaken!(LateReopensWindow) {
            return Ok((rows, Vec::new()));
        }
        let starts = self.starts(&rows.batch);
        if starts.values().iter().all(|&start| self.is_open(start, w)) {
            return Ok((rows, Vec::new()));
        }
        let mask = starts
            .values()
            .iter()
            .map(|&start| Some(self.is_open(start, w)))
            .collect::<Vec<_>>()
            .into();
        let late = rows
            .origin
            .iter()
            .zip(starts.values())
            .filter(|(_, start)| !self.is_open(**start, w));
        let late = late.map(|(&record, start)| Reject {
            record,
            code: RejectCode::Late,
            message: if self.is_closed(*start, w) {
                "the row came after its window had closed".into()
            } else {
                "AfterReset: the row's window had begun before the step was reset".into()
            },
            field: None,
        });
        let late = late.collect();
        Ok((rows.filter(&mask)?, late))
    }

    fn is_open(&self, start: i64, w: Micros) -> bool {
        start >= self.from && !self.is_closed(start, w)
    }

    fn is_closed(&self, start: i64, w: Micros) -> bool {
        window::end(self.plan.plan.window, start).saturating_add(self.plan.allowed_lateness) <= w.0
    }

    /// Closes the epoch at the new watermark: merges, finds what changed and which windows close. The stored state is as
    /// before until [`Self::commit`].
    pub fn close(&mut self, watermark: Option<Micros>) -> Result<Closing, DataFusionError> {
        let merged = self
            .state
            .merge(&mut self.open.partial, &self.open.groups, &self.measures)?;
        let changed = self.emit(merged.changed().collect())?;
        let closes = |start: i64| watermark.is_some_and(|w| self.is_closed(start, w));
        let merged = self.state.closing(merged, closes);
        let closed = self.emit(self.state.closed_rows(&merged).into_iter().collect())?;
        Ok(Closing {
            changed,
            closed,
            merged,
        })
    }

    /// State rows to output rows.
    fn emit(&self, rows: Vec<(&[u8], &[u8])>) -> Result<RecordBatch, DataFusionError> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.plan.output.clone()));
        }
        let layout = &self.state.layout;
        let mut columns = layout.keys_to_columns(rows.iter().map(|row| row.0))?;
        let starts = columns.remove(0);
        let starts = starts.as_primitive::<arrow::datatypes::Int64Type>();
        let ends: Vec<i64> = starts
            .values()
            .iter()
            .map(|&s| window::end(self.plan.plan.window, s))
            .collect();
        let mut output: Vec<ArrayRef> = vec![
            Arc::new(
                TimestampMicrosecondArray::from(starts.values().to_vec()).with_timezone("UTC"),
            ),
            Arc::new(TimestampMicrosecondArray::from(ends).with_timezone("UTC")),
        ];
        output.extend(columns);
        let states = layout.states_to_columns(rows.iter().map(|row| row.1))?;
        output.extend(self.measures.evaluate(&states, rows.len())?);
        Ok(RecordBatch::try_new(self.plan.output.clone(), output)?)
    }

    /// What a closing does to the buckets of state files.
    pub fn change(&self, closing: &Closing) -> StateChange {
        self.state.change(&closing.merged)
    }

    /// The files of a change, beside those that `held` names; each is made when it is asked for.
    pub fn writes<'a>(
        &'a self,
        closing: &'a Closing,
        change: &'a StateChange,
        held: &'a StepState,
    ) -> impl Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a {
        self.state.writes(&closing.merged, change, held)
    }

    /// The epoch was decided.
    pub fn commit(&mut self, closing: Closing, epoch: Epoch) -> Result<(), DataFusionError> {
        self.state.apply(closing.merged, epoch);
        self.abandon()
    }

    /// Reads files of this state, in any thread.
    pub fn reader(&self) -> StateReader {
        StateReader(Arc::clone(&self.state.layout))
    }

    /// Takes in what a file holds that `epoch` wrote. Files of a bucket come in the order in which the head names them.
    pub fn restore(&mut self, loaded: Loaded, epoch: Epoch) {
        self.state.take_in(loaded, epoch);
    }

    /// Names what the state means: a head with another fingerprint does not fit.
    pub fn fingerprint(&self) -> &str {
        self.state.layout.fingerprint()
    }

    /// Windows that hold at least one group.
    pub fn open_windows(&self) -> usize {
        self.state.windows.len()
    }

    /// Bytes that the stored state and the open epoch hold, about.
    pub fn state_bytes(&self) -> usize {
        self.state.bytes() + self.open.groups.bytes() + self.open.partial.bytes()
    }
}
