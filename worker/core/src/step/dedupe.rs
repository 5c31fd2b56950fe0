//! `dedupe`: of rows with equal keys the first passes (semantics 20). Keys are known by a hash of 128 bits, for as long as a row
//! of the same key could still come in time.
//!
//! What the open epoch sees is kept apart until it is decided. Order: within a raw batch that of (split, position); batches as
//! they come.

mod files;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU128;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::DataFusionError;
use evp_api::plan::DedupeLate;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Rows, comparable};
use crate::check::DedupePlanned;
use crate::dead_letter::{Reject, RejectCode};
use crate::position::{Epoch, Micros};
use crate::protocol::head::Bucket;
use crate::record::RawBatch;
use crate::sql::is_meta;
use crate::state::StateChange;
pub use files::{Loaded, Reader};
use table::{Seen, Table};

/// A running `dedupe`.
#[derive(Debug)]
pub struct Dedupe {
    plan: DedupePlanned,
    hasher: Hasher,
    fingerprint: String,
    /// Keys of decided epochs; some of them may have expired.
    stored: Table,
    /// How many of them lie in each bucket of time. A bucket that is not here has expired.
    buckets: BTreeMap<Bucket, usize>,
    /// Keys that the open epoch saw first.
    open: Table,
    /// Rows that are older may be repetitions of what a reset forgot.
    from: i64,
}

/// Hashes rows.
#[derive(Debug)]
struct Hasher {
    keys: RowConverter,
    content: RowConverter,
    columns: Vec<usize>,
}

/// What deduplicating gave.
#[derive(Debug)]
pub struct Unique {
    /// The first row of each key.
    pub rows: Rows,
    /// Rows that repeat one.
    pub duplicates: u64,
    /// Those of them that are not the same in every column.
    pub conflicts: u64,
    /// Rows that came too late to be judged and do not pass.
    pub late: u64,
    /// Those of them that are to be kept.
    pub late_records: Vec<Reject>,
    /// Rows whose key is null.
    pub rejects: Vec<Reject>,
}

/// What closing an epoch gave. Nothing of it counts before [`Dedupe::commit`].
#[derive(Debug)]
pub struct Closing {
    expired: BTreeSet<Bucket>,
}

/// What becomes of one row.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Verdict {
    First,
    Duplicate { conflict: bool },
    Late,
}

impl Dedupe {
    /// One that has seen nothing.
    pub fn new(plan: DedupePlanned) -> Result<Self, DataFusionError> {
        Ok(Self {
            hasher: Hasher::new(&plan)?,
            fingerprint: files::fingerprint(&plan),
            stored: Table::default(),
            buckets: BTreeMap::new(),
            open: Table::default(),
            from: i64::MIN,
            plan,
        })
    }

    /// Forgets what the open epoch saw.
    pub fn abandon(&mut self) {
        self.open = Table::default();
    }

    /// Keys of rows that are older than this were forgotten by a reset: such rows are late.
    pub fn begin_at(&mut self, from: Micros) {
        self.from = from.0;
    }

    /// Judges rows of a raw batch; `watermark` is that of the last decided epoch (semantics 5, 6).
    pub fn push(
        &mut self,
        rows: Rows,
        raw: &RawBatch,
        watermark: Option<Micros>,
    ) -> Result<Unique, DataFusionError> {
        let w = watermark.map_or(i64::MIN, |w| w.0);
        let told = |name: &str| format!("`{name}` identifies an event and is null");
        let (rows, rejects) = rows.keyed(&self.plan.keys, told)?;
        let mut unique = Unique {
            duplicates: 0,
            conflicts: 0,
            late: 0,
            late_records: Vec::new(),
            rejects,
            rows: rows.into_owned(),
        };
        let times = unique.rows.batch.column(self.plan.event_time).clone();
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let hashes = self.hasher.hash(&unique.rows.batch, &self.plan.keys)?;
        let mut passes = vec![true; times.len()];
        for row in in_order(&unique.rows, raw) {
            let (hash, content) = hashes[row];
            let verdict = self.judge((hash, content), times[row], w);
            passes[row] = verdict == Verdict::First;
            match verdict {
                Verdict::First => {}
                Verdict::Duplicate { conflict } => {
                    unique.duplicates += 1;
                    unique.conflicts += u64::from(conflict);
                }
                Verdict::Late => {
                    unique.late += 1;
                    if self.plan.plan.late == DedupeLate::DeadLetter {
                        let record = unique.rows.origin[row];
                        unique.late_records.push(Self::told(record, times[row], w));
                    }
                }
            }
        }
        if passes.contains(&false) {
            unique.rows = unique.rows.filter(&BooleanArray::from(passes))?;
        }
        Ok(unique)
    }

    fn judge(&mut self, (hash, content): (NonZeroU128, u32), time: i64, w: i64) -> Verdict {
        let is_late = time < w || time < self.from;
        if is_late && self.plan.plan.late != DedupeLate::Pass {
            return Verdict::Late;
        }
        let repeated = |seen: &&Seen| self.is_remembered(seen.time, w) && self.is_near(seen, time);
        let first = self
            .stored
            .of(hash)
            .chain(self.open.of(hash))
            .find(repeated);
        if let Some(first) = first.map(|first| first.content) {
            let conflict = first != content;
            return Verdict::Duplicate { conflict };
        }
        if self.is_remembered(time, w) {
            self.open.insert(Seen {
                hash,
                time,
                content,
                changed: 0,
            });
        }
        Verdict::First
    }

    /// The key of a row of that time is kept: without `within` until the watermark passes the row, else until no row that is
    /// less than `within` away can come in time.
    fn is_remembered(&self, time: i64, w: i64) -> bool {
        match self.plan.plan.within {
            Some(within) => time.saturating_add(within) > w,
            None => time >= w,
        }
    }

