//! Laws of the audit, on a lane of eight epochs that is made as a worker makes one.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::ledger::{SourceCounts, StepCounts};
use crate::position::{Micros, Position, Positions, SplitId, SplitPosition, Term};
use crate::protocol::head::{Bucket, FORMAT, Owner, Rolling, Run, StepState};
use crate::protocol::reset::Reset;
use crate::watermark::Snapshot;

const LAST: u64 = 7;

/// What is at the path and in the sink.
#[derive(Clone)]
struct World {
    owner: Found<OwnerFile>,
    head: Found<Head>,
    born: Found<Born>,
    copies: BTreeMap<Epoch, Vec<u8>>,
    plan: Option<Vec<u8>>,
    /// Objects that are gone, and objects that are not as they were written.
    gone: Vec<String>,
    changed: Vec<String>,
    gold: Option<Epoch>,
    range: RangeInclusive<Epoch>,
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn split() -> SplitId {
    SplitId::partition(0)
}

fn plan() -> Vec<u8> {
    b"{}".to_vec()
}

fn at(next: i64) -> Positions {
    let position = SplitPosition {
        next: Position(next),
        started: Some(Micros(0)),
        ..SplitPosition::default()
    };
    [(node("orders"), [(split(), position)].into())].into()
}

fn first() -> Body {
    let mut body = Body {
        plan: Digest::of(&plan()),
        positions: at(0),
        ..Body::blank()
    };
    body.set_sinks(&targets());
    body
}

fn targets() -> BTreeMap<NodeName, String> {
    [(node("gold"), "t".to_owned())].into()
}

/// Ten records an epoch; gold gets something in every second one.
fn next(last: &Body) -> Body {
    let mut body = last.successor(Micros(0));
    let epoch = body.epoch.0;
    body.parent = Some(Digest::of_json(last).unwrap());
    body.positions = at(i64::try_from(epoch * 10).unwrap());
    let watermark = Some(Micros(i64::try_from(epoch).unwrap()));
    let snapshot = Snapshot {
        watermark,
        splits: [(split(), watermark)].into(),
        newest: watermark,
        since: None,
    };
    body.watermarks = [(node("orders"), snapshot)].into();
    let state = body
        .state
        .entry(node("revenue"))
        .or_insert(StepState::new("f".into()));
    state.buckets.entry(Bucket(0)).or_default().push(Run {
        epoch: body.epoch,
        tier: 0,
        files: vec![file(&format!("{epoch}-s"))],
    });
    let read = SourceCounts {
        read: 10,
        decoded: 9,
        dead_lettered: 1,
        ..SourceCounts::default()
    };
    let step = StepCounts {
        input: 9,
        output: 8,
        late: 1,
        ..StepCounts::default()
    };
    body.ledger.sources = [(node("orders"), read)].into();
    body.ledger.steps = [(node("revenue"), step)].into();
    body.totals.add(&body.ledger);
    if epoch.is_multiple_of(2) {
        assert!(body.add_intent(&node("gold"), json!({"outbox": format!("{epoch}-o")})));
    }
    body
}

fn file(name: &str) -> StateFile {
    StateFile {
        name: name.to_owned(),
        length: 1,
        sha256: Digest::of(name.as_bytes()),
    }
}

fn staged(intent: &Intent) -> Vec<StateFile> {
    let outbox = intent.body["outbox"].as_str();
    outbox.map(file).into_iter().collect()
}

/// A lane in which `change` was done to a body before it was decided.
fn decided(change: impl Fn(&mut Body)) -> World {
    let mut bodies = vec![first()];
    for _ in 0..LAST {
        let mut body = next(&bodies[bodies.len() - 1]);
        change(&mut body);
        bodies.push(body);
    }
    let newest = bodies.pop().unwrap();
    let identity = newest.sinks[&node("gold")].identity.clone();
    let rolling = Rolling {
        undone: Vec::new(),
        applied: [(identity, Epoch(6))].into(),
        retained: Epoch(0),
    };
    let incarnation = newest.incarnation.clone();
    let head = Head::seal("n".into(), Owner::first("p"), newest, rolling).unwrap();
    let copy = |body: &Body| (body.epoch, canonical(body).unwrap());
    World {
        owner: Some(Ok(OwnerFile {
            format: FORMAT,
            write: "w".into(),
            checkpoint: "c".into(),
            namespace_uid: "n".into(),
            name: "orders".into(),
            uid: "u".into(),
        })),
        head: Some(Ok(head)),
        born: Some(Ok(Born {
            format: FORMAT,
            checkpoint: "c".into(),
            incarnation,
        })),
        copies: bodies.iter().map(copy).collect(),
        plan: Some(plan()),
        gone: Vec::new(),
        changed: Vec::new(),
        gold: Some(Epoch(6)),
        range: Epoch(0)..=Epoch(LAST),
    }
}

fn sound() -> World {
    decided(|_| {})
}

/// Does as the command does, in its order.
fn audit(world: &World) -> Verdict {
    let objects = Objects {
        owner: world.owner.clone(),
        head: world.head.clone(),
        born: world.born.clone(),
    };
    let mut audit = Audit::begin(Lane::default(), "orders", world.range.clone(), objects);
    let newest = audit.head().map(|head| head.body.clone());
    let mut bodies: Vec<Body> = newest.into_iter().collect();
    for epoch in (world.range.start().0..=world.range.end().next().0.min(LAST)).rev() {
        let bytes = world.copies.get(&Epoch(epoch)).map(Vec::as_slice);
        bodies.extend(audit.copy(Epoch(epoch), bytes).cloned());
    }
    for named in bodies
        .iter()
        .flat_map(|body| audit.named(body, staged))
        .collect::<Vec<_>>()
    {
        let there = !world.gone.contains(&named.object);
        let sha256 = match world.changed.contains(&named.object) {
            true => Digest::of(b"changed"),
            false => named.sha256.clone(),
        };
        audit.object(&named, there.then_some((1, sha256)));
    }
    audit.plan(&Digest::of(&plan()), Epoch(0), world.plan.as_deref());
    audit.targets(&targets());
    for (name, intent) in audit.questions() {
        audit.sink(&name, &intent, world.gold);
    }
    audit.end()
}

/// The findings by kind, object and epoch, each once.
#[track_caller]
fn check(world: &World, expected: &[(Kind, &str, Option<u64>)]) {
    let mut found: Vec<_> = audit(world)
        .findings
        .into_iter()
        .map(|f| (f.kind, f.object, f.epoch.map(|e| e.0)))
        .collect();
    found.dedup();
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, object, epoch)| (*kind, (*object).to_owned(), *epoch))
        .collect();
    assert_eq!(found, expected);
}

