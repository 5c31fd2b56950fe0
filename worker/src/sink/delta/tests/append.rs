//! Laws of [`DeltaAppend`], and of committing in general.

use super::faults::Fault;
use super::*;
use evp_api::reason as reasons;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_epoch_creates_the_table_in_one_commit() {
    let world = World::new();
    let mut sink = world.append("a").await;
    assert_eq!(sink.write(1, &[(1, Some("a")), (2, None)]).await, 0);
    assert_eq!(world.rows().await, vec![(1, Some("a".into())), (2, None)]);
    let commit = world.commit(0).await;
    let kinds: Vec<_> = commit
        .iter()
        .filter_map(|a| a.as_object()?.keys().next().cloned())
        .collect();
    assert_eq!(kinds, ["commitInfo", "txn", "protocol", "metaData", "add"]);
    assert_eq!(commit[1]["txn"]["version"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_rows_bounds_and_nulls() {
    let world = World::new();
    let mut sink = world.append("a").await;
    sink.write(
        1,
        &[(5, Some("a")), (-2, None), (3, Some(&"x".repeat(100)))],
    )
    .await;
    let commit = world.commit(0).await;
    let stats: serde_json::Value =
        serde_json::from_str(commit[4]["add"]["stats"].as_str().unwrap()).unwrap();
    let upper = format!("{}y", "x".repeat(31));
    assert_eq!(
        stats,
        json!({
            "numRecords": 3,
            "minValues": {"id": -2, "name": "a"},
            "maxValues": {"id": 5, "name": upper},
            "nullCount": {"id": 0, "name": 1},
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_epoch_has_no_intent() {
    let world = World::new();
    let mut sink = world.append("a").await;
    assert_eq!(sink.seal(Epoch(1)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_epoch_leaves_no_row() {
    let world = World::new();
    let mut sink = world.append("a").await;
    sink.stage(SinkBatch::Rows(batch(&[(1, None)])))
        .await
        .unwrap();
    sink.abandon().await;
    sink.write(1, &[(2, None)]).await;
    assert_eq!(world.rows().await, vec![(2, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_again_changes_nothing() {
    let world = World::new();
    let mut sink = world.append("a").await;
    let first = sink.decide(1, None, &[(1, Some("a"))]).await;
    for _ in 0..3 {
        assert_eq!(sink.roll(&first).await.unwrap().version, Some(0));
    }
    let mut later = world.append("b").await;
    assert_eq!(later.roll(&first).await.unwrap().version, Some(0));
    assert_eq!(world.rows().await, named(&[(1, "a")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_does_not_double() {
    for fault in [Fault::LoseReply, Fault::ReportConflict] {
        let world = World::new();
        let mut sink = world.append("a").await;
        sink.write(1, &[(1, Some("a"))]).await;
        world.faults.plan(fault);
        assert_eq!(sink.write(2, &[(2, Some("b"))]).await, 1);
        assert_eq!(sink.write(3, &[(3, Some("c"))]).await, 2);
        assert_eq!(world.rows().await, named(&[(1, "a"), (2, "b"), (3, "c")]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_the_first_commit_does_not_double() {
    let world = World::new();
    world.faults.plan(Fault::LoseReply);
    let mut sink = world.append("a").await;
    assert_eq!(sink.write(1, &[(1, Some("a"))]).await, 0);
    assert_eq!(world.rows().await, named(&[(1, "a")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_is_reported_and_can_be_applied_again() {
    let world = World::new();
    let mut sink = world.append("a").await;
    let first = sink.decide(1, None, &[(1, Some("a"))]).await;
    world.faults.plan(Fault::Fail);
    let error = sink.roll(&first).await.unwrap_err();
    assert_eq!(reason(&error), reasons::SINK_UNAVAILABLE);
    sink.roll(&first).await.unwrap();
    assert_eq!(world.rows().await, named(&[(1, "a")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_append_before_our_commit_survives_beside_ours() {
    let world = World::new();
    let mut sink = world.append("a").await;
    sink.write(1, &[(1, Some("a"))]).await;
    let table = world.foreign().await;
    world.faults.plan(Fault::After(Box::new(|| {
        Box::pin(async move {
            table.write([batch(&[(9, Some("foreign"))])]).await.unwrap();
        })
    })));
    assert_eq!(sink.write(2, &[(2, Some("b"))]).await, 2);
    assert_eq!(
        world.rows().await,
        named(&[(1, "a"), (2, "b"), (9, "foreign")])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_created_first_takes_our_rows() {
    let world = World::new();
    let mut sink = world.append("a").await;
    let first = sink.decide(1, None, &[(1, Some("a"))]).await;
    let table = DeltaTable::new(world.target.log_store());
    table.write([batch(&[(9, Some("foreign"))])]).await.unwrap();
    assert_eq!(sink.roll(&first).await.unwrap().version, Some(1));
    assert_eq!(world.rows().await, named(&[(1, "a"), (9, "foreign")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_with_the_same_epoch_does_not_double() {
    let world = World::new();
    let (mut old, mut new) = (world.append("a").await, world.append("b").await);
    let first = old.decide(1, None, &[(1, Some("a"))]).await;
    let applied = new.roll(&first).await.unwrap();
    assert_eq!(old.roll(&first).await.unwrap(), applied);
    assert_eq!(world.rows().await, named(&[(1, "a")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_is_not_the_head_s_stops() {
    let check = async |prev, expected: &str| {
        let world = World::new();
        let mut sink = world.append("a").await;
        let first = sink.decide(3, None, &[(1, None)]).await;
        sink.roll(&first).await.unwrap();
        let next = sink.decide(9, prev, &[(2, None)]).await;
        let error = sink.roll(&next).await.unwrap_err();
        assert_eq!(reason(&error), expected, "{error}");
    };
    check(Some(5), reasons::SINK_HISTORY_LOST).await;
    check(Some(2), reasons::CHECKPOINT_BEHIND_SINK).await;
    check(None, reasons::CHECKPOINT_BEHIND_SINK).await;
    let world = World::new();
    let mut sink = world.append("a").await;
    let next = sink.decide(2, Some(1), &[(2, None)]).await;
    assert_eq!(
        reason(&sink.roll(&next).await.unwrap_err()),
        reasons::SINK_HISTORY_LOST
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuumed_staged_file_stops() {
    let world = World::new();
    let mut sink = world.append("a").await;
    let first = sink.decide(1, None, &[(1, None)]).await;
    let path = first.body["add"][0]["path"].as_str().unwrap();
    world
        .target
        .store
        .delete(&world.target.child(path).unwrap())
        .await
        .unwrap();
    let error = sink.roll(&first).await.unwrap_err();
    assert_eq!(reason(&error), reasons::STAGED_FILE_MISSING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_schema_is_refused_by_column() {
    let world = World::new();
    world.append("a").await.write(1, &[(1, None)]).await;
    let other = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
    ]));
    let Err(error) = DeltaAppend::open(world.settings(other, "b")).await else {
        panic!("it was accepted");
    };
    assert_eq!(reason(&error), reasons::TABLE_MISMATCH);
    let text = error.to_string();
    assert!(
        text.contains("'id' is long in the table and integer"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_log_appears_and_is_read_again() {
    let world = World::new();
    let mut sink = world.append("a").await;
    for epoch in 1..=103 {
        sink.write(epoch, &[(1, None)]).await;
    }
    let last = world.target.child("_delta_log/_last_checkpoint").unwrap();
    assert!(world.target.store.head(&last).await.is_ok());
    let mut later = world.append("b").await;
    let probe = intent(103, Some(102), json!({}));
    assert_eq!(later.probe(&probe).await.unwrap(), Some(Epoch(103)));
    assert_eq!(world.rows().await.len(), 103);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_partitioned_and_read_back() {
    let world = World::new();
    let mut settings = world.settings(schema(), "a");
    settings.partition_by = vec!["name".to_owned()];
    let mut sink = DeltaAppend::open(settings).await.unwrap();
    let rows = [
        (1, Some("a/b %")),
        (2, None),
        (3, Some("ü")),
        (4, Some("a/b %")),
    ];
    sink.write(1, &rows).await;
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(
        world.rows().await,
        vec![
            (1, text("a/b %")),
            (2, None),
            (3, text("ü")),
            (4, text("a/b %"))
        ]
    );
    assert_eq!(world.files().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_is_invisible() {
    let world = World::new();
    let mut sink = world.append("a").await;
    sink.write(1, &[(1, None)]).await;
    sink.decide(2, Some(1), &[(2, None)]).await;
    assert_eq!(world.faults.data_files(), 2);
    assert_eq!(world.rows().await, vec![(1, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_deleted_under_us_stops() {
    let world = World::new();
    let mut sink = world.append("a").await;
    sink.write(1, &[(1, None)]).await;
    sink.write(2, &[(2, None)]).await;
    let next = sink.decide(3, Some(2), &[(3, None)]).await;
    assert_eq!(sink.probe(&next).await.unwrap(), Some(Epoch(2)));
    world.delete_log().await;
    let error = sink.roll(&next).await.unwrap_err();
    assert_eq!(reason(&error), reasons::SINK_HISTORY_LOST, "{error}");
    // Somebody made another table in its place, as long as ours was.
    for _ in 0..2 {
        let table = DeltaTable::new(world.target.log_store());
        let _ = table.write([batch(&[(9, Some("foreign"))])]).await;
    }
    let error = sink.roll(&next).await.unwrap_err();
    assert_eq!(reason(&error), reasons::SINK_HISTORY_LOST, "{error}");
}
