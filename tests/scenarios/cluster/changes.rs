//! What users do to a pipeline that runs: a change that is refused, a suspension, a deletion, a rival.

use evp_tests::oracle::{self, Table};
use serde_json::{Value, json};

use super::bed::apply;
use super::producer::{Producer, paths};
use super::readings::Readings;
use super::world::{Lake, World};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_refused_change_a_suspension_and_a_deletion_lose_nothing_and_double_nothing() {
    let world = World::new("changes", Lake::Plain).await;
    let mut readings = Readings::of(&world);
    apply(&world.manifest(&[]));
    world.wait_ready("orders");
    let producer = Producer::start(&world, 1, 100, &[]);
    a_refused_change_leaves_the_pods_alone(&world, &mut readings).await;
    a_suspension_ends_the_pods(&world, &readings).await;
    a_deletion_takes_the_children_alone(&world, &mut readings).await;
    a_rival_for_the_checkpoint_is_refused(&world, &mut readings).await;
    let ledgers = [producer.stop()];
    world.drained("orders").await;
    let expected = oracle::evaluate(&paths(&ledgers), &world.dir().join("expected"));
    expected.assert_equals(Table::Bronze, &world.path("bronze"));
    expected.assert_equals(Table::Gold, &world.path("gold"));
    expected.assert_equals(Table::DeadLetters, &world.path("dead"));
    a_pod_that_finds_nothing_new_is_ready(&world).await;
}

async fn a_refused_change_leaves_the_pods_alone(world: &World, readings: &mut Readings) {
    let pod = world.ready_pod("orders").await;
    let group = "/spec/steps/2/aggregate/groupBy/0";
    apply(&world.manifest(&[json!({"op": "replace", "path": group, "value": "regoin"})]));
    let accepted = world
        .condition("orders", ("Accepted", "False", "SpecNotAccepted"))
        .await;
    let message = accepted["message"].as_str().unwrap();
    for part in [
        "spec.steps[2].aggregate.groupBy[0]",
        "`regoin`",
        "did you mean `region`?",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let ready = world
        .condition("orders", ("Ready", "False", "SpecNotAccepted"))
        .await;
    let message = ready["message"].as_str().unwrap();
    assert!(
        message.contains("generation 1 keeps committing"),
        "{message}"
    );
    commits_go_on(world, readings).await;
    apply(&world.manifest(&[]));
    world
        .condition("orders", ("Ready", "True", "Committing"))
        .await;
    let now = world.ready_pod("orders").await;
    assert_eq!(now["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(restarts(&now), 0);
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_i64()
        .unwrap()
}

async fn commits_go_on(world: &World, readings: &mut Readings) {
    let before = readings.commits().await.len();
    let two_more = async || (readings.commits().await.len() > before + 1).then_some(());
    world.until("two more commits", two_more).await;
}

async fn records_come(world: &World, readings: &Readings) {
    let before = readings.sent();
    let more = async || (readings.sent() > before + 500).then_some(());
    world.until("500 records more", more).await;
}

async fn a_suspension_ends_the_pods(world: &World, readings: &Readings) {
    apply(&world.manifest(&[json!({"op": "add", "path": "/spec/suspend", "value": true})]));
    world
        .condition("orders", ("Ready", "False", "Suspended"))
        .await;
    world
        .until("the end of the pods", async || {
            world.pods("orders").is_empty().then_some(())
        })
        .await;
    let head = readings.head().await;
    records_come(world, readings).await;
    assert_eq!(
        readings.head().await,
        head,
        "an epoch was decided while suspended"
    );
    apply(&world.manifest(&[]));
    world
        .condition("orders", ("Ready", "True", "Committing"))
        .await;
}

async fn a_deletion_takes_the_children_alone(world: &World, readings: &mut Readings) {
    let children = "deployments,replicasets,pods,configmaps,serviceaccounts";
    let label = "eventpipeline.dev/pipeline=orders";
    let left = || {
        world.get(&[children, "-l", label])["items"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(left() > 0);
    world.kubectl(&["delete", "eventpipeline", "orders"]);
    world
        .until("the end of the children", async || {
            (left() == 0).then_some(())
        })
        .await;
    let (head, versions) = (readings.head().await, readings.commits().await.len());
    records_come(world, readings).await;
    assert_eq!(
        readings.head().await,
        head,
        "an epoch was decided without a pipeline"
    );
    assert_eq!(readings.commits().await.len(), versions);
    apply(&world.manifest(&[]));
    world.wait_ready("orders");
}

async fn a_rival_for_the_checkpoint_is_refused(world: &World, readings: &mut Readings) {
    let mut rival = world.manifest(&[]);
    rival["metadata"]["name"] = "rival".into();
    apply(&rival);
    let stalled = world
        .condition("rival", ("Stalled", "True", "CheckpointOwned"))
        .await;
    world
        .condition("rival", ("Ready", "False", "CheckpointOwned"))
        .await;
    let message = stalled["message"].as_str().unwrap();
    for part in [
        world.path("checkpoint").as_str(),
        "belongs to pipeline orders",
        "a checkpoint path of its own",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    commits_go_on(world, readings).await;
    assert_eq!(
        world.pods("rival").iter().map(restarts).collect::<Vec<_>>(),
        [0]
    );
    world.kubectl(&["delete", "eventpipeline", "rival"]);
}

/// Nothing is decided then; what the checkpoint says is enough.
async fn a_pod_that_finds_nothing_new_is_ready(world: &World) {
    let pod = world.ready_pod("orders").await;
    let (name, uid) = (&pod["metadata"]["name"], &pod["metadata"]["uid"]);
    let head = Readings::of(world).head().await;
    world.kubectl(&["delete", "pod", name.as_str().unwrap()]);
    let other = async || (world.ready_pod("orders").await["metadata"]["uid"] != *uid).then_some(());
    world.until("another pod", other).await;
    world
        .condition("orders", ("Ready", "True", "Committing"))
        .await;
    assert_eq!(Readings::of(world).head().await, head);
}