fn copy(epoch: u64) -> String {
    Lane::default().epoch(Epoch(epoch))
}

/// A body that was decided wrong is named with its epoch.
#[track_caller]
fn check_decided(kind: Kind, epoch: u64, change: impl Fn(&mut Body)) {
    let world = decided(|body| {
        if body.epoch == Epoch(epoch) {
            change(body);
        }
    });
    check(&world, &[(kind, &copy(epoch), Some(epoch))]);
}

fn position(body: &mut Body) -> &mut SplitPosition {
    let splits = body.positions.get_mut(&node("orders")).unwrap();
    splits.get_mut(&split()).unwrap()
}

#[test]
fn a_lane_as_a_worker_writes_it_is_clean() {
    let verdict = audit(&sound());
    assert_eq!((verdict.epochs, verdict.findings), (LAST + 1, vec![]));
}

#[test]
fn each_copy_that_is_gone_or_changed_is_named() {
    for epoch in 0..LAST {
        let mut world = sound();
        world.copies.remove(&Epoch(epoch));
        check(&world, &[(Kind::Missing, &copy(epoch), Some(epoch))]);
    }
    for epoch in 0..LAST {
        let mut world = sound();
        let length = world.copies[&Epoch(epoch)].len();
        // Each byte of one copy, and some of the others: an audit reads them all.
        for byte in (0..length).step_by(if epoch == 3 { 1 } else { 61 }) {
            let flip = |world: &mut World| world.copies.get_mut(&Epoch(epoch)).unwrap()[byte] ^= 1;
            flip(&mut world);
            check(&world, &[(Kind::Damaged, &copy(epoch), Some(epoch))]);
            flip(&mut world);
        }
        let bytes = world.copies.get_mut(&Epoch(epoch)).unwrap();
        bytes.truncate(length / 2);
        check(&world, &[(Kind::Damaged, &copy(epoch), Some(epoch))]);
    }
}

