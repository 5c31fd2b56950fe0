mod apart;
mod chaos;
mod collecting;
mod recovery;
mod world;

use evp_api::reason;
use evp_core::ledger::SourceCounts;
use evp_core::position::{Position, SplitId};
use evp_core::protocol::care::Place;
use evp_core::protocol::paths;

use super::*;
use crate::sink::SinkError;
use crate::store::Store;
use crate::store::fault::Fault;
use world::{World, name};

#[track_caller]
fn reason_of<T>(result: Result<T, Stop>) -> (&'static str, bool) {
    let Err(stop) = result else {
        panic!("it did not stop")
    };
    (stop.reason, stop.retry)
}

#[tokio::test]
async fn a_new_start_decides_epoch_0_with_resolved_positions_and_is_born() {
    let mut world = World::new();
    let started = world.try_start("a").await.unwrap();
    assert!(started.new && started.undone.is_empty());
    assert_eq!(
        (
            started.body.epoch,
            started.checkpointer.term(),
            world.latest.0
        ),
        (Epoch(0), Term(1), 1)
    );
    assert_eq!(
        started.body.positions.keys().collect::<Vec<_>>(),
        [&name("orders")]
    );
    let plan = started.checkpointer.plan(&started.body.plan).await.unwrap();
    assert_eq!(plan, world.setup("a").plan);
    assert!(
        world.object("owner.json").await.is_some() && world.object("0/born.json").await.is_some()
    );
}

#[tokio::test]
async fn the_start_is_resolved_once_in_the_life_of_a_pipeline() {
    let mut world = World::new();
    let mut first = world.start("a").await;
    world.run(&mut first).await.unwrap();
    let again = world.try_start("b").await.unwrap();
    assert_eq!(
        (again.new, world.latest.0, again.body.epoch),
        (false, 1, Epoch(1))
    );
    assert_eq!(again.body.positions, first.body().positions);
    assert_eq!(again.checkpointer.checkpoint(), first.checkpoint());
}

#[tokio::test]
async fn epochs_are_applied_once_and_copied_before_the_next_is_decided() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for epoch in 1..=5 {
        world.run(&mut lane).await.unwrap();
        assert_eq!(
            (lane.body().epoch, lane.applied()),
            (Epoch(epoch), Some(Epoch(epoch)))
        );
        let copy = format!("0/epochs/{:020}.json", epoch - 1);
        assert!(world.object(&copy).await.is_some(), "{copy}");
    }
    world.holds(1..=5);
}

