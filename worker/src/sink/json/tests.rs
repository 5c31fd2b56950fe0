//! What is written is what the sources' decoder reads.

use std::collections::BTreeMap;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use evp_api::EventPipelineSpec;
use evp_core::check::check;
use evp_core::decode::Decoder;
use evp_core::position::{Micros, Position, SplitId};
use evp_core::record::{RawBatch, RawRecord, Span};
use serde_json::json;

use super::*;

fn text(rows: &BinaryArray) -> Vec<Option<&str>> {
    let text = |bytes: Option<_>| bytes.map(|b| str::from_utf8(b).unwrap());
    rows.iter().map(text).collect()
}

/// Fields of every kind of type, all optional.
const FIELDS: [(&str, &str); 14] = [
    ("s", "string"),
    ("i", "int"),
    ("l", "long"),
    ("f", "float"),
    ("d", "double"),
    ("b", "boolean"),
    ("m", "decimal(38,10)"),
    ("n", "decimal(10,2)"),
    ("day", "date"),
    ("t", "timestamp"),
    ("raw", "binary"),
    ("li", "list<string>"),
    ("ma", "map<string,long>"),
    ("st", "struct<a: int, b: binary>"),
];

fn decoder() -> Decoder {
    let field = |(name, kind)| json!({"name": name, "type": kind, "optional": true});
    let spec: EventPipelineSpec = serde_json::from_value(json!({
        "checkpoint": {"path": "file:///c"},
        "sources": [{"name": "in", "generator": {"template": "orders"},
            "schema": {"fields": FIELDS.map(field)}}],
        "sinks": [{"name": "out", "from": "in", "stdout": {}}],
    }))
    .unwrap();
    let checked = check(&spec).unwrap();
    Decoder::new(
        &checked.plan.sources[0],
        evp_core::decode::MetaColumns::default(),
    )
}

fn raw(values: &BinaryArray) -> RawBatch {
    let mut batch = RawBatch {
        splits: vec![SplitId::partition(0)],
        ..RawBatch::default()
    };
    for (at, value) in values.iter().flatten().enumerate() {
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(value);
        batch.records.push(RawRecord {
            split: 0,
            position: Position(i64::try_from(at).unwrap()),
            timestamp: Micros(0),
            key: None,
            value: Some(Span {
                start: u32::try_from(start).unwrap(),
                end: u32::try_from(batch.bytes.len()).unwrap(),
            }),
        });
    }
    batch
}

/// Rows as the decoder makes them of these objects.
fn decoded(objects: &[serde_json::Value]) -> RecordBatch {
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let values: BinaryArray = texts.iter().map(|t| Some(t.as_bytes())).collect();
    let decoded = decoder().decode(&raw(&values));
    assert_eq!(decoded.rejects, []);
    decoded.rows
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let full = json!({
        "s": "a \"quote\", \u{0001}\n and ü", "i": i32::MIN, "l": i64::MAX, "f": 0.1, "d": 1.0e300, "b": false,
        "m": 1, "n": -0.5, "day": "0001-01-01", "t": "2026-03-01T12:00:00.000250Z", "raw": "AP/+",
        "li": ["a", ""], "ma": {"x": -1, "": 2}, "st": {"a": 7, "b": "AA=="},
    });
    let rows = decoded(&[
        full,
        json!({}),
        json!({"t": "1969-12-31T23:59:59.999999Z", "li": []}),
    ]);
    let written = objects(&rows).unwrap();
    let again = decoder().decode(&raw(&written));
    assert_eq!((again.rejects, again.rows), (Vec::new(), rows));
}

#[test]
fn a_row_is_one_object_of_all_its_columns() {
    let columns: BTreeMap<&str, ArrayRef> = BTreeMap::from([
        (
            "a",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None])) as ArrayRef,
        ),
        (
            "b",
            Arc::new(
                Decimal128Array::from(vec![Some(-50), None])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
        ),
        (
            "c",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("UTC"),
            ),
        ),
        ("d", Arc::new(Date32Array::from(vec![Some(0), None]))),
        (
            "e",
            Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255][..]), None])),
        ),
        (
            "f",
            Arc::new(Float64Array::from(vec![
                Some(f64::NAN),
                Some(f64::NEG_INFINITY),
            ])),
        ),
        (
            "g",
            Arc::new(Float32Array::from(vec![Some(0.1), Some(1.0)])),
        ),
    ]);
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    assert_eq!(
        text(&objects(&rows).unwrap()),
        [
            Some(
                r#"{"a":-9223372036854775808,"b":-0.50,"c":"1970-01-01T00:00:01.500Z","d":"1970-01-01","e":"AP8=","f":null,"g":0.1}"#
            ),
            Some(r#"{"a":null,"b":null,"c":null,"d":null,"e":null,"f":null,"g":1.0}"#),
        ]
    );
}

#[test]
fn a_key_is_its_columns_text() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "s",
            Arc::new(StringArray::from(vec![Some("eu \"west\""), None])),
        ),
        ("i", Arc::new(Int32Array::from(vec![Some(-7), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("UTC")),
        ),
    ];
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap();
    for (name, expected) in [
        ("s", "eu \"west\""),
        ("i", "-7"),
        ("b", "true"),
        ("t", "1970-01-01T00:00:00Z"),
    ] {
        let records = keyed(&rows, Some(name)).unwrap();
        assert_eq!(
            text(records.column(0).as_binary()),
            [Some(expected), None],
            "{name}"
        );
    }
    let records = keyed(&rows, None).unwrap();
    assert_eq!(text(records.column(0).as_binary()), [None, None]);
}

#[test]
fn a_line_holds_key_and_value() {
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["a\"b"]));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let lines = |key| String::from_utf8(records(&rows, key).unwrap()).unwrap();
    assert_eq!(
        lines(Some("id")),
        "{\"key\":\"a\\\"b\",\"value\":{\"id\":\"a\\\"b\"}}\n"
    );
    assert_eq!(
        lines(None),
        "{\"key\":null,\"value\":{\"id\":\"a\\\"b\"}}\n"
    );
}
