//! Every source and sink against the real service, and the worker on all of them.

mod checkpoint;
mod delta;
pub(crate) mod kafka;
pub(crate) mod postgres;
mod worker;

use evp_tests::bed;
use object_store::aws::{AmazonS3, AmazonS3Builder};

/// The bed's bucket, past any proxy.
pub(crate) fn bucket() -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(bed("EVP_BED_S3_ENDPOINT"))
        .with_allow_http(true)
        .with_region(bed("EVP_BED_S3_REGION"))
        .with_access_key_id(bed("EVP_BED_S3_ACCESS_KEY"))
        .with_secret_access_key(bed("EVP_BED_S3_SECRET_KEY"))
        .with_bucket_name(bed("EVP_BED_S3_BUCKET"))
        .build()
        .unwrap()
}
