//! A record that kills the process that computes it, each time (semantics 38): it is found, named, and given up by a person alone.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evp_api::reason;
use evp_tests::oracle::{Expected, Table, parquet_rows};
use serde_json::{Value, json};

use super::end_to_end::PLANTED;
use super::pipeline::{Feed, Pipeline};

const RECORDS: i64 = 400;

/// Lives within which the record is found: two are harmless, six halve 100 to one, three die of it alone; and each epoch that is
/// decided in between may cost one more.
const LIVES: u32 = 20;

/// Partition, offset and bytes of a good record in the middle of a partition.
fn a_good_record(ledger: &Path) -> Value {
    let text = std::fs::read_to_string(ledger).unwrap();
    let mut lines = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    lines
        .find(|l| l["kind"] == "good" && l["partition"] == 1 && l["offset"].as_i64() > Some(70))
        .unwrap()
}

/// The ledger as if the record had not been sent, and the dead letter that it is instead.
fn give_up(ledger: &Path, record: &Value) -> Value {
    let text = std::fs::read_to_string(ledger).unwrap();
    let others = text.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line != *record
    });
    let others: Vec<_> = others.map(str::to_owned).collect();
    assert_eq!(others.len() + 1, text.lines().count());
    std::fs::write(ledger, others.join("\n") + "\n").unwrap();
    json!({
        "source": "orders", "split": record["partition"].to_string(), "position": record["offset"],
        "raw": STANDARD.encode(record["value"].as_str().unwrap()),
    })
}

/// Bronze and gold hold what is expected, the dead letters this one more.
fn assert_holds(pipeline: &Pipeline, expected: &Expected, letters: &[Value], more: Value) {
    expected.assert_equals(Table::Bronze, &pipeline.table("bronze"));
    expected.assert_equals(Table::Gold, &pipeline.table("gold"));
    let scratch = tempfile::tempdir().unwrap();
    let dump = scratch.path().join("dead.jsonl");
    let lines = letters.iter().map(|row| format!("{row}\n"));
    std::fs::write(&dump, lines.collect::<String>()).unwrap();
    expected.assert_equals_dump(Table::DeadLetters, &[more], &dump);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_record_that_kills_is_named_after_a_few_lives_and_skipped_by_a_person_alone() {
    let mut feed = Feed::new(2).await;
    feed.send(&format!("--limit {RECORDS} --seed 4 {PLANTED}"))
        .await;
    let ledger = feed.ledgers[0].clone();
    let record = a_good_record(&ledger);
    let (split, position) = (
        record["partition"].to_string(),
        record["offset"].as_i64().unwrap(),
    );
    let deadly = format!("orders/{split}/{position}");
    let mut pipeline = Pipeline::new(&feed.topic.name);

    // A container that ends is started again in its pod.
    let mut lives = 0;
    let (halt, stopped) = loop {
        lives += 1;
        assert!(lives <= LIVES, "the record is not found");
        let mut worker = pipeline.start_armed("a", &deadly);
        if let Some(halt) = worker.crashed_or_halted(reason::RECORD_KILLS_WORKER).await {
            break (halt, worker);
        }
    };
    eprintln!("{deadly} is named in life {lives}");
    let skip = format!("`skip: [{{source: orders, split: \"{split}\", position: {position}}}]`");
    assert!(halt.stalled && halt.message.contains(&skip), "{halt:?}");
    stopped.terminate().await;
    // Stopped is stopped: nothing of the record is anywhere, and it is not computed again in this pod.
    let mut again = pipeline.start_armed("a", &deadly);
    again.halted(reason::RECORD_KILLS_WORKER).await;
    again.terminate().await;
    // A new pod may have more memory: it tries, and dies.
    pipeline.start_armed("b", &deadly).crashed().await;

    pipeline.manifest["spec"]["skip"] = json!([
        {"source": "orders", "split": split, "position": position},
        {"source": "orders", "split": split, "position": 0},
        {"source": "orders", "split": "7", "position": 0},
    ]);
    let mut worker = pipeline.start_armed("c", &deadly);
    let report = worker
        .until("all is committed", |p| p.ledger.read == RECORDS)
        .await;
    assert!(report.ledger.balanced, "{report:?}");
    let log = worker.log_text();
    for told in ["becomes a dead letter", "passed already", "no such split"] {
        assert!(log.contains(told), "{told} is not in the log:\n{log}");
    }
    worker.terminate().await;
    let letters = parquet_rows(&pipeline.table("dead"));
    let skipped: Vec<_> = letters.iter().filter(|l| l["code"] == "Skipped").collect();
    assert_eq!(skipped.len(), 1, "{letters:?}");
    assert_eq!(
        (&skipped[0]["split"], &skipped[0]["position"]),
        (&json!(split), &json!(position))
    );
    let more = give_up(&ledger, &record);
    assert_holds(&pipeline, &feed.expected(), &letters, more);
}
