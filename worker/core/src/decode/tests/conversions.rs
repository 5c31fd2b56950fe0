//! What a value becomes.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimeUnit as ArrowUnit, TimestampMicrosecondType,
};

use super::*;
use crate::decode::{arrow_type, row_schema};

fn row(record: &str) -> RecordBatch {
    let decoded = decode(&source(every_type()), &[Some(record.as_bytes())]);
    assert_eq!(decoded.rejects, [], "{record}");
    decoded.rows
}

fn micros(record: &str, column: &str) -> i64 {
    row(record)[column]
        .as_primitive::<TimestampMicrosecondType>()
        .value(0)
}

#[test]
fn each_type_has_one_arrow_type() {
    let utc = Arrow::Timestamp(ArrowUnit::Microsecond, Some("UTC".into()));
    assert_eq!(arrow_type(&DataType::Timestamp), utc);
    assert_eq!(
        arrow_type(&DataType::Decimal {
            precision: 6,
            scale: 2
        }),
        Arrow::Decimal128(6, 2)
    );
    let schema = row_schema(
        &source(vec![
            field("a", DataType::Int),
            optional("b", DataType::Long),
        ]),
        MetaColumns::ALL,
    );
    let shape: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable()))
        .collect();
    assert_eq!(
        shape,
        [
            ("a", Arrow::Int32, false),
            ("b", Arrow::Int64, true),
            ("_meta.timestamp", utc, false),
            ("_meta.partition", Arrow::Int32, true),
            ("_meta.offset", Arrow::Int64, false),
            ("_meta.key", Arrow::Binary, true),
            ("_meta.raw", Arrow::Binary, false),
            ("_meta.file", Arrow::Utf8, true),
            ("_meta.line", Arrow::Int64, true),
        ]
    );
}

#[test]
fn plain_values_are_what_they_say() {
    let rows = row(
        r#"{"s":"caf\u00e9 \ud83d\ude00\n","i":-7,"l":9007199254740993,"f":0.1,"d":0.1,"b":true,"n":-12.5,"date":"1969-12-31","bin":"AAEC/w=="}"#,
    );
    assert_eq!(rows["s"].as_string::<i32>().value(0), "café 😀\n");
    assert_eq!(rows["i"].as_primitive::<Int32Type>().value(0), -7);
    assert_eq!(
        rows["l"].as_primitive::<Int64Type>().value(0),
        9_007_199_254_740_993
    );
    assert_eq!(
        rows["f"].as_primitive::<Float32Type>().value(0).to_bits(),
        0.1_f32.to_bits()
    );
    assert_eq!(
        rows["d"].as_primitive::<Float64Type>().value(0).to_bits(),
        0.1_f64.to_bits()
    );
    assert!(rows["b"].as_boolean().value(0));
    assert_eq!(rows["n"].as_primitive::<Decimal128Type>().value(0), -1250);
    assert_eq!(rows["date"].as_primitive::<Date32Type>().value(0), -1);
    assert_eq!(rows["bin"].as_binary::<i32>().value(0), [0, 1, 2, 255]);
    assert!(rows["t"].is_null(0));
}

#[test]
fn nested_values_keep_their_shape() {
    let rows = row(r#"{"list":[1,null,3],"map":{"k":"v","\u006c":null},"st":{"y":"z","x":4}}"#);
    let list = rows["list"].as_list::<i32>().value(0);
    assert_eq!(
        list.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
        [Some(1), None, Some(3)]
    );
    let map = rows["map"].as_map().value(0);
    assert_eq!(
        map.column(0).as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("k"), Some("l")]
    );
    assert_eq!(
        map.column(1).as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("v"), None]
    );
    let st = rows["st"].as_struct();
    assert_eq!(st.column(0).as_primitive::<Int32Type>().value(0), 4);
    assert_eq!(st.column(1).as_string::<i32>().value(0), "z");
}

