//! Tables of the sources that read files: what was read, as the open epoch has it (semantics 30).
//!
//! A table lies in the state of a head under its source's name, in the same form as a step's. Batches tell what was read;
//! what an epoch takes in is written with it. A source that left the plan keeps its table, as it keeps its positions.

use std::collections::BTreeMap;

use evp_api::plan::{NodeName, Plan};
use evp_api::reason;
use evp_core::files::table::{FileTable, TableWrites, fingerprints};
use evp_core::position::Epoch;
use evp_core::protocol::head::{Body, StepState};
use evp_core::record::RawBatch;

use super::Halt;
use crate::checkpointer::{Checkpointer, StateFiles};

/// Tables by source.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<NodeName, Table>);

#[derive(Debug, Default)]
struct Table {
    meaning: String,
    files: FileTable,
    /// What the epoch that is being decided writes.
    writes: TableWrites,
}

impl Tables {
    /// Empty tables of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let table = |(name, meaning)| {
            let table = Table {
                meaning,
                ..Table::default()
            };
            (name, table)
        };
        Self(fingerprints(plan).into_iter().map(table).collect())
    }

    /// Reads what the head names.
    pub(super) async fn restore(&mut self, checkpointer: &Checkpointer) -> Result<(), Halt> {
        for (name, table) in &mut self.0 {
            let Some(state) = checkpointer.body().state.get(name) else {
                continue;
            };
            for run in state.runs() {
                for file in &run.files {
                    let bytes = checkpointer.state_file(file).await?;
                    let read = table.files.restore(&table.meaning, &bytes, run.epoch);
                    read.map_err(|e| {
                        let what = format!("state file {}: {}", file.name, e.strip_backtrace());
                        Halt::person(reason::CHECKPOINT_DAMAGED, what)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// A copy for who reads.
    pub(super) fn get(&self, source: &NodeName) -> Option<FileTable> {
        self.0.get(source).map(|table| table.files.clone())
    }

    /// The open epoch takes a batch in.
    pub(super) fn take_in(&mut self, source: &NodeName, raw: &RawBatch) {
        if let Some(table) = self.0.get_mut(source) {
            table.files.take_in(&raw.in_files);
        }
    }

    /// Writes what the epoch changes, and names it in its body.
    pub(super) async fn store(&mut self, files: &StateFiles, body: &mut Body) -> Result<(), Halt> {
        for (name, table) in &mut self.0 {
            let state = body.state.entry(name.clone());
            let state = state.or_insert_with(|| StepState::new(table.meaning.clone()));
            let failed = |e: &dyn std::fmt::Display| Halt::failed_epoch(e);
            let writes = table.files.writes(state);
            table.writes = writes.map_err(|e| failed(&e.strip_backtrace()))?;
            let mut written = Vec::with_capacity(table.writes.files.len());
            for write in &mut table.writes.files {
                let bytes = std::mem::take(&mut write.bytes);
                written.push((write.at, files.put(body.epoch, bytes.into()).await?));
            }
            table.writes.change.record(state, body.epoch, written);
        }
        Ok(())
    }

    /// The epoch was decided.
    pub(super) fn commit(&mut self, epoch: Epoch) {
        for table in self.0.values_mut() {
            table
                .files
                .commit(epoch, &std::mem::take(&mut table.writes));
        }
    }
}
