use serde_json::json;

use super::*;
use crate::position::Micros;

fn body() -> Body {
    let gold = evp_api::plan::NodeName::new("gold").unwrap();
    let mut body = Body {
        epoch: Epoch(3),
        parent: Some(Digest("p".into())),
        epoch_time: Micros(1),
        decided_time: Micros(2),
        ..Body::blank()
    };
    body.set_sinks(&[(gold.clone(), "t".to_owned())].into());
    assert!(body.add_intent(&gold, json!({"z": 1, "a": [1, "2.5"]})));
    body
}

fn head() -> Head {
    let body = body();
    let rolling = Rolling::default().with(&body);
    Head::seal("n".into(), Owner::first("p"), body, rolling).unwrap()
}

#[test]
fn a_head_is_read_as_it_was_written() {
    let bytes = head().to_bytes().unwrap();
    assert_eq!(Head::from_bytes(&bytes), Ok(head()));
}

#[test]
fn a_later_format_and_an_unknown_field_are_refused() {
    let mut value = serde_json::to_value(head()).unwrap();
    value["later"] = json!(1);
    let unknown = Head::from_bytes(&sealed(&value).unwrap());
    assert!(matches!(unknown, Err(Unreadable::Malformed(m)) if m.contains("later")));
    value["format"] = json!(2);
    assert_eq!(
        Head::from_bytes(&serde_json::to_vec(&value).unwrap()),
        Err(Unreadable::Newer(2))
    );
}

#[test]
fn a_changed_body_is_seen() {
    let mut head = head();
    head.body.epoch_time = Micros(9);
    let bytes = sealed(&head).unwrap();
    assert!(matches!(
        Head::from_bytes(&bytes),
        Err(Unreadable::Contradiction(_))
    ));
}

/// Stops at a bit of the object's bytes whose change is not seen, and at a length that it is not read to the end of.
fn check_damage<T: DeserializeOwned>(bytes: &[u8]) {
    assert!(parse::<T>(bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let read = parse::<T>(&flipped);
        assert!(read.is_err(), "{}", String::from_utf8_lossy(&flipped));
    }
    for length in 0..bytes.len() {
        assert!(parse::<T>(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn no_flipped_bit_and_no_cut_of_an_object_goes_unnoticed() {
    let owner = OwnerFile {
        format: FORMAT,
        write: "w".into(),
        checkpoint: "c0ffee".into(),
        namespace_uid: "n".into(),
        name: "orders".into(),
        uid: "u".into(),
    };
    let born = Born {
        format: FORMAT,
        checkpoint: "c0ffee".into(),
        incarnation: "i".into(),
    };
    check_damage::<OwnerFile>(&sealed(&owner).unwrap());
    check_damage::<Born>(&sealed(&born).unwrap());
    check_damage::<Head>(&head().to_bytes().unwrap());
}

#[test]
fn a_re_pointed_sink_starts_anew_and_others_go_on() {
    let first = body();
    let mut next = first.successor(Micros(5));
    let name = |n| evp_api::plan::NodeName::new(n).unwrap();
    next.set_sinks(
        &[
            (name("gold"), "t".to_owned()),
            (name("new"), "u".to_owned()),
        ]
        .into(),
    );
    assert_eq!(next.sinks[&name("gold")], first.sinks[&name("gold")]);
    assert_eq!(
        (
            next.sinks[&name("new")].added_at,
            next.sinks[&name("new")].prev
        ),
        (Epoch(4), None)
    );
    next.set_sinks(&[(name("gold"), "elsewhere".to_owned())].into());
    assert_ne!(
        next.sinks[&name("gold")].identity,
        first.sinks[&name("gold")].identity
    );
    assert_eq!(next.sinks[&name("gold")].prev, None);
}

#[test]
fn an_intent_names_the_last_epoch_before_it_with_one() {
    let mut next = body().successor(Micros(5)).successor(Micros(6));
    assert!(next.add_intent(&evp_api::plan::NodeName::new("gold").unwrap(), json!(null)));
    assert_eq!(
        (next.intents[0].epoch, next.intents[0].prev),
        (Epoch(5), Some(Epoch(3)))
    );
}

#[test]
fn an_undone_epoch_is_forgotten_when_its_last_sink_holds_it() {
    let mut rolling = head().rolling;
    let sink = rolling.undone[0].intents[0].sink.clone();
    rolling.note(&sink, Epoch(2));
    assert_eq!(rolling.undone.len(), 1);
    rolling.note(&sink, Epoch(3));
    assert_eq!(
        rolling,
        Rolling {
            undone: vec![],
            applied: [(sink, Epoch(3))].into(),
            retained: Epoch(0),
        }
    );
}

#[test]
fn a_lane_remembers_the_last_pods_that_lost_it_and_not_one_that_came_back() {
    let mut owner = Owner::first("p0");
    for n in 1..=20 {
        owner = owner.taken_by(&format!("p{n}"));
    }
    owner = owner.taken_by("p20");
    assert_eq!(
        owner.superseded,
        (4..20).map(|n| format!("p{n}")).collect::<Vec<_>>()
    );
    assert_eq!((owner.term, owner.takeovers), (Term(22), 21));
}