#[test]
fn times_are_utc_microseconds() {
    let noon = 1_767_268_800_000_000;
    assert_eq!(micros(r#"{"t":"2026-01-01T12:00:00Z"}"#, "t"), noon);
    assert_eq!(
        micros(r#"{"t":"2026-01-01T14:00:00.5+02:00"}"#, "t"),
        noon + 500_000
    );
    assert_eq!(micros(r#"{"t":"2026-01-01T06:30:00-05:30"}"#, "t"), noon);
    assert_eq!(micros(r#"{"t":"1969-12-31T23:59:59.999999Z"}"#, "t"), -1);
    assert_eq!(
        micros(r#"{"t":"0001-01-01T00:00:00Z"}"#, "t"),
        -62_135_596_800_000_000
    );
    assert_eq!(
        micros(r#"{"berlin":"2026-01-01T13:00:00"}"#, "berlin"),
        noon
    );
    assert_eq!(
        micros(r#"{"berlin":"2026-07-01T12:00:00"}"#, "berlin"),
        micros(r#"{"t":"2026-07-01T10:00:00Z"}"#, "t")
    );
    assert_eq!(micros(r#"{"india":"2026-01-01T17:30:00"}"#, "india"), noon);
    assert_eq!(micros(r#"{"ts":1767268800}"#, "ts"), noon);
    assert_eq!(micros(r#"{"ts":1.767268800000001e9}"#, "ts"), noon + 1);
    assert_eq!(micros(r#"{"tms":1767268800000}"#, "tms"), noon);
    assert_eq!(micros(r#"{"tus":1767268800000000}"#, "tus"), noon);
    assert_eq!(micros(r#"{"tns":1767268800000001000}"#, "tns"), noon + 1);
    assert_eq!(micros(r#"{"ts":-0.000001}"#, "ts"), -1);
}

#[test]
fn days_of_ten_thousand_years_have_their_numbers() {
    let epoch = jiff::civil::date(1970, 1, 1);
    let mut day = jiff::civil::date(1, 1, 1);
    // An odd step meets every day of every month.
    while let Ok(next) = day.checked_add(jiff::Span::new().days(11)) {
        let number = (day - epoch).get_days();
        assert_eq!(
            crate::decode::time::date(day.to_string().as_bytes()),
            Ok(number)
        );
        day = next;
    }
    assert_eq!(crate::decode::time::date(b"9999-12-31"), Ok(2_932_896));
}

#[test]
fn doubles_and_floats_are_rounded_correctly() {
    let mut random = Random(1);
    let mut texts = Vec::new();
    while texts.len() < 5_000 {
        let text = match random.below(3) {
            0 => format!("{:e}", f64::from_bits(random.next())),
            1 => format!("{}.{}", random.below(1_000_000), random.below(1_000_000)),
            _ => format!(
                "{}e{}",
                random.next(),
                i64::try_from(random.below(80)).unwrap() - 40
            ),
        };
        if text.parse::<f32>().is_ok_and(f32::is_finite) {
            texts.push(text);
        }
    }
    let records: Vec<_> = texts
        .iter()
        .map(|t| format!("{{\"d\":{t},\"f\":{t}}}"))
        .collect();
    let values: Vec<_> = records.iter().map(|r| Some(r.as_bytes())).collect();
    let rows = decode(&source(every_type()), &values).rows;
    assert_eq!(rows.num_rows(), texts.len());
    let (doubles, floats) = (
        rows["d"].as_primitive::<Float64Type>(),
        rows["f"].as_primitive::<Float32Type>(),
    );
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(
            doubles.value(i).to_bits(),
            text.parse::<f64>().unwrap().to_bits(),
            "{text}"
        );
        assert_eq!(
            floats.value(i).to_bits(),
            text.parse::<f32>().unwrap().to_bits(),
            "{text}"
        );
    }
}

#[test]
fn meta_columns_say_what_the_source_knows() {
    let mut raw = batch(&[Some(b"{}"), None, Some(b"[]"), Some(br#"{"i":1}"#)]);
    raw.records[3].key = raw.records[0].value;
    let decoded = Decoder::new(&source(every_type()), MetaColumns::ALL).decode(&raw);
    let rows = &decoded.rows;
    assert_eq!(decoded.origin, [0, 3]);
    assert_eq!(
        rows["_meta.offset"].as_primitive::<Int64Type>().values(),
        &[100, 103]
    );
    assert_eq!(
        rows["_meta.partition"].as_primitive::<Int32Type>().values(),
        &[3, 3]
    );
    assert_eq!(
        rows["_meta.timestamp"]
            .as_primitive::<TimestampMicrosecondType>()
            .values(),
        &[7, 7]
    );
    assert!(rows["_meta.key"].is_null(0));
    assert_eq!(rows["_meta.key"].as_binary::<i32>().value(1), b"{}");
    assert_eq!(rows["_meta.raw"].as_binary::<i32>().value(1), br#"{"i":1}"#);
}

#[test]
fn only_the_meta_columns_asked_for_are_made() {
    let mut meta = MetaColumns::default();
    assert!(meta.insert("offset"));
    assert!(!meta.insert("topic"));
    assert_eq!(meta.names(), ["_meta.offset"]);
    let decoder = Decoder::new(&source(vec![field("a", DataType::Int)]), meta);
    let schema = Arc::clone(&decoder.schema());
    assert_eq!(
        schema
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect::<Vec<_>>(),
        ["a", "_meta.offset"]
    );
    assert_eq!(
        meta.union(MetaColumns { key: true, ..meta }).names(),
        ["_meta.offset", "_meta.key"]
    );
}
