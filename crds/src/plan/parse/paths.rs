//! Tables, checkpoint, dead letters and input files must not lie in one another: one's clean-up would take the other's files.

use super::Findings;
use crate::pipeline::EventPipelineSpec;
use crate::plan::{Code, StoragePath, Violation};

pub(super) fn apart(spec: &EventPipelineSpec, findings: &mut Findings) {
    let dead_letters = spec.dead_letter.iter().flat_map(|d| &d.files);
    let tables = spec.sinks.iter().enumerate();
    let tables = tables.flat_map(|(i, sink)| {
        let folders = sink.folders();
        folders.map(move |(kind, path, _)| (format!("spec.sinks[{i}].{kind}.path"), path))
    });
    // What is written must not be read as input.
    let inputs = spec.sources.iter().enumerate();
    let inputs = inputs.filter_map(|(i, source)| Some((i, source.files.as_ref()?)));
    let inputs =
        inputs.map(|(i, files)| (format!("spec.sources[{i}].files.path"), files.path.as_str()));
    let given = std::iter::once((
        "spec.checkpoint.path".to_owned(),
        spec.checkpoint.path.as_str(),
    ))
    .chain(dead_letters.map(|f| ("spec.deadLetter.files.path".to_owned(), f.path.as_str())))
    .chain(tables)
    .chain(inputs);
    // A text that is no path has its own finding.
    let paths: Vec<(String, StoragePath)> = given
        .filter_map(|(field, text)| Some((field, text.parse().ok()?)))
        .collect();
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
