//! Reads `tests.yaml`: a text becomes tests that fit their pipeline, or findings with their places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use evp_api::plan::{Code, NodeName, SourcePlan, Violation};
use evp_core::decode::{Decoder, MetaColumns};
use evp_core::position::Micros;
use serde_json::{Map, Value, json};

use super::expect::{self, Expected};
use super::faults::{Read, unknown, unless};
use super::given::{self, Given};
use super::subject::Subject;
use crate::diagnostics::{self, Finding};
use crate::manifest::shape;
use crate::source::script::Scripts;
use crate::virtual_time::BEGIN;

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name, a sentence.
    pub name: String,
    /// When it begins.
    pub(super) now: Micros,
    /// What the sources hand out.
    pub(super) scripts: Scripts,
    pub(super) expected: Expected,
}

/// The shape of the file; what is in `given` and `expect` is judged against the pipeline.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let test = json!({
        "type": "object",
        "required": ["name", "given", "expect"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "What the test shows, as a sentence."},
            "now": {"type": "string", "description": "When the test begins; the newest event time that is given, if absent."},
            "given": {
                "type": "object",
                "description": "What each source hands out.",
                "additionalProperties": {"type": "array", "items": {"type": "object"}},
            },
            "expect": {
                "type": "object",
                "description": "What sinks hold in the end, and what was counted.",
                "additionalProperties": {},
            },
        },
    });
    json!({
        "type": "object",
        "required": ["tests"],
        "properties": {"tests": {"type": "array", "minItems": 1, "items": test, "description": "The tests."}},
    })
});

/// Reads all tests of a text; `file` is the name that findings carry. All findings at once.
pub fn read(text: &str, file: &str, subject: &Subject) -> Result<Vec<Test>, Vec<Finding>> {
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|error| vec![diagnostics::unreadable(text, file, &error)])?;
    judge(&value, subject).map_err(|found| diagnostics::locate_in(text, file, 0, &found))
}

fn judge(value: &Value, subject: &Subject) -> Read<Vec<Test>> {
    let found = shape::check(value, &SCHEMA);
    if !found.is_empty() {
        return Err(found);
    }
    let (mut tests, mut found, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (number, value) in value["tests"].as_array().into_iter().flatten().enumerate() {
        let path = format!("tests[{number}]");
        let name = value["name"].as_str().unwrap_or_default();
        if !names.insert(name) {
            let message = format!("there is a test `{name}` already");
            found.push(Violation::new(
                Code::DuplicateName,
                format!("{path}.name"),
                message,
            ));
        }
        match test(value, &path, subject) {
            Ok(test) => tests.push(test),
            Err(of_test) => found.extend(of_test),
        }
    }
    unless(found, tests)
}

fn test(value: &Value, path: &str, subject: &Subject) -> Read<Test> {
    let none = Map::new();
    let fields = |name: &str| value[name].as_object().unwrap_or(&none);
    let mut found = Vec::new();
    let given =
        given(fields("given"), &format!("{path}.given"), subject).unwrap_or_else(|faults| {
            found.extend(faults);
            BTreeMap::new()
        });
    let expected = expect::read(fields("expect"), &format!("{path}.expect"), subject);
    let expected = expected.unwrap_or_else(|faults| {
        found.extend(faults);
        Expected::default()
    });
    let now = match value.get("now") {
        None => Ok(newest(&given, subject)),
        Some(now) => given::instant(now, &format!("{path}.now")),
    };
    let now = now.unwrap_or_else(|faults| {
        found.extend(faults);
        BEGIN
    });
    if !found.is_empty() {
        return Err(found);
    }
    Ok(Test {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        now,
        scripts: scripts(given, subject, now),
        expected,
    })
}

type AllGiven = BTreeMap<NodeName, Given>;

fn given(fields: &Map<String, Value>, path: &str, subject: &Subject) -> Read<AllGiven> {
    let sources = &subject.checked().plan.sources;
    let (mut all, mut found) = (AllGiven::new(), Vec::new());
    for (name, items) in fields {
        let at = format!("{path}.{name}");
        let Some(source) = sources.iter().find(|s| s.name.as_str() == name) else {
            let names = sources.iter().map(|s| s.name.as_str());
            found.push(unknown(("source", name), &at, names));
            continue;
        };
        match given::read(source, items.as_array().map_or(&[], Vec::as_slice), &at) {
            Ok(given) => drop(all.insert(source.name.clone(), given)),
            Err(faults) => found.extend(faults),
        }
    }
    unless(found, all)
}

/// Every source has a script: one that is given nothing hands out nothing.
fn scripts(mut given: AllGiven, subject: &Subject, now: Micros) -> Scripts {
    let sources = subject.checked().plan.sources.iter();
    sources
        .map(|source| {
            let of_source = given.remove(&source.name);
            let of_source = of_source.or_else(|| given::read(source, &[], "").ok());
            let script = of_source.map(|given| given.received(source, now));
            let script = script.unwrap_or_else(|| unreachable!("nothing is no fault"));
            (source.name.clone(), Arc::new(script))
        })
        .collect()
}

/// The newest time that a test speaks of: no event that it gives lies ahead of it.
fn newest(given: &AllGiven, subject: &Subject) -> Micros {
    let of_source = |source: &SourcePlan| {
        let given = given.get(&source.name)?;
        let promised = given
            .parts()
            .iter()
            .filter_map(|part| part.advance_to)
            .max();
        promised.max(newest_event(source, given))
    };
    let sources = subject.checked().plan.sources.iter();
    sources.filter_map(of_source).max().unwrap_or(BEGIN)
}

/// As the decoder reads it.
fn newest_event(source: &SourcePlan, given: &Given) -> Option<Micros> {
    let (column, _) = source.schema.field(&source.watermark.as_ref()?.column)?;
    let batch = given.clone().received(source, BEGIN).all();
    let rows = Decoder::new(source, MetaColumns::default())
        .decode(&batch)
        .rows;
    let times = rows
        .column(column)
        .as_primitive::<TimestampMicrosecondType>();
    times.values().iter().copied().max().map(Micros)
}