#[test]
fn what_is_wrong_across_a_lost_copy_is_still_seen() {
    let mut world = decided(|body| {
        if body.epoch == Epoch(4) {
            position(body).next = Position(20);
        }
    });
    world.copies.remove(&Epoch(3));
    let lost = copy(3);
    let found = audit(&world).findings;
    assert!(
        found
            .iter()
            .any(|f| (f.kind, &f.object) == (Kind::Missing, &lost))
    );
    world.copies.remove(&Epoch(5));
    world.copies.remove(&Epoch(6));
    let mut last = decided(|body| {
        if body.epoch == Epoch(LAST) {
            position(body).next = Position(10);
        }
    });
    last.copies.remove(&Epoch(6));
    let found = audit(&last).findings;
    assert_eq!(
        found.iter().map(|f| (f.kind, f.epoch)).collect::<Vec<_>>(),
        [
            (Kind::Missing, Some(Epoch(6))),
            (Kind::Overlap, Some(Epoch(LAST)))
        ]
    );
}

#[test]
fn a_position_that_went_back_is_an_overlap_and_a_leap_is_a_gap() {
    let world = decided(|body| {
        if body.epoch == Epoch(4) {
            position(body).next = Position(25);
        }
    });
    // Epoch 4 counts ten records of five, and epoch 5 ten of twenty-five.
    check(
        &world,
        &[
            (Kind::Gap, &copy(5), Some(5)),
            (Kind::Overlap, &copy(4), Some(4)),
        ],
    );
}

#[test]
fn a_log_may_have_positions_without_records_where_it_does_not_count_them() {
    let world = decided(|body| {
        let at = position(body);
        (at.started, at.next) = (None, Position(at.next.0 * 3));
        at.topic_id = Some("t".into());
    });
    let kinds: Vec<_> = audit(&world)
        .findings
        .iter()
        .map(|f| (f.kind, f.epoch))
        .collect();
    // Epoch 0 was another log.
    assert_eq!(kinds, [(Kind::Contradiction, Some(Epoch(1)))]);
}

#[test]
fn a_split_that_is_forgotten_is_a_gap() {
    // The epochs after it go on without the split, and read nothing.
    let world = decided(|body| {
        if body.epoch >= Epoch(4) {
            body.positions.get_mut(&node("orders")).unwrap().clear();
            let read = body.ledger.sources.remove(&node("orders")).unwrap();
            let total = body.totals.sources.get_mut(&node("orders")).unwrap();
            total.read -= read.read;
            total.decoded -= read.decoded;
            total.dead_lettered -= read.dead_lettered;
        }
    });
    check(&world, &[(Kind::Gap, &copy(4), Some(4))]);
}

#[test]
fn a_reset_begins_an_incarnation_and_nothing_else_does() {
    let reset = |nonce: u64| {
        move |body: &mut Body| {
            if body.epoch == Epoch(4) {
                body.reset_nonce = nonce;
                body.reset = Some(Reset {
                    born: "i".into(),
                    ..Reset::default()
                });
                body.incarnation = "j".into();
            }
        }
    };
    let told = |nonce| {
        let found = audit(&decided(reset(nonce))).findings;
        let incarnations = found
            .iter()
            .filter(|f| f.message.ends_with("different lives of the lane"));
        incarnations.map(|f| (f.kind, f.epoch)).collect::<Vec<_>>()
    };
    assert_eq!(told(0), [(Kind::Contradiction, Some(Epoch(4)))]);
    assert_eq!(told(1), []);
}

#[test]
fn a_watermark_that_went_back_is_named() {
    let world = decided(|body| {
        if body.epoch == Epoch(4) {
            let of = body.watermarks.get_mut(&node("orders")).unwrap();
            of.watermark = Some(Micros(1));
        }
    });
    check(&world, &[(Kind::WentBack, &copy(4), Some(4))]);
}

