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
    let (mut world, mut places) = (World::new(), Places::default());
    let mut lane = start_with(&mut world, "a", &[("gold", "g")]).await;
    decide_for_all(&mut lane).await;
    let mut lane = start_with(&mut world, "b", &[("gold", "g"), ("more", "m")]).await;
    assert!(world.decide(&mut lane).await.is_err());
    lane.roll_forward(&mut places).await.unwrap();
    decide_for_all(&mut lane).await;
    assert_eq!(
        (lane.body().epoch, places.held("g")),
        (Epoch(2), vec![1.into()])
    );
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
    let state = StepState::new("sums by region".into());
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

/// Targets by path; a sink is opened at the path that the epoch's own plan gives it.
#[derive(Default)]
struct Places {
    targets: BTreeMap<String, Arc<Mutex<Target>>>,
    opened: Vec<String>,
}

impl Places {
    fn at(&mut self, path: &str) -> Arc<Mutex<Target>> {
        Arc::clone(self.targets.entry(path.to_owned()).or_default())
    }

    fn held(&mut self, path: &str) -> Vec<serde_json::Value> {
        self.at(path).lock().unwrap().rows.clone()
    }
}

#[async_trait]
impl OpenSinks for Places {
    async fn open(
        &mut self,
        _: &Body,
        plan: &serde_json::Value,
        name: &NodeName,
    ) -> Result<Option<Box<dyn Sink>>, Stop> {
        let Some(path) = plan[name.as_str()].as_str() else {
            return Ok(None);
        };
        self.opened.push(path.to_owned());
        Ok(Some(Box::new(TwinSink(self.at(path)))))
    }
}

/// A start under a plan that has these sinks.
async fn start_with(world: &mut World, pod: &str, sinks: &[(&str, &str)]) -> Checkpointer {
    let mut setup = world.setup(pod);
    let targets = sinks
        .iter()
        .map(|(sink, at)| (name(sink), (*at).to_owned()));
    setup.targets = targets.collect();
    setup.plan = serde_json::json!(setup.targets);
    let started = Checkpointer::start(setup, &mut world.latest).await;
    started.unwrap().checkpointer
}

/// Decides an epoch with its number for each sink of the plan.
async fn decide_for_all(lane: &mut Checkpointer) -> CommitPermit {
    let mut body = lane.open(Micros(1));
    for sink in body.sinks.keys().cloned().collect::<Vec<_>>() {
        assert!(body.add_intent(&sink, serde_json::json!(body.epoch.0)));
    }
    lane.decide(body).await.unwrap()
}

#[tokio::test]
async fn a_sink_that_was_removed_or_re_pointed_is_rolled_forward_at_its_old_target_first() {
    for new in [&[("bronze", "b")][..], &[("bronze", "b"), ("gold", "g2")]] {
        let (mut world, mut places) = (World::new(), Places::default());
        let mut lane = start_with(&mut world, "a", &[("bronze", "b"), ("gold", "g")]).await;
        decide_for_all(&mut lane).await;
        decide_for_all(&mut lane).await;
        let mut lane = start_with(&mut world, "b", new).await;
        lane.roll_forward(&mut places).await.unwrap();
        assert_eq!(
            (places.held("b"), places.held("g")),
            (vec![1.into(), 2.into()], vec![1.into(), 2.into()])
        );
        assert!(lane.undone().is_empty());
        decide_for_all(&mut lane).await;
        let mut lane = start_with(&mut world, "c", new).await;
        lane.roll_forward(&mut places).await.unwrap();
        assert_eq!(places.held("b").len(), 3);
        assert_eq!(
            (places.held("g").len(), places.held("g2").len()),
            (2, new.len() - 1)
        );
    }
}

