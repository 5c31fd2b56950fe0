//! Intents too large for the head: objects of their own, whole again before a sink sees them.

use evp_core::protocol::head::Intent;
use serde_json::{Value, json};

use super::*;

fn large(epoch: u64) -> Value {
    json!({"epoch": epoch, "add": vec!["a file with its statistics"; 20_000]})
}

async fn decide_large(lane: &mut Checkpointer) -> Result<CommitPermit, Stop> {
    let mut body = lane.open(Micros(1));
    let intent = large(body.epoch.0);
    assert!(body.add_intent(&name("gold"), intent));
    lane.decide(body).await
}

/// The object of the newest body's only intent.
fn object(lane: &Checkpointer) -> String {
    let [Intent { body, apart, .. }] = &lane.body().intents[..] else {
        panic!("one intent")
    };
    assert_eq!(*body, Value::Null);
    lane.lane.intent(&apart.as_ref().unwrap().name)
}

#[tokio::test]
async fn a_large_intent_is_an_object_of_its_own_and_a_small_one_is_in_the_head() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    let permit = decide_large(&mut lane).await.unwrap();
    let written = world.object(&object(&lane)).await.unwrap();
    assert!(written.len() > 256 << 10);
    assert!(world.object("0/head.json").await.unwrap().len() < 8 << 10);
    lane.apply(permit, &mut world.sinks()).await.unwrap();
    assert_eq!(world.target.lock().unwrap().rows, [large(1)]);
    world.run(&mut lane).await.unwrap();
    assert_eq!(lane.body().intents[0].body, json!(2));
    assert_eq!(world.store.list("0/intents").await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_next_owner_applies_a_large_intent_that_is_undone_once() {
    let mut world = World::new();
    let mut old = world.start("a").await;
    let permit = decide_large(&mut old).await.unwrap();
    let mut new = world.start("b").await;
    new.roll_forward(&mut world.sinks()).await.unwrap();
    old.apply(permit, &mut world.sinks()).await.unwrap();
    assert_eq!(world.target.lock().unwrap().rows, [large(1)]);
    world.run(&mut new).await.unwrap();
}

#[tokio::test]
async fn an_intent_whose_epoch_was_never_decided_is_garbage() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.store.next("0/head.json", 1, Fault::Denied);
    assert!(decide_large(&mut lane).await.is_err());
    assert_eq!(world.store.list("0/intents").await.unwrap().len(), 1);
    let mut lane = world.start("a").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for _ in 1..=40 {
        world.run(&mut lane).await.unwrap();
    }
    assert_eq!(world.store.list("0/intents").await.unwrap(), [""; 0]);
    world.holds(1..=40);
}

#[tokio::test]
async fn a_large_intent_that_is_gone_or_changed_is_damage_and_nothing_of_it_is_applied() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    decide_large(&mut lane).await.unwrap();
    let object = object(&lane);
    let intact = world.object(&object).await.unwrap();
    let mut flipped = intact.to_vec();
    flipped[1000] ^= 1;
    let damages = [None, Some(intact.slice(1..)), Some(flipped.into())];
    for (damage, pod) in damages.into_iter().zip(["b", "c", "d"]) {
        match damage {
            Some(bytes) => world.store.put(&object, bytes).await.unwrap(),
            None => world.store.delete(&object).await.unwrap(),
        }
        let mut next = world.start(pod).await;
        let rolled = next.roll_forward(&mut world.sinks()).await;
        assert_eq!(reason_of(rolled), (reason::CHECKPOINT_DAMAGED, false));
        assert_eq!(world.target.lock().unwrap().rows, [Value::Null; 0]);
    }
    world.store.put(&object, intact).await.unwrap();
    let mut next = world.start("e").await;
    next.roll_forward(&mut world.sinks()).await.unwrap();
    assert_eq!(world.target.lock().unwrap().rows, [large(1)]);
}

#[tokio::test]
async fn an_intent_that_a_newer_owner_applied_and_collected_fences_and_is_no_damage() {
    let mut world = World::new();
    let mut old = world.start("a").await;
    let permit = decide_large(&mut old).await.unwrap();
    let object = object(&old);
    let mut new = world.start("b").await;
    new.roll_forward(&mut world.sinks()).await.unwrap();
    for _ in 2..=40 {
        world.run(&mut new).await.unwrap();
    }
    assert_eq!(world.object(&object).await, None);
    let applied = old.apply(permit, &mut world.sinks()).await;
    assert_eq!(reason_of(applied), (reason::FENCED, false));
}
