//! Checkpoint, object store, dead letters.

use std::time::Duration;

use super::text::{positive, quantity, storage_path};
use super::{Findings, exactly_one};
use crate::plan::{CheckpointPlan, Code, DeadLetterPlan, S3Plan, Violation};
use crate::storage::{Checkpoint, DeadLetter, ObjectStore, S3};

pub(super) fn checkpoint(raw: &Checkpoint, findings: &mut Findings) -> Option<CheckpointPlan> {
    let path = storage_path(&raw.path, "spec.checkpoint.path", findings);
    let interval = positive(&raw.interval, "spec.checkpoint.interval", findings);
    let max_bytes = quantity(
        &raw.max_bytes_per_epoch,
        "spec.checkpoint.maxBytesPerEpoch",
        findings,
    );
    let max_records = raw.max_records_per_epoch;
    findings.require(max_records.is_none_or(|n| n > 0), || {
        Violation::new(
            Code::OutOfRange,
            "spec.checkpoint.maxRecordsPerEpoch",
            "must be at least 1",
        )
    });
    findings.require(
        interval.is_none_or(|i| i <= Duration::from_secs(3600)),
        || {
            Violation::new(
                Code::OutOfRange,
                "spec.checkpoint.interval",
                "must be at most 1h",
            )
        },
    );
    findings.require(max_bytes.is_none_or(|b| b > 0), || {
        Violation::new(
            Code::OutOfRange,
            "spec.checkpoint.maxBytesPerEpoch",
            "must be more than zero",
        )
    });
    Some(CheckpointPlan {
        path: path?,
        interval: interval?,
        max_records: max_records.and_then(|n| u64::try_from(n).ok()),
        max_bytes: max_bytes?,
    })
}

/// Outer `None`: a finding. Inner `None`: ambient credentials.
pub(super) fn object_store(
    raw: Option<&ObjectStore>,
    findings: &mut Findings,
) -> Option<Option<S3Plan>> {
    let Some(store) = raw else { return Some(None) };
    if !exactly_one("spec.objectStore", &[("s3", store.s3.is_some())], findings) {
        return None;
    }
    store.s3.as_ref().map(|raw| s3(raw, findings).map(Some))?
}

fn s3(raw: &S3, findings: &mut Findings) -> Option<S3Plan> {
    const PATH: &str = "spec.objectStore.s3";
    let keys = match (&raw.access_key_id, &raw.secret_access_key) {
        (Some(id), Some(key)) => Some((id.secret_key_ref.clone(), key.secret_key_ref.clone())),
        (None, None) => None,
        _ => {
            let message =
                "`accessKeyId` and `secretAccessKey` must be given together or not at all";
            findings.add(Violation::new(Code::Together, PATH, message));
            return None;
        }
    };
    if let Some(endpoint) = &raw.endpoint {
        let (http, https) = (
            endpoint.starts_with("http://"),
            endpoint.starts_with("https://"),
        );
        findings.require(http || https, || {
            let message = format!("`{endpoint}` must begin with https:// or http://");
            Violation::new(Code::Address, format!("{PATH}.endpoint"), message)
        });
        findings.require(!http || raw.allow_http, || {
            let message = "an http:// endpoint sends credentials and data unencrypted";
            Violation::new(Code::Together, format!("{PATH}.endpoint"), message)
                .help("use https://, or set `allowHttp: true`")
        });
    }
    Some(S3Plan {
        region: raw.region.clone().unwrap_or_else(|| "us-east-1".into()),
        endpoint: raw.endpoint.clone(),
        allow_http: raw.allow_http,
        ca: raw.ca.as_ref().map(|ca| ca.secret_key_ref.clone()),
        keys,
    })
}

/// Outer `None`: a finding. Inner `None`: the first bad record stops the pipeline.
pub(super) fn dead_letter(
    raw: Option<&DeadLetter>,
    findings: &mut Findings,
) -> Option<Option<DeadLetterPlan>> {
    let Some(raw) = raw else { return Some(None) };
    if !exactly_one(
        "spec.deadLetter",
        &[("files", raw.files.is_some())],
        findings,
    ) {
        return None;
    }
    let files = raw.files.as_ref()?;
    let path = storage_path(&files.path, "spec.deadLetter.files.path", findings)?;
    Some(Some(DeadLetterPlan {
        path,
        format: files.format,
        raw: files.raw,
    }))
}