#[tokio::test]
async fn an_ambiguous_answer_to_any_write_of_ours_is_read_back() {
    for object in ["owner.json", "0/head.json", "0/born.json"] {
        for nth in 1..=4 {
            for fault in [Fault::ReplyLost, Fault::Lost, Fault::DoneAndRefused] {
                let mut world = World::new();
                world.store.next(object, nth, fault);
                let mut lane = world.start("a").await;
                world.run(&mut lane).await.unwrap();
                world.run(&mut lane).await.unwrap();
                lane.record_quietly().await.unwrap();
                let mut next = world.start("b").await;
                next.roll_forward(&mut world.sinks()).await.unwrap();
                world.run(&mut next).await.unwrap();
                world.holds(1..=3);
                assert_eq!(world.latest.0, 1, "{object} {nth} {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_write_stops_and_changes_nothing() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.store.next("0/head.json", 1, Fault::Denied);
    assert_eq!(
        reason_of(world.decide(&mut lane).await),
        (reason::STORE_DENIED, true)
    );
    let again = world.try_start("a").await.unwrap();
    assert_eq!(
        (again.body.epoch, again.checkpointer.term()),
        (Epoch(0), Term(2))
    );
}

#[tokio::test]
async fn a_store_that_never_answers_ends_a_start_and_not_a_lane() {
    let mut world = World::new();
    for _ in 0..50 {
        world.store.next("owner.json", 1, Fault::Lost);
    }
    assert_eq!(
        reason_of(world.try_start("a").await),
        (reason::STORE_UNAVAILABLE, true)
    );
    let mut world = World::new();
    let mut lane = world.start("a").await;
    for _ in 0..50 {
        world.store.next("0/head.json", 1, Fault::Lost);
    }
    world.run(&mut lane).await.unwrap();
    let told = world.told.0.lock().unwrap().clone();
    assert_eq!(told.last().unwrap(), "the object store resumed");
    assert_eq!(told.len(), 51);
}

#[tokio::test]
async fn of_two_workers_the_older_is_fenced_for_good() {
    let mut world = World::new();
    let mut old = world.start("a").await;
    world.run(&mut old).await.unwrap();
    let mut new = world.start("b").await;
    assert_eq!(new.takeovers(), 1);
    new.roll_forward(&mut world.sinks()).await.unwrap();
    assert_eq!(
        reason_of(world.decide(&mut old).await),
        (reason::FENCED, false)
    );
    assert_eq!(
        reason_of(world.try_start("a").await),
        (reason::FENCED, false)
    );
    world.run(&mut new).await.unwrap();
    assert_eq!((new.term(), new.takeovers()), (Term(2), 0));
    world.holds(1..=2);
}

#[tokio::test]
async fn a_decided_epoch_is_rolled_forward_by_the_next_owner_and_a_late_zombie_does_no_harm() {
    let mut world = World::new();
    let mut old = world.start("a").await;
    let permit = world.decide(&mut old).await.unwrap();
    let Started {
        checkpointer: mut new,
        undone,
        ..
    } = world.try_start("b").await.unwrap();
    assert_eq!(
        undone.iter().map(|u| u.epoch).collect::<Vec<_>>(),
        [Epoch(1)]
    );
    new.roll_forward(&mut world.sinks()).await.unwrap();
    assert!(new.undone().is_empty() && new.has_unrecorded());
    old.apply(permit, &mut world.sinks()).await.unwrap();
    world.run(&mut new).await.unwrap();
    world.holds(1..=2);
}

#[tokio::test]
async fn what_was_applied_is_recorded_by_the_next_head_or_quietly() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.run(&mut lane).await.unwrap();
    assert_eq!(world.try_start("a").await.unwrap().undone.len(), 1);
    let mut lane = world.start("a").await;
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    lane.record_quietly().await.unwrap();
    assert!(!lane.has_unrecorded());
    assert_eq!(world.try_start("a").await.unwrap().undone, []);
    world.holds(1..=1);
}

#[tokio::test]
async fn a_lost_head_stops_a_lane_and_a_start() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.run(&mut lane).await.unwrap();
    world.store.delete("0/head.json").await.unwrap();
    assert_eq!(
        reason_of(world.decide(&mut lane).await),
        (reason::CHECKPOINT_DAMAGED, false)
    );
    assert_eq!(
        reason_of(world.try_start("b").await),
        (reason::CHECKPOINT_DAMAGED, false)
    );
    for object in ["owner.json", "0/born.json"] {
        world.store.delete(object).await.unwrap();
    }
    world.seen = Some(Epoch(1));
    assert_eq!(
        reason_of(world.try_start("b").await),
        (reason::CHECKPOINT_BEHIND, false)
    );
    assert_eq!(world.latest.0, 1, "nothing is resolved anew");
}

#[tokio::test]
async fn a_rolled_back_head_stops_a_lane_a_start_and_where_nobody_saw_it_the_sink_tells() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.run(&mut lane).await.unwrap();
    lane.record_quietly().await.unwrap();
    let old = world.object("0/head.json").await.unwrap();
    world.run(&mut lane).await.unwrap();
    world.store.put("0/head.json", old.clone()).await.unwrap();
    assert_eq!(
        reason_of(world.decide(&mut lane).await),
        (reason::CHECKPOINT_BEHIND, false)
    );
    let mut again = world.start("b").await;
    let rolled = again.roll_forward(&mut world.sinks()).await;
    assert_eq!(reason_of(rolled), (reason::CHECKPOINT_BEHIND_SINK, false));
    world.seen = Some(Epoch(2));
    assert_eq!(
        reason_of(world.try_start("c").await),
        (reason::CHECKPOINT_BEHIND, false)
    );
    world.holds(1..=2);
}

#[tokio::test]
async fn a_sink_that_lost_what_was_applied_is_not_appended_to() {
    for recorded in [true, false] {
        let mut world = World::new();
        let mut lane = world.start("a").await;
        world.run(&mut lane).await.unwrap();
        world.run(&mut lane).await.unwrap();
        if recorded {
            lane.record_quietly().await.unwrap();
        }
        *world.target.lock().unwrap() = world::Target::default();
        let mut again = world.start("b").await;
        let rolled = again.roll_forward(&mut world.sinks()).await;
        assert_eq!(reason_of(rolled), (reason::SINK_HISTORY_LOST, false));
        assert!(world.target.lock().unwrap().rows.is_empty());
    }
}

#[tokio::test]
async fn another_pipeline_is_told_whose_path_it_is() {
    let mut world = World::new();
    world.start("a").await;
    let mut setup = world.setup("b");
    setup.identity = Identity {
        name: "other".into(),
        uid: "v".into(),
        ..setup.identity
    };
    let Err(stop) = Checkpointer::start(setup, &mut world.latest).await else {
        panic!("it started")
    };
    assert_eq!(stop.reason, reason::CHECKPOINT_OWNED);
    assert!(stop.message.contains("pipeline orders (u)"), "{stop}");
}

#[tokio::test]
async fn a_checkpoint_is_adopted_from_the_named_owner_with_its_id_and_the_old_one_is_out() {
    let mut world = World::new();
    let mut old = world.start("a").await;
    world.run(&mut old).await.unwrap();
    world.adopt_from = Some("somebody".into());
    let refused = world.start_as("v", "b").await;
    let Err(stop) = refused else {
        panic!("it started")
    };
    assert_eq!(stop.reason, reason::CHECKPOINT_OWNED);
    assert!(stop.message.contains("`checkpoint.adoptFrom: u`"), "{stop}");
    world.adopt_from = Some("u".into());
    let mut new = world.start_as("v", "b").await.unwrap().checkpointer;
    assert_eq!(
        (new.checkpoint(), new.term()),
        (old.checkpoint(), Term(old.term().0 + 1))
    );
    assert_eq!(
        reason_of(world.decide(&mut old).await),
        (reason::FENCED, false)
    );
    assert_eq!(
        reason_of(world.start_as("u", "c").await),
        (reason::CHECKPOINT_OWNED, false)
    );
    new.roll_forward(&mut world.sinks()).await.unwrap();
    world.run(&mut new).await.unwrap();
    // The path is ours: consent to take it from somebody has no effect any more.
    let mut again = world.start_as("v", "d").await.unwrap().checkpointer;
    again.roll_forward(&mut world.sinks()).await.unwrap();
    world.run(&mut again).await.unwrap();
    world.holds(1..=3);
}

#[tokio::test]
async fn an_adoption_whose_answer_is_lost_or_that_a_crash_cuts_short_is_done_once() {
    for fault in [Fault::ReplyLost, Fault::Lost, Fault::DoneAndRefused] {
        let mut world = World::new();
        let mut old = world.start("a").await;
        world.run(&mut old).await.unwrap();
        world.adopt_from = Some("u".into());
        world.store.next("owner.json", 1, fault);
        // Cut short: the path is the new one's, and the lane is still the old one's.
        world.store.next("0/head.json", 1, Fault::Denied);
        assert!(world.start_as("v", "b").await.is_err());
        world.run(&mut old).await.unwrap();
        assert_eq!(
            reason_of(world.start_as("u", "c").await),
            (reason::CHECKPOINT_OWNED, false)
        );
        let mut new = world.start_as("v", "d").await.unwrap().checkpointer;
        new.roll_forward(&mut world.sinks()).await.unwrap();
        world.run(&mut new).await.unwrap();
        world.holds(1..=3);
    }
}

#[tokio::test]
async fn a_process_that_starts_its_lane_again_is_no_death_and_processes_that_follow_each_other_are()
{
    let mut world = World::new();
    world.start("a").await;
    world.again = true;
    for _ in 0..5 {
        let lane = world.start("a").await;
        assert_eq!((lane.takeovers(), lane.care()), (0, None));
    }
    world.again = false;
    for takeovers in 1..=3 {
        let lane = world.start("a").await;
        let suspects = takeovers == 3;
        assert_eq!(
            (lane.takeovers(), lane.care().is_some()),
            (takeovers, suspects)
        );
    }
}

#[tokio::test]
async fn rule_38_a_record_is_noted_before_it_is_computed_alone_and_named_after_three_deaths_in_one_pod()
 {
    let mut world = World::new();
    let record = Place {
        source: name("orders"),
        split: SplitId::partition(0),
        position: Position(101),
    };
    world.start("a").await;
    let healthy = world.start("a").await.compute_alone(&record).await;
    assert_eq!(healthy, Ok(()));
    for _ in 0..15 {
        world.start("a").await;
    }
    for times in 1..=3 {
        let mut lane = world.start("a").await;
        lane.compute_alone(&record).await.unwrap();
        // What the next process finds.
        let there = Head::from_bytes(&world.object("0/head.json").await.unwrap()).unwrap();
        assert_eq!(there.owner.care.unwrap().alone[0].times, times);
    }
    let mut lane = world.start("a").await;
    let stop = lane.compute_alone(&record).await.unwrap_err();
    assert_eq!(
        (stop.reason, stop.retry),
        (reason::RECORD_KILLS_WORKER, false)
    );
    let skip = "`skip: [{source: orders, split: \"0\", position: 101}]`";
    assert!(stop.message.contains(skip), "{stop}");
    let mut lane = world.start("b").await;
    lane.compute_alone(&record).await.unwrap();
    lane.roll_forward(&mut world.sinks()).await.unwrap();
    world.run(&mut lane).await.unwrap();
    world.holds(1..=1);
}

#[tokio::test]
async fn the_owner_object_of_another_life_of_the_same_pipeline_is_damage() {
    let (mut world, mut other) = (World::new(), World::new());
    world.start("a").await;
    other.ids = Ids::seeded(8);
    other.start("a").await;
    for object in ["owner.json", "0/born.json"] {
        let ours = world.object(object).await.unwrap();
        let theirs = other.object(object).await.unwrap();
        world.store.put(object, theirs).await.unwrap();
        let started = world.try_start("b").await;
        assert_eq!(reason_of(started), (reason::CHECKPOINT_DAMAGED, false));
        world.store.put(object, ours).await.unwrap();
    }
    world.start("b").await;
}

#[tokio::test]
async fn an_unbalanced_epoch_is_not_decided() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    let mut body = lane.open(Micros(1));
    body.ledger.sources.insert(
        name("orders"),
        SourceCounts {
            read: 2,
            decoded: 1,
            ..Default::default()
        },
    );
    assert_eq!(
        reason_of(lane.decide(body).await),
        (reason::LEDGER_UNBALANCED, false)
    );
    world.run(&mut lane).await.unwrap();
    world.holds(1..=1);
}

