//! Texts with a grammar: durations, quantities, instants, storage paths.

use std::str::FromStr;
use std::time::Duration;

use super::Findings;
use crate::plan::{Code, StoragePath, Violation};

/// Reads a duration (GEP-2257): one to four numbers of at most five digits, each with `h`, `m`, `s` or `ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` must be a duration such as `10m` or `1h30m` (units h, m, s, ms)");
    let (mut rest, mut parts, mut total) = (text, 0, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) || parts == 4 {
            return Err(wrong());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let (millis, unit) = match after {
            _ if after.starts_with("ms") => (1, 2),
            _ if after.starts_with('h') => (3_600_000, 1),
            _ if after.starts_with('m') => (60_000, 1),
            _ if after.starts_with('s') => (1_000, 1),
            _ => return Err(wrong()),
        };
        total += Duration::from_millis(number * millis);
        rest = &after[unit..];
        parts += 1;
    }
    if parts == 0 { Err(wrong()) } else { Ok(total) }
}

/// Reads a whole, non-negative Kubernetes quantity such as `64Mi`, `1G` or `4096`.
pub fn parse_quantity(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 11] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("", 1),
    ];
    let wrong = || format!("`{text}` must be a whole quantity such as `64Mi`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor))
        .ok_or_else(wrong)
}

/// Reads an RFC 3339 instant with a zone; microseconds since the Unix epoch.
pub fn parse_instant(text: &str) -> Result<i64, String> {
    let instant: jiff::Timestamp = text.parse().map_err(|_| {
        format!("`{text}` must be an RFC 3339 instant such as `2026-01-01T00:00:00Z`")
    })?;
    Ok(instant.as_microsecond())
}

impl FromStr for StoragePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = match text.split_once("://") {
            Some(("s3", rest)) => in_bucket(rest),
            Some(("file", path)) => on_disk(path),
            Some((scheme, _)) => Err(format!(
                "has the scheme `{scheme}`, which is not proven yet; use s3:// or file://"
            )),
            None => Err("must be s3://bucket/prefix or file:///absolute/path".into()),
        };
        read.map_err(|why| format!("`{text}` {why}"))
    }
}

fn in_bucket(rest: &str) -> Result<StoragePath, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let named = (3..=63).contains(&bucket.len())
        && edge(bucket.bytes().next())
        && edge(bucket.bytes().last())
        && !bucket.contains("..")
        && bucket
            .bytes()
            .all(|b| edge(Some(b)) || matches!(b, b'-' | b'.'));
    if !named {
        return Err("must name a bucket: s3://bucket/prefix".into());
    }
    if !prefix.is_empty() && !is_clean(prefix) {
        return Err("must have no empty, `.` or `..` part".into());
    }
    // What has a meaning in URLs would name one place to the table's log and another to us.
    if let Some(mark) = prefix.chars().find(|c| !is_plain(*c)) {
        return Err(format!(
            "must not hold `{}`: letters, digits and `-_.=+@,:!()` are fine",
            mark.escape_default()
        ));
    }
    Ok(StoragePath::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn on_disk(path: &str) -> Result<StoragePath, String> {
    let path = path.trim_end_matches('/');
    if !path.strip_prefix('/').is_some_and(is_clean) {
        return Err("must be file:///absolute/path".into());
    }
    if path.contains(char::is_control) {
        return Err("must not hold control characters".into());
    }
    Ok(StoragePath::Local(path.to_owned()))
}

fn is_clean(path: &str) -> bool {
    !path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
}

fn is_plain(mark: char) -> bool {
    mark.is_ascii_alphanumeric() || "-_.=+@,:!()/".contains(mark)
}

pub(super) fn duration(text: &str, path: &str, findings: &mut Findings) -> Option<Duration> {
    findings.take(parse_duration(text).map_err(|m| Violation::new(Code::Duration, path, m)))
}

pub(super) fn positive(text: &str, path: &str, findings: &mut Findings) -> Option<Duration> {
    let duration = duration(text, path, findings)?;
    findings.require(!duration.is_zero(), || {
        Violation::new(Code::OutOfRange, path, "must be longer than zero")
    });
    Some(duration)
}

pub(super) fn quantity(text: &str, path: &str, findings: &mut Findings) -> Option<u64> {
    findings.take(parse_quantity(text).map_err(|m| Violation::new(Code::Quantity, path, m)))
}

pub(super) fn instant(text: &str, path: &str, findings: &mut Findings) -> Option<i64> {
    findings.take(parse_instant(text).map_err(|m| Violation::new(Code::Instant, path, m)))
}

pub(super) fn storage_path(text: &str, path: &str, findings: &mut Findings) -> Option<StoragePath> {
    findings.take(
        text.parse()
            .map_err(|m: String| Violation::new(Code::StoragePath, path, m)),
    )
}
