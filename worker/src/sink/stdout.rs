//! One JSON object a row on standard output, for local runs. At least once: rows are printed when their epoch is sealed, before
//! it is decided; an epoch that is computed again is printed again. So there is nothing to apply later.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::Intent;

use crate::checkpointer::CommitPermit;
use crate::sink::{Applied, Sink, SinkError};

/// Bytes of text that one epoch may hold back until it is sealed; more are printed at once.
const HELD_BYTES: usize = 1 << 20;

/// Standard output.
#[derive(Debug)]
pub struct StdoutSink<W> {
    out: W,
    /// Lines of the open epoch.
    open: Vec<u8>,
}

impl<W: Write + Send> StdoutSink<W> {
    /// Prints to this, which is standard output but in tests.
    pub fn new(out: W) -> Self {
        Self {
            out,
            open: Vec::new(),
        }
    }

    fn print(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        let printed = self.out.write_all(lines).and_then(|()| self.out.flush());
        printed.map_err(|e| SinkError::Unavailable {
            reason: reason::SINK_UNAVAILABLE,
            message: format!("standard output: {e}"),
        })
    }
}

fn lines(rows: &RecordBatch) -> Result<Vec<u8>, SinkError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let written = writer.write(rows).and_then(|()| writer.finish());
    written.map_err(|e| SinkError::Stop {
        reason: reason::PLAN_REFUSED,
        message: format!("standard output: rows cannot be printed as JSON: {e}"),
    })?;
    Ok(writer.into_inner())
}

#[async_trait]
impl<W: Write + Send> Sink for StdoutSink<W> {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        match batch {
            SinkBatch::Rows(rows) => self.open.extend(lines(&rows)?),
            SinkBatch::Changes { rows, delete } => {
                for (row, delete) in delete.into_iter().enumerate() {
                    let line = lines(&rows.slice(row, 1))?;
                    self.open.extend_from_slice(if delete {
                        b"{\"delete\":"
                    } else {
                        b"{\"upsert\":"
                    });
                    self.open.extend_from_slice(line.trim_ascii_end());
                    self.open.extend_from_slice(b"}\n");
                }
            }
        }
        if self.open.len() > HELD_BYTES {
            let lines = std::mem::take(&mut self.open);
            self.print(&lines)?;
        }
        Ok(())
    }

    async fn seal(&mut self, _epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        let lines = std::mem::take(&mut self.open);
        self.print(&lines)?;
        Ok(None)
    }

    async fn abandon(&mut self) {
        self.open.clear();
    }

    async fn apply(&mut self, _: &Intent, _: &CommitPermit) -> Result<Applied, SinkError> {
        Ok(Applied::default())
    }

    /// It has no memory and seals without intents: what the head says of it holds.
    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        Ok(intent.prev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use evp_core::protocol::decide::{Marker, RollForward, standing};
    use evp_core::protocol::head::SinkIdentity;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_row_is_a_line_of_json() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
        let mut sink = StdoutSink::new(Vec::new());
        sink.stage(SinkBatch::Rows(rows.clone())).await.unwrap();
        sink.stage(SinkBatch::Changes {
            rows,
            delete: vec![false, true],
        })
        .await
        .unwrap();
        assert_eq!(sink.seal(Epoch(1)).await.unwrap(), None);
        let text = String::from_utf8(sink.out).unwrap();
        assert_eq!(
            text,
            "{\"id\":1}\n{\"id\":2}\n{\"upsert\":{\"id\":1}}\n{\"delete\":{\"id\":2}}\n"
        );
    }

    #[tokio::test]
    async fn a_pipeline_that_prints_can_be_resumed() {
        let next = Intent {
            sink: SinkIdentity("s".to_owned()),
            epoch: Epoch(5),
            prev: None,
            body: serde_json::Value::Null,
            apart: None,
        };
        let marker = Marker {
            held: StdoutSink::new(Vec::new()).probe(&next).await.unwrap(),
            head: Epoch(4),
            fresh: true,
        };
        assert_eq!(standing(&next, marker), RollForward::Done);
    }
}
