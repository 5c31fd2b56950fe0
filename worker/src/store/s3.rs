//! Objects in S3 and stores that speak its protocol.
//!
//! Conditional writes go through a client without retries: `object_store` repeats a 5xx even of those and then reports its own
//! success as a conflict. Credentials from a Secret are read anew at each use, so that a rotated key is taken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use evp_api::plan::{S3Plan, SecretKeyRef};
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Certificate, ClientOptions, CredentialProvider, Error, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, RetryConfig, UpdateVersion,
};
use url::Url;

use super::{Condition, ETag, Location, PutOutcome, Store, StoreError};
use crate::secrets::Secrets;

/// One request: an epoch's largest object is a state file of some tens of MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Retries of requests that can be repeated: the backoff of `object_store` spends about ten seconds on them.
const RETRIES: usize = 6;
/// All attempts of one request.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// Without retries, and with retries.
type Clients = [Arc<dyn ObjectStore>; 2];

/// A prefix of a bucket.
#[derive(Debug)]
pub struct S3Store {
    /// Without retries.
    once: Arc<dyn ObjectStore>,
    /// With retries.
    patient: Arc<dyn ObjectStore>,
    bucket: String,
    prefix: Path,
}

/// Opens a path; asks nothing of the store.
pub(super) fn open(
    plan: Option<&S3Plan>,
    secrets: &Secrets,
    bucket: &str,
    prefix: &str,
) -> Result<Location, StoreError> {
    let at = format!("s3://{bucket}/{prefix}")
        .trim_end_matches('/')
        .to_owned();
    let unfit = |why: String| StoreError::Unfit {
        at: at.clone(),
        why,
    };
    let build = |retries| {
        let retry = RetryConfig {
            max_retries: retries,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let builder = builder(plan, secrets, &at)?
            .with_bucket_name(bucket)
            .with_retry(retry);
        builder.build().map_err(|e| unfit(e.to_string()))
    };
    let (once, patient) = (build(0)?, build(RETRIES)?);
    let prefix = Path::parse(prefix).map_err(|e| unfit(e.to_string()))?;
    let url = Url::parse(&at).map_err(|e| unfit(e.to_string()))?;
    let clients: [Arc<dyn ObjectStore>; 2] = [Arc::new(once), Arc::new(patient)];
    Ok(location(clients, bucket, prefix, url))
}

/// A prefix of a bucket, as these clients see it: the first repeats no request.
fn location([once, patient]: Clients, bucket: &str, prefix: Path, url: Url) -> Location {
    Location {
        object_store: Arc::new(PrefixStore::new(Arc::clone(&patient), prefix.clone())),
        root: Arc::clone(&patient),
        store: Arc::new(S3Store {
            once,
            patient,
            bucket: bucket.to_owned(),
            prefix: prefix.clone(),
        }),
        prefix,
        url,
    }
}

/// A prefix of the bucket that this store stands for: everything but the client itself is as it is in S3.
pub(super) fn open_on(
    stand_in: &Arc<dyn ObjectStore>,
    bucket: &str,
    prefix: &str,
) -> Result<Location, StoreError> {
    let at = format!("s3://{bucket}/{prefix}");
    let unfit = |why: String| StoreError::Unfit {
        at: at.clone(),
        why,
    };
    let folder = Path::parse(prefix).map_err(|e| unfit(e.to_string()))?;
    let url = Url::parse(&at).map_err(|e| unfit(e.to_string()))?;
    let clients = [Arc::clone(stand_in), Arc::clone(stand_in)];
    Ok(location(clients, bucket, folder, url))
}

fn builder(
    plan: Option<&S3Plan>,
    secrets: &Secrets,
    at: &str,
) -> Result<AmazonS3Builder, StoreError> {
    let mut builder = AmazonS3Builder::from_env();
    let mut options = ClientOptions::new().with_timeout(REQUEST_TIMEOUT);
    if let Some(S3Plan {
        region,
        endpoint,
        allow_http,
        ca,
        keys,
    }) = plan
    {
        builder = builder.with_region(region);
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_virtual_hosted_style_request(false);
        }
        options = options.with_allow_http(*allow_http);
        if let Some(ca) = ca {
            let bundle = secrets.read(ca)?;
            let unfit = |e: Error| StoreError::Unfit {
                at: at.to_owned(),
                why: format!(
                    "key '{}' of Secret {} holds no PEM certificates: {e}",
                    ca.key, ca.name
                ),
            };
            for certificate in Certificate::from_pem_bundle(bundle.as_bytes()).map_err(unfit)? {
                options = options.with_root_certificate(certificate);
            }
        }
        if let Some((id, key)) = keys {
            let keys = SecretKeys {
                secrets: secrets.clone(),
                id: id.clone(),
                key: key.clone(),
            };
            keys.read()?;
            builder = builder.with_credentials(Arc::new(keys));
        }
    }
    Ok(builder.with_client_options(options))
}

