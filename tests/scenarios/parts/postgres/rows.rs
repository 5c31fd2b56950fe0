//! What becomes of rows: every type, every mode, exactly once.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use evp_api::plan::Mode;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_worker::sink::Sink;
use serde_json::json;

use super::world::{Ask, World, batch, named};

pub(super) fn two() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn all_types() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let inner = vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b c", DataType::Utf8, true),
    ];
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        column("Odd \"name\"", DataType::Utf8),
        column("l", DataType::Int64),
        column("f", DataType::Float32),
        column("d", DataType::Float64),
        column("yes", DataType::Boolean),
        column("n", DataType::Decimal128(20, 4)),
        column("day", DataType::Date32),
        column(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ),
        column("bytes", DataType::Binary),
        column(
            "list",
            DataType::List(Arc::new(Field::new("item", DataType::Int32, true))),
        ),
        column("inner", DataType::Struct(inner.into())),
    ]))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn every_type_is_read_by_another_client_as_it_was_written() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(all_types(), Mode::Append, &[])).await;
    let odd = "tab\tnew\nline\r\\N \\ 'quote' \"double\" 漢字 🦀 ";
    sink.commit(&[
        json!({"id": 1, "Odd \"name\"": odd, "l": i64::MIN, "f": 0.1, "d": 1e-300, "yes": true, "n": "-1234567890123456.7891",
            "day": "2000-02-29", "at": "1969-12-31T23:59:59.999999Z", "bytes": "00ff5c6e", "list": [1, null],
            "inner": {"a": null, "b c": "\"x\\y"}}),
        json!({"id": 2}),
        json!({"id": 3, "Odd \"name\"": "", "l": 0, "f": -0.0, "d": 1.797_693_134_862_315_7e308, "yes": false, "n": "0.0001",
            "day": "0001-01-01", "at": "9999-12-31T23:59:59Z", "bytes": "", "list": [], "inner": {"a": 1, "b c": ""}}),
    ])
    .await;
    let told = world.psql("SELECT to_jsonb(t) - 'Odd \"name\"' - 'd' FROM t ORDER BY id");
    let rows: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            json!({"id": 1, "l": i64::MIN, "f": 0.1, "yes": true, "n": -1_234_567_890_123_456.8, "day": "2000-02-29",
                "at": "1969-12-31T23:59:59.999999+00:00", "bytes": "\\x00ff5c6e", "list": [1, null],
                "inner": {"a": null, "b c": "\"x\\y"}}),
            json!({"id": 2, "l": null, "f": null, "yes": null, "n": null, "day": null, "at": null, "bytes": null,
                "list": null, "inner": null}),
            json!({"id": 3, "l": 0, "f": 0, "yes": false, "n": 0.0001, "day": "0001-01-01",
                "at": "9999-12-31T23:59:59+00:00", "bytes": "\\x", "list": [], "inner": {"a": 1, "b c": ""}}),
        ]
    );
    let texts = world.psql("SELECT \"Odd \"\"name\"\"\" = E'tab\\tnew\\nline\\r\\\\N \\\\ ''quote'' \"double\" 漢字 🦀 ', n::text, d::text FROM t ORDER BY id");
    assert_eq!(
        texts,
        "t|-1234567890123456.7891|1e-300\nNULL|NULL|NULL\nf|0.0001|1.7976931348623157e+308\n"
    );
    let types = "SELECT string_agg(data_type, ', ' ORDER BY ordinal_position) FROM information_schema.columns \
        WHERE table_schema = current_schema AND table_name = 't'";
    assert_eq!(
        world.psql(types),
        "integer, text, bigint, real, double precision, boolean, numeric, date, timestamp with time zone, bytea, jsonb, jsonb\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn an_intent_that_is_applied_again_adds_nothing() {
    let world = World::new().await;
    let ask = Ask::new(two(), Mode::Append, &[]);
    let mut sink = world.open(&ask).await;
    let first = sink.decide(&named(&[(1, "a"), (1, "a")])).await;
    assert_eq!(sink.sink.probe(&first).await.unwrap(), None);
    for _ in 0..3 {
        sink.sink.roll_forward(&first).await.unwrap();
    }
    let second = sink.commit(&named(&[(2, "b")])).await;
    let mut another = world.open(&ask).await;
    another.sink.roll_forward(&first).await.unwrap();
    another.sink.roll_forward(&second).await.unwrap();
    assert_eq!(another.sink.probe(&second).await.unwrap(), Some(Epoch(2)));
    assert_eq!(
        world.psql("SELECT id, name FROM t ORDER BY id"),
        "1|a\n1|a\n2|b\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn append_with_keys_leaves_what_is_there() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &["id"])).await;
    sink.commit(&named(&[(1, "first"), (1, "second"), (2, "b")]))
        .await;
    sink.commit(&named(&[(2, "later"), (3, "c")])).await;
    assert_eq!(
        world.psql("SELECT id, name FROM t ORDER BY id"),
        "1|first\n2|b\n3|c\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn update_replaces_and_deletes_by_key() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(two(), Mode::Update, &["id"])).await;
    sink.commit(&named(&[(1, "first"), (1, "second"), (2, "b"), (4, "d")]))
        .await;
    let rows = batch(&two(), &named(&[(2, ""), (3, "c"), (4, "e")]));
    let delete = vec![true, false, false];
    let intent = sink
        .decide_changes(SinkBatch::Changes { rows, delete })
        .await;
    sink.sink.roll_forward(&intent).await.unwrap();
    assert_eq!(
        world.psql("SELECT id, name FROM t ORDER BY id"),
        "1|second\n3|c\n4|e\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn group_keys_that_are_null_are_one_group() {
    let world = World::new().await;
    let ask = Ask::new(two(), Mode::Update, &["name"]);
    let mut settings = world.settings(&ask, &world.place);
    settings.null_keys = true;
    let mut sink = super::world::Writes::open(settings).await.unwrap();
    for id in 1..=2 {
        sink.commit(&[
            json!({"id": id, "name": null}),
            json!({"id": id, "name": "a"}),
        ])
        .await;
    }
    assert_eq!(
        world.psql("SELECT id, name FROM t ORDER BY name"),
        "2|a\n2|NULL\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn many_rows_are_streamed() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &["id"])).await;
    let rows: Vec<_> = (0..20_000)
        .map(|id| json!({"id": id, "name": "x".repeat(100)}))
        .collect();
    sink.commit(&rows).await;
    assert_eq!(
        world.psql("SELECT count(*), count(DISTINCT id), min(length(name)) FROM t"),
        "20000|20000|100\n"
    );
}
