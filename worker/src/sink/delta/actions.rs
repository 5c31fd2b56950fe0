//! The lines of a commit, as the Delta protocol spells them, and the little of a file that an intent keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::schema::TableSchema;

/// A data file that is in the store and not yet in the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AddFile {
    /// Below the table's folder, percent-encoded once as the log wants it.
    pub path: String,
    /// Texts as the protocol's "Partition Value Serialization" has them.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the Unix epoch.
    pub modification_time: i64,
    /// `numRecords`, `minValues`, `maxValues`, `nullCount`, as JSON text.
    pub stats: String,
}

/// A data file of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ActiveFile {
    /// As the log has it.
    pub path: String,
    /// Partition values.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: u64,
    /// As [`AddFile::stats`]; `None`: its writer gave none.
    pub stats: Option<String>,
    /// Some of its rows are deleted by a deletion vector.
    pub has_deletion_vector: bool,
}

/// Who commits what for which application.
#[derive(Clone, Debug)]
pub(super) struct CommitInfo<'a> {
    /// Milliseconds since the Unix epoch.
    pub now: i64,
    /// `WRITE`, `MERGE`.
    pub operation: &'static str,
    /// Details of the operation.
    pub parameters: Value,
    /// Nothing of the table was read.
    pub blind: bool,
    /// The version that was read; `None`: there was no table.
    pub read: Option<u64>,
    /// Application and its version: who must not commit twice.
    pub app: (&'a str, u64),
}

/// A commit in the making.
#[derive(Debug)]
pub(super) struct Commit(Vec<Value>);

impl Commit {
    /// Starts with who and what; the transaction marker is always in.
    pub(super) fn new(info: &CommitInfo<'_>) -> Self {
        let mut commit = json!({
            "timestamp": info.now,
            "operation": info.operation,
            "operationParameters": info.parameters,
            "isolationLevel": "Serializable",
            "isBlindAppend": info.blind,
            "engineInfo": concat!("EventPipeline/", env!("CARGO_PKG_VERSION")),
        });
        if let Some(version) = info.read {
            commit["readVersion"] = json!(version);
        }
        let (app, version) = info.app;
        Self(vec![
            json!({"commitInfo": commit}),
            json!({"txn": {"appId": app, "version": version, "lastUpdated": info.now}}),
        ])
    }

    /// Creates the table. `id` is a UUID.
    pub(super) fn create(
        &mut self,
        id: &str,
        schema: &TableSchema,
        partition_by: &[String],
        now: i64,
    ) {
        self.0
            .push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
        self.0.push(json!({"metaData": {
            "id": id,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.text(),
            "partitionColumns": partition_by,
            "configuration": {},
            "createdTime": now,
        }}));
    }

    /// Adds a file.
    pub(super) fn add(&mut self, file: &AddFile) {
        self.0.push(json!({"add": {
            "path": file.path,
            "partitionValues": file.partition_values,
            "size": file.size,
            "modificationTime": file.modification_time,
            "dataChange": true,
            "stats": file.stats,
        }}));
    }

    /// Removes a file, as of now (milliseconds).
    pub(super) fn remove(&mut self, file: &ActiveFile, now: i64) {
        self.0.push(json!({"remove": {
            "path": file.path,
            "deletionTimestamp": now,
            "dataChange": true,
            "extendedFileMetadata": true,
            "partitionValues": file.partition_values,
            "size": file.size,
        }}));
    }

    /// Takes the marker out.
    #[cfg(test)]
    pub(super) fn forget_marker(&mut self) {
        self.0.retain(|action| action.get("txn").is_none());
    }

    /// One line an action.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut text = String::new();
        for action in self.0 {
            if mistaken!(NoTxn) && action.get("txn").is_some() {
                continue;
            }
            text.push_str(&action.to_string());
            text.push('\n');
        }
        text.into_bytes()
    }
}
