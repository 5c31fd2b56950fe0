//! Checkpoint, object store, dead letters.

use std::time::Duration;

use super::address::{endpoint, secret};
use super::text::{positive, quantity, storage_path};
use super::{Findings, exactly_one};
use crate::plan::{CheckpointPlan, Code, DeadLetterPlan, S3Plan, Violation};
use crate::secret::SecretValue;
use crate::storage::{Checkpoint, DeadLetter, ObjectStore, S3};

pub(super) fn checkpoint(raw: &Checkpoint, findings: &mut Findings) -> Option<CheckpointPlan> {
    let path = storage_path(&raw.path, "spec.checkpoint.path", findings);
    let interval = positive(&raw.interval, "spec.checkpoint.interval", findings);
    let history = positive(&raw.history, "spec.checkpoint.history", findings);
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
        interval.is_none_or(|i| i <= Duration::from_hours(1)),
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
    let adopt_from = raw.adopt_from.as_deref();
    let is_uid =
        |uid: &str| (1..=128).contains(&uid.chars().count()) && !uid.contains(char::is_whitespace);
    findings.require(adopt_from.is_none_or(is_uid), || {
        let message = "must be a UID: 1 to 128 characters without blanks";
        Violation::new(Code::OutOfRange, "spec.checkpoint.adoptFrom", message)
            .help("the condition `CheckpointOwned` and `owner.json` name the owner's UID")
    });
    Some(CheckpointPlan {
        path: path?,
        interval: interval?,
        max_records: max_records.and_then(|n| u64::try_from(n).ok()),
        max_bytes: max_bytes?,
        adopt_from: adopt_from.map(str::to_owned),
        history: history?,
    })
}

pub(super) fn reset_nonce(raw: i64, findings: &mut Findings) -> Option<u64> {
    let fits = (0..=9_007_199_254_740_991).contains(&raw);
    findings.require(fits, || {
        let message = "must be from 0 to 9007199254740991";
        Violation::new(Code::OutOfRange, "spec.resetNonce", message)
    });
    u64::try_from(raw).ok().filter(|_| fits)
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
    store.s3.as_ref().map(|raw| Some(s3(raw, findings)))
}

fn s3(raw: &S3, findings: &mut Findings) -> S3Plan {
    const PATH: &str = "spec.objectStore.s3";
    let mut read = |field: &str, raw: &Option<SecretValue>| {
        let raw = raw.as_ref()?;
        Some(secret(raw, &format!("{PATH}.{field}"), findings))
    };
    let ca = read("ca", &raw.ca);
    let id = read("accessKeyId", &raw.access_key_id);
    let key = read("secretAccessKey", &raw.secret_access_key);
    findings.require(id.is_some() == key.is_some(), || {
        let message = "`accessKeyId` and `secretAccessKey` must be given together or not at all";
        Violation::new(Code::Together, PATH, message)
    });
    let address = raw.endpoint.as_deref();
    if let Some(address) = address {
        endpoint(address, &format!("{PATH}.endpoint"), findings);
    }
    let http = address.is_some_and(|address| address.starts_with("http://"));
    findings.require(!http || raw.allow_http, || {
        let message = "an http:// endpoint sends data unencrypted";
        Violation::new(Code::Together, format!("{PATH}.endpoint"), message)
            .help("use https://, or set `allowHttp: true`")
    });
    findings.require(!http || ca.is_none(), || {
        let message = "an http:// endpoint shows no certificate that `ca` could have signed";
        Violation::new(Code::Misplaced, format!("{PATH}.ca"), message)
            .help("use https://, or take `ca` out")
    });
    S3Plan {
        region: raw.region.clone().unwrap_or_else(|| "us-east-1".into()),
        endpoint: raw.endpoint.clone(),
        allow_http: raw.allow_http,
        ca,
        keys: id.zip(key),
    }
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
