use super::*;
use crate::protocol::digest::Digest;
use crate::protocol::head::{Body, FORMAT, Owner, Rolling, SinkIdentity};

fn head(epoch: u64) -> Head {
    let body = Body {
        epoch: Epoch(epoch),
        parent: (epoch > 0).then(|| Digest("p".into())),
        ..Body::blank()
    };
    Head::seal("n".into(), Owner::first("old"), body, Rolling::default()).unwrap()
}

fn me() -> Identity {
    Identity {
        name: "orders".into(),
        uid: "u".into(),
        namespace_uid: "ns".into(),
        pod: "new".into(),
    }
}

fn owner() -> OwnerFile {
    OwnerFile {
        format: FORMAT,
        write: "w".into(),
        checkpoint: "c".into(),
        namespace_uid: "ns".into(),
        name: "orders".into(),
        uid: "u".into(),
    }
}

fn born() -> Born {
    Born {
        format: FORMAT,
        checkpoint: "c".into(),
        incarnation: "i".into(),
    }
}

#[track_caller]
fn check(there: (bool, Option<u64>, bool), seen: Option<u64>, expected: Startup) {
    let (owned, epoch, is_born) = there;
    let (owner, head, born, me) = (owner(), epoch.map(head), born(), me());
    let facts = Facts {
        owner: owned.then_some(Ok(&owner)),
        head: head.as_ref().map(Ok),
        born: is_born.then_some(Ok(&born)),
        me: &me,
        seen: seen.map(Epoch),
        adopt_from: None,
        reset_nonce: 0,
        fingerprints: &Fingerprints::new(),
    };
    assert_eq!(startup(facts), expected);
}

fn is_damaged(there: (bool, Option<u64>, bool)) -> bool {
    let (owner, head, born, me) = (owner(), there.1.map(head), born(), me());
    let facts = Facts {
        owner: there.0.then_some(Ok(&owner)),
        head: head.as_ref().map(Ok),
        born: there.2.then_some(Ok(&born)),
        me: &me,
        seen: None,
        adopt_from: None,
        reset_nonce: 0,
        fingerprints: &Fingerprints::new(),
    };
    matches!(startup(facts), Startup::Refuse(Refusal::Damaged(_)))
}

#[test]
fn nothing_there_is_a_new_start_unless_an_epoch_was_seen() {
    check(
        (false, None, false),
        None,
        Startup::NewStart { claimed: false },
    );
    check(
        (false, None, false),
        Some(0),
        Startup::Refuse(Refusal::Behind {
            head: None,
            seen: Epoch(0),
        }),
    );
}

#[test]
fn a_start_cut_short_goes_on_where_it_was() {
    check(
        (true, None, false),
        None,
        Startup::NewStart { claimed: true },
    );
    check(
        (true, Some(0), false),
        None,
        Startup::Resume { born: false },
    );
    check((true, Some(0), true), None, Startup::Resume { born: true });
}

#[test]
fn any_other_gap_is_damage() {
    assert!(is_damaged((false, Some(0), false)));
    assert!(is_damaged((false, None, true)));
    assert!(is_damaged((false, Some(5), true)));
    assert!(is_damaged((true, None, true)));
    assert!(is_damaged((true, Some(5), false)));
    assert!(!is_damaged((true, Some(5), true)));
}

#[test]
fn a_head_older_than_what_was_seen_is_behind() {
    check(
        (true, Some(5), true),
        Some(5),
        Startup::Resume { born: true },
    );
    check(
        (true, Some(5), true),
        Some(6),
        Startup::Refuse(Refusal::Behind {
            head: Some(Epoch(5)),
            seen: Epoch(6),
        }),
    );
    check(
        (true, None, false),
        Some(3),
        Startup::Refuse(Refusal::Behind {
            head: None,
            seen: Epoch(3),
        }),
    );
}

#[track_caller]
fn check_who(change: impl Fn(&mut Identity, &mut OwnerFile, &mut Head), expected: Startup) {
    let (mut me, mut owner, mut head, born) = (me(), owner(), head(5), born());
    change(&mut me, &mut owner, &mut head);
    let facts = Facts {
        owner: Some(Ok(&owner)),
        head: Some(Ok(&head)),
        born: Some(Ok(&born)),
        me: &me,
        seen: None,
        adopt_from: None,
        reset_nonce: 0,
        fingerprints: &Fingerprints::new(),
    };
    assert_eq!(startup(facts), expected);
}

#[test]
fn the_same_resource_or_the_same_name_in_the_same_namespace_goes_on() {
    check_who(
        |me, _, _| me.uid = "applied again".into(),
        Startup::Resume { born: true },
    );
    check_who(
        |_, owner, _| owner.name = "renamed".into(),
        Startup::Resume { born: true },
    );
    let refusal = Refusal::Owned {
        name: "orders".into(),
        uid: "other".into(),
    };
    check_who(
        |_, owner, _| {
            owner.uid = "other".into();
            owner.namespace_uid = "elsewhere".into();
        },
        Startup::Refuse(refusal),
    );
}

