//! What a test gives to a source: a list of items becomes a script.
//!
//! An item is a map of columns, or one of these forms and nothing beside it:
//! `{advanceWatermarkTo: INSTANT}`, or `{record: {…}}` or `{raw: TEXT}` with any of `partition`, `key` and `timestamp`.

use std::collections::BTreeSet;
use std::sync::Arc;

use evp_api::plan::{Code, FormatPlan, SourceKind, SourcePlan, Violation, parse_instant};
use evp_core::files::{FileId, SourceFile};
use evp_core::position::Micros;
use serde_json::{Map, Value};

use super::encode;
use super::faults::{Read, refuse, unknown_column, unless, wrong};
use crate::source::script::{Part, Record, Script};

const ADVANCE: &str = "advanceWatermarkTo";
const RECORD: &str = "record";
const RAW: &str = "raw";
const PARTITION: &str = "partition";
const KEY: &str = "key";
const TIMESTAMP: &str = "timestamp";

/// A script whose records may still lack the time that their source gives them.
#[derive(Clone)]
pub(super) struct Given {
    parts: Vec<Part>,
    /// Records without a time of their own: part and number.
    untimed: Vec<(usize, usize)>,
}

impl Given {
    /// Everything was received at `now`, where nothing else was said.
    pub(super) fn received(mut self, source: &SourcePlan, now: Micros) -> Script {
        for (part, record) in self.untimed {
            self.parts[part].records[record].timestamp = now;
        }
        let records = self.parts.iter().flat_map(|part| &part.records);
        let mut partitions: BTreeSet<i32> = records.map(|record| record.partition).collect();
        if partitions.is_empty() {
            partitions.insert(0);
        }
        Script {
            partitions: partitions.into_iter().collect(),
            parts: self.parts,
            file: file(source),
            most: usize::MAX,
        }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// The file that records of a source of files are said to stand in.
fn file(source: &SourcePlan) -> Option<Arc<SourceFile>> {
    let SourceKind::Files(_) = &source.kind else {
        return None;
    };
    let (path, header) = match &source.format {
        FormatPlan::Json => ("given.jsonl", None),
        FormatPlan::Csv(csv) => ("given.csv", Some(encode::header(csv, &source.schema))),
    };
    let header = header.filter(|_| has_header(source));
    let id = FileId {
        path: path.into(),
        size: 0,
        version: "given".into(),
    };
    Some(Arc::new(SourceFile { id, header }))
}

fn has_header(source: &SourcePlan) -> bool {
    matches!(&source.format, FormatPlan::Csv(csv) if csv.header)
}

/// Reads the items of one source; `path` is where they stand.
pub(super) fn read(source: &SourcePlan, items: &[Value], path: &str) -> Read<Given> {
    let mut reader = Reader {
        source,
        given: Given {
            parts: vec![Part::default()],
            untimed: Vec::new(),
        },
        line: u64::from(has_header(source)),
    };
    let mut found = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let at = format!("{path}[{number}]");
        // That items are maps was judged before.
        let none = Map::new();
        let read = reader.item(item.as_object().unwrap_or(&none), &at);
        found.extend(read.err().into_iter().flatten());
    }
    if reader
        .given
        .parts
        .last()
        .is_some_and(|part| part.records.is_empty())
    {
        reader.given.parts.pop();
    }
    unless(found, reader.given)
}

struct Reader<'a> {
    source: &'a SourcePlan,
    given: Given,
    line: u64,
}

