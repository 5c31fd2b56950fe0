//! Reads one Parquet object: a small one with one request, a large one by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// Objects up to this size are read whole: every small file of a merge, with one request each.
const WHOLE_BYTES: u64 = super::merge::SMALL_BYTES;

/// Bytes at the end of a large object that are read at once: most footers fit.
const FOOTER_BYTES: usize = 64 << 10;

/// One object of known size.
#[derive(Debug)]
pub(super) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
    whole: Option<Bytes>,
}

impl ObjectReader {
    /// Asks the store nothing yet.
    pub(super) fn new(store: Arc<dyn ObjectStore>, location: Path, size: u64) -> Self {
        Self {
            store,
            location,
            size,
            whole: None,
        }
    }

    async fn ranges(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.size > WHOLE_BYTES {
            let read = self.store.get_ranges(&self.location, ranges).await;
            return read.map_err(external);
        }
        let whole = if let Some(whole) = &self.whole {
            whole
        } else {
            let read = self.store.get(&self.location).await.map_err(external)?;
            self.whole.insert(read.bytes().await.map_err(external)?)
        };
        let part = |range: &Range<u64>| {
            let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
            match (start, end) {
                (Ok(start), Ok(end)) if start <= end && end <= whole.len() => {
                    Ok(whole.slice(start..end))
                }
                _ => Err(ParquetError::EOF(format!(
                    "{range:?} of {} bytes",
                    whole.len()
                ))),
            }
        };
        ranges.iter().map(part).collect()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            Ok(self
                .ranges(&[range])
                .await?
                .into_iter()
                .next()
                .unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.ranges(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|o| o.metadata_options().clone()))
                .with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
