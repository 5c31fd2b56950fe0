//! Why an epoch could not be computed. A record that cannot be processed is no error: it is a reject.

use datafusion_common::DataFusionError;
use evp_api::plan::NodeName;

/// The epoch cannot be computed. Abandon it: the state is that of the last decided one.
#[derive(Debug, thiserror::Error)]
pub enum DataflowError {
    /// An expression or an accumulator failed, and no single record is to blame.
    #[error("{}", .0.strip_backtrace())]
    Compute(#[from] DataFusionError),
    /// A step below an aggregate cannot compute a row of a window. There is no record to route away.
    #[error(
        "step {step} cannot compute a row of a window: {why}; make its text fit every row, for example by nullif(x, 0)"
    )]
    WindowRow {
        /// The step.
        step: NodeName,
        /// What failed, without the values it failed on.
        why: String,
    },
    /// An aggregate's value does not fit its type.
    #[error("step {step}: {why}; leave such rows out by a `where`, or widen the type by a CAST")]
    Overflow {
        /// The aggregate.
        step: NodeName,
        /// What failed.
        why: String,
    },
    /// The steps hold more state than they are allowed to.
    #[error(
        "the state takes {bytes} bytes and may take {allowed}; most of it is held by step {step}: give the worker more memory, \
         or let windows close sooner"
    )]
    StateTooLarge {
        /// The step that holds most.
        step: NodeName,
        /// Bytes of all steps.
        bytes: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The counts of the epoch do not balance (semantics 28).
    #[error("the ledger does not balance: {0}")]
    Unbalanced(String),
    /// A batch is of a source that the plan does not have.
    #[error("the plan has no source {0}")]
    UnknownSource(NodeName),
}