#[test]
fn consent_takes_a_path_over_from_the_owner_it_names_alone_and_only_where_a_start_would_go_on() {
    let check = |adopt_from: Option<&str>, (epoch, born_is_there): (Option<u64>, bool)| {
        let (mut owner, head, born, me) = (owner(), epoch.map(head), born(), me());
        (owner.uid, owner.namespace_uid) = ("other".into(), "elsewhere".into());
        startup(Facts {
            owner: Some(Ok(&owner)),
            head: head.as_ref().map(Ok),
            born: born_is_there.then_some(Ok(&born)),
            me: &me,
            seen: None,
            adopt_from,
            reset_nonce: 0,
            fingerprints: &Fingerprints::new(),
        })
    };
    for there in [(None, false), (Some(0), false), (Some(5), true)] {
        assert_eq!(check(Some("other"), there), Startup::Adopt);
        let owned = |startup| matches!(startup, Startup::Refuse(Refusal::Owned { .. }));
        assert!(owned(check(None, there)) && owned(check(Some("u"), there)));
    }
    let damaged = check(Some("other"), (Some(5), false));
    assert!(matches!(damaged, Startup::Refuse(Refusal::Damaged(_))));
    check_who(
        |_, owner, _| owner.name = "renamed".into(),
        Startup::Resume { born: true },
    );
}

#[test]
fn objects_of_different_lives_of_one_pipeline_are_damage() {
    let check = |owner_of: &str, head_of: &str, born_of: &str| {
        let (mut owner, mut head, mut born, me) = (owner(), head(5), born(), me());
        owner.checkpoint = owner_of.into();
        head.body.checkpoint = head_of.into();
        born.checkpoint = born_of.into();
        let facts = Facts {
            owner: Some(Ok(&owner)),
            head: Some(Ok(&head)),
            born: Some(Ok(&born)),
            me: &me,
            seen: None,
            adopt_from: None,
            reset_nonce: 0,
            fingerprints: &Fingerprints::new(),
        };
        startup(facts)
    };
    assert_eq!(check("d", "d", "d"), Startup::Resume { born: true });
    for (owner, head, born) in [("c", "d", "d"), ("d", "c", "d"), ("d", "d", "c")] {
        let found = check(owner, head, born);
        let damaged = matches!(found, Startup::Refuse(Refusal::Damaged(_)));
        assert!(damaged, "{owner} {head} {born}: {found:?}");
    }
}

#[test]
fn a_superseded_pod_never_takes_the_lane_again() {
    check_who(
        |_, _, head| head.owner = Owner::first("new").taken_by("newer"),
        Startup::Refuse(Refusal::Fenced {
            term: Term(2),
            pod: "newer".into(),
        }),
    );
    check_who(
        |_, _, head| head.owner = Owner::first("new"),
        Startup::Resume { born: true },
    );
}

#[test]
fn a_later_format_is_refused_by_name() {
    let (owner, born, me) = (owner(), born(), me());
    let facts = Facts {
        owner: Some(Ok(&owner)),
        head: Some(Err(Unreadable::Newer(2))),
        born: Some(Ok(&born)),
        me: &me,
        seen: None,
        adopt_from: None,
        reset_nonce: 0,
        fingerprints: &Fingerprints::new(),
    };
    assert_eq!(
        startup(facts),
        Startup::Refuse(Refusal::Newer("head.json", 2))
    );
}

#[track_caller]
fn check_read_back(
    unchanged: bool,
    change: impl Fn(&mut Head),
    expected: impl Fn(&ReadBack) -> bool,
) {
    let mut head = head(5);
    head.owner.term = Term(3);
    head.write = "other".into();
    change(&mut head);
    let attempt = Attempt {
        nonce: "mine",
        term: Term(3),
        born: "i",
        epoch: Epoch(5),
        unchanged,
    };
    let decision = read_back(attempt, Some(Ok(&head)));
    assert!(expected(&decision), "{decision:?}");
}

#[test]
fn reading_back_tells_apart_what_a_reply_would_have_said() {
    check_read_back(false, |h| h.write = "mine".into(), |d| *d == ReadBack::Won);
    check_read_back(true, |_| {}, |d| *d == ReadBack::TryAgain);
    check_read_back(
        false,
        |h| h.owner.term = Term(4),
        |d| matches!(d, ReadBack::Fenced { term: Term(4), .. }),
    );
    check_read_back(false, |_| {}, |d| *d == ReadBack::Behind(Epoch(5)));
    check_read_back(
        false,
        |h| h.body.epoch = Epoch(2),
        |d| *d == ReadBack::Behind(Epoch(2)),
    );
    check_read_back(
        false,
        |h| h.body.epoch = Epoch(6),
        |d| matches!(d, ReadBack::Damaged(_)),
    );
    check_read_back(
        false,
        |h| h.body.incarnation = "j".into(),
        |d| matches!(d, ReadBack::Damaged(_)),
    );
    let attempt = Attempt {
        nonce: "mine",
        term: Term(3),
        born: "i",
        epoch: Epoch(5),
        unchanged: false,
    };
    assert!(matches!(read_back(attempt, None), ReadBack::Damaged(_)));
}

