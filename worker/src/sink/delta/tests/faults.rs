//! A store whose commits to a Delta log go wrong as planned.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to one commit.
pub(super) enum Fault {
    /// It is done; the answer is a timeout.
    LoseReply,
    /// It is done; the answer is that somebody has done it (a client that tries again reads its own success so).
    ReportConflict,
    /// It is not done; the answer is a timeout.
    Fail,
    /// This comes first, as another writer.
    After(Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>),
}

pub(super) struct Faults {
    inner: Arc<dyn ObjectStore>,
    commits: Mutex<VecDeque<Fault>>,
    /// Requests that read the log's list.
    pub(super) puts: Mutex<Vec<String>>,
}

impl Faults {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            commits: Mutex::default(),
            puts: Mutex::default(),
        }
    }

    pub(super) fn plan(&self, fault: Fault) {
        self.commits.lock().unwrap().push_back(fault);
    }

    /// Data files put so far.
    pub(super) fn data_files(&self) -> usize {
        let puts = self.puts.lock().unwrap();
        puts.iter().filter(|p| p.contains(".zstd.parquet")).count()
    }
}

fn timeout() -> Error {
    Error::Generic {
        store: "test",
        source: "the answer did not come".into(),
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.puts.lock().unwrap().push(location.to_string());
        let is_commit =
            location.as_ref().contains("_delta_log/") && location.extension() == Some("json");
        let fault = if is_commit {
            self.commits.lock().unwrap().pop_front()
        } else {
            None
        };
        match fault {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::LoseReply) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(timeout())
            }
            Some(Fault::ReportConflict) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(Error::AlreadyExists {
                    path: location.to_string(),
                    source: "exists".into(),
                })
            }
            Some(Fault::Fail) => Err(timeout()),
            Some(Fault::After(other)) => {
                other().await;
                self.inner.put_opts(location, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
