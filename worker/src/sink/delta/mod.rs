//! Delta tables: append ([`DeltaAppend`]) and upsert by key ([`DeltaUpsert`]).
//!
//! Both stage invisible objects while rows flow, put what is to be committed into the intent, and commit exactly once by
//! Delta's own marker: a `txn` action with the sink's identity and the epoch, read back after every doubt. What a commit
//! means under other writers is in [`apply`]; the two sinks differ only in what they commit.

mod actions;
mod added;
mod append;
mod apply;
mod log;
mod merge;
mod prune;
mod reader;
mod schema;
mod stats;
mod support;
mod target;
mod upsert;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use evp_api::reason;
use evp_core::protocol::head::SinkIdentity;

pub use append::DeltaAppend;
pub(crate) use target::Causes;
pub use target::Target;
pub use upsert::DeltaUpsert;

use self::schema::TableSchema;
use crate::checkpointer::CrashPoints;
use crate::clock::SharedClock;
use crate::sink::SinkError;
use crate::sink::data_files::Names;
use crate::sink::partition::Partitioning;

/// What both sinks need to know.
#[derive(Clone)]
pub struct DeltaSettings {
    /// Who writes: the name of our marker in the table, and the tag of our files.
    pub identity: SinkIdentity,
    /// The table.
    pub target: Target,
    /// The rows that will come.
    pub rows: SchemaRef,
    /// Partition columns.
    pub partition_by: Vec<String>,
    /// A nonce of this run, in letters that may stand in an object's name: no other run has it.
    pub nonce: String,
    /// Time, for what people read.
    pub clock: SharedClock,
    /// For crash tests, this sink's.
    pub crash: CrashPoints,
}

/// The checked shape of the table.
struct Shape {
    schema: TableSchema,
    partitioning: Arc<Partitioning>,
}

impl DeltaSettings {
    /// `Stop` if the rows cannot be stored as a Delta table at all.
    fn shape(&self) -> Result<Shape, SinkError> {
        let refuse = |why: String| self.target.stop(reason::TABLE_MISMATCH, &why);
        let schema = TableSchema::new(&self.rows).map_err(refuse)?;
        let partitioning = Partitioning::new(&schema.arrow, &self.partition_by).map_err(refuse)?;
        Ok(Shape {
            schema,
            partitioning: Arc::new(partitioning),
        })
    }

    fn names(&self) -> Names {
        Names {
            stem: format!("{}-{}", self.identity.id8(), self.nonce),
            next: 0,
        }
    }
}