#[test]
fn a_marker_says_what_to_do_about_an_intent() {
    use RollForward as R;
    let of = |prev: Option<u64>| Intent {
        sink: SinkIdentity("s".into()),
        epoch: Epoch(7),
        prev: prev.map(Epoch),
        body: serde_json::Value::Null,
        apart: None,
    };
    let laws: &[(Option<u64>, Option<u64>, RollForward)] = &[
        (None, None, R::Apply),
        (Some(4), Some(4), R::Apply),
        (Some(4), Some(7), R::Done),
        (Some(4), Some(8), R::Done),
        (Some(4), Some(9), R::ReadHead),
        (Some(4), None, R::SinkHistoryLost),
        (Some(4), Some(2), R::SinkHistoryLost),
        (Some(4), Some(5), R::Contradiction),
        (None, Some(2), R::Contradiction),
    ];
    for (prev, held, expected) in laws {
        let marker = Marker {
            held: held.map(Epoch),
            head: Epoch(8),
            fresh: false,
        };
        assert_eq!(
            roll_forward(&of(*prev), marker),
            *expected,
            "prev {prev:?} held {held:?}"
        );
    }
    let fresh = |head| Marker {
        held: Some(Epoch(9)),
        head: Epoch(head),
        fresh: true,
    };
    assert_eq!(
        after_reading_head(&of(Some(4)), Epoch(8), fresh(8)),
        R::CheckpointBehindSink
    );
    assert_eq!(
        after_reading_head(&of(Some(4)), Epoch(8), fresh(9)),
        R::Zombie
    );
}

#[test]
fn a_sink_that_waits_for_nothing_holds_what_the_head_says() {
    use RollForward as R;
    let laws: &[(Option<u64>, Option<u64>, RollForward)] = &[
        (Some(4), Some(4), R::Done),
        (None, None, R::Done),
        (Some(4), None, R::SinkHistoryLost),
        (Some(4), Some(2), R::SinkHistoryLost),
        (Some(4), Some(6), R::Contradiction),
        (None, Some(6), R::Contradiction),
        (Some(4), Some(9), R::ReadHead),
        (None, Some(9), R::ReadHead),
    ];
    for (prev, held, expected) in laws {
        let (sink, prev) = (SinkIdentity("s".into()), prev.map(Epoch));
        let intent = Intent {
            sink,
            epoch: prev.unwrap_or(Epoch(8)),
            prev,
            body: serde_json::Value::Null,
            apart: None,
        };
        let marker = Marker {
            held: held.map(Epoch),
            head: Epoch(8),
            fresh: false,
        };
        assert_eq!(
            standing(&intent, marker),
            *expected,
            "prev {prev:?} held {held:?}"
        );
    }
}

#[test]
fn state_of_another_meaning_refuses_the_start_unless_a_nonce_consents_and_a_step_without_state_does_not()
 {
    let step = |name: &str| NodeName::new(name).unwrap();
    let state = StepState::new("sums by region".into());
    let consents = std::cell::Cell::new(0);
    let check = |ours: &[(&str, &str)], expected: Startup| {
        let (owner, mut head, born, me) = (owner(), head(5), born(), me());
        head.body.state = [(step("revenue"), state.clone())].into();
        let ours = ours
            .iter()
            .map(|(name, text)| (step(name), (*text).to_owned()));
        let facts = Facts {
            owner: Some(Ok(&owner)),
            head: Some(Ok(&head)),
            born: Some(Ok(&born)),
            me: &me,
            seen: None,
            adopt_from: None,
            reset_nonce: consents.get(),
            fingerprints: &ours.collect(),
        };
        assert_eq!(startup(facts), expected);
    };
    let resumes = Startup::Resume { born: true };
    check(&[], resumes.clone());
    check(&[("other", "x")], resumes.clone());
    check(&[("revenue", "sums by region")], resumes);
    let refused = Refusal::StateIncompatible(step("revenue"));
    check(&[("revenue", "sums")], Startup::Refuse(refused));
    consents.set(1);
    check(&[("revenue", "sums")], Startup::Resume { born: true });
}

#[test]
fn a_plan_from_before_a_reset_leaves_the_lane_alone_also_where_the_state_would_fit() {
    let (owner, mut head, born, me) = (owner(), head(5), born(), me());
    head.body.reset_nonce = 2;
    let judged = |ours: u64| {
        startup(Facts {
            owner: Some(Ok(&owner)),
            head: Some(Ok(&head)),
            born: Some(Ok(&born)),
            me: &me,
            seen: None,
            adopt_from: None,
            reset_nonce: ours,
            fingerprints: &Fingerprints::new(),
        })
    };
    let behind = Refusal::NonceBehind {
        honoured: 2,
        ours: 1,
    };
    assert_eq!(judged(1), Startup::Refuse(behind));
    assert_eq!(judged(2), Startup::Resume { born: true });
}
