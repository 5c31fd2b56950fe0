//! Rows of a sink that cannot hold staged data: objects in the checkpoint, Arrow IPC files. Written before their epoch is
//! decided, named by its intent with length and checksum, read when it is applied, swept by the checkpointer.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use evp_api::reason;
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Intent, StateFile};
use evp_core::protocol::paths::Lane;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::SinkError;
use super::delta::Target;

/// Where a sink's outbox objects go.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Folder of the checkpoint.
    pub checkpoint: Target,
    /// The lane.
    pub lane: Lane,
}

/// An object in the outbox, as the intent names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// In the lane's outbox.
    name: String,
    length: u64,
    digest: Digest,
}

/// What an intent says of the outbox, whichever sink's it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    One(Stored),
    Parts(Vec<Stored>),
}

/// The outbox objects that an intent names, as a body names files: whole, by length and checksum.
pub fn staged(intent: &Intent) -> Vec<StateFile> {
    let file = |stored: Stored| StateFile {
        name: stored.name,
        length: stored.length,
        sha256: stored.digest,
    };
    let outbox = intent.body.get("outbox").cloned().unwrap_or_default();
    match serde_json::from_value(outbox) {
        Ok(Named::One(stored)) => vec![file(stored)],
        Ok(Named::Parts(parts)) => parts.into_iter().map(file).collect(),
        Err(_) => Vec::new(),
    }
}

impl Outbox {
    fn location(&self, name: &str) -> Result<Path, SinkError> {
        self.checkpoint.child(&self.lane.outbox(name))
    }

    /// Makes rows durable under a name that nobody else uses.
    pub(super) async fn put(&self, name: &str, rows: &RecordBatch) -> Result<Stored, SinkError> {
        let place = &self.checkpoint;
        let bytes =
            encode(rows).map_err(|e| place.unavailable("staged rows cannot be encoded", &e))?;
        let location = self.location(name)?;
        let stored = Stored {
            name: name.to_owned(),
            length: bytes.len() as u64,
            digest: Digest::of(&bytes),
        };
        let put = place.store.put(&location, bytes.into()).await;
        put.map_err(|e| place.unavailable("rows cannot be put into the outbox", &e))?;
        Ok(stored)
    }

    /// Reads them back, whole: nothing is handed out before all of it is what was written.
    pub(super) async fn get(&self, stored: &Stored) -> Result<RecordBatch, SinkError> {
        let place = &self.checkpoint;
        let location = self.location(&stored.name)?;
        let bytes = match place.store.get(&location).await {
            Ok(found) => found
                .bytes()
                .await
                .map_err(|e| place.unavailable("the outbox", &e))?,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(self.damaged(stored, "is gone"));
            }
            Err(e) => return Err(place.unavailable("the outbox", &e)),
        };
        if bytes.len() as u64 != stored.length || Digest::of(&bytes) != stored.digest {
            return Err(self.damaged(stored, "is not what was written"));
        }
        decode(&bytes).map_err(|e| self.damaged(stored, &format!("cannot be read: {e}")))
    }

    /// An object that is not what the intent says.
    pub(super) fn damaged(&self, stored: &Stored, what: &str) -> SinkError {
        let what = format!(
            "the outbox object {} {what}; restore the object",
            stored.name
        );
        self.checkpoint.stop(reason::CHECKPOINT_DAMAGED, &what)
    }
}

fn encode(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    let mut file = FileWriter::try_new(&mut bytes, &rows.schema())?;
    file.write(rows)?;
    file.finish()?;
    drop(file);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let file = FileReader::try_new(Cursor::new(bytes), None)?;
    let schema = file.schema();
    let batches = file.collect::<Result<Vec<_>, _>>()?;
    concat_batches(&schema, &batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evp_core::position::Epoch;
    use evp_core::protocol::head::SinkIdentity;
    use serde_json::json;

    #[test]
    fn an_intent_names_its_objects_one_or_several() {
        let stored = |name: &str| json!({"name": name, "length": 1, "digest": "d"});
        let named = |body| {
            let intent = Intent {
                sink: SinkIdentity("s".to_owned()),
                epoch: Epoch(2),
                prev: None,
                body,
                apart: None,
            };
            let files = staged(&intent).into_iter().map(|file| file.name);
            files.collect::<Vec<_>>()
        };
        assert_eq!(
            named(json!({"outbox": stored("2-a"), "changes": 3})),
            ["2-a"]
        );
        let parts = json!({"outbox": [stored("2-a"), stored("2-b")], "records": 3});
        assert_eq!(named(parts), ["2-a", "2-b"]);
        assert_eq!(named(json!({"adds": []})), [""; 0]);
    }
}
