//! Laws of [`FilesSink`], read back through `evp query`.

use std::sync::Arc;

use arrow::array::{Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use evp_api::plan::NodeName;
use evp_core::dead_letter::{DeadLetter, RejectCode};
use evp_core::position::{Micros, Position, SplitId};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutPayload};
use url::Url;

use super::*;
use crate::cli::query::{Output, ParquetFolder, Written, ask, open_tables, print};
use crate::sink::dead_letters::dead_letter_batch;

fn target() -> Target {
    Target {
        store: Arc::new(InMemory::new()),
        prefix: Path::from("lake/dead"),
        url: Url::parse("memory:///lake/dead").unwrap(),
    }
}

fn sink(target: &Target, format: DeadLetterFormat) -> FilesSink {
    run(target, Content::DeadLetters(format), "n")
}

/// The sink of a run with that nonce.
fn run(target: &Target, content: Content, nonce: &str) -> FilesSink {
    FilesSink::new(FilesSettings {
        identity: SinkIdentity("0123456789abcdef".to_owned()),
        incarnation: "fedcba9876543210".to_owned(),
        lane: Lane::default(),
        target: target.clone(),
        content,
        nonce: nonce.to_owned(),
        crash: CrashPoints::none(),
    })
    .unwrap()
}

fn letter(position: i64) -> DeadLetter {
    DeadLetter {
        raw: (position > 0).then(|| b"{\xff".to_vec()),
        source: NodeName::new("orders").unwrap(),
        split: SplitId::partition(2),
        position: Position(position),
        step: NodeName::new("orders").unwrap(),
        code: RejectCode::Malformed,
        message: "no JSON".to_owned(),
        field: None,
        epoch: Epoch(7),
        time: Micros(1_767_225_600_000_001),
    }
}

async fn decide(sink: &mut FilesSink, epoch: u64, letters: &[DeadLetter]) -> Intent {
    sink.stage(SinkBatch::Rows(dead_letter_batch(letters)))
        .await
        .unwrap();
    Intent {
        sink: SinkIdentity("0123456789abcdef".to_owned()),
        epoch: Epoch(epoch),
        prev: (epoch > 1).then(|| Epoch(epoch - 1)),
        body: sink.seal(Epoch(epoch)).await.unwrap().unwrap(),
        apart: None,
    }
}

async fn objects(target: &Target) -> Vec<String> {
    let found: Vec<_> = target
        .store
        .list(Some(&target.prefix))
        .try_collect()
        .await
        .unwrap();
    let mut names: Vec<_> = found.into_iter().map(|o| o.location.to_string()).collect();
    names.sort();
    names
}

