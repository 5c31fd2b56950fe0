//! Rows that the database refuses after the epoch was decided: they are found, kept, and harm no others.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use evp_api::plan::Mode;
use evp_api::reason;
use evp_worker::sink::SinkError;
use serde_json::{Value, json};

use super::rows::two;
use super::world::{Ask, World, named};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn rows_that_are_refused_are_kept_with_the_epoch_and_all_others_are_written() {
    let world = World::new().await;
    world
        .run("CREATE TABLE t (id bigint PRIMARY KEY CHECK (id <> 77), name varchar(5))")
        .await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &["id"])).await;
    let mut rows: Vec<Value> = (0..500).map(|id| json!({"id": id, "name": "ok"})).collect();
    rows[300]["name"] = json!("too long");
    rows[400]["name"] = json!("a\u{0}b");
    let intent = sink.commit(&rows).await;
    sink.sink.roll_forward(&intent).await.unwrap();
    assert_eq!(
        world.psql("SELECT count(*), max(length(name)) FROM t"),
        "497|2\n"
    );
    let kept = world.psql("SELECT code, epoch, name, \"row\" FROM eventpipeline_rejects ORDER BY (\"row\"->>'id')::int");
    assert_eq!(
        kept,
        "23514|1|gold|{\"id\": 77, \"name\": \"ok\"}\n22001|1|gold|{\"id\": 300, \"name\": \"too long\"}\n\
         22P05|1|gold|{\"id\": 400, \"name\": \"a\\\\u0000b\"}\n"
    );
    assert_eq!(
        world.psql("SELECT epoch, rejected FROM eventpipeline_progress"),
        "1|3\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn without_dead_letters_a_refused_row_stops_and_nothing_of_its_epoch_is_written() {
    let world = World::new().await;
    world
        .run("CREATE TABLE t (id bigint CHECK (id < 3), name text)")
        .await;
    let mut ask = Ask::new(two(), Mode::Append, &[]);
    ask.keeps_rejects = false;
    let mut sink = world.open(&ask).await;
    sink.commit(&named(&[(1, "a")])).await;
    let intent = sink.decide(&named(&[(2, "b"), (3, "c")])).await;
    let error = sink.sink.roll_forward(&intent).await.unwrap_err();
    let SinkError::Stop { reason, message } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, reason::SINK_REJECTED);
    for word in ["t_id_check", "23514", "`deadLetter`"] {
        assert!(message.contains(word), "`{word}` is not in {message}");
    }
    assert_eq!(world.psql("SELECT id FROM t"), "1\n");
    // Either way out: the table takes it, or it is kept.
    ask.keeps_rejects = true;
    world
        .open(&ask)
        .await
        .sink
        .roll_forward(&intent)
        .await
        .unwrap();
    assert_eq!(world.psql("SELECT id FROM t ORDER BY id"), "1\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_row_that_refers_to_a_later_one_of_its_epoch_is_no_reject() {
    let world = World::new().await;
    world.run("CREATE TABLE t (id bigint PRIMARY KEY, name text CHECK (name <> 'bad'), parent bigint REFERENCES t)").await;
    let columns = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("parent", DataType::Int64, true),
    ]));
    let mut sink = world.open(&Ask::new(columns, Mode::Append, &["id"])).await;
    let row = |id: i64, name: &str, parent: Option<i64>| json!({"id": id, "name": name, "parent": parent});
    sink.commit(&[
        row(1, "child", Some(4)),
        row(2, "bad", None),
        row(3, "orphan", Some(2)),
        row(4, "parent", Some(5)),
        row(5, "grandparent", Some(6)),
        row(6, "the first of them", None),
    ])
    .await;
    assert_eq!(world.psql("SELECT id FROM t ORDER BY id"), "1\n4\n5\n6\n");
    assert_eq!(
        world.psql("SELECT \"row\"->>'id', code FROM eventpipeline_rejects ORDER BY 1"),
        "2|23514\n3|23503\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn each_row_whose_key_is_null_is_a_reject() {
    for mode in [Mode::Append, Mode::Update] {
        let world = World::new().await;
        let mut sink = world.open(&Ask::new(two(), mode, &["name"])).await;
        let rows = [(1, None), (2, Some("a")), (3, None)];
        let rows = rows.map(|(id, name)| json!({"id": id, "name": name}));
        sink.commit(&rows).await;
        assert_eq!(world.psql("SELECT id FROM t"), "2\n");
        let kept = "SELECT \"row\"->>'id', message FROM eventpipeline_rejects ORDER BY 1";
        assert_eq!(
            world.psql(kept),
            "1|key column name is null\n3|key column name is null\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn numbers_that_overflow_the_tables_type_are_rejects() {
    let world = World::new().await;
    world
        .run("CREATE TABLE t (id bigint, name numeric(4,2))")
        .await;
    let columns = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Decimal128(10, 2), true),
    ]));
    let mut sink = world.open(&Ask::new(columns, Mode::Append, &[])).await;
    sink.commit(&[
        json!({"id": 1, "name": "99.99"}),
        json!({"id": 2, "name": "100.00"}),
    ])
    .await;
    assert_eq!(world.psql("SELECT id, name FROM t"), "1|99.99\n");
    assert_eq!(
        world.psql("SELECT code FROM eventpipeline_rejects"),
        "22003\n"
    );
}

/// More than the server has locks for, were each refusal to keep one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn however_many_rows_are_refused_the_others_are_written() {
    const ROWS: i64 = 10_000;
    let world = World::new().await;
    world
        .run("CREATE TABLE t (id bigint CHECK (id % 2 = 0), name text)")
        .await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &[])).await;
    let rows: Vec<Value> = (0..ROWS).map(|id| json!({"id": id, "name": "a"})).collect();
    sink.commit(&rows).await;
    let half = format!("{}\n", ROWS / 2);
    assert_eq!(world.psql("SELECT count(*) FROM t"), half);
    assert_eq!(
        world.psql("SELECT count(*) FROM eventpipeline_rejects"),
        half
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_value_that_is_too_long_for_its_index_is_a_reject() {
    let world = World::new().await;
    let mut sink = world.open(&Ask::new(two(), Mode::Append, &["name"])).await;
    // Nothing of it can be compressed away.
    let mut state = 1_u32;
    let letter = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + u8::try_from(state >> 26).unwrap())
    };
    let long: String = (0..8_000).map(letter).collect();
    sink.commit(&[
        json!({"id": 1, "name": long}),
        json!({"id": 2, "name": "short"}),
    ])
    .await;
    assert_eq!(world.psql("SELECT id FROM t"), "2\n");
    assert_eq!(
        world.psql("SELECT code FROM eventpipeline_rejects"),
        "54000\n"
    );
}