#[tokio::test]
async fn a_sink_out_of_reach_is_tried_until_it_answers_and_one_that_stops_stops_the_lane() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    let down = || SinkError::Unavailable {
        reason: reason::SINK_UNAVAILABLE,
        message: "down".into(),
    };
    world
        .target
        .lock()
        .unwrap()
        .failures
        .extend([down(), down()]);
    world.run(&mut lane).await.unwrap();
    let expected = [
        "gold SinkUnavailable 1",
        "gold SinkUnavailable 2",
        "gold resumed",
    ];
    assert_eq!(*world.told.0.lock().unwrap(), expected);
    let gone = SinkError::Stop {
        reason: reason::TABLE_MISMATCH,
        message: "gone".into(),
    };
    world.target.lock().unwrap().failures.push_back(gone);
    assert_eq!(
        reason_of(world.run(&mut lane).await),
        (reason::TABLE_MISMATCH, false)
    );
    world.holds(1..=1);
    assert_eq!(lane.applied(), Some(Epoch(1)));
}

#[tokio::test]
async fn at_most_two_epochs_wait_for_their_sinks() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.decide(&mut lane).await.unwrap();
    let permit = world.decide(&mut lane).await.unwrap();
    assert_eq!(
        reason_of(world.decide(&mut lane).await),
        (reason::SINK_UNAVAILABLE, false)
    );
    lane.apply(permit, &mut world.sinks()).await.unwrap();
    world.run(&mut lane).await.unwrap();
    world.holds(1..=3);
}