async fn read(target: &Target, format: DeadLetterFormat) -> String {
    let written = Written {
        tables: Vec::new(),
        dead_letters: Some((target.clone(), format)),
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let sql =
        "SELECT raw, split, position, code, field, epoch, time FROM dead_letters ORDER BY position";
    let (rows, _) = ask(&tables.session, sql).await.unwrap();
    let mut text = Vec::new();
    print(&mut text, &rows, Output::Json).unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_read_back_as_they_were() {
    let check = async |format, raw: &str| {
        let target = target();
        let mut sink = sink(&target, format);
        assert_eq!(read(&target, format).await, "[]\n");
        let intent = decide(&mut sink, 1, &[letter(0), letter(5)]).await;
        assert_eq!(read(&target, format).await, "[]\n");
        sink.roll_forward(&intent).await.unwrap();
        let row = |raw: &str, position| {
            format!(
                r#"{{{raw}"split":"2","position":{position},"code":"Malformed","epoch":7,"time":"2026-01-01T00:00:00.000001Z"}}"#
            )
        };
        let raw = format!(r#""raw":"{raw}","#);
        assert_eq!(
            read(&target, format).await,
            format!("[{},{}]\n", row("", 0), row(&raw, 5))
        );
    };
    check(DeadLetterFormat::Parquet, "7bff").await;
    check(DeadLetterFormat::JsonLines, "e/8=").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_again_changes_nothing_wherever_it_stopped() {
    let target = target();
    let mut sink = sink(&target, DeadLetterFormat::JsonLines);
    let intent = decide(&mut sink, 1, &[letter(1)]).await;
    let staged = "lake/dead/_staging/01234567/n-0.jsonl";
    let file = "lake/dead/01234567-fedcba98-0-1-0.jsonl";
    let marker = "lake/dead/_commits/01234567-fedcba98-0-1.json";
    assert_eq!(objects(&target).await, [staged]);
    assert_eq!(sink.probe(&intent).await.unwrap(), None);
    let done = [file, marker];
    for _ in 0..2 {
        sink.roll_forward(&intent).await.unwrap();
        assert_eq!(objects(&target).await, done);
    }
    // Stopped after the copies, the marker not yet written, the staged file gone.
    target.store.delete(&Path::from(marker)).await.unwrap();
    sink.roll_forward(&intent).await.unwrap();
    assert_eq!(objects(&target).await, done);
    assert_eq!(sink.probe(&intent).await.unwrap(), Some(Epoch(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_that_is_gone_or_cut_stops() {
    let target = target();
    let mut sink = sink(&target, DeadLetterFormat::Parquet);
    let intent = decide(&mut sink, 1, &[letter(1)]).await;
    let staged = Path::from("lake/dead/_staging/01234567/n-0.zstd.parquet");
    let copy = Path::from("lake/dead/01234567-fedcba98-0-1-0.parquet");
    let cut = PutPayload::from("x");
    target.store.put(&staged, cut).await.unwrap();
    for gone in [false, true] {
        if gone {
            target.store.delete(&staged).await.unwrap();
            target.store.delete(&copy).await.unwrap();
        }
        let error = sink.roll_forward(&intent).await.unwrap_err();
        assert!(
            error.to_string().starts_with(reason::STAGED_FILE_MISSING),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_before_is_found_by_its_marker() {
    let target = target();
    let mut sink = sink(&target, DeadLetterFormat::Parquet);
    let first = decide(&mut sink, 1, &[letter(1)]).await;
    sink.roll_forward(&first).await.unwrap();
    let second = decide(&mut sink, 2, &[letter(2)]).await;
    assert_eq!(sink.probe(&second).await.unwrap(), Some(Epoch(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_emptied_is_not_written_on() {
    let target = target();
    let mut sink = sink(&target, DeadLetterFormat::Parquet);
    let first = decide(&mut sink, 1, &[letter(1)]).await;
    sink.roll_forward(&first).await.unwrap();
    let marker = sink.marker(Epoch(1)).unwrap();
    target.store.delete(&marker).await.unwrap();
    let second = decide(&mut sink, 2, &[letter(2)]).await;
    let said = sink.roll_forward(&second).await.unwrap_err().to_string();
    assert!(said.starts_with(reason::SINK_HISTORY_LOST), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_of_an_epoch_that_the_checkpoint_has_forgotten_stops() {
    let target = target();
    let format = DeadLetterFormat::JsonLines;
    let mut before = sink(&target, format);
    let forgotten = decide(&mut before, 1, &[letter(1)]).await;
    before.roll_forward(&forgotten).await.unwrap();
    let mut after = run(&target, Content::DeadLetters(format), "m");
    let again = decide(&mut after, 1, &[letter(2)]).await;
    for error in [
        after.probe(&again).await.unwrap_err(),
        after.roll_forward(&again).await.unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.starts_with(reason::CHECKPOINT_BEHIND_SINK), "{said}");
    }
}

/// Rows by region and day, as a sink of orders writes them.
fn orders(first: i64, count: i64) -> RecordBatch {
    let ids: Vec<i64> = (first..first + count).collect();
    let region = |id: &i64| [Some("eu/west"), None, Some("100%")][usize::try_from(id % 3).unwrap()];
    let regions: StringArray = ids.iter().map(region).collect();
    let days: Date32Array = ids
        .iter()
        .map(|id| Some(20_454 + i32::try_from(id / 10).unwrap()))
        .collect();
    RecordBatch::try_new(
        orders_schema(),
        vec![
            Arc::new(Int64Array::from(ids)),
            Arc::new(regions),
            Arc::new(days),
        ],
    )
    .unwrap()
}

fn orders_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
    ]))
}

async fn ids(target: &Target, partition_by: &[String]) -> String {
    let folder = ParquetFolder {
        target: target.clone(),
        schema: orders_schema(),
        partition_by: partition_by.to_vec(),
    };
    let written = Written {
        folders: vec![("orders".to_owned(), folder)],
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let sql = "SELECT id, region, day FROM orders ORDER BY id";
    let (rows, _) = ask(&tables.session, sql).await.unwrap();
    let mut text = Vec::new();
    print(&mut text, &rows, Output::Json).unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_the_folder_of_their_partition_once_however_often_their_epoch_is_applied() {
    for partition_by in [
        vec![],
        vec!["day".to_owned()],
        vec!["day".to_owned(), "region".to_owned()],
    ] {
        let target = target();
        let content = Content::Rows {
            schema: orders_schema(),
            partition_by: partition_by.clone(),
        };
        let mut sink = run(&target, content, "n");
        let mut expected = Vec::new();
        for epoch in 1..4_u64 {
            let first = i64::try_from(epoch).unwrap() * 100;
            for half in [first, first + 17] {
                sink.stage(SinkBatch::Rows(orders(half, 17))).await.unwrap();
            }
            let intent = Intent {
                sink: SinkIdentity("0123456789abcdef".to_owned()),
                epoch: Epoch(epoch),
                prev: (epoch > 1).then(|| Epoch(epoch - 1)),
                body: sink.seal(Epoch(epoch)).await.unwrap().unwrap(),
                apart: None,
            };
            let shown = |rows: &[i64]| {
                let row = |id: &i64| {
                    let region = [r#","region":"eu/west""#, "", r#","region":"100%""#]
                        [usize::try_from(id % 3).unwrap()];
                    let day = jiff::civil::date(2026, 1, 1) + jiff::Span::new().days(id / 10);
                    format!(r#"{{"id":{id}{region},"day":"{day}"}}"#)
                };
                let rows: Vec<_> = rows.iter().map(row).collect();
                format!("[{}]\n", rows.join(","))
            };
            assert_eq!(ids(&target, &partition_by).await, shown(&expected));
            expected.extend(first..first + 34);
            for _ in 0..2 {
                sink.roll_forward(&intent).await.unwrap();
                assert_eq!(ids(&target, &partition_by).await, shown(&expected));
            }
        }
        let left = objects(&target).await;
        assert!(
            !left.iter().any(|name| name.contains("_staging")),
            "{left:?}"
        );
    }
}
