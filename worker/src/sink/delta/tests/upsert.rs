//! Laws of [`DeltaUpsert`].

use std::collections::BTreeMap;

use deltalake::operations::optimize::OptimizeType;
use evp_api::reason as reasons;

use super::faults::Fault;
use super::*;

pub(super) async fn change(
    sink: &mut DeltaUpsert,
    epoch: u64,
    changes: &[(i64, Option<&str>, bool)],
) -> u64 {
    let rows: Vec<_> = changes.iter().map(|(id, name, _)| (*id, *name)).collect();
    let delete = changes.iter().map(|c| c.2).collect();
    let staged = SinkBatch::Changes {
        rows: batch(&rows),
        delete,
    };
    sink.stage(staged).await.unwrap();
    let body = sink.seal(Epoch(epoch)).await.unwrap().unwrap();
    let prev = epoch.checked_sub(1).filter(|p| *p > 0);
    sink.roll(&intent(epoch, prev, body))
        .await
        .unwrap()
        .version
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_kept_by_key() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a")), (2, Some("b"))]).await;
    sink.write(2, &[(2, Some("B")), (3, Some("c"))]).await;
    change(
        &mut sink,
        3,
        &[(1, None, true), (7, None, true), (3, Some("c"), false)],
    )
    .await;
    assert_eq!(world.rows().await, named(&[(2, "B"), (3, "c")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_change_of_a_key_replaces_an_earlier_one_of_the_epoch() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.stage(SinkBatch::Rows(batch(&[(1, Some("old")), (2, Some("b"))])))
        .await
        .unwrap();
    sink.write(1, &[(1, Some("new"))]).await;
    assert_eq!(world.rows().await, named(&[(1, "new"), (2, "b")]));
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn unchanged_rows_cause_no_rewrite_and_still_a_commit() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a")), (2, None)]).await;
    let files = world.files().await;
    assert_eq!(sink.write(2, &[(1, Some("a")), (2, None)]).await, 1);
    assert_eq!(world.files().await, files);
    assert_eq!(world.commit(1).await.len(), 2);
    let mut later = world.upsert("b").await;
    assert_eq!(
        later
            .probe(&intent(2, Some(1), serde_json::Value::Null))
            .await
            .unwrap(),
        Some(Epoch(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_ours_keeps_one_small_file() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    for epoch in 1..=20 {
        let id = i64::try_from(epoch).unwrap();
        sink.write(epoch, &[(id, Some("x"))]).await;
    }
    assert_eq!(world.files().await.len(), 1);
    assert_eq!(world.rows().await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_again_changes_nothing() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a"))]).await;
    let second = sink.decide(2, Some(1), &[(1, Some("b"))]).await;
    for _ in 0..3 {
        assert_eq!(sink.roll(&second).await.unwrap().version, Some(1));
    }
    assert_eq!(
        world.upsert("b").await.roll(&second).await.unwrap().version,
        Some(1)
    );
    assert_eq!(world.rows().await, named(&[(1, "b")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_does_not_double() {
    for fault in [Fault::LoseReply, Fault::ReportConflict] {
        let world = World::new();
        let mut sink = world.upsert("a").await;
        sink.write(1, &[(1, Some("a"))]).await;
        world.faults.plan(fault);
        assert_eq!(sink.write(2, &[(1, Some("b")), (2, Some("c"))]).await, 1);
        assert_eq!(sink.write(3, &[(3, Some("d"))]).await, 2);
        assert_eq!(world.rows().await, named(&[(1, "b"), (2, "c"), (3, "d")]));
    }
}

/// The trap: removes of files that an OPTIMIZE has already replaced, committed as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn an_optimize_before_our_commit_does_not_double() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a")), (2, Some("b"))]).await;
    world
        .foreign()
        .await
        .write([batch(&[(3, Some("c"))])])
        .await
        .unwrap();
    let table = world.foreign().await;
    world.faults.plan(Fault::After(Box::new(|| {
        Box::pin(async move {
            let (_, metrics) = table
                .optimize()
                .with_type(OptimizeType::Compact)
                .await
                .unwrap();
            assert_eq!(metrics.num_files_removed, 2);
        })
    })));
    sink.write(2, &[(1, Some("A")), (3, Some("C"))]).await;
    assert_eq!(world.rows().await, named(&[(1, "A"), (2, "b"), (3, "C")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_commit_of_the_version_we_expected_is_not_taken_for_ours() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a"))]).await;
    let table = world.foreign().await;
    world.faults.plan(Fault::After(Box::new(|| {
        Box::pin(async move {
            table.write([batch(&[(2, Some("foreign"))])]).await.unwrap();
        })
    })));
    assert_eq!(sink.write(2, &[(1, Some("b")), (2, Some("ours"))]).await, 2);
    assert_eq!(world.rows().await, named(&[(1, "b"), (2, "ours")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_keep_changing_is_named() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a"))]).await;
    let next = sink.decide(2, Some(1), &[(1, Some("b"))]).await;
    for i in 0..20 {
        let target = world.target.clone();
        world.faults.plan(Fault::After(Box::new(move || {
            Box::pin(async move {
                let version = i + 1;
                let name = target
                    .child(&format!("_delta_log/{version:020}.json"))
                    .unwrap();
                let line = r#"{"commitInfo":{"operation":"X"}}"#;
                target.store.put(&name, line.into()).await.unwrap();
            })
        })));
        // The foreign writer's own put is a commit too.
        world
            .faults
            .plan(Fault::After(Box::new(|| Box::pin(async {}))));
    }
    let error = sink.roll(&next).await.unwrap_err();
    assert_eq!(reason(&error), reasons::TABLE_CONTENDED, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_there_twice_becomes_one_row() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    sink.write(1, &[(1, Some("a")), (2, Some("b"))]).await;
    world
        .foreign()
        .await
        .write([batch(&[(1, Some("a")), (1, Some("z"))])])
        .await
        .unwrap();
    sink.write(2, &[(1, Some("a"))]).await;
    assert_eq!(world.rows().await, named(&[(1, "a"), (2, "b")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_outbox_object_stops() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    let first = sink.decide(1, None, &[(1, Some("a"))]).await;
    let name = Path::from(format!(
        "lake/checkpoint/0/outbox/{}",
        first.body["outbox"]["name"].as_str().unwrap()
    ));
    world.target.store.put(&name, "x".into()).await.unwrap();
    assert_eq!(
        reason(&sink.roll(&first).await.unwrap_err()),
        reasons::CHECKPOINT_DAMAGED
    );
    world.target.store.delete(&name).await.unwrap();
    assert_eq!(
        reason(&sink.roll(&first).await.unwrap_err()),
        reasons::CHECKPOINT_DAMAGED
    );
}

/// A small generator of random numbers, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_history_the_table_is_what_a_map_would_be() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let world = World::new();
        let mut sink = world.upsert("a").await;
        let mut expected = BTreeMap::new();
        for epoch in 1..=12 {
            let mut changes = BTreeMap::new();
            for _ in 0..=dice.roll(30) {
                let id = i64::try_from(dice.roll(60)).unwrap();
                let name = (dice.roll(5) > 0).then(|| dice.roll(3).to_string());
                changes.insert(id, (name, dice.roll(4) == 0));
            }
            let list: Vec<_> = changes
                .iter()
                .map(|(id, (name, gone))| (*id, name.as_deref(), *gone))
                .collect();
            if dice.roll(5) == 0 {
                sink = world.upsert(&format!("n{epoch}")).await;
            }
            if dice.roll(3) == 0 {
                world.faults.plan(Fault::LoseReply);
            }
            change(&mut sink, epoch, &list).await;
            for (id, (name, gone)) in changes {
                if gone {
                    expected.remove(&id);
                } else {
                    expected.insert(id, name);
                }
            }
            let expected: Vec<_> = expected.clone().into_iter().collect();
            assert_eq!(world.rows().await, expected, "seed {seed}, epoch {epoch}");
        }
    }
}
