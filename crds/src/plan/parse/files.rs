//! Sources that read files.

use super::Findings;
use super::text::{duration, positive, storage_path};
use crate::plan::{Code, FilesPlan, Violation};
use crate::source::Files;

pub(super) fn files(raw: &Files, path: &str, findings: &mut Findings) -> Option<FilesPlan> {
    let folder = storage_path(&raw.path, &format!("{path}.path"), findings);
    let glob = glob(&raw.glob, &format!("{path}.glob"), findings);
    let poll_interval = positive(
        &raw.poll_interval,
        &format!("{path}.pollInterval"),
        findings,
    );
    let settle = duration(&raw.settle, &format!("{path}.settle"), findings);
    Some(FilesPlan {
        path: folder?,
        glob: glob?,
        poll_interval: poll_interval?,
        settle: settle?,
        on_change: raw.on_change,
    })
}

/// Names below the path: no part is empty or leads elsewhere, `**` is a whole part.
fn glob(text: &str, path: &str, findings: &mut Findings) -> Option<String> {
    let part = |part: &str| match part {
        "" | "." | ".." => false,
        part => part == "**" || !part.contains("**"),
    };
    let fine = text.split('/').all(part) && !text.ends_with("**");
    findings.require(fine, || {
        let message =
            format!("`{text}` must name files below the path, such as `*.csv` or `**/*.json`");
        Violation::new(Code::OutOfRange, path, message)
    });
    fine.then(|| text.to_owned())
}