#[derive(Debug)]
struct SecretKeys {
    secrets: Secrets,
    id: SecretKeyRef,
    key: SecretKeyRef,
}

impl SecretKeys {
    fn read(&self) -> Result<AwsCredential, crate::secrets::Error> {
        let (key_id, secret_key) = (self.secrets.read(&self.id)?, self.secrets.read(&self.key)?);
        Ok(AwsCredential {
            key_id,
            secret_key,
            token: None,
        })
    }
}

#[async_trait]
impl CredentialProvider for SecretKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.read().map(Arc::new).map_err(|e| Error::Generic {
            store: "S3",
            source: Box::new(e),
        })
    }
}

impl S3Store {
    fn path(&self, name: &str) -> Path {
        self.prefix
            .parts()
            .chain(Path::from(name).parts())
            .collect()
    }

    fn error(&self, path: &Path, e: Error) -> StoreError {
        let at = format!("s3://{}/{path}", self.bucket);
        match e {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied {
                at,
                source: Box::new(e),
            },
            Error::NotFound { .. } => StoreError::NoBucket { at },
            Error::NotImplemented { .. } | Error::NotSupported { .. } => StoreError::Unfit {
                at,
                why: e.to_string(),
            },
            e => StoreError::Unavailable {
                at,
                source: Box::new(e),
            },
        }
    }

    /// What cannot be compared later cannot be built on.
    fn tag(&self, path: &Path, tag: Option<String>) -> Result<ETag, StoreError> {
        tag.map(ETag).ok_or_else(|| StoreError::Unfit {
            at: format!("s3://{}/{path}", self.bucket),
            why: "the store answers without an ETag".into(),
        })
    }
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, name: &str) -> Result<Option<(Bytes, ETag)>, StoreError> {
        let path = self.path(name);
        let found = match self.patient.get(&path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|e| self.error(&path, e))?,
        };
        let tag = self.tag(&path, found.meta.e_tag.clone())?;
        let bytes = found.bytes().await.map_err(|e| self.error(&path, e))?;
        Ok(Some((bytes, tag)))
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(name);
        self.patient
            .put(&path, bytes.into())
            .await
            .map_err(|e| self.error(&path, e))?;
        Ok(())
    }

    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<PutOutcome, StoreError> {
        let path = self.path(name);
        let mode = match condition {
            Condition::Absent => PutMode::Create,
            Condition::Matches(tag) => PutMode::Update(UpdateVersion {
                e_tag: Some(tag.0.clone()),
                version: None,
            }),
        };
        match self
            .once
            .put_opts(&path, bytes.into(), PutOptions::from(mode))
            .await
        {
            Ok(put) => Ok(PutOutcome::Won(self.tag(&path, put.e_tag)?)),
            Err(
                Error::AlreadyExists { .. }
                | Error::Precondition { .. }
                | Error::NotModified { .. },
            ) => Ok(PutOutcome::Refused),
            Err(e) => Err(self.error(&path, e)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(folder);
        let found: Vec<_> = self
            .patient
            .list(Some(&path))
            .try_collect()
            .await
            .map_err(|e| self.error(&path, e))?;
        let relative = |p: Path| {
            p.prefix_match(&self.prefix)
                .map(|parts| parts.collect::<Path>().to_string())
        };
        Ok(found
            .into_iter()
            .filter_map(|m| relative(m.location))
            .collect())
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        match self.patient.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error(&path, e)),
        }
    }
}
