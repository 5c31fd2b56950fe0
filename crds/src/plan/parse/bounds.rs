//! Lengths of lists and texts, the same as in the CustomResourceDefinition: a file is not always read through it.

use super::Findings;
use crate::pipeline::EventPipelineSpec;
use crate::plan::{Code, Violation};

/// Longest SQL text.
const MAX_SQL: usize = 16_384;
/// Longest message of a rule.
const MAX_MESSAGE: usize = 1024;
/// Longest name of a column.
const MAX_COLUMN: usize = 255;

pub(super) fn hold(spec: &EventPipelineSpec, findings: &mut Findings) {
    let mut count = |path: String, given: usize, least: usize, most: usize| {
        findings.require((least..=most).contains(&given), || {
            let message = format!("must have {least} to {most} items; there are {given}");
            Violation::new(Code::OutOfRange, path, message)
        });
    };
    count("spec.sources".into(), spec.sources.len(), 1, 16);
    count("spec.steps".into(), spec.steps.len(), 0, 64);
    count("spec.sinks".into(), spec.sinks.len(), 1, 32);
    for (i, source) in spec.sources.iter().enumerate() {
        let path = format!("spec.sources[{i}].schema.fields");
        count(path, source.schema.fields.len(), 1, 512);
        let offsets = source.kafka.as_ref().and_then(|k| k.start_offsets.as_ref());
        let path = format!("spec.sources[{i}].kafka.startOffsets");
        count(path, offsets.map_or(0, Vec::len), 0, 10_000);
    }
    for (i, step) in spec.steps.iter().enumerate() {
        let groups = step.aggregate.as_ref().map_or(0, |a| a.group_by.len());
        count(format!("spec.steps[{i}].aggregate.groupBy"), groups, 0, 32);
        if let Some(dedupe) = &step.dedupe {
            let path = format!("spec.steps[{i}].dedupe.keys");
            count(path, dedupe.keys.len(), 1, 32);
        }
        if let Some(validate) = &step.validate {
            let path = format!("spec.steps[{i}].validate.rules");
            count(path, validate.rules.len(), 1, 64);
        }
    }
    for (i, sink) in spec.sinks.iter().enumerate() {
        count(format!("spec.sinks[{i}].keys"), sink.keys.len(), 0, 32);
        for (kind, _, columns) in sink.folders() {
            let path = format!("spec.sinks[{i}].{kind}.partitionBy");
            count(path, columns.len(), 0, 8);
        }
        let create = sink.postgres.as_ref().and_then(|p| p.create_table.as_ref());
        let indexes = create.map(|c| c.indexes.as_slice()).unwrap_or_default();
        let path = format!("spec.sinks[{i}].postgres.createTable.indexes");
        count(path.clone(), indexes.len(), 0, 16);
        for (j, index) in indexes.iter().enumerate() {
            count(format!("{path}[{j}]"), index.len(), 1, 32);
        }
    }
    sql_texts(spec, findings);
    column_names(spec, findings);
}

fn sql_texts(spec: &EventPipelineSpec, findings: &mut Findings) {
    for (i, step) in spec.steps.iter().enumerate() {
        let query = step.query.as_ref();
        let texts = [
            ("query.select", query.and_then(|q| q.select.as_ref())),
            ("query.where", query.and_then(|q| q.filter.as_ref())),
            (
                "aggregate.measures",
                step.aggregate.as_ref().map(|a| &a.measures),
            ),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                text_fits(format!("spec.steps[{i}].{field}"), text, MAX_SQL, findings);
            }
        }
        let rules = step.validate.iter().flat_map(|validate| &validate.rules);
        for (j, rule) in rules.enumerate() {
            let path = format!("spec.steps[{i}].validate.rules[{j}]");
            text_fits(format!("{path}.check"), &rule.check, MAX_SQL, findings);
            if let Some(message) = &rule.message {
                text_fits(format!("{path}.message"), message, MAX_MESSAGE, findings);
            }
        }
    }
}

fn column_names(spec: &EventPipelineSpec, findings: &mut Findings) {
    let mut each = |path: String, names: &[String]| {
        for (i, name) in names.iter().enumerate() {
            text_fits(format!("{path}[{i}]"), name, MAX_COLUMN, findings);
        }
    };
    for (i, step) in spec.steps.iter().enumerate() {
        let groups = step.aggregate.as_ref().map(|a| a.group_by.as_slice());
        let path = format!("spec.steps[{i}].aggregate.groupBy");
        each(path, groups.unwrap_or_default());
        let keys = step.dedupe.as_ref().map(|d| d.keys.as_slice());
        let path = format!("spec.steps[{i}].dedupe.keys");
        each(path, keys.unwrap_or_default());
    }
    for (i, sink) in spec.sinks.iter().enumerate() {
        each(format!("spec.sinks[{i}].keys"), &sink.keys);
        for (kind, _, columns) in sink.folders() {
            each(format!("spec.sinks[{i}].{kind}.partitionBy"), columns);
        }
    }
    for (i, sink) in spec.sinks.iter().enumerate() {
        let key = sink.kafka.as_ref().and_then(|k| k.key_column.as_ref());
        if let Some(key) = key {
            let path = format!("spec.sinks[{i}].kafka.keyColumn");
            text_fits(path, key, MAX_COLUMN, findings);
        }
    }
}

fn text_fits(path: String, text: &str, most: usize, findings: &mut Findings) {
    let length = match text.trim() {
        "" => 0,
        _ => text.chars().count(),
    };
    findings.require((1..=most).contains(&length), || {
        let message = match length {
            0 => "must not be empty".to_owned(),
            _ => format!("must have at most {most} characters; it has {length}"),
        };
        Violation::new(Code::OutOfRange, path, message)
    });
}
