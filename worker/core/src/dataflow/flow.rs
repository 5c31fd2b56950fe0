//! Rows on their way through the graph: single rows while an epoch is open, windows at its close.

use arrow::array::BooleanArray;
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use evp_api::plan::{Late, NodeName};

use super::{Dataflow, Pushed, SinkBatch, SinkEnd, Step, refused};
use crate::position::Micros;
use crate::step::Rows;

/// One raw batch on its way.
pub(super) struct Flow<'a> {
    pub(super) graph: &'a mut Dataflow,
    pub(super) source: &'a NodeName,
    pub(super) watermark: Option<Micros>,
    pub(super) pushed: Pushed,
}

impl Flow<'_> {
    /// Hands a node's rows to the sinks and steps that read it.
    pub(super) fn feed(&mut self, node: &NodeName, rows: Rows) -> Result<(), DataFusionError> {
        debug_assert!(self.graph.inputs.contains_key(self.source));
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        self.graph
            .hand_over(node, &rows.batch, &mut self.pushed.sinks)?;
        for at in 0..self.graph.nodes.len() {
            if &self.graph.nodes[at].from == node {
                self.step(at, rows.clone())?;
            }
        }
        Ok(())
    }

    fn step(&mut self, at: usize, rows: Rows) -> Result<(), DataFusionError> {
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
                self.pushed.rejected.extend(
                    passed
                        .rejects
                        .into_iter()
                        .map(|reject| (name.clone(), reject)),
                );
                self.feed(&name, passed.rows)
            }
            Step::Aggregate { aggregate, late } => {
                let counted = aggregate.push(rows, self.watermark)?;
                counts.output += counted.counted;
                counts.late += counted.late.len() as u64;
                counts.rejected += counted.rejects.len() as u64;
                let kept = if *late == Late::DeadLetter {
                    counted.late
                } else {
                    Vec::new()
                };
                let rejects = counted.rejects.into_iter().chain(kept);
                self.pushed
                    .rejected
                    .extend(rejects.map(|reject| (name.clone(), reject)));
                Ok(())
            }
        }
    }
}

impl Dataflow {
    /// Gives a node's rows to its Append sinks.
    fn hand_over(
        &mut self,
        node: &NodeName,
        rows: &RecordBatch,
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<(), DataFusionError> {
        for sink in self
            .sinks
            .iter()
            .filter(|sink| &sink.from == node && !sink.update)
        {
            *self.ledger.sinks.entry(sink.name.clone()).or_default() += rows.num_rows() as u64;
            out.push((sink.name.clone(), SinkBatch::Rows(sink.written(rows)?)));
        }
        Ok(())
    }

    /// Rows of closed windows, through the queries below to the Append sinks.
    pub(super) fn closed_rows(
        &mut self,
        node: &NodeName,
        rows: &RecordBatch,
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<(), DataFusionError> {
        self.hand_over(node, rows, out)?;
        for at in 0..self.nodes.len() {
            let Step::Query(query) = &self.nodes[at].step else {
                continue;
            };
            if &self.nodes[at].from != node {
                continue;
            }
            let passed = query.push(Rows {
                batch: rows.clone(),
                origin: (0..).take(rows.num_rows()).collect(),
            })?;
            if let Some(reject) = passed.rejects.first() {
                return Err(DataFusionError::Execution(format!(
                    "step {}: {}",
                    self.nodes[at].name, reject.message
                )));
            }
            let name = self.nodes[at].name.clone();
            self.closed_rows(&name, &passed.rows.batch, out)?;
        }
        Ok(())
    }

    /// Changed windows, through the queries below to the Update sinks. A row that a `where` refuses becomes a delete of its
    /// key (semantics 18).
    pub(super) fn changes(
        &mut self,
        node: &NodeName,
        rows: &RecordBatch,
        delete: Option<Vec<bool>>,
        out: &mut Vec<(NodeName, SinkBatch)>,
    ) -> Result<(), DataFusionError> {
        let delete = delete.unwrap_or_else(|| vec![false; rows.num_rows()]);
        for sink in self
            .sinks
            .iter()
            .filter(|sink| &sink.from == node && sink.update)
        {
            *self.ledger.sinks.entry(sink.name.clone()).or_default() += rows.num_rows() as u64;
            let changes = SinkBatch::Changes {
                rows: sink.written(rows)?,
                delete: delete.clone(),
            };
            out.push((sink.name.clone(), changes));
        }
        for at in 0..self.nodes.len() {
            let Step::Query(query) = &self.nodes[at].step else {
                continue;
            };
            if &self.nodes[at].from != node {
                continue;
            }
            let (projected, passes): (RecordBatch, BooleanArray) = query.changes(rows)?;
            let gone = refused(&passes)
                .into_iter()
                .zip(&delete)
                .map(|(refused, gone)| refused || *gone)
                .collect();
            let name = self.nodes[at].name.clone();
            self.changes(&name, &projected, Some(gone), out)?;
        }
        Ok(())
    }
}

impl SinkEnd {
    fn written(&self, rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        match &self.columns {
            Some(columns) => Ok(rows.project(columns)?),
            None => Ok(rows.clone()),
        }
    }
}
