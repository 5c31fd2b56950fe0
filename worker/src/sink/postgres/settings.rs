//! What a PostgreSQL sink is wired with.

use arrow::datatypes::SchemaRef;
use evp_api::plan::{Mode, PostgresPlan};
use evp_core::position::{Epoch, Term};

use crate::checkpointer::CrashPoints;
use crate::secrets::Secrets;
use crate::sink::outbox::Outbox;

/// What a PostgreSQL sink needs to know.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Server and table.
    pub plan: PostgresPlan,
    /// Credentials.
    pub secrets: Secrets,
    /// The rows that will come.
    pub rows: SchemaRef,
    /// How they become content.
    pub mode: Mode,
    /// Columns that identify a row; none: rows are only added.
    pub keys: Vec<String>,
    /// A null in a key is a value like others; else the row is refused.
    pub null_keys: bool,
    /// Rows that the database refuses are kept beside the table; else they stop the sink.
    pub keeps_rejects: bool,
    /// Who writes.
    pub writer: PostgresWriter,
    /// Where rows are staged.
    pub outbox: Outbox,
    /// A nonce of this run, in letters that may stand in an object's name: no other run has it.
    pub nonce: String,
    /// For crash tests, this sink's.
    pub crash: CrashPoints,
}

/// Under which name a sink's progress is remembered in the database.
#[derive(Clone, Debug)]
pub struct PostgresWriter {
    /// Hex digest over checkpoint id, lane, name and target; no incarnation is in it.
    pub sink: String,
    /// The sink's name.
    pub name: String,
    /// Incarnation of the checkpoint.
    pub incarnation: String,
    /// The epoch at which the sink entered the plan.
    pub added_at: Epoch,
    /// Under which the lane is owned; 0: the sink is only asked.
    pub term: Term,
}