#[test]
fn counts_that_do_not_balance_and_totals_that_are_no_sum_are_named() {
    check_decided(Kind::Unbalanced, 3, |body| {
        body.ledger
            .sources
            .get_mut(&node("orders"))
            .unwrap()
            .decoded -= 1;
    });
    check_decided(Kind::Unbalanced, 3, |body| {
        body.ledger.steps.get_mut(&node("revenue")).unwrap().late += 1;
    });
    check_decided(Kind::Unbalanced, 3, |body| {
        let totals = body.totals.sources.get_mut(&node("orders")).unwrap();
        (totals.read, totals.decoded) = (totals.read + 1, totals.decoded + 1);
    });
}

#[test]
fn an_intent_that_names_another_epoch_before_it_is_named() {
    check_decided(Kind::Contradiction, 4, |body| {
        body.intents[0].prev = Some(Epoch(1));
    });
    check_decided(Kind::Contradiction, 5, |body| {
        body.sinks.get_mut(&node("gold")).unwrap().prev = Some(Epoch(5));
    });
}

#[test]
fn a_state_file_that_the_epoch_before_did_not_know_is_named() {
    check_decided(Kind::Contradiction, 5, |body| {
        let revenue = body.state.get_mut(&node("revenue")).unwrap();
        revenue.buckets.get_mut(&Bucket(0)).unwrap()[0].files[0] = file("2-other");
    });
}

#[test]
fn each_object_that_a_kept_epoch_names_is_named_when_it_is_gone_or_changed() {
    let lane = Lane::default();
    let state = (1..=LAST).map(|epoch| (lane.state(&format!("{epoch}-s")), LAST));
    let rows = (1..=LAST / 2).map(|half| (lane.outbox(&format!("{}-o", half * 2)), half * 2));
    for (object, epoch) in state.chain(rows) {
        let mut world = sound();
        world.gone = vec![object.clone()];
        let found = audit(&world).findings;
        let first = found.first().map(|f| (f.kind, &f.object, f.epoch));
        assert_eq!(first, Some((Kind::Missing, &object, Some(Epoch(epoch)))));
        world.changed = std::mem::take(&mut world.gone);
        assert_eq!(audit(&world).findings[0].kind, Kind::Damaged);
    }
}

#[test]
fn an_intent_of_its_own_is_named_when_it_is_gone_or_changed() {
    let apart = |body: &mut Body| {
        for intent in &mut body.intents {
            intent.body = serde_json::Value::Null;
            intent.apart = Some(file(&format!("{}-i", body.epoch)));
        }
    };
    check(&decided(apart), &[]);
    let object = Lane::default().intent("6-i");
    let mut world = decided(apart);
    world.gone = vec![object.clone()];
    check(&world, &[(Kind::Missing, &object, Some(6))]);
    world.changed = std::mem::take(&mut world.gone);
    check(&world, &[(Kind::Damaged, &object, Some(6))]);
}

#[test]
fn what_a_pipeline_that_goes_on_has_collected_is_no_finding() {
    let World {
        owner, head, born, ..
    } = sound();
    let objects = Objects { owner, head, born };
    let mut audit = Audit::begin(Lane::default(), "orders", Epoch(0)..=Epoch(LAST), objects);
    let body = audit.head().unwrap().body.clone();
    let named = audit.named(&body, staged);
    let mut later = audit.head().unwrap().clone();
    later.body.epoch = Epoch(LAST + KEPT + 1);
    later.rolling.retained = Epoch(LAST);
    audit.moved_on(&later);
    named.iter().for_each(|named| audit.object(named, None));
    assert!(audit.copy(Epoch(6), None).is_none());
    assert_eq!(audit.end().findings, []);
}

#[test]
fn copies_before_the_first_that_is_retained_are_no_gap_and_those_after_it_are() {
    let mut world = sound();
    let Some(Ok(head)) = &mut world.head else {
        unreachable!("the world is sound")
    };
    head.rolling.retained = Epoch(3);
    world.copies.retain(|epoch, _| *epoch >= Epoch(3));
    check(&world, &[]);
    world.copies.remove(&Epoch(3));
    let copy = Lane::default().epoch(Epoch(3));
    check(&world, &[(Kind::Missing, &copy, Some(3))]);
}

