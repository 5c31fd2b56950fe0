//! Laws of the whole graph: the orders pipeline over small inputs, against sums made by hand.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use evp_api::plan::NodeName;

use super::*;
use crate::check::check;
use crate::position::{Position, SplitPosition};
use crate::protocol::digest::Digest;
use crate::protocol::head::{StateFile, StepState};
use crate::record::{RawRecord, Reached, Span};
use crate::state::StateWrite;

const MINUTE: i64 = 60_000_000;

fn plan(gold_mode: &str) -> CheckedPlan {
    let mut gold =
        serde_json::json!({"name": "gold", "from": "revenue", "delta": {"path": "s3://lake/gold"}});
    gold["mode"] = gold_mode.into();
    let spec = serde_json::json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "deadLetter": {"files": {"path": "s3://lake/_d"}},
        "sources": [{"name": "orders", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "kind", "type": "string"},
                {"name": "total", "type": "double"}, {"name": "at", "type": "timestamp", "unit": "us"}]},
            "watermark": {"column": "at", "delay": "10m"}}],
        "steps": [
            {"name": "with-offsets", "from": "orders", "query": {"select": "* EXCLUDE (_meta), _meta.offset AS kafka_offset"}},
            {"name": "placed", "from": "orders", "query": {"where": "kind = 'PLACED'"}},
            {"name": "revenue", "from": "placed", "aggregate": {"window": {"tumbling": {"size": "5m"}}, "groupBy": ["kind"],
                "measures": "count(*) AS n, sum(total) AS total, count(DISTINCT id) AS ids"}}],
        "sinks": [{"name": "bronze", "from": "with-offsets", "delta": {"path": "s3://lake/bronze"}}, gold]});
    check(&serde_json::from_value(spec).unwrap()).unwrap()
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// Records of one split, from position 0 on.
fn raw(split: i32, values: &[String]) -> RawBatch {
    let mut batch = RawBatch {
        splits: vec![SplitId::partition(split)],
        ..RawBatch::default()
    };
    for (i, value) in values.iter().enumerate() {
        let start = u32::try_from(batch.bytes.len()).unwrap();
        batch.bytes.extend(value.as_bytes());
        let end = u32::try_from(batch.bytes.len()).unwrap();
        let position = Position(i64::try_from(i).unwrap());
        let value = Some(Span { start, end });
        batch.records.push(RawRecord {
            split: 0,
            position,
            timestamp: Micros(0),
            key: None,
            value,
        });
    }
    let next = Position(i64::try_from(values.len()).unwrap());
    let position = SplitPosition {
        next,
        ..SplitPosition::default()
    };
    batch.reached.push(Reached {
        split: SplitId::partition(split),
        position,
        end: Some(next),
    });
    batch
}

fn order(id: &str, kind: &str, total: f64, at: i64) -> String {
    format!(r#"{{"id":"{id}","kind":"{kind}","total":{total},"at":{at}}}"#)
}

fn running(gold_mode: &str) -> Dataflow {
    let mut dataflow = Dataflow::new(&plan(gold_mode)).unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    dataflow
}

/// Gold rows of a closing: (n, total, ids) in order of n.
fn gold(closed: &Closed) -> Vec<(i64, f64, i64)> {
    let mut rows = Vec::new();
    for (sink, batch) in &closed.sinks {
        assert_eq!(sink.as_str(), "gold");
        let batch = match batch {
            SinkBatch::Rows(batch) => batch,
            SinkBatch::Changes { rows, delete } => {
                assert!(!delete.contains(&true));
                rows
            }
        };
        let ints = |c: &str| {
            batch
                .column_by_name(c)
                .unwrap()
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        };
        let totals = batch
            .column_by_name("total")
            .unwrap()
            .as_primitive::<Float64Type>()
            .values()
            .to_vec();
        rows.extend(
            ints("n")
                .into_iter()
                .zip(totals)
                .zip(ints("ids"))
                .map(|((n, total), ids)| (n, total, ids)),
        );
    }
    rows.sort_by_key(|row| row.0);
    rows
}

#[test]
fn a_record_reaches_bronze_with_its_offset_and_gold_by_its_window() {
    let mut dataflow = running("Update");
    let batch = raw(
        0,
        &[
            order("a", "PLACED", 5.0, MINUTE),
            order("b", "CANCELLED", 7.0, MINUTE),
            "{".into(),
        ],
    );
    let pushed = dataflow.push(&name("orders"), &batch).unwrap();
    let [(sink, SinkBatch::Rows(bronze))] = pushed.sinks.as_slice() else {
        panic!("bronze alone: {:?}", pushed.sinks)
    };
    assert_eq!((sink.as_str(), bronze.num_rows()), ("bronze", 2));
    assert_eq!(
        bronze
            .column_by_name("kafka_offset")
            .unwrap()
            .as_primitive::<Int64Type>()
            .values(),
        &[0, 1]
    );
    assert_eq!(
        pushed
            .rejected
            .iter()
            .map(|(step, r)| (step.as_str(), r.record))
            .collect::<Vec<_>>(),
        [("orders", 2)]
    );
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(gold(&closed), [(1, 5.0, 1)]);
    assert_eq!(
        closed.watermarks[&name("orders")].watermark,
        Some(Micros(-9 * MINUTE))
    );
}

#[test]
fn rule_28_the_ledger_balances_and_names_every_fate() {
    let mut dataflow = running("Update");
    let batch = raw(
        0,
        &[
            order("a", "PLACED", 5.0, MINUTE),
            order("b", "CANCELLED", 7.0, MINUTE),
            "{".into(),
        ],
    );
    dataflow.push(&name("orders"), &batch).unwrap();
    let ledger = dataflow.close(&Idle::new()).unwrap().ledger;
    let source = ledger.sources[&name("orders")];
    assert_eq!(
        (source.read, source.decoded, source.dead_lettered),
        (3, 2, 1)
    );
    let placed = ledger.steps[&name("placed")];
    assert_eq!((placed.input, placed.output, placed.filtered), (2, 1, 1));
    assert_eq!(
        ledger.sinks,
        BTreeMap::from([(name("bronze"), 2), (name("gold"), 1)])
    );
}

#[test]
fn rule_18_update_takes_each_changed_window_once_an_epoch_with_its_whole_value() {
    let mut dataflow = running("Update");
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("a", "PLACED", 5.0, MINUTE)]),
        )
        .unwrap();
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("a", "PLACED", 6.0, MINUTE)]),
        )
        .unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(gold(&closed), [(2, 11.0, 1)]);
    dataflow.commit(closed, Epoch(1)).unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("b", "PLACED", 1.0, 2 * MINUTE)]),
        )
        .unwrap();
    assert_eq!(gold(&dataflow.close(&Idle::new()).unwrap()), [(3, 12.0, 2)]);
}