#[tokio::test]
async fn a_plan_without_the_sinks_of_its_epoch_stops() {
    let mut world = World::new();
    let mut lane = world.start("a").await;
    world.decide(&mut lane).await.unwrap();
    let mut again = world.start("b").await;
    let rolled = again.roll_forward(&mut Sinks::new()).await;
    assert_eq!(reason_of(rolled), (reason::CHECKPOINT_DAMAGED, false));
}

#[tokio::test]
async fn state_is_read_as_it_was_written_or_not_at_all() {
    let mut world = World::new();
    let lane = world.start("a").await;
    let put = lane.state().put(Epoch(1), "rows".into()).await;
    let file = put.unwrap();
    assert_eq!(lane.state_file(&file).await.unwrap(), "rows");
    let path = format!("0/state/{}", file.name);
    let damaged = (reason::CHECKPOINT_DAMAGED, false);
    for content in ["rows!", "rowz"] {
        world.store.put(&path, content.into()).await.unwrap();
        assert_eq!(reason_of(lane.state_file(&file).await), damaged);
    }
    world.store.delete(&path).await.unwrap();
    assert_eq!(reason_of(lane.state_file(&file).await), damaged);
}

#[tokio::test]
async fn state_that_a_newer_owner_collected_fences_and_is_no_damage() {
    let mut world = World::new();
    let old = world.start("a").await;
    let put = old.state().put(Epoch(1), "rows".into()).await;
    let file = put.unwrap();
    world.start("b").await;
    let path = format!("0/state/{}", file.name);
    world.store.delete(&path).await.unwrap();
    let read = old.state_file(&file).await;
    assert_eq!(reason_of(read), (reason::FENCED, false));
}

#[tokio::test]
async fn two_first_starts_at_once_make_one_checkpoint() {
    let mut world = World::new();
    let (a, b) = (world.setup("a"), world.setup("b"));
    let (mut one, mut two) = (world::Latest::default(), world::Latest::default());
    let (a, b) = tokio::join!(
        Checkpointer::start(a, &mut one),
        Checkpointer::start(b, &mut two)
    );
    let (a, b) = (a.unwrap().checkpointer, b.unwrap().checkpointer);
    assert_eq!(a.checkpoint(), b.checkpoint());
    assert_eq!(a.body().incarnation, b.body().incarnation);
    assert_ne!(a.term(), b.term());
    world.start("c").await;
}
