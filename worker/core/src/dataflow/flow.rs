//! Rows on their way through the graph: single rows while an epoch is open, windows at its close.

use std::borrow::Cow;

use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use evp_api::plan::{Late, NodeName};

use super::{Dataflow, DataflowError, Node, Pushed, Rejected, SinkBatch, SinkEnd, Step, refused};
use crate::dead_letter::Reject;
use crate::record::RawBatch;
use crate::step::{self, Rows};
use crate::watermark::Standing;

/// One raw batch on its way.
pub(super) struct Flow<'a> {
    pub(super) graph: &'a mut Dataflow,
    pub(super) source: &'a NodeName,
    pub(super) raw: &'a RawBatch,
    pub(super) pushed: Pushed,
}

impl Flow<'_> {
    /// Hands a node's rows to the sinks and steps that read it.
    pub(super) fn feed(&mut self, node: &NodeName, rows: Rows) -> Result<(), DataflowError> {
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        let refused = self.graph.hand_over(node, &rows, &mut self.pushed.sinks)?;
        self.pushed.rejected.extend(refused);
        let readers = self.graph.readers(node);
        let Some((last, others)) = readers.split_last() else {
            return Ok(());
        };
        for &at in others {
            self.step(at, rows.clone())?;
        }
        self.step(*last, rows)
    }

    fn step(&mut self, at: usize, rows: Rows) -> Result<(), DataflowError> {
        let node = &mut self.graph.nodes[at];
        let name = node.name.clone();
        let counts = self.graph.ledger.steps.entry(name.clone()).or_default();
        counts.input += rows.batch.num_rows() as u64;
        match &mut node.step {
            Step::Query(query) => {
                let passed = query.push(rows)?;
                counts.output += passed.rows.batch.num_rows() as u64;
                counts.filtered += passed.filtered;
                counts.rejected += passed.rejects.len() as u64;
                self.reject(&name, passed.rejects);
                self.feed(&name, passed.rows)
            }
            Step::Validate(validate) => {
                let judged = validate.push(rows)?;
                counts.output += judged.rows.batch.num_rows() as u64;
                counts.rejected += judged.rejects.len() as u64;
                self.reject(&name, judged.rejects);
                self.feed(&name, judged.rows)
            }
            Step::Dedupe(dedupe) => {
                let input = self.graph.inputs.get(self.source);
                let watermark = input.and_then(super::Input::decided);
                let unique = dedupe.push(rows, self.raw, watermark)?;
                counts.output += unique.rows.batch.num_rows() as u64;
                counts.duplicates += unique.duplicates;
                counts.conflicts += unique.conflicts;
                counts.late += unique.late;
                counts.rejected += unique.rejects.len() as u64;
                self.reject(&name, unique.rejects);
                self.late(&name, unique.late_records);
                self.feed(&name, unique.rows)
            }
            Step::Aggregate {
                aggregate, late, ..
            } => {
                let input = self.graph.inputs.get(self.source);
                let watermark = input.and_then(super::Input::decided);
                let counted = aggregate.push(rows, watermark)?;
                counts.output += counted.counted;
                counts.late += counted.late;
                counts.rejected += counted.rejects.len() as u64;
                let routed = *late == Late::DeadLetter;
                self.reject(&name, counted.rejects);
                if routed {
                    self.late(&name, counted.late_records);
                }
                Ok(())
            }
        }
    }

    fn reject(&mut self, step: &NodeName, rejects: Vec<Reject>) {
        let rejects = rejects.into_iter().map(|reject| (step.clone(), reject));
        self.pushed.rejected.extend(rejects);
    }

    fn late(&mut self, step: &NodeName, records: Vec<Reject>) {
        let records = records.into_iter().map(|reject| self.explained(reject));
        let records = records.collect();
        self.reject(step, records);
    }

    /// A late row says when it is its split that came late (semantics 10).
    fn explained(&self, mut reject: Reject) -> Reject {
        let record = &self.raw.records[reject.record as usize];
        let split = &self.raw.splits[record.split as usize];
        let input = self.graph.inputs.get(self.source);
        reject.message += match input.map(|input| input.standing(split)) {
            Some(Standing::NewSplit) => {
                " (NewSplit: the watermark was already there when its split was found)"
            }
            Some(Standing::AfterIdle) => {
                " (AfterIdle: the watermark went on while its split was idle)"
            }
            Some(Standing::Steady) | None => "",
        };
        reject
    }
}

