//! State files: named sections of typed columns (Arrow IPC), with what they were written for in front; and which of them an
//! epoch writes.
//!
//! `DataFusion`'s state layouts are no promised format: a file names the engine, and a fingerprint names the meaning of its
//! rows. A mismatch is an error, never a guess.

pub(crate) mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::{DataFusionError, exec_datafusion_err};
use serde::{Deserialize, Serialize};

use crate::position::Epoch;
use crate::protocol::head::{Bucket, Run, StateFile, StepState};

/// Engine and layout of state rows.
pub const ENGINE: &str = "datafusion-55/2";

/// Marks a state file, with its version.
const MAGIC: &[u8; 8] = b"EVPSTAT1";

/// What an epoch does to the buckets of a step's state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StateChange {
    /// Buckets of which something is written.
    pub changed: BTreeSet<Bucket>,
    /// Buckets whose last window closed.
    pub gone: BTreeSet<Bucket>,
}

/// A file to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateWrite {
    /// The run that it is a part of.
    pub at: RunAt,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Where a new run goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunAt {
    /// Bucket.
    pub bucket: Bucket,
    /// Runs that stay before it; it takes the place of the others.
    pub kept: usize,
    /// Its tier.
    pub tier: u8,
}

impl StateChange {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }

    /// The change is written by `epoch`: `files` as they came from the dataflow, each as it is named.
    pub fn record(
        &self,
        state: &mut StepState,
        epoch: Epoch,
        files: impl IntoIterator<Item = (RunAt, StateFile)>,
    ) {
        let mut new: BTreeMap<Bucket, (RunAt, Vec<StateFile>)> = BTreeMap::new();
        for (at, file) in files {
            let run = new.entry(at.bucket).or_insert_with(|| (at, Vec::new()));
            run.1.push(file);
        }
        for (bucket, (at, files)) in new {
            let runs = state.buckets.entry(bucket).or_default();
            runs.truncate(at.kept);
            runs.push(Run {
                epoch,
                tier: at.tier,
                files,
            });
        }
        state
            .buckets
            .retain(|bucket, _| !self.gone.contains(bucket));
    }
}

/// A state file that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was written by another version of the engine or for another meaning of the step.
    #[error(
        "the state was written for another meaning of the step: it has {found}, the step has {wanted}"
    )]
    Incompatible {
        /// In the file.
        found: String,
        /// Of the step.
        wanted: String,
    },
    /// It cannot be read.
    #[error("the state file cannot be read")]
    Unreadable(#[source] DataFusionError),
}

/// One table of a state file.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) batches: Vec<RecordBatch>,
}

/// A state file that was read.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) fingerprint: String,
    pub(crate) sections: Vec<Section>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    engine: String,
    fingerprint: String,
    sections: Vec<(String, usize)>,
}

impl Section {
    pub(crate) fn new(
        name: &str,
        fields: &[Field],
        columns: Vec<ArrayRef>,
    ) -> Result<Self, DataFusionError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nullable: Vec<Field> = fields
            .iter()
            .map(|f| f.clone().with_nullable(true))
            .collect();
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns, &options)?;
        Ok(Self {
            name: name.to_owned(),
            batches: vec![batch],
        })
    }

    /// Starts of windows whose rows are gone.
    pub(crate) fn closed(starts: &[i64]) -> Result<Self, DataFusionError> {
        let fields = [Field::new("window_start", DataType::Int64, false)];
        Self::new(
            "closed",
            &fields,
            vec![Arc::new(Int64Array::from(starts.to_vec()))],
        )
    }
}

/// The starts in a `closed` section.
pub(crate) fn closed_starts(batch: &RecordBatch) -> Vec<i64> {
    batch
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

/// Layout: magic, length of the header (u32, big endian), header (JSON), the sections' IPC streams.
pub(crate) fn encode(fingerprint: &str, sections: &[Section]) -> Result<Vec<u8>, DataFusionError> {
    let mut streams = Vec::new();
    for section in sections {
        let Some(first) = section.batches.first() else {
            continue;
        };
        let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
        section
            .batches
            .iter()
            .try_for_each(|batch| writer.write(batch))?;
        streams.push((section.name.clone(), writer.into_inner()?));
    }
    let header = Header {
        engine: ENGINE.to_owned(),
        fingerprint: fingerprint.to_owned(),
        sections: streams
            .iter()
            .map(|(name, stream)| (name.clone(), stream.len()))
            .collect(),
    };
    let header = serde_json::to_vec(&header).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let length = u32::try_from(header.len()).map_err(|e| DataFusionError::External(Box::new(e)))?;
    let mut file = MAGIC.to_vec();
    file.extend(length.to_be_bytes());
    file.extend(header);
    streams
        .into_iter()
        .for_each(|(_, stream)| file.extend(stream));
    Ok(file)
}

pub(crate) fn decode(file: &[u8]) -> Result<Decoded, DataFusionError> {
    let torn = || exec_datafusion_err!("not a state file of this version");
    let rest = file.strip_prefix(MAGIC).ok_or_else(torn)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(torn)?;
    let (header, mut rest) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or_else(torn)?;
    let header: Header = serde_json::from_slice(header).map_err(|_| torn())?;
    if header.engine != ENGINE {
        return Err(exec_datafusion_err!(
            "written by engine {}, this is {ENGINE}",
            header.engine
        ));
    }
    let mut sections = Vec::new();
    for (name, length) in header.sections {
        let (stream, after) = rest.split_at_checked(length).ok_or_else(torn)?;
        let batches =
            StreamReader::try_new(Cursor::new(stream), None)?.collect::<Result<Vec<_>, _>>()?;
        sections.push(Section { name, batches });
        rest = after;
    }
    Ok(Decoded {
        fingerprint: header.fingerprint,
        sections,
    })
}