#[test]
fn rule_18_append_takes_a_window_once_when_it_closes() {
    let mut dataflow = running("Append");
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("a", "PLACED", 5.0, MINUTE)]),
        )
        .unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(gold(&closed), []);
    dataflow.commit(closed, Epoch(1)).unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("b", "PLACED", 1.0, 15 * MINUTE)]),
        )
        .unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(gold(&closed), [(1, 5.0, 1)]);
    dataflow.commit(closed, Epoch(1)).unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    assert_eq!(gold(&dataflow.close(&Idle::new()).unwrap()), []);
}

#[test]
fn rule_6_lateness_is_judged_by_the_watermark_of_the_epoch_before() {
    let mut dataflow = running("Update");
    let batch = raw(
        0,
        &[
            order("a", "PLACED", 5.0, 60 * MINUTE),
            order("b", "PLACED", 5.0, MINUTE),
        ],
    );
    dataflow.push(&name("orders"), &batch).unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(closed.ledger.steps[&name("revenue")].late, 0);
    dataflow.commit(closed, Epoch(1)).unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("c", "PLACED", 5.0, MINUTE)]),
        )
        .unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(closed.ledger.steps[&name("revenue")].late, 1);
    assert_eq!(gold(&closed), []);
}

#[test]
fn after_a_reset_a_window_that_had_begun_is_late_and_the_next_one_is_whole() {
    let mut dataflow = running("Append");
    dataflow.begin_at(&name("revenue"), Micros(7 * MINUTE));
    let rows = [9, 10, 14, 40].map(|m| order("a", "PLACED", 1.0, m * MINUTE));
    dataflow.push(&name("orders"), &raw(0, &rows)).unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    assert_eq!(gold(&closed), [(2, 2.0, 1)]);
    let counts = &closed.ledger.steps[&name("revenue")];
    assert_eq!((counts.late, counts.output), (1, 3));
    assert_eq!(
        closed.watermarks[&name("orders")].newest,
        Some(Micros(40 * MINUTE))
    );
}

#[test]
fn rule_12_an_event_from_the_future_is_dead_lettered_and_moves_nothing() {
    let mut dataflow = running("Update");
    let pushed = dataflow
        .push(
            &name("orders"),
            &raw(0, &[order("a", "PLACED", 5.0, 1_061 * MINUTE)]),
        )
        .unwrap();
    assert_eq!(pushed.rejected.len(), 1);
    assert_eq!(
        pushed.rejected[0].1.code,
        crate::dead_letter::RejectCode::FutureEventTime
    );
    assert_eq!(
        dataflow.close(&Idle::new()).unwrap().watermarks[&name("orders")].watermark,
        None
    );
}

#[test]
fn an_abandoned_epoch_is_computed_again_with_the_same_result() {
    let mut dataflow = running("Update");
    let batch = raw(
        0,
        &[
            order("a", "PLACED", 5.0, MINUTE),
            order("b", "PLACED", 7.0, MINUTE),
        ],
    );
    dataflow.push(&name("orders"), &batch).unwrap();
    let first = gold(&dataflow.close(&Idle::new()).unwrap());
    dataflow.abandon().unwrap();
    dataflow.open(Micros(1_000 * MINUTE)).unwrap();
    dataflow.push(&name("orders"), &batch).unwrap();
    assert_eq!(gold(&dataflow.close(&Idle::new()).unwrap()), first);
}

