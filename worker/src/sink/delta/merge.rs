//! Copy-on-write merge of a change set into a table: which files hold changed rows, and those files written anew.
//!
//! Streams: no file is ever in memory as a whole, only the change set is. A file is read twice if a row of it changes (to
//! find that out, and to copy the others), once if none does, never if its statistics exclude every key.
//!
//! Which file a row goes to, so that there are few small files: rows that changed stay with the file they were in. Files
//! up to [`SMALL_BYTES`] that are written anew become one file together, and the table's new rows go there too; if there
//! are new rows and no such file, the smallest file of that size is written anew with them. So a table written by us alone
//! has one small file, and an epoch with few changes costs about one file of that size.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
use evp_api::reason;
use futures::StreamExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use parquet::errors::ParquetError;

use super::actions::{ActiveFile, AddFile};
use super::added::AddedFiles;
use super::prune::ChangedKeys;
use super::reader::ObjectReader;
use super::schema::TableSchema;
use super::target::Target;
use crate::sink::SinkError;
use crate::sink::changes::{Changes, Keys};

/// Files up to this size are written anew to take new rows in. Tests have large files sooner.
pub(super) const SMALL_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 4 << 20 };

/// Rows read at a time.
const BATCH_ROWS: usize = 8192;

/// Row groups below this many bytes are read without asking their bloom filters.
const BLOOM_WORTH_BYTES: i64 = 256 << 10;

/// What to commit.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Files whose rows are now elsewhere or gone.
    pub remove: Vec<ActiveFile>,
    /// Files with them.
    pub add: Vec<AddFile>,
}

/// One change set against one snapshot.
pub(super) struct Merge<'a> {
    target: &'a Target,
    schema: &'a TableSchema,
    keys: &'a Keys,
    changes: &'a Changes,
    pruning: ChangedKeys,
    /// Row of the change set by key.
    rows: HashMap<Box<[u8]>, u32>,
}

/// What a change means for the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The table has no such key: an upsert is a new row, a delete nothing.
    Absent,
    /// The table holds exactly this row.
    Same,
    /// What the table holds under the key goes; an upsert's row comes.
    Changed,
    /// The upsert's row has come.
    Placed,
}

/// What is to be written.
struct Rewriting<'a> {
    /// Files in which a row changes.
    found: Vec<Hits<'a>>,
    /// The small file that takes new rows in though no row of it changes.
    absorbed: Option<&'a ActiveFile>,
    /// New rows.
    fresh: Vec<u32>,
}

/// A file and the changes whose keys are in it.
struct Hits<'a> {
    file: &'a ActiveFile,
    changes: Vec<u32>,
}

impl<'a> Merge<'a> {
    /// Indexes the changes.
    pub(super) fn new(
        target: &'a Target,
        schema: &'a TableSchema,
        keys: &'a Keys,
        changes: &'a Changes,
    ) -> Result<Self, SinkError> {
        let found = keys.of(&changes.rows);
        let found = found.map_err(|e| target.unavailable("keys cannot be compared", &e))?;
        let rows = found
            .iter()
            .map(|key| Box::from(key.as_ref()))
            .zip(0..)
            .collect();
        Ok(Self {
            target,
            schema,
            keys,
            changes,
            pruning: ChangedKeys::new(&changes.rows, keys.columns()),
            rows,
        })
    }

    /// Finds what changes in these files and writes it. Nothing is in the log yet.
    pub(super) async fn run(
        &self,
        files: &[ActiveFile],
        out: &mut AddedFiles,
    ) -> Result<Merged, SinkError> {
        let mut fates = vec![Fate::Absent; self.changes.rows.num_rows()];
        let mut found = Vec::new();
        for file in files {
            if self.pruning.may_be_in(file.stats.as_deref()) {
                found.push(self.search(file, &mut fates).await?);
            }
        }
        let rewriting = self.plan(files, found, &fates);
        let mut merged = Merged::default();
        self.write_small(&rewriting, &mut fates, out).await?;
        merged.add.extend(out.finish().await?);
        let Rewriting {
            found, absorbed, ..
        } = rewriting;
        for hits in found.iter().filter(|hits| !is_small(hits.file)) {
            self.copy(hits.file, &fates, out).await?;
            self.write_changed(hits, &mut fates, out).await?;
            merged.add.extend(out.finish().await?);
        }
        let gone = found.iter().map(|hits| hits.file).chain(absorbed);
        merged.remove.extend(gone.cloned());
        Ok(merged)
    }

