//! A folder in an object store, as sinks use it: its objects, its URL, and errors that name it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use evp_api::reason;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::sink::SinkError;
use crate::store::Location;

/// Where a table is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Store whose root is the bucket, or `/`.
    pub store: Arc<dyn ObjectStore>,
    /// Folder of the table below that root.
    pub prefix: Path,
    /// The same place as a URL: `s3://bucket/prefix`, `file:///folder`.
    pub url: Url,
}

impl From<&Location> for Target {
    fn from(location: &Location) -> Self {
        Self {
            store: Arc::clone(&location.root),
            prefix: location.prefix.clone(),
            url: location.url.clone(),
        }
    }
}

impl Target {
    /// The store as deltalake and its readers want it.
    pub fn log_store(&self) -> LogStoreRef {
        let table: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(
            Arc::clone(&self.store),
            self.prefix.clone(),
        ));
        let config = StorageConfig::default();
        default_logstore(table, Arc::clone(&self.store), &self.folder_url(), &config)
    }

    /// The URL with a slash at its end, so that names can be joined to it.
    pub(crate) fn folder_url(&self) -> Url {
        let mut url = self.url.clone();
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        url
    }

    /// An object below the table's folder.
    pub(crate) fn child(&self, relative: &str) -> Result<Path, SinkError> {
        let whole = if self.prefix.as_ref().is_empty() {
            relative.to_owned()
        } else {
            format!("{}/{relative}", self.prefix)
        };
        Path::parse(&whole)
            .map_err(|e| self.unavailable(&format!("'{whole}' is no object name"), &e))
    }

    /// The object of a path as the log has it. `Stop`: it lies outside of the table.
    pub(crate) fn data_file(&self, path: &str) -> Result<Path, SinkError> {
        if path.contains("://") || path.starts_with('/') {
            let what = format!(
                "its file {path} lies outside of it (a shallow clone), which cannot be rewritten"
            );
            return Err(self.stop(reason::TABLE_MISMATCH, &what));
        }
        let decoded = Path::from_url_path(path);
        let decoded =
            decoded.map_err(|e| self.unavailable(&format!("'{path}' is no file name"), &e))?;
        self.child(decoded.as_ref())
    }

    /// Something at the table's place did not work; it may heal.
    pub(crate) fn unavailable(&self, what: &str, error: &(dyn Error + 'static)) -> SinkError {
        SinkError::Unavailable {
            reason: if is_denied(error) {
                reason::SINK_DENIED
            } else {
                reason::SINK_UNAVAILABLE
            },
            message: format!(
                "{}: {what}: {}; retried, nothing is lost",
                self.url,
                Causes(error)
            ),
        }
    }

    /// Something only a person can mend.
    pub(crate) fn stop(&self, reason: &'static str, what: &str) -> SinkError {
        SinkError::Stop {
            reason,
            message: format!("{}: {what}", self.url),
        }
    }
}

/// Does the store refuse us? Then waiting helps only once a person has acted. Lists, and whatever Delta's kernel asks, tell
/// it in words only.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(PermissionDenied { .. } | Unauthenticated { .. }) = error.downcast_ref() {
            return true;
        }
        next = error.source();
    }
    let text = Causes(error).to_string();
    text.contains("403 Forbidden") || text.contains("401 Unauthorized")
}

/// An error with its sources.
pub(crate) struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            // Some errors repeat their source.
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}
