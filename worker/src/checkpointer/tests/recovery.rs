//! Laws of what comes between owning a lane and its next epoch, and of several sinks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evp_core::dataflow::SinkBatch;
use evp_core::protocol::head::{Intent, StepState};

use super::*;
use crate::sink::{Applied, Sink};
use world::{Target, TwinSink};

/// A sink with one marker an epoch, like files: it looks only for the intent's epoch and the one before.
struct MarkerAnEpoch(Arc<Mutex<Vec<Epoch>>>);

#[async_trait]
impl Sink for MarkerAnEpoch {
    async fn stage(&mut self, _: SinkBatch) -> Result<(), SinkError> {
        Ok(())
    }

    async fn seal(&mut self, _: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        Ok(None)
    }

    async fn abandon(&mut self) {}

    async fn apply(&mut self, intent: &Intent, _: &CommitPermit) -> Result<Applied, SinkError> {
        self.0.lock().unwrap().push(intent.epoch);
        Ok(Applied::default())
    }

    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        let held = self.0.lock().unwrap();
        let looked_for = [Some(intent.epoch), intent.prev];
        Ok(looked_for.into_iter().flatten().find(|e| held.contains(e)))
    }
}

/// A head of epoch 1 whose epoch 2 is forgotten: nothing is undone in it, and the sinks hold epoch 2.
async fn rolled_back(world: &mut World, sinks: &mut Sinks) -> Checkpointer {
    let mut lane = world.start("a").await;
    let mut old = None;
    for _ in 1..=2 {
        old = old.or(lane
            .applied()
            .filter(|e| *e == Epoch(1))
            .and(world.object("0/head.json").await));
        let permit = world.decide(&mut lane).await.unwrap();
        lane.apply(permit, sinks).await.unwrap();
        lane.record_quietly().await.unwrap();
    }
    world.store.put("0/head.json", old.unwrap()).await.unwrap();
    let again = world.try_start("b").await.unwrap();
    assert_eq!((again.body.epoch, again.undone), (Epoch(1), vec![]));
    again.checkpointer
}

#[tokio::test]
async fn nothing_is_decided_before_every_sink_was_asked_what_it_holds() {
    let mut world = World::new();
    let mut sinks = world.sinks();
    let mut lane = rolled_back(&mut world, &mut sinks).await;
    let stop = world.decide(&mut lane).await.unwrap_err();
    assert!(stop.message.contains("rolled forward first"), "{stop}");
    let rolled = lane.roll_forward(&mut sinks).await;
    assert_eq!(reason_of(rolled), (reason::CHECKPOINT_BEHIND_SINK, false));
    assert!(world.decide(&mut lane).await.is_err());
    world.holds(1..=2);
}

#[tokio::test]
async fn a_sink_that_looks_for_single_epochs_tells_of_a_forgotten_one_too() {
    let mut world = World::new();
    let sink: Box<dyn Sink> = Box::new(MarkerAnEpoch(Arc::default()));
    let mut sinks: Sinks = [(name("gold"), sink)].into();
    let mut lane = rolled_back(&mut world, &mut sinks).await;
    let rolled = lane.roll_forward(&mut sinks).await;
    assert_eq!(reason_of(rolled), (reason::CHECKPOINT_BEHIND_SINK, false));
}

#[tokio::test]
async fn nothing_is_decided_under_a_new_plan_while_an_epoch_of_the_old_one_is_undone() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.decide(&mut lane).await.unwrap();
    let mut changed = world.setup("b");
    changed.plan = serde_json::json!({"sinks": ["gold", "more"]});
    let started = Checkpointer::start(changed, &mut world.latest).await;
    let mut lane = started.unwrap().checkpointer;
    assert!(world.decide(&mut lane).await.is_err());
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    world.run(&mut lane).await.unwrap();
    world.holds(1..=2);
}

#[tokio::test]
async fn a_sink_that_stops_is_told_though_another_is_out_of_reach() {
    let mut world = World::new();
    let (down, stops) = (
        Arc::new(Mutex::new(Target::default())),
        Arc::new(Mutex::new(Target::default())),
    );
    let unavailable = || SinkError::Unavailable {
        reason: reason::SINK_UNAVAILABLE,
        message: "down".into(),
    };
    let for_long = std::iter::repeat_with(unavailable).take(1_000_000);
    down.lock().unwrap().failures.extend(for_long);
    stops.lock().unwrap().failures.extend([
        unavailable(),
        SinkError::Stop {
            reason: reason::TABLE_MISMATCH,
            message: "other columns".into(),
        },
    ]);
    let mut sinks = Sinks::new();
    sinks.insert(name("bronze"), Box::new(TwinSink(down)));
    sinks.insert(name("gold"), Box::new(TwinSink(stops)));
    let mut setup = world.setup("a");
    setup
        .targets
        .insert(name("bronze"), "another twin".to_owned());
    let started = Checkpointer::start(setup, &mut world.latest).await;
    let mut lane = started.unwrap().checkpointer;
    let mut body = lane.open(Micros(1));
    for sink in sinks.keys() {
        assert!(body.add_intent(sink, serde_json::json!(1)));
    }
    let permit = lane.decide(body).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), lane.apply(permit, &mut sinks)).await;
    assert_eq!(
        reason_of(told.expect("it is told")),
        (reason::TABLE_MISMATCH, false)
    );
}

#[tokio::test]
async fn a_plan_that_the_state_does_not_fit_leaves_the_running_worker_alone() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    let mut body = lane.open(Micros(1));
    let state = StepState {
        fingerprint: "sums by region".into(),
        files: Vec::new(),
    };
    body.state.insert(name("revenue"), state);
    assert!(body.add_intent(&name("gold"), serde_json::json!(1)));
    let permit = lane.decide(body).await.unwrap();
    lane.apply(permit, &mut world.sinks()).await.unwrap();
    world.fingerprints = [(name("revenue"), "sums".to_owned())].into();
    let refused = world.try_start("b").await;
    assert_eq!(reason_of(refused), (reason::STATE_INCOMPATIBLE, false));
    world.run(&mut lane).await.unwrap();
    world.holds(1..=2);
}
