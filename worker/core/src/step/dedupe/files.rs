//! Keys on their way into state files and back. A bucket holds the keys of a stretch of event time; they are never changed,
//! only added, and go all together.

use std::num::NonZeroU128;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, UInt32Type};
use datafusion_common::{DataFusionError, exec_datafusion_err};
use evp_api::plan::DedupePlan;

use super::{Dedupe, Seen, epoch_of};
use crate::check::DedupePlanned;
use crate::position::Epoch;
use crate::protocol::head::{Bucket, Run, StepState};
use crate::state::tiers::{self, Plan};
use crate::state::{self, RestoreError, RunAt, Section, StateChange, StateWrite};

/// Keys that one file holds at most. Small in laws, so that runs of several files are ordinary there.
const PART: usize = if cfg!(test) { 50 } else { 75_000 };

/// Buckets are at least so long, in microseconds.
const LEAST_SPAN: i64 = 3_600_000_000;

/// Buckets that `within` is cut into, at most.
const BUCKETS: i64 = 24;

/// Length of a bucket.
pub(super) fn span(plan: &DedupePlan) -> i64 {
    (plan.within.unwrap_or(0) / BUCKETS).max(LEAST_SPAN)
}

/// What the keys mean, and how they are hashed.
pub(super) fn fingerprint(plan: &DedupePlanned) -> String {
    let column = |i: usize| {
        let field = plan.columns.field(i);
        format!("{} {}", field.name(), field.data_type())
    };
    let keys: Vec<String> = plan.keys.iter().map(|&i| column(i)).collect();
    let within = plan
        .plan
        .within
        .map_or("watermark".into(), |w| w.to_string());
    let (keys, time) = (keys.join(", "), column(plan.event_time));
    format!("dedupe/1 xxh3-128 keys ({keys}) time {time} within {within}")
}

/// Reads state files of one `dedupe`.
#[derive(Clone, Debug)]
pub struct Reader(Arc<str>);

/// What one file held.
#[derive(Debug, Default)]
pub struct Loaded(Vec<RecordBatch>);

impl Reader {
    /// What a file holds.
    pub fn read(&self, file: &[u8]) -> Result<Loaded, RestoreError> {
        let decoded = state::decode(file).map_err(RestoreError::Unreadable)?;
        if *decoded.fingerprint != *self.0 {
            return Err(RestoreError::Incompatible {
                found: decoded.fingerprint,
                wanted: self.0.to_string(),
            });
        }
        let batches = decoded.sections.into_iter().flat_map(|s| s.batches);
        let loaded = Loaded(batches.collect());
        let fits = loaded.0.iter().all(|batch| columns_of(batch).is_some());
        match fits {
            true => Ok(loaded),
            false => Err(RestoreError::Unreadable(exec_datafusion_err!(
                "not a table of keys"
            ))),
        }
    }
}

type Columns<'a> = (&'a FixedSizeBinaryArray, &'a [i64], &'a [u32]);

fn columns_of(batch: &RecordBatch) -> Option<Columns<'_>> {
    let [hashes, times, contents] = batch.columns() else {
        return None;
    };
    Some((
        hashes
            .as_fixed_size_binary_opt()
            .filter(|h| h.value_length() == 16)?,
        times.as_primitive_opt::<Int64Type>()?.values(),
        contents.as_primitive_opt::<UInt32Type>()?.values(),
    ))
}

impl Dedupe {
    /// Reads files of this state, in any thread.
    pub fn reader(&self) -> Reader {
        Reader(self.fingerprint().into())
    }

    /// Takes in what a file holds that `epoch` wrote.
    pub fn restore(&mut self, loaded: &Loaded, epoch: Epoch) {
        let columns = loaded.0.iter().filter_map(columns_of);
        for (hashes, times, contents) in columns {
            for (row, (&time, &content)) in times.iter().zip(contents).enumerate() {
                let hash = hashes.value(row).try_into().map_or(0, u128::from_be_bytes);
                self.take_in(Seen {
                    hash: NonZeroU128::new(hash).unwrap_or(NonZeroU128::MIN),
                    time,
                    content,
                    changed: epoch_of(epoch),
                });
            }
        }
    }

    /// The files of a change, beside those that `held` names; each is made when it is asked for.
    pub fn writes<'a>(
        &'a self,
        change: &'a StateChange,
        held: &'a StepState,
    ) -> impl Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a {
        change.changed.iter().flat_map(move |&bucket| {
            let runs = held.buckets.get(&bucket).map_or(&[][..], Vec::as_slice);
            let Plan { kept, tier } = self.plan_of(bucket, runs);
            let since = kept
                .checked_sub(1)
                .map(|newest| epoch_of(runs[newest].epoch));
            let of_bucket = move |seen: &&Seen| self.bucket(seen.time) == bucket;
            let is_new = move |seen: &&Seen| since.is_none_or(|since| seen.changed > since);
            // What no run that is replaced holds is of the open epoch: nothing else need be looked at.
            let looks = kept < runs.len() || runs.is_empty();
            let stored = looks.then(|| self.stored.iter().filter(of_bucket).filter(is_new));
            let rows = stored.into_iter().flatten();
            let rows = rows.chain(self.open.iter().filter(of_bucket));
            let at = RunAt { bucket, kept, tier };
            self.parts(rows, at)
        })
    }

    /// Which runs of a bucket stay, by the number of its new keys.
    fn plan_of(&self, bucket: Bucket, runs: &[Run]) -> Plan {
        let keys = self.open.iter();
        let new = keys.filter(|s| self.bucket(s.time) == bucket).count();
        tiers::plan(runs, (new * BYTES) as u64)
    }

    fn parts<'a>(
        &'a self,
        mut rows: impl Iterator<Item = &'a Seen> + Send + 'a,
        at: RunAt,
    ) -> impl Iterator<Item = Result<StateWrite, DataFusionError>> + Send + 'a {
        std::iter::from_fn(move || {
            let part: Vec<&Seen> = rows.by_ref().take(PART).collect();
            (!part.is_empty()).then(|| {
                let bytes = self.encode(&part)?;
                Ok(StateWrite { at, bytes })
            })
        })
    }

    fn encode(&self, part: &[&Seen]) -> Result<Vec<u8>, DataFusionError> {
        let hashes = part.iter().map(|seen| seen.hash.get().to_be_bytes());
        let times = part.iter().map(|seen| seen.time);
        let contents = part.iter().map(|seen| seen.content);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter(hashes)?),
            Arc::new(Int64Array::from_iter_values(times)),
            Arc::new(UInt32Array::from_iter_values(contents)),
        ];
        let fields = FIELDS.map(|(name, data_type)| Field::new(name, data_type, false));
        let section = Section::new("keys", &fields, columns)?;
        state::encode(self.fingerprint(), &[section])
    }
}

/// Bytes of a key in a file.
const BYTES: usize = 28;

/// Columns of a state file.
const FIELDS: [(&str, DataType); 3] = [
    ("hash", DataType::FixedSizeBinary(16)),
    ("time", DataType::Int64),
    ("content", DataType::UInt32),
];
