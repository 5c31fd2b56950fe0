//! Addresses: of brokers, topics and services, and the names of Secrets.

use super::Findings;
use crate::plan::{Code, SecretKeyRef, Violation};
use crate::secret::SecretValue;

/// Longest name of a Secret and of a key in it.
const MAX_NAME: usize = 253;
/// Longest name of a topic.
const MAX_TOPIC: usize = 249;

pub(super) fn servers(text: &str, path: &str, findings: &mut Findings) {
    let fine = text.split(',').all(|server| is_server(server.trim()));
    findings.require(fine, || {
        let message = format!("`{text}` must be host:port, comma-separated");
        Violation::new(Code::Address, path, message)
    });
}

pub(super) fn topic(text: &str, path: &str, findings: &mut Findings) {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fine = (1..=MAX_TOPIC).contains(&text.len())
        && text.bytes().all(letters)
        && !matches!(text, "." | "..");
    findings.require(fine, || {
        let message = format!(
            "`{text}` must be a topic's name: letters, digits, `.`, `_`, `-`, at most {MAX_TOPIC}"
        );
        Violation::new(Code::Address, path, message)
    });
}

/// An object store's service.
pub(super) fn endpoint(text: &str, path: &str, findings: &mut Findings) {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let place = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let fine = place.is_some_and(|place| is_host(place) || is_server(place));
    findings.require(fine, || {
        let message = format!("`{text}` must be https://host:port or http://host:port");
        Violation::new(Code::Address, path, message)
    });
}

/// A name or an address, without a port.
pub(super) fn host(text: &str, path: &str, findings: &mut Findings) {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    findings.require(
        is_address || is_host(text) && !text.starts_with('['),
        || {
            let message = format!("`{text}` must be a host's name or address, without a port");
            Violation::new(Code::Address, path, message)
        },
    );
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        is_host(host)
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse().is_ok_and(|port: u16| port > 0)
    })
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']');
        return inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    }
    (1..=253).contains(&text.len()) && text.split('.').all(is_host_label)
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The reference, and findings where it can name no Secret: the name becomes a volume, the key a file.
pub(super) fn secret(raw: &SecretValue, path: &str, findings: &mut Findings) -> SecretKeyRef {
    let SecretKeyRef { name, key } = &raw.secret_key_ref;
    findings.require(is_secret_name(name), || {
        let message = format!(
            "`{name}` must be a Secret's name: lower-case letters, digits, `-` and `.`, at most {MAX_NAME}"
        );
        Violation::new(Code::Secret, format!("{path}.secretKeyRef.name"), message)
    });
    findings.require(is_secret_key(key), || {
        let message = format!(
            "`{key}` must be a Secret's key: letters, digits, `-`, `_` and `.`, at most {MAX_NAME}"
        );
        Violation::new(Code::Secret, format!("{path}.secretKeyRef.key"), message)
    });
    raw.secret_key_ref.clone()
}

fn is_secret_name(name: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label = |label: &str| {
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|b| b == b'-' || edge(Some(b)))
    };
    name.len() <= MAX_NAME && name.split('.').all(label)
}

fn is_secret_key(key: &str) -> bool {
    (1..=MAX_NAME).contains(&key.len())
        && !key.starts_with("..")
        && key != "."
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
