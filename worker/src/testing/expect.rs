//! What a test expects: rows of sinks, dead letters, counts of late rows and of duplicates.
//!
//! Rows are always a list and counts by step always a map: a sink may be named `late` or `duplicates`.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use evp_api::plan::{Code, NodeName, SinkKind, StepKind, Violation};
use serde_json::{Map, Value};

use super::cell::Cell;
use super::faults::{Read, unknown, unknown_column, unless, wrong};
use super::subject::Subject;
use crate::sink::dead_letters::json_lines_schema;

/// Columns of a row that are compared.
pub(super) type Row = Vec<(String, Cell)>;

/// What must be there in the end. What is not named is not compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) sinks: BTreeMap<NodeName, Vec<Row>>,
    pub(super) dead_letters: Option<Letters>,
    /// Late rows by step.
    pub(super) late: BTreeMap<NodeName, u64>,
    /// Dropped duplicates by step.
    pub(super) duplicates: BTreeMap<NodeName, u64>,
}

/// Dead letters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Letters {
    /// So many.
    Count(u64),
    /// These.
    Rows(Vec<Row>),
}

const LATE: &str = "late";
const DUPLICATES: &str = "duplicates";
const DEAD_LETTERS: &str = "deadLetters";

/// Reads what is expected; `path` is where it stands.
pub(super) fn read(fields: &Map<String, Value>, path: &str, subject: &Subject) -> Read<Expected> {
    let (mut expected, mut found) = (Expected::default(), Vec::new());
    if fields.is_empty() {
        let message = "nothing is expected: the test could not fail";
        found.push(Violation::new(Code::MissingField, path, message));
    }
    for (name, value) in fields {
        let at = format!("{path}.{name}");
        let read = match (name.as_str(), value) {
            (LATE, Value::Object(counts)) => {
                counted(counts, &at, subject).map(|counts| expected.late = counts)
            }
            (DUPLICATES, Value::Object(counts)) => {
                counted(counts, &at, subject).map(|counts| expected.duplicates = counts)
            }
            (LATE | DUPLICATES, other) if !other.is_array() => {
                wrong(&at, "counts by step, such as `{revenue: 1}`", other)
            }
            (DEAD_LETTERS, _) => letters(value, &at).map(|l| expected.dead_letters = Some(l)),
            _ => sink(name, value, &at, subject).map(|(name, rows)| {
                expected.sinks.insert(name, rows);
            }),
        };
        found.extend(read.err().into_iter().flatten());
    }
    unless(found, expected)
}

fn counted(
    counts: &Map<String, Value>,
    path: &str,
    subject: &Subject,
) -> Read<BTreeMap<NodeName, u64>> {
    let with_memory =
        |kind: &StepKind| matches!(kind, StepKind::Dedupe(_) | StepKind::Aggregate(_));
    let steps = subject.checked().plan.steps.iter();
    let steps = steps
        .filter(|step| with_memory(&step.kind))
        .map(|step| &step.name);
    let (mut counted, mut found) = (BTreeMap::new(), Vec::new());
    for (name, count) in counts {
        let at = format!("{path}.{name}");
        let step = steps.clone().find(|step| step.as_str() == name);
        match (step, count.as_u64()) {
            (Some(step), Some(count)) => drop(counted.insert(step.clone(), count)),
            (Some(_), None) => found.extend(
                wrong::<()>(&at, "a count", count)
                    .err()
                    .into_iter()
                    .flatten(),
            ),
            (None, _) => {
                let names = steps.clone().map(NodeName::as_str);
                found.push(unknown(("step with memory", name), &at, names));
            }
        }
    }
    unless(found, counted)
}

fn letters(value: &Value, path: &str) -> Read<Letters> {
    match value {
        Value::Number(_) => match value.as_u64() {
            Some(count) => Ok(Letters::Count(count)),
            None => wrong(path, "a count", value),
        },
        Value::Array(items) => {
            let schema = json_lines_schema();
            rows(items, ("a dead letter", &schema), path).map(Letters::Rows)
        }
        _ => wrong(path, "a count, or a list of dead letters", value),
    }
}

fn sink(name: &str, value: &Value, path: &str, subject: &Subject) -> Read<(NodeName, Vec<Row>)> {
    let sinks = &subject.checked().plan.sinks;
    let Some(sink) = sinks.iter().find(|s| s.name.as_str() == name) else {
        let names = sinks.iter().map(|s| s.name.as_str());
        let counts = [DEAD_LETTERS, DUPLICATES, LATE];
        return Err(vec![unknown(("sink", name), path, names.chain(counts))]);
    };
    if sink.kind == SinkKind::Stdout {
        let message = format!("what `{name}` prints cannot be read back");
        return Err(vec![Violation::new(Code::Misplaced, path, message)]);
    }
    let Value::Array(items) = value else {
        return wrong(path, "a list of rows", value);
    };
    let what = format!("`{name}`");
    let read = rows(items, (&what, &subject.checked().sinks[&sink.name]), path)?;
    Ok((sink.name.clone(), read))
}

fn rows(items: &[Value], of: (&str, &Schema), path: &str) -> Read<Vec<Row>> {
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for (number, item) in items.iter().enumerate() {
        let at = format!("{path}[{number}]");
        match row(item, of, &at) {
            Ok(row) => rows.push(row),
            Err(faults) => found.extend(faults),
        }
    }
    unless(found, rows)
}

fn row(item: &Value, (what, schema): (&str, &Schema), path: &str) -> Read<Row> {
    let Value::Object(columns) = item else {
        return wrong(path, "columns", item);
    };
    let names = || schema.fields().iter().map(|f| f.name().as_str());
    let (mut row, mut found) = (Row::new(), Vec::new());
    for (name, value) in columns {
        let at = format!("{path}.{name}");
        let Some((_, field)) = schema.column_with_name(name) else {
            found.push(unknown_column((what, name), path, names()));
            continue;
        };
        match Cell::read(value, field.data_type()) {
            Ok(cell) => row.push((name.clone(), cell)),
            Err(why) => {
                let fault = Violation::new(Code::WrongType, at, format!("`{name}`: {why}"));
                let quoted = field.data_type() == &DataType::Utf8 && !value.is_null();
                found.push(if quoted {
                    fault.help(format!("put it in quotes: `\"{value}\"`"))
                } else {
                    fault
                });
            }
        }
    }
    unless(found, row)
}
