//! The graph of one pipeline: raw batches in, rows for sinks, rejects and state changes out. Synchronous.

use arrow::record_batch::RecordBatch;

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