impl Dataflow {
    /// Indices of the steps that read a node.
    fn readers(&self, node: &NodeName) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, reader)| &reader.from == node)
            .map(|(at, _)| at)
            .collect()
    }

    /// Gives a node's rows to its Append sinks. Rows without a key that a sink needs are refused by it; in the ledger it is a
    /// step that they come into and nothing else.
    fn hand_over(
        &mut self,
        node: &NodeName,
        rows: &Rows,
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<Vec<Rejected>, DataFusionError> {
        let mut refused = Vec::new();
        for sink in self
            .sinks
            .iter()
            .filter(|sink| &sink.from == node && !sink.update)
        {
            let (kept, rejects) = sink.keyed(rows)?;
            if !rejects.is_empty() {
                let counts = self.ledger.steps.entry(sink.name.clone()).or_default();
                counts.input += rejects.len() as u64;
                counts.rejected += rejects.len() as u64;
                refused.extend(
                    rejects
                        .into_iter()
                        .map(|reject| (sink.name.clone(), reject)),
                );
            }
            let count = kept.batch.num_rows() as u64;
            if count > 0 {
                *self.ledger.sinks.entry(sink.name.clone()).or_default() += count;
                let written = SinkBatch::Rows(sink.written(&kept.batch)?);
                out.push((sink.name.clone(), written));
            }
        }
        Ok(refused)
    }

    /// Rows of closed windows, through the queries below to the Append sinks and into the aggregates below (semantics 7).
    pub(super) fn closed_rows(
        &mut self,
        node: &NodeName,
        rows: &RecordBatch,
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<(), DataflowError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let of_windows = Rows {
            batch: rows.clone(),
            origin: Vec::new(),
        };
        // The plan lets no key of a window be null.
        self.hand_over(node, &of_windows, out)?;
        for at in self.readers(node) {
            let Node {
                name, step, source, ..
            } = &mut self.nodes[at];
            let name = name.clone();
            let rows = of_windows.clone();
            match step {
                Step::Query(query) => {
                    let passed = query.push(rows)?;
                    all_computed(&name, passed.rejects)?;
                    self.closed_rows(&name, &passed.rows.batch, out)?;
                }
                Step::Aggregate { aggregate, .. } => {
                    let watermark = self.inputs.get(source).and_then(super::Input::decided);
                    let counts = self.ledger.steps.entry(name.clone()).or_default();
                    counts.input += rows.batch.num_rows() as u64;
                    let counted = aggregate.push(rows, watermark)?;
                    counts.output += counted.counted;
                    counts.late += counted.late;
                    all_computed(&name, counted.rejects)?;
                }
                // The plan refuses them here.
                Step::Validate(_) | Step::Dedupe(_) => {}
            }
        }
        Ok(())
    }

    /// Changed windows, through the queries below to the Update sinks. A row that a `where` refuses becomes a delete of its
    /// key (semantics 18).
    pub(super) fn changes(
        &mut self,
        node: &NodeName,
        rows: &RecordBatch,
        delete: &[bool],
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<(), DataflowError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let sinks = self.sinks.iter().filter(|s| &s.from == node && s.update);
        for sink in sinks {
            *self.ledger.sinks.entry(sink.name.clone()).or_default() += rows.num_rows() as u64;
            let changes = SinkBatch::Changes {
                rows: sink.written(rows)?,
                delete: delete.to_vec(),
            };
            out.push((sink.name.clone(), changes));
        }
        for at in self.readers(node) {
            let Node { name, step, .. } = &self.nodes[at];
            let Step::Query(query) = step else {
                continue;
            };
            let (projected, passes) = query
                .changes(rows, delete)
                .map_err(|e| window_row(name, e))?;
            let name = name.clone();
            self.changes(&name, &projected, &refused(&passes), out)?;
        }
        Ok(())
    }
}

/// There is no record to route away.
fn all_computed(step: &NodeName, rejects: Vec<Reject>) -> Result<(), DataflowError> {
    match rejects.into_iter().next() {
        Some(reject) => Err(DataflowError::WindowRow {
            step: step.clone(),
            why: reject.message,
        }),
        None => Ok(()),
    }
}

fn window_row(step: &NodeName, error: DataFusionError) -> DataflowError {
    match step::kind_of(&error) {
        Some(why) => DataflowError::WindowRow {
            step: step.clone(),
            why: why.to_owned(),
        },
        None => error.into(),
    }
}

impl SinkEnd {
    /// The rows that have the key this sink needs, and the others.
    fn keyed<'a>(&self, rows: &'a Rows) -> Result<(Cow<'a, Rows>, Vec<Reject>), DataFusionError> {
        let Some(key) = self.key else {
            return Ok((Cow::Borrowed(rows), Vec::new()));
        };
        let told =
            |name: &str| format!("`{name}` is null, and it is the key of sink {}", self.name);
        Ok(rows.keyed(&[key], told)?)
    }

    fn written(&self, rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        match &self.columns {
            Some(columns) => Ok(rows.project(columns)?),
            None => Ok(rows.clone()),
        }
    }
}