impl Reader<'_> {
    fn item(&mut self, item: &Map<String, Value>, path: &str) -> Read<()> {
        let is_form = |names: &[&str]| item.keys().all(|name| names.contains(&name.as_str()));
        let has = |name: &str| item.contains_key(name);
        let around = [PARTITION, KEY, TIMESTAMP];
        let form = if has(ADVANCE) && is_form(&[ADVANCE]) {
            Some(ADVANCE)
        } else if has(RAW) && is_form(&[&[RAW][..], &around].concat()) {
            Some(RAW)
        } else if has(RECORD) && is_form(&[&[RECORD][..], &around].concat()) {
            Some(RECORD)
        } else {
            None
        };
        match form {
            Some(form) if self.are_columns(item) => self.ambiguous(form, path),
            Some(ADVANCE) => self.advance(&item[ADVANCE], path),
            Some(RAW) => {
                let value = match &item[RAW] {
                    Value::String(text) => Some(text.clone().into_bytes()),
                    Value::Null => None,
                    other => {
                        return wrong(
                            format!("{path}.{RAW}"),
                            "a text, or null for a tombstone",
                            other,
                        );
                    }
                };
                self.record(item, value, path)
            }
            Some(_) => {
                let at = format!("{path}.{RECORD}");
                let Value::Object(columns) = &item[RECORD] else {
                    return wrong(at, "columns", &item[RECORD]);
                };
                let value = self.columns(columns, &at)?;
                self.record(item, Some(value), path)
            }
            None => {
                let value = self.columns(item, path)?;
                self.record(&Map::new(), Some(value), path)
            }
        }
    }

    fn are_columns(&self, item: &Map<String, Value>) -> bool {
        item.keys()
            .all(|name| self.source.schema.field(name).is_some())
    }

    fn ambiguous(&self, form: &str, path: &str) -> Read<()> {
        let message = format!(
            "`{form}` is a column of `{}`, and a form of items too",
            self.source.name
        );
        let fault = Violation::new(Code::Misplaced, format!("{path}.{form}"), message);
        Err(vec![
            fault.help("write columns as `{partition: 0, record: {…}}`"),
        ])
    }

    /// The columns of a record as its bytes.
    fn columns(&self, columns: &Map<String, Value>, path: &str) -> Read<Vec<u8>> {
        let schema = &self.source.schema;
        let names = schema.fields.iter().map(|f| f.name.as_str());
        let what = format!("`{}`", self.source.name);
        let unknown = columns.keys().filter(|name| schema.field(name).is_none());
        let unknown = unknown.map(|name| unknown_column((&what, name), path, names.clone()));
        let mut found: Vec<_> = unknown.collect();
        if let Some(watermark) = &self.source.watermark
            && !columns.contains_key(&watermark.column)
        {
            let column = &watermark.column;
            let message = format!("`{column}` is the event time, which has no default");
            found.push(Violation::new(
                Code::MissingField,
                format!("{path}.{column}"),
                message,
            ));
        }
        if found.is_empty() {
            Ok(encode::record(&self.source.format, schema, columns))
        } else {
            Err(found)
        }
    }

    /// Adds a record; `around` is what was said beside it.
    fn record(
        &mut self,
        around: &Map<String, Value>,
        value: Option<Vec<u8>>,
        path: &str,
    ) -> Read<()> {
        let partition = match around.get(PARTITION) {
            None => 0,
            Some(number) => partition(number, &format!("{path}.{PARTITION}"))?,
        };
        if let SourceKind::Files(_) = &self.source.kind {
            let odd = [(PARTITION, partition != 0), (KEY, around.contains_key(KEY))];
            if let Some((name, _)) = odd.into_iter().find(|(_, is_odd)| *is_odd) {
                let message = "records of files have one partition, 0, and no key";
                return refuse(Code::Misplaced, format!("{path}.{name}"), message);
            }
        }
        let key = match around.get(KEY) {
            None | Some(Value::Null) => None,
            Some(Value::String(key)) => Some(key.clone().into_bytes()),
            Some(other) => return wrong(format!("{path}.{KEY}"), "a text", other),
        };
        let timestamp = match around.get(TIMESTAMP) {
            None => None,
            Some(time) => Some(instant(time, &format!("{path}.{TIMESTAMP}"))?),
        };
        self.line += 1;
        let at = self.given.parts.len() - 1;
        let records = &mut self.given.parts[at].records;
        if timestamp.is_none() {
            self.given.untimed.push((at, records.len()));
        }
        records.push(Record {
            partition,
            value,
            key,
            timestamp: timestamp.unwrap_or_default(),
            line: self.line,
        });
        Ok(())
    }

    fn advance(&mut self, time: &Value, path: &str) -> Read<()> {
        let path = format!("{path}.{ADVANCE}");
        if self.source.watermark.is_none() {
            let message = format!("`{}` has no watermark that could advance", self.source.name);
            return refuse(Code::WatermarkNeeded, path, message);
        }
        let time = instant(time, &path)?;
        if let Some(part) = self.given.parts.last_mut() {
            part.advance_to = Some(time);
        }
        self.given.parts.push(Part::default());
        Ok(())
    }
}

fn partition(value: &Value, path: &str) -> Read<i32> {
    let Value::Number(number) = value else {
        return wrong(path.to_owned(), "the number of a partition", value);
    };
    let known = number.as_i64().and_then(|n| i32::try_from(n).ok());
    known.filter(|n| *n >= 0).ok_or(()).or_else(|()| {
        refuse(
            Code::OutOfRange,
            path,
            format!("`{number}` is no number of a partition"),
        )
    })
}

/// An instant in RFC 3339.
pub(super) fn instant(value: &Value, path: &str) -> Read<Micros> {
    let Value::String(text) = value else {
        return wrong(
            path.to_owned(),
            "an instant such as `2026-01-01T00:00:00Z`",
            value,
        );
    };
    parse_instant(text)
        .map(Micros)
        .or_else(|why| refuse(Code::Instant, path, why))
}