    fn plan<'f>(
        &self,
        files: &'f [ActiveFile],
        mut found: Vec<Hits<'f>>,
        fates: &[Fate],
    ) -> Rewriting<'f> {
        let changed = |change: &u32| fates[*change as usize] == Fate::Changed;
        found.retain(|hits| hits.changes.iter().any(changed));
        let absent = (0..).zip(fates).filter(|(_, fate)| **fate == Fate::Absent);
        let fresh = self.upserts(absent.map(|(change, _)| change));
        let absorbs = !fresh.is_empty() && !found.iter().any(|hits| is_small(hits.file));
        let whole = |file: &&ActiveFile| {
            is_small(file) && !file.has_deletion_vector && self.target.data_file(&file.path).is_ok()
        };
        let smallest = files.iter().filter(whole).min_by_key(|file| file.size);
        Rewriting {
            found,
            absorbed: smallest.filter(|_| absorbs),
            fresh,
        }
    }

    /// Pass one over a file: which changes meet a row, and is it another row?
    async fn search<'f>(
        &self,
        file: &'f ActiveFile,
        fates: &mut [Fate],
    ) -> Result<Hits<'f>, SinkError> {
        let mut hits = Hits {
            file,
            changes: Vec::new(),
        };
        let mut batches = self.open(file, true).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|e| self.unreadable(file, &e))?;
            let met = self.meet(&batch, fates, &mut hits.changes);
            met.map_err(|e| self.unreadable(file, &e))?;
        }
        Ok(hits)
    }

    fn meet(
        &self,
        batch: &RecordBatch,
        fates: &mut [Fate],
        hits: &mut Vec<u32>,
    ) -> Result<(), ArrowError> {
        let batch = self.schema.shape(batch)?;
        let mut compare = None;
        for (row, key) in self.keys.of(&batch)?.iter().enumerate() {
            let Some(&change) = self.rows.get(key.as_ref()) else {
                continue;
            };
            let at = change as usize;
            hits.push(change);
            // A key that is there twice (somebody else's doing) becomes one row.
            let once = fates[at] == Fate::Absent && !self.changes.delete.value(at);
            let compare = compare.get_or_insert_with(|| comparators(&batch, &self.changes.rows));
            let same = once
                && compare
                    .as_ref()
                    .is_some_and(|c| c.iter().all(|c| c(row, at) == Ordering::Equal));
            fates[at] = if same { Fate::Same } else { Fate::Changed };
        }
        Ok(())
    }

    async fn write_small(
        &self,
        rewriting: &Rewriting<'_>,
        fates: &mut [Fate],
        out: &mut AddedFiles,
    ) -> Result<(), SinkError> {
        let small = || rewriting.found.iter().filter(|hits| is_small(hits.file));
        for file in small().map(|hits| hits.file).chain(rewriting.absorbed) {
            self.copy(file, fates, out).await?;
        }
        for hits in small() {
            self.write_changed(hits, fates, out).await?;
        }
        self.write_rows(rewriting.fresh.clone(), out).await
    }

    /// Pass two over a file: the rows that no change touches.
    async fn copy(
        &self,
        file: &ActiveFile,
        fates: &[Fate],
        out: &mut AddedFiles,
    ) -> Result<(), SinkError> {
        let mut batches = self.open(file, false).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|e| self.unreadable(file, &e))?;
            let kept = self
                .kept(&batch, fates)
                .map_err(|e| self.unreadable(file, &e))?;
            if kept.num_rows() > 0 {
                out.write(&kept).await?;
            }
        }
        Ok(())
    }

    fn kept(&self, batch: &RecordBatch, fates: &[Fate]) -> Result<RecordBatch, ArrowError> {
        let batch = self.schema.shape(batch)?;
        let keys = self.keys.of(&batch)?;
        let stays = keys.iter().map(|key| {
            let change = self.rows.get(key.as_ref());
            change.is_none_or(|&c| fates[c as usize] == Fate::Same)
        });
        let stays: BooleanArray = stays.map(Some).collect();
        if stays.true_count() == stays.len() {
            return Ok(batch);
        }
        filter_record_batch(&batch, &stays)
    }

    /// The new rows of a file's changed keys. A key that was in several files is written with the first of them.
    async fn write_changed(
        &self,
        hits: &Hits<'_>,
        fates: &mut [Fate],
        out: &mut AddedFiles,
    ) -> Result<(), SinkError> {
        let mut changed = Vec::new();
        for &change in &hits.changes {
            let fate = &mut fates[change as usize];
            if *fate == Fate::Changed {
                *fate = Fate::Placed;
                changed.push(change);
            }
        }
        self.write_rows(self.upserts(changed.into_iter()), out)
            .await
    }

    /// Those that bring a row.
    fn upserts(&self, changes: impl Iterator<Item = u32>) -> Vec<u32> {
        changes
            .filter(|&c| !self.changes.delete.value(c as usize))
            .collect()
    }

    async fn write_rows(&self, changes: Vec<u32>, out: &mut AddedFiles) -> Result<(), SinkError> {
        if changes.is_empty() {
            return Ok(());
        }
        let rows = take_record_batch(&self.changes.rows, &UInt32Array::from(changes));
        let rows = rows.and_then(|rows| self.schema.shape(&rows));
        out.write(&rows.map_err(|e| self.target.unavailable("changed rows", &e))?)
            .await
    }

    /// Rows of a file. `prune`: row groups whose bloom filters exclude every key may be left out.
    async fn open(
        &self,
        file: &ActiveFile,
        prune: bool,
    ) -> Result<ParquetRecordBatchStream<ObjectReader>, SinkError> {
        if file.has_deletion_vector {
            return Err(self.target.stop(
                reason::TABLE_MISMATCH,
                &format!(
                    "rows of its file {} are deleted by a deletion vector, which is not merged here; run REORG TABLE … \
                     APPLY (PURGE) and turn delta.enableDeletionVectors off",
                    file.path
                ),
            ));
        }
        let location = self.target.data_file(&file.path)?;
        let store = Arc::clone(&self.target.store);
        let reader = ObjectReader::new(store, location, file.size);
        let opened = async {
            let mut builder = ParquetRecordBatchStreamBuilder::new(reader)
                .await?
                .with_batch_size(BATCH_ROWS);
            if prune {
                let groups = self.row_groups(&mut builder).await?;
                builder = builder.with_row_groups(groups);
            }
            builder.build()
        };
        opened.await.map_err(|e| self.unreadable(file, &e))
    }

    async fn row_groups(
        &self,
        builder: &mut ParquetRecordBatchStreamBuilder<ObjectReader>,
    ) -> Result<Vec<usize>, ParquetError> {
        let mut kept = Vec::new();
        for group in 0..builder.metadata().num_row_groups() {
            if builder.metadata().row_group(group).compressed_size() < BLOOM_WORTH_BYTES {
                kept.push(group);
                continue;
            }
            let mut filters = Vec::new();
            for &at in self.keys.columns() {
                let name = self.schema.arrow.field(at).name();
                let columns = builder.metadata().row_group(group).columns();
                let column = columns
                    .iter()
                    .position(|c| c.column_path().parts() == [name.as_str()]);
                filters.push(match column {
                    Some(column) => {
                        builder
                            .get_row_group_column_bloom_filter(group, column)
                            .await?
                    }
                    None => None,
                });
            }
            if self.pruning.may_be_under(&filters) {
                kept.push(group);
            }
        }
        Ok(kept)
    }

    fn unreadable(
        &self,
        file: &ActiveFile,
        error: &(dyn std::error::Error + 'static),
    ) -> SinkError {
        self.target
            .unavailable(&format!("its file {} cannot be merged", file.path), error)
    }
}

fn is_small(file: &ActiveFile) -> bool {
    file.size <= SMALL_BYTES
}

/// One comparator a column; `None`: some type cannot be compared, every row counts as changed.
fn comparators(left: &RecordBatch, right: &RecordBatch) -> Option<Vec<DynComparator>> {
    let columns = left.columns().iter().zip(right.columns());
    columns
        .map(|(l, r)| make_comparator(l.as_ref(), r.as_ref(), SortOptions::default()).ok())
        .collect()
}