    fn is_near(&self, seen: &Seen, time: i64) -> bool {
        let within = self.plan.plan.within;
        within.is_none_or(|within| seen.time.abs_diff(time) < within.unsigned_abs())
    }

    fn told(record: u32, time: i64, w: i64) -> Reject {
        let message = match time < w {
            true => "the row came after the watermark had passed it",
            false => "AfterReset: the row is of before the step was reset",
        };
        Reject {
            record,
            code: RejectCode::Late,
            message: message.into(),
            field: None,
        }
    }

    fn bucket(&self, time: i64) -> Bucket {
        Bucket(time.div_euclid(files::span(&self.plan.plan)))
    }

    /// No key of the bucket is remembered at that watermark.
    fn is_expired(&self, bucket: Bucket, w: i64) -> bool {
        let span = files::span(&self.plan.plan);
        let last = bucket.0.saturating_add(1).saturating_mul(span) - 1;
        !self.is_remembered(last, w)
    }

    /// Closes the epoch at the new watermark.
    pub fn close(&self, watermark: Option<Micros>) -> Closing {
        let w = watermark.map_or(i64::MIN, |w| w.0);
        let buckets = self.buckets.keys().copied();
        let opened = self.open.iter().map(|seen| self.bucket(seen.time));
        Closing {
            expired: buckets
                .chain(opened)
                .filter(|bucket| self.is_expired(*bucket, w))
                .collect(),
        }
    }

    /// What a closing does to the buckets of state files.
    pub fn change(&self, closing: &Closing) -> StateChange {
        let opened = self.open.iter().map(|seen| self.bucket(seen.time));
        let lives = |bucket: &Bucket| !closing.expired.contains(bucket);
        let stored = |bucket: &&Bucket| self.buckets.contains_key(*bucket);
        StateChange {
            changed: opened.filter(lives).collect(),
            gone: closing.expired.iter().filter(stored).copied().collect(),
        }
    }

    /// The epoch was decided.
    pub fn commit(&mut self, closing: &Closing, epoch: Epoch) {
        let open = std::mem::take(&mut self.open);
        for bucket in &closing.expired {
            self.buckets.remove(bucket);
        }
        for seen in open.iter() {
            let bucket = self.bucket(seen.time);
            if !closing.expired.contains(&bucket) {
                self.take_in(Seen {
                    changed: epoch_of(epoch),
                    ..*seen
                });
            }
        }
        self.sweep();
    }

    fn take_in(&mut self, seen: Seen) {
        *self.buckets.entry(self.bucket(seen.time)).or_default() += 1;
        self.stored.insert(seen);
    }

    /// Drops keys of expired buckets once they are an eighth of all, so that each costs the same however many there are.
    fn sweep(&mut self) {
        let live: usize = self.buckets.values().sum();
        if (self.stored.len() - live) * 8 > self.stored.len() {
            let span = files::span(&self.plan.plan);
            let Self {
                stored, buckets, ..
            } = self;
            let bucket = |seen: &Seen| Bucket(seen.time.div_euclid(span));
            stored.retain(|seen| buckets.contains_key(&bucket(seen)));
        }
    }

    /// Names what the state means: a head with another fingerprint does not fit.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Keys that are remembered.
    pub fn keys(&self) -> usize {
        self.stored.len() + self.open.len()
    }

    /// Bytes that the keys hold.
    pub fn state_bytes(&self) -> usize {
        self.stored.bytes() + self.open.bytes()
    }
}

fn epoch_of(epoch: Epoch) -> u32 {
    u32::try_from(epoch.0).unwrap_or(u32::MAX)
}

/// Rows in the order of (split, position) of their records.
fn in_order(rows: &Rows, raw: &RawBatch) -> Vec<usize> {
    let place = |row: &usize| {
        let record = &raw.records[rows.origin[*row] as usize];
        (&raw.splits[record.split as usize], record.position)
    };
    let mut order: Vec<usize> = (0..rows.batch.num_rows()).collect();
    if !order.is_sorted_by_key(place) {
        order.sort_by(|a, b| place(a).cmp(&place(b)));
    }
    order
}

impl Hasher {
    fn new(plan: &DedupePlanned) -> Result<Self, DataFusionError> {
        let fields = plan.columns.fields();
        let field = |&i: &usize| SortField::new(fields[i].data_type().clone());
        let columns: Vec<usize> = (0..fields.len())
            .filter(|&i| !is_meta(fields[i].name()))
            .collect();
        Ok(Self {
            keys: RowConverter::new(plan.keys.iter().map(field).collect())?,
            content: RowConverter::new(columns.iter().map(field).collect())?,
            columns,
        })
    }

    /// Hashes of each row's key and of all its columns.
    fn hash(
        &self,
        batch: &RecordBatch,
        keys: &[usize],
    ) -> Result<Vec<(NonZeroU128, u32)>, DataFusionError> {
        let of = |columns: &[usize]| -> Vec<ArrayRef> {
            columns
                .iter()
                .map(|&i| comparable(batch.column(i)))
                .collect()
        };
        let keys = self.keys.convert_columns(&of(keys))?;
        let contents = self.content.convert_columns(&of(&self.columns))?;
        let key = |row: &[u8]| NonZeroU128::new(xxh3_128(row)).unwrap_or(NonZeroU128::MIN);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "half of the bits are enough to tell a conflict"
        )]
        let content = |row: &[u8]| xxh3_64(row) as u32;
        let rows = keys.iter().zip(contents.iter());
        Ok(rows
            .map(|(k, c)| (key(k.as_ref()), content(c.as_ref())))
            .collect())
    }
}
