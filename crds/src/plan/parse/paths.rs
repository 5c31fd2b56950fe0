//! Tables, checkpoint and dead letters must not lie in one another: one's clean-up would take the other's files.

use super::Findings;
use crate::plan::{Code, Plan, SinkKind, StoragePath, Violation};

pub(super) fn apart(plan: &Plan, findings: &mut Findings) {
    let mut paths = vec![("spec.checkpoint.path".to_owned(), &plan.checkpoint.path)];
    if let Some(dead_letter) = &plan.dead_letter {
        paths.push(("spec.deadLetter.files.path".to_owned(), &dead_letter.path));
    }
    for (i, sink) in plan.sinks.iter().enumerate() {
        if let SinkKind::Delta(delta) = &sink.kind {
            paths.push((format!("spec.sinks[{i}].delta.path"), &delta.path));
        }
    }
    for (i, (field, path)) in paths.iter().enumerate() {
        for (other_field, other) in &paths[..i] {
            findings.require(!overlap(path, other), || {
                let message = format!("`{path}` and `{other}` ({other_field}) lie in one another");
                Violation::new(Code::PathOverlap, field.clone(), message)
                    .help("give each its own folder")
            });
        }
    }
}

fn overlap(a: &StoragePath, b: &StoragePath) -> bool {
    let (a, b) = (format!("{a}/"), format!("{b}/"));
    a.starts_with(&b) || b.starts_with(&a)
}