#[tokio::test]
async fn an_undone_epoch_of_an_older_plan_finds_its_sinks_in_the_copy_of_its_body() {
    let (mut world, mut places) = (World::new(), Places::default());
    let mut lane = start_with(&mut world, "a", &[("gold", "g")]).await;
    decide_for_all(&mut lane).await;
    let undone = lane.undone().to_vec();
    let mut lane = start_with(&mut world, "b", &[("gold", "g2")]).await;
    lane.roll_forward(&mut places).await.unwrap();
    decide_for_all(&mut lane).await;
    let mut head = Head::from_bytes(&world.object("0/head.json").await.unwrap()).unwrap();
    head.rolling.undone.splice(..0, undone);
    head.rolling.applied.clear();
    let bytes = head.to_bytes().unwrap();
    world.store.put("0/head.json", bytes.into()).await.unwrap();
    let mut places = Places::default();
    let mut lane = start_with(&mut world, "c", &[("gold", "g3")]).await;
    lane.roll_forward(&mut places).await.unwrap();
    assert_eq!(
        (places.held("g"), places.held("g2")),
        (vec![1.into()], vec![2.into()])
    );
    assert_eq!(places.opened, ["g", "g2"]);
}

#[tokio::test]
async fn a_removed_sink_out_of_reach_is_named_while_something_waits_for_it_and_left_alone_otherwise()
 {
    let (mut world, mut places) = (World::new(), Places::default());
    let mut lane = start_with(&mut world, "a", &[("bronze", "b"), ("gold", "g")]).await;
    let permit = decide_for_all(&mut lane).await;
    let down = || SinkError::Unavailable {
        reason: reason::SINK_UNAVAILABLE,
        message: "no route to g".into(),
    };
    let failures = std::iter::repeat_with(down).take(100);
    places.at("g").lock().unwrap().failures.extend(failures);
    let mut again = start_with(&mut world, "b", &[("bronze", "b")]).await;
    let stop = again.roll_forward(&mut places).await.unwrap_err();
    assert_eq!(stop.reason, reason::UNDONE_INTENT_OF_REMOVED_SINK);
    assert!(
        stop.message.contains("sink gold") && stop.message.contains("no route to g"),
        "{stop}"
    );
    places.at("g").lock().unwrap().failures.clear();
    again.roll_forward(&mut places).await.unwrap();
    again.record_quietly().await.unwrap();
    assert_eq!(places.held("g"), [1]);
    drop((permit, std::mem::take(&mut places.opened)));
    let mut last = start_with(&mut world, "c", &[("bronze", "b")]).await;
    last.roll_forward(&mut places).await.unwrap();
    assert_eq!(places.opened, ["b"]);
}

/// A lane whose step `revenue` holds sums by region, with everything applied.
async fn summing(world: &mut World) -> Checkpointer {
    let mut lane = world.start("a").await;
    let mut body = lane.open(Micros(1));
    let state = StepState::new("sums by region".into());
    body.state.insert(name("revenue"), state);
    assert!(body.add_intent(&name("gold"), serde_json::json!(1)));
    lane.decide(body).await.unwrap();
    lane
}

#[tokio::test]
async fn a_raised_nonce_begins_a_new_incarnation_once_after_everything_is_rolled_forward() {
    let mut world = World::new();
    let mut old = summing(&mut world).await;
    world.fingerprints = [(name("revenue"), "sums".to_owned())].into();
    world.reset_nonce = 1;
    let mut lane = world.start("b").await;
    let before = lane.body().clone();
    assert!(lane.reset().await.is_err(), "an epoch is undone");
    let mut lane = world.start("c").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    lane.reset().await.unwrap();
    let body = lane.body().clone();
    assert_ne!(body.incarnation, before.incarnation);
    assert_ne!(body.sinks, before.sinks);
    assert_eq!(
        (&body.positions, body.born()),
        (&before.positions, before.incarnation.as_str())
    );
    assert_eq!(
        (body.epoch, body.reset_nonce, body.state.len()),
        (Epoch(2), 1, 0)
    );
    assert_eq!(
        reason_of(world.decide(&mut old).await),
        (reason::FENCED, false)
    );
    *world.target.lock().unwrap() = Target::default();
    let mut again = world.start("d").await;
    again.roll_forward(&mut world.sinks()).await.unwrap();
    again.reset().await.unwrap();
    assert_eq!(again.body().incarnation, body.incarnation);
    world.run(&mut again).await.unwrap();
    world.holds(3..=3);
}

#[tokio::test]
async fn a_new_pipeline_owes_no_reset_whatever_its_nonce() {
    let mut world = World::new();
    world.reset_nonce = 7;
    let mut lane = world.start("a").await;
    lane.reset().await.unwrap();
    assert_eq!((lane.body().epoch, lane.body().reset_nonce), (Epoch(0), 7));
}
