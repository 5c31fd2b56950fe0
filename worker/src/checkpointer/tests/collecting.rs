//! What is collected and what is not: garbage of decided, abandoned and lost epochs, and copies beyond the history.

use evp_core::protocol::head::{Bucket, Run, StateFile, StepState};

use super::*;

/// Decides and applies an epoch of this epoch time that names these state files, and writes them.
async fn run_with(
    world: &World,
    lane: &mut Checkpointer,
    (time, kept): (i64, &[StateFile]),
) -> StateFile {
    let mut body = lane.open(Micros(time));
    let file = lane.state().put(body.epoch, "delta".into()).await.unwrap();
    let run = Run {
        epoch: body.epoch,
        tier: 0,
        files: [kept, std::slice::from_ref(&file)].concat(),
    };
    let mut state = StepState::new("f".into());
    state.buckets.insert(Bucket(0), vec![run]);
    body.state.insert(name("totals"), state);
    let epoch = body.epoch.0;
    assert!(body.add_intent(&name("gold"), serde_json::json!(epoch)));
    let permit = lane.decide(body).await.unwrap();
    lane.apply(permit, &mut world.sinks()).await.unwrap();
    file
}

async fn state_files(world: &World) -> Vec<String> {
    world.store.list("0/state").await.unwrap()
}

/// Epochs whose copies are there.
async fn copies(world: &World) -> std::ops::RangeInclusive<u64> {
    let names = world.store.list("0/epochs").await.unwrap();
    let epoch = |name: &String| paths::written_for(name.rsplit('/').next()?).map(|e| e.0);
    let epochs: Vec<u64> = names.iter().filter_map(epoch).collect();
    let range = epochs[0]..=epochs[epochs.len() - 1];
    assert_eq!(epochs, range.clone().collect::<Vec<_>>(), "no gap");
    range
}

#[tokio::test]
async fn garbage_goes_and_what_a_head_names_stays() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    let base = lane.state().put(Epoch(1), "base".into()).await.unwrap();
    world.create("0/outbox/1-x", "rows").await;
    world.create("0/intents/1-x", "adds").await;
    world.create("0/state/notes.txt", "not ours").await;
    let mut last = base.clone();
    for _ in 1..=60 {
        last = run_with(&world, &mut lane, (1, std::slice::from_ref(&base))).await;
    }
    let left = state_files(&world).await;
    let named = |n: &str| left.contains(&format!("0/state/{n}"));
    assert!(
        named(&base.name) && named(&last.name) && named("notes.txt"),
        "{left:?}"
    );
    assert_eq!(left.len(), 1 + 1 + 21, "{left:?}");
    for object in ["0/outbox/1-x", "0/intents/1-x"] {
        assert_eq!(world.object(object).await, None);
    }
}

#[tokio::test]
async fn what_an_epoch_staged_that_was_never_decided_goes_and_a_late_upload_of_it_too() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for epoch in 1..=40 {
        if epoch == 5 {
            // The process ends before the decision; the next one computes the epoch again.
            lane.state().put(Epoch(5), "lost".into()).await.unwrap();
            world.create("0/outbox/5-lost", "rows").await;
            lane = world.start("a").await;
            lane.roll_forward(&mut world.sinks()).await.unwrap();
        }
        if epoch == 30 {
            world.create("0/outbox/5-late", "rows").await;
        }
        run_with(&world, &mut lane, (1, &[])).await;
    }
    for object in ["0/outbox/5-lost", "0/outbox/5-late"] {
        assert_eq!(world.object(object).await, None);
    }
    assert_eq!(state_files(&world).await.len(), 21);
}

#[tokio::test]
async fn an_epoch_that_waited_for_half_the_grace_is_not_decided_and_computed_again() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    run_with(&world, &mut lane, (1, &[])).await;
    let mut body = lane.open(Micros(-evp_core::protocol::retain::GRACE.0 / 2));
    assert!(body.add_intent(&name("gold"), serde_json::json!("old")));
    let refused = lane.decide(body).await;
    assert_eq!(reason_of(refused), (reason::EPOCH_FAILED, true));
    let mut lane = world.start("a").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    run_with(&world, &mut lane, (1, &[])).await;
    world.holds(1..=2);
}

