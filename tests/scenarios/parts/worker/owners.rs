//! Two workers of one lane, and a checkpoint that somebody else touched.

use evp_api::reason;
use object_store::ObjectStoreExt;

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline, bucket};
use super::process::Worker;
use super::proxy::{Fault, Proxy};

const FIRST: i64 = 500;
const SECOND: i64 = 300;

struct World {
    feed: Feed,
    pipeline: Pipeline,
}

impl World {
    async fn new() -> Self {
        let mut feed = Feed::new(2).await;
        feed.send(&format!("--limit {FIRST} --seed 5 {PLANTED}"))
            .await;
        let pipeline = Pipeline::new(&feed.topic.name);
        Self { feed, pipeline }
    }

    /// More events.
    async fn more(&mut self) {
        self.feed
            .send(&format!("--limit {SECOND} --seed 6 {PLANTED}"))
            .await;
    }

    /// A worker that has committed what was sent first.
    async fn caught_up(&self, uid: &str) -> Worker {
        let mut worker = self.pipeline.start(uid);
        worker
            .until("it caught up", |p| p.ledger.read == FIRST)
            .await;
        worker
    }

    /// The newer worker commits the rest; the tables hold everything once.
    async fn ends_well(&self, mut newer: Worker) {
        newer
            .until("the rest is committed", |p| p.ledger.read == FIRST + SECOND)
            .await;
        newer.terminate().await;
        self.pipeline.assert_holds(&self.feed.expected()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn of_two_workers_on_one_lane_the_older_stops_for_good() {
    let mut world = World::new().await;
    let mut older = world.caught_up("a").await;
    let newer = world.caught_up("b").await;
    world.more().await;
    let halt = older.halted(reason::FENCED).await;
    assert!(halt.stalled && halt.message.contains("pod b"), "{halt:?}");
    world.ends_well(newer).await;
    older.terminate().await;
    // Its container is started again: the lane is still not its own.
    let mut again = world.pipeline.start("a");
    again.halted(reason::FENCED).await;
    again.terminate().await;
    world.pipeline.assert_holds(&world.feed.expected()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_was_paused_wakes_up_harmless() {
    let mut world = World::new().await;
    let mut paused = world.pipeline.start("a");
    paused.until("it works", |p| p.epoch >= 2).await;
    paused.signal("STOP");
    let newer = world.caught_up("b").await;
    paused.signal("CONT");
    world.more().await;
    paused.halted(reason::FENCED).await;
    world.ends_well(newer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_pipeline_moves_to_another_cluster_with_its_checkpoint_and_its_tables() {
    let mut world = World::new().await;
    let mut old = world.caught_up("a").await;
    let here = world.pipeline.manifest.clone();
    let uid = here["metadata"]["uid"].as_str().unwrap().to_owned();
    let metadata = &mut world.pipeline.manifest["metadata"];
    (metadata["uid"], metadata["namespaceUid"]) = ("moved".into(), "elsewhere".into());
    let mut refused = world.pipeline.start("b");
    let halt = refused.halted(reason::CHECKPOINT_OWNED).await;
    let consent = format!("`checkpoint.adoptFrom: {uid}`");
    assert!(halt.stalled && halt.message.contains(&consent), "{halt:?}");
    refused.terminate().await;
    let checkpoint = &mut world.pipeline.manifest["spec"]["checkpoint"];
    checkpoint["adoptFrom"] = uid.into();
    // Who moves it stops the old one first. Here nobody did, and still nothing is doubled.
    let moved = world.caught_up("c").await;
    world.more().await;
    old.halted(reason::FENCED).await;
    old.terminate().await;
    let manifest = here.to_string();
    let mut back = world.pipeline.start_with(&manifest, "d", "", None);
    back.halted(reason::CHECKPOINT_OWNED).await;
    back.terminate().await;
    world.ends_well(moved).await;
}

/// The older worker is paused by the network in the middle of this write; it arrives when the lane is another's.
async fn a_write_arrives_late(part: &str) {
    let (mut world, proxy) = (World::new().await, Proxy::new().await);
    let direct = world.pipeline.manifest.clone();
    world
        .pipeline
        .set("/objectStore/s3/endpoint", proxy.endpoint());
    let held = proxy.on("PUT", part, |n| n == 3, Fault::Hold);
    let mut older = world.pipeline.start("a");
    held.met().await;
    world.pipeline.manifest = direct;
    let newer = world.caught_up("b").await;
    held.release();
    world.more().await;
    older.halted(reason::FENCED).await;
    world.ends_well(newer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_decision_that_arrives_late_is_refused() {
    a_write_arrives_late("/0/head.json").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_commit_that_arrives_late_doubles_nothing() {
    tokio::join!(
        a_write_arrives_late("/bronze/_delta_log/"),
        a_write_arrives_late("/gold/_delta_log/"),
        a_write_arrives_late("/dead/_commits/"),
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_head_that_was_deleted_stops_the_worker_and_every_later_one() {
    let mut world = World::new().await;
    let mut worker = world.caught_up("a").await;
    let head = world.pipeline.object("0/head.json");
    let newest = bucket().get(&head).await.unwrap().bytes().await.unwrap();
    bucket().delete(&head).await.unwrap();
    world.more().await;
    let halt = worker.halted(reason::CHECKPOINT_DAMAGED).await;
    assert!(halt.stalled && halt.message.contains("restore"), "{halt:?}");
    worker.terminate().await;
    let mut next = world.pipeline.start("b");
    next.halted(reason::CHECKPOINT_DAMAGED).await;
    next.terminate().await;
    // What the message says helps.
    bucket().put(&head, newest.into()).await.unwrap();
    let restored = world.pipeline.start("c");
    world.ends_well(restored).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_head_that_was_rolled_back_stops_the_worker_and_every_later_one() {
    let mut world = World::new().await;
    let head = world.pipeline.object("0/head.json");
    let mut worker = world.pipeline.start("a");
    worker.until("it works", |p| p.epoch >= 2).await;
    let older = bucket().get(&head).await.unwrap().bytes().await.unwrap();
    let report = worker
        .until("it caught up", |p| p.ledger.read == FIRST)
        .await;
    let newest = bucket().get(&head).await.unwrap().bytes().await.unwrap();
    bucket().put(&head, older.clone().into()).await.unwrap();
    world.more().await;
    let halt = worker.halted(reason::CHECKPOINT_BEHIND).await;
    assert!(halt.stalled && halt.message.contains("restore"), "{halt:?}");
    worker.terminate().await;
    let mut told = world.pipeline.start_as("b", "", Some(report.epoch));
    told.halted(reason::CHECKPOINT_BEHIND).await;
    told.terminate().await;
    // Nobody told this one: its sinks do.
    let mut untold = world.pipeline.start("c");
    untold.halted(reason::CHECKPOINT_BEHIND_SINK).await;
    untold.terminate().await;
    bucket().put(&head, newest.into()).await.unwrap();
    let restored = world.pipeline.start("d");
    world.ends_well(restored).await;
}