#[test]
fn each_of_the_three_first_objects_and_the_plan_is_named_when_it_is_gone() {
    let mut world = sound();
    world.owner = None;
    check(&world, &[(Kind::Missing, "owner.json", None)]);
    let mut world = sound();
    world.born = None;
    check(&world, &[(Kind::Missing, "0/born.json", None)]);
    let mut world = sound();
    world.plan = None;
    let object = paths::plan(&Digest::of(&plan()));
    check(&world, &[(Kind::Missing, &object, Some(0))]);
    world.plan = Some(b"{ }".to_vec());
    check(&world, &[(Kind::Damaged, &object, Some(0))]);
    let mut world = sound();
    world.head = None;
    let found = audit(&world).findings;
    assert_eq!(
        (found[0].kind, found[0].object.as_str()),
        (Kind::Missing, "0/head.json")
    );
}

#[test]
fn first_objects_that_do_not_fit_each_other_are_named() {
    let mut world = sound();
    world.born = Some(Ok(Born {
        format: FORMAT,
        checkpoint: "c".into(),
        incarnation: "other".into(),
    }));
    check(&world, &[(Kind::Damaged, "0/born.json", None)]);
    let mut world = sound();
    if let Some(Ok(owner)) = &mut world.owner {
        owner.checkpoint = "d".into();
    }
    check(&world, &[(Kind::Damaged, "owner.json", None)]);
    let mut world = sound();
    if let Some(Ok(owner)) = &mut world.owner {
        owner.name = "others".into();
    }
    check(&world, &[(Kind::Damaged, "owner.json", None)]);
}

#[test]
fn a_head_that_contradicts_itself_beside_its_body_is_named() {
    let of_head = [(Kind::Contradiction, "0/head.json", None)];
    let mut world = sound();
    if let Some(Ok(head)) = &mut world.head {
        head.owner.term = Term(0);
    }
    check(&world, &of_head);
    let mut world = sound();
    if let Some(Ok(head)) = &mut world.head {
        head.rolling.applied.clear();
    }
    check(&world, &of_head);
}

#[test]
fn a_head_that_was_put_back_is_seen_by_the_copies_after_it() {
    let World {
        owner, head, born, ..
    } = sound();
    let objects = Objects { owner, head, born };
    let mut audit = Audit::begin(Lane::default(), "orders", Epoch(0)..=Epoch(LAST), objects);
    audit.beyond(Epoch(LAST + 1), true);
    let found = audit.end().findings;
    assert_eq!((found.len(), found[0].kind), (1, Kind::WentBack));
}

#[test]
fn a_sink_must_hold_exactly_what_the_head_says() {
    for (held, clean) in [
        (Some(6), true),
        (Some(5), false),
        (None, false),
        (Some(7), false),
        (Some(8), false),
    ] {
        let mut world = sound();
        world.gold = held.map(Epoch);
        let expected = [(Kind::Sink, "sink gold", Some(LAST))];
        check(&world, if clean { &[] } else { &expected });
    }
}

#[test]
fn a_sink_may_still_wait_for_what_was_decided() {
    let mut world = sound();
    let Some(Ok(head)) = &mut world.head else {
        unreachable!("the world is sound")
    };
    let body: Body = serde_json::from_slice(&world.copies[&Epoch(6)]).unwrap();
    let identity = body.intents[0].sink.clone();
    head.rolling.applied.insert(identity, Epoch(4));
    head.rolling = Rolling {
        undone: Vec::new(),
        ..head.rolling.clone()
    }
    .with(&body);
    for held in [4, 6] {
        world.gold = Some(Epoch(held));
        check(&world, &[]);
    }
    world.gold = Some(Epoch(2));
    check(&world, &[(Kind::Sink, "sink gold", Some(LAST))]);
}

#[test]
fn a_part_of_the_history_is_judged_alone() {
    let mut world = sound();
    world.range = Epoch(3)..=Epoch(5);
    world.copies.remove(&Epoch(1));
    assert_eq!(audit(&world).epochs, 3);
    check(&world, &[]);
    world.copies.get_mut(&Epoch(5)).unwrap()[9] ^= 1;
    check(&world, &[(Kind::Damaged, &copy(5), Some(5))]);
}