#[tokio::test]
async fn a_zombie_finds_what_it_staged_gone_and_never_decides_it() {
    let mut world = World::new();
    let mut zombie = world.start("a").await;
    let mut staged = zombie.open(Micros(1));
    let file = zombie.state().put(Epoch(1), "mine".into()).await.unwrap();
    assert!(staged.add_intent(&name("gold"), serde_json::json!("zombie")));
    let mut lane = world.start("b").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for _ in 1..=40 {
        run_with(&world, &mut lane, (1, &[])).await;
    }
    let path = format!("0/state/{}", file.name);
    assert_eq!(world.object(&path).await, None);
    let before = state_files(&world).await;
    zombie.sweep_now().await;
    assert_eq!(reason_of(zombie.decide(staged).await).0, reason::FENCED);
    assert_eq!(state_files(&world).await, before);
    world.holds(1..=40);
}

#[tokio::test]
async fn a_zombie_that_sweeps_deletes_nothing_that_the_newest_head_names() {
    let mut world = World::new();
    let mut zombie = world.start("a").await;
    let base = zombie.state().put(Epoch(1), "base".into()).await.unwrap();
    let kept = std::slice::from_ref(&base);
    for _ in 1..=45 {
        run_with(&world, &mut zombie, (1, kept)).await;
    }
    let mut lane = world.start("b").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for _ in 1..=3 {
        run_with(&world, &mut lane, (1, kept)).await;
    }
    zombie.sweep_now().await;
    for file in lane.body().state_files() {
        lane.state_file(file).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_that_is_cut_short_is_made_up_for_by_the_next_owner() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for epoch in 1..=5 {
        let object = format!("0/outbox/{epoch}-x");
        world.create(&object, "rows").await;
        world.store.next(&object, 1, Fault::Lost);
    }
    for _ in 1..=40 {
        run_with(&world, &mut lane, (1, &[])).await;
    }
    assert!(world.object("0/outbox/5-x").await.is_some());
    let mut lane = world.start("b").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for _ in 41..=140 {
        run_with(&world, &mut lane, (1, &[])).await;
    }
    assert_eq!(world.store.list("0/outbox").await.unwrap(), [""; 0]);
    assert_eq!(state_files(&world).await.len(), 21);
}

#[tokio::test]
async fn copies_go_when_the_history_is_over_and_a_head_has_said_so_first() {
    let mut world = World::new();
    world.history = Micros(50);
    let mut lane = world.start("a").await;
    for epoch in 1..=200 {
        run_with(&world, &mut lane, (epoch, &[])).await;
        assert!(*copies(&world).await.start() <= lane.head.rolling.retained.0);
    }
    // The sweep of epoch 200 finds what is over; a later head says so, and the sweep after it deletes.
    let copies = copies(&world).await;
    assert_eq!((lane.head.rolling.retained.0, *copies.start()), (130, 130));
}

#[tokio::test]
async fn the_last_epochs_are_kept_however_old_they_are() {
    let mut world = World::new();
    world.history = Micros(1);
    let mut lane = world.start("a").await;
    for epoch in 1..=100 {
        run_with(&world, &mut lane, (epoch * 1_000_000, &[])).await;
    }
    assert_eq!(*copies(&world).await.start(), 60);
    lane.record_quietly().await.unwrap();
    assert_eq!(lane.head.rolling.retained, Epoch(80));
}

#[tokio::test]
async fn a_history_that_is_made_shorter_is_over_at_once_and_one_that_is_made_longer_brings_nothing_back()
 {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for epoch in 1..=300 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    assert_eq!(*copies(&world).await.start(), 0);
    world.history = Micros(100);
    let mut lane = world.start("b").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for epoch in 301..=340 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    assert_eq!(lane.head.rolling.retained, Epoch(220));
    assert_eq!(*copies(&world).await.start(), 220);
    world.history = Micros(i64::MAX);
    let mut lane = world.start("c").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for epoch in 341..=380 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    assert_eq!(lane.head.rolling.retained.0, *copies(&world).await.start());
}

#[tokio::test]
async fn copies_that_others_took_away_do_not_stop_the_sweep_and_unknown_ages_are_no_reason_to_delete()
 {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for epoch in 1..=100 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    for epoch in 0..10 {
        let copy = lane.lane.epoch(Epoch(epoch));
        world.store.delete(&copy).await.unwrap();
    }
    world.history = Micros(50);
    let mut lane = world.start("b").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    for epoch in 101..=140 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    assert_eq!(*copies(&world).await.start(), 70);
    for epoch in 95..135 {
        let copy = lane.lane.epoch(Epoch(epoch));
        world.store.delete(&copy).await.unwrap();
    }
    for epoch in 141..=240 {
        run_with(&world, &mut lane, (epoch, &[])).await;
    }
    assert_eq!(lane.head.rolling.retained, Epoch(95));
    assert_eq!(*copies(&world).await.start(), 135);
}