/// Writes what an epoch changes, as a worker does: files by name.
fn write(
    dataflow: &Dataflow,
    closed: &Closed,
    epoch: Epoch,
    stored: (&mut StepState, &mut BTreeMap<String, Vec<u8>>),
) {
    write_of(&name("revenue"), (dataflow, closed), epoch, stored);
}

fn write_of(
    step: &NodeName,
    (dataflow, closed): (&Dataflow, &Closed),
    epoch: Epoch,
    (state, files): (&mut StepState, &mut BTreeMap<String, Vec<u8>>),
) {
    let Some(change) = closed.state.get(step) else {
        return;
    };
    let mut written = Vec::new();
    for write in dataflow.state_writes(closed, step, state) {
        let StateWrite { at, bytes } = write.unwrap();
        let file = StateFile {
            name: format!("{epoch}-{}", files.len()),
            length: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        };
        files.insert(file.name.clone(), bytes);
        written.push((at, file));
    }
    change.record(state, epoch, written);
}

fn restored(state: &StepState, files: &BTreeMap<String, Vec<u8>>) -> Dataflow {
    let mut dataflow = running("Update");
    restore_of(&name("revenue"), &mut dataflow, (state, files));
    dataflow
}

fn restore_of(
    step: &NodeName,
    dataflow: &mut Dataflow,
    (state, files): (&StepState, &BTreeMap<String, Vec<u8>>),
) {
    let reader = dataflow.state_reader(step).unwrap();
    for run in state.runs() {
        for file in &run.files {
            let loaded = reader.read(&files[&file.name]).unwrap();
            dataflow.restore_state(step, loaded, run.epoch).unwrap();
        }
    }
}

#[test]
fn state_restored_from_its_files_goes_on_as_if_nothing_had_happened() {
    let mut first = running("Update");
    let (mut state, mut files) = (StepState::new("f".into()), BTreeMap::new());
    let rows = [("a", MINUTE), ("b", 2 * MINUTE), ("a", 6 * MINUTE)];
    for ((id, at), epoch) in rows.into_iter().zip(1..) {
        first.open(Micros(1_000 * MINUTE)).unwrap();
        first
            .push(&name("orders"), &raw(0, &[order(id, "PLACED", 5.0, at)]))
            .unwrap();
        let closed = first.close(&Idle::new()).unwrap();
        write(&first, &closed, Epoch(epoch), (&mut state, &mut files));
        first.commit(closed, Epoch(epoch)).unwrap();
        let mut second = restored(&state, &files);
        assert_eq!(second.state_facts(), first.state_facts());
        second.open(Micros(1_000 * MINUTE)).unwrap();
        second
            .push(
                &name("orders"),
                &raw(0, &[order("a", "PLACED", 1.0, MINUTE)]),
            )
            .unwrap();
        let rows = epoch.min(2);
        let (n, ids) = (
            i64::try_from(rows).unwrap() + 1,
            i64::try_from(rows).unwrap(),
        );
        let total = 5.0 * f64::from(u32::try_from(rows).unwrap()) + 1.0;
        assert_eq!(
            gold(&second.close(&Idle::new()).unwrap()),
            [(n, total, ids)]
        );
    }
}

/// A dataflow that took one order in, and the state file that this wrote.
fn with_one_file() -> (Dataflow, Vec<u8>) {
    let mut first = running("Update");
    let (mut state, mut files) = (StepState::new("f".into()), BTreeMap::new());
    first.open(Micros(1_000 * MINUTE)).unwrap();
    first
        .push(&name("orders"), &raw(0, &[order("a", "PLACED", 5.0, 0)]))
        .unwrap();
    let closed = first.close(&Idle::new()).unwrap();
    write(&first, &closed, Epoch(1), (&mut state, &mut files));
    let file = files.into_values().next().unwrap();
    (first, file)
}

#[test]
fn state_beyond_its_bound_is_not_taken_in() {
    let (_, file) = with_one_file();
    let mut second = running("Update");
    second.limit_state(10);
    let reader = second.state_reader(&name("revenue")).unwrap();
    let loaded = reader.read(&file).unwrap();
    let taken = second.restore_state(&name("revenue"), loaded, Epoch(1));
    assert!(matches!(taken, Err(DataflowError::StateTooLarge { .. })));
}

#[test]
fn state_of_another_meaning_is_refused() {
    let (first, file) = with_one_file();
    let reader = first.state_reader(&name("revenue")).unwrap();
    assert!(reader.read(&file).is_ok());
    let text = String::from_utf8_lossy(&file).replace("\"fingerprint\":\"", "\"fingerprint\":\"0");
    assert!(reader.read(text.as_bytes()).is_err());
    assert!(reader.read(b"garbage").is_err());
}

mod failures;
mod histories;
mod rules;
mod unique;
