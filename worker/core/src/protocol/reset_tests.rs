//! Laws of a reset.

use serde_json::json;

use super::*;
use crate::position::{Epoch, Position, SplitId, SplitPosition};
use crate::protocol::digest::Digest;
use crate::protocol::head::StepState;
use crate::watermark::Snapshot;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn chain(nodes: &[&str]) -> Vec<NodeName> {
    nodes.iter().map(|node| name(node)).collect()
}

/// Two aggregates over one source, whose newest event is of instant 700.
fn body() -> Body {
    let position = SplitPosition {
        next: Position(9),
        ..SplitPosition::default()
    };
    let snapshot = Snapshot {
        watermark: Some(Micros(100)),
        splits: [(SplitId::partition(0), Some(Micros(100)))].into(),
        newest: Some(Micros(700)),
        since: None,
    };
    let state = |fingerprint: &str| StepState::new(fingerprint.to_owned());
    Body {
        incarnation: "first".into(),
        epoch: Epoch(4),
        parent: Some(Digest("p".into())),
        epoch_time: Micros(1),
        decided_time: Micros(2),
        positions: [(name("orders"), [(SplitId::partition(0), position)].into())].into(),
        watermarks: [(name("orders"), snapshot)].into(),
        state: [(name("sums"), state("a")), (name("counts"), state("b"))].into(),
        ..Body::blank()
    }
}

fn chains_of(sums: &[&str]) -> Chains {
    [
        (name("sums"), chain(sums)),
        (name("counts"), chain(&["orders", "counts"])),
    ]
    .into()
}

/// The reset of a body under these meanings; chains as before, but for that of `sums`.
fn reset(last: &Body, nonce: u64, ours: [(&str, &str); 2], sums: &[&str]) -> Body {
    let fingerprints = ours.map(|(step, f)| (name(step), f.to_owned())).into();
    let begin = Begin {
        nonce,
        incarnation: format!("reset {nonce}"),
        fingerprints: &fingerprints,
        before: &chains_of(&["orders", "sums"]),
        after: &chains_of(sums),
    };
    last.begin_anew(begin, Micros(50))
}

/// Steps that begin anew, and from when.
fn anew(body: &Body) -> Vec<(&str, i64)> {
    let from = body.reset.iter().flat_map(|reset| &reset.from);
    from.map(|(step, from)| (step.as_str(), from.0)).collect()
}

#[test]
fn a_reset_keeps_positions_and_watermarks_and_drops_the_state_that_does_not_fit() {
    let last = body();
    let next = reset(
        &last,
        1,
        [("sums", "other"), ("counts", "b")],
        &["orders", "sums"],
    );
    let mut expected = last.successor(Micros(50));
    expected.state.remove(&name("sums"));
    expected.incarnation = "reset 1".into();
    expected.reset_nonce = 1;
    expected.reset = Some(Reset {
        born: "first".into(),
        from: [(name("sums"), Micros(701))].into(),
    });
    assert_eq!(next, expected);
}

#[test]
fn what_is_fed_another_way_begins_anew_though_its_rows_mean_the_same() {
    let same = [("sums", "a"), ("counts", "b")];
    assert_eq!(anew(&reset(&body(), 1, same, &["orders", "sums"])), []);
    let fed = reset(&body(), 1, same, &["orders", "placed", "sums"]);
    assert_eq!(anew(&fed), [("sums", 701)]);
}

#[test]
fn resets_follow_each_other_and_what_began_anew_stays_known() {
    let first = reset(
        &body(),
        1,
        [("sums", "x"), ("counts", "b")],
        &["orders", "sums"],
    );
    let mut later = first.successor(Micros(60));
    later.watermarks.get_mut(&name("orders")).unwrap().newest = Some(Micros(900));
    let second = reset(
        &later,
        2,
        [("sums", "x"), ("counts", "y")],
        &["orders", "sums"],
    );
    assert_eq!(anew(&second), [("counts", 901), ("sums", 701)]);
    assert_eq!(
        (second.born(), second.incarnation.as_str()),
        ("first", "reset 2")
    );
    let removed = reset(
        &second,
        3,
        [("counts", "y"), ("counts", "y")],
        &["orders", "sums"],
    );
    assert_eq!(anew(&removed), [("counts", 901)]);
}

#[test]
fn a_chain_leads_from_the_source_to_the_step() {
    let spec = json!({
        "checkpoint": {"path": "s3://lake/c"},
        "sources": [{"name": "orders", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [{"name": "id", "type": "string"}]}}],
        "steps": [
            {"name": "second", "from": "first", "query": {"where": "id = 'b'"}},
            {"name": "first", "from": "orders", "query": {"where": "id = 'a'"}}],
        "sinks": [{"name": "out", "from": "second", "stdout": {}}]});
    let found = chains(&spec);
    assert_eq!(
        found[&name("second")],
        chain(&["orders", "first", "second"])
    );
    assert_eq!(chains(&json!({"sinks": ["gold"]})), Chains::new());
}

#[test]
fn what_a_source_has_read_stays_with_its_positions_while_the_source_is_out_of_the_plan() {
    let mut last = body();
    let raw = name("raw");
    last.positions.insert(raw.clone(), [].into());
    let table = StepState::new("files/1 s3://shop/raw".to_owned());
    last.state.insert(raw.clone(), table.clone());
    let same = [("sums", "a"), ("counts", "b")];
    let next = reset(&last, 1, same, &["orders", "sums"]);
    assert_eq!(next.state.get(&raw), Some(&table));
}
