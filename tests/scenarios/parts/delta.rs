//! The Delta sinks and the dead letters against a real S3 server: its conditional puts, multipart uploads, copies and errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use evp_api::plan::{DeadLetterFormat, NodeName};
use evp_core::dataflow::SinkBatch;
use evp_core::dead_letter::{DeadLetter, RejectCode};
use evp_core::position::{Epoch, Micros, Position, SplitId};
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use evp_worker::checkpointer::CrashPoints;
use evp_worker::cli::query::{Written, ask, open_tables};
use evp_worker::clock::SystemClock;
use evp_worker::sink::dead_letters::dead_letter_batch;
use evp_worker::sink::delta::{DeltaAppend, DeltaSettings, DeltaUpsert, Target};
use evp_worker::sink::files::{Content, FilesSettings, FilesSink};
use evp_worker::sink::outbox::Outbox;
use evp_worker::sink::{Sink, SinkError};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::Url;

/// Value of a variable that the bed sets.
fn bed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run this by ./tests/run parts"))
}

/// A folder that no other test or run uses. `writer`: clients have connections and retries of their own.
fn target(test: &str) -> Target {
    let bucket = bed("EVP_BED_S3_BUCKET");
    let store = AmazonS3Builder::new()
        .with_endpoint(bed("EVP_BED_S3_ENDPOINT"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(bed("EVP_BED_S3_ACCESS_KEY"))
        .with_secret_access_key(bed("EVP_BED_S3_SECRET_KEY"))
        .with_bucket_name(&bucket)
        .with_retry(RetryConfig {
            max_retries: 2,
            retry_timeout: std::time::Duration::from_secs(20),
            backoff: BackoffConfig::default(),
        })
        .build()
        .unwrap();
    let run = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let prefix = Path::from(format!("parts/delta/{test}-{run}"));
    Target {
        url: Url::parse(&format!("s3://{bucket}/{prefix}")).unwrap(),
        store: Arc::new(store),
        prefix,
    }
}

fn settings(target: &Target, app: &str, nonce: &str) -> DeltaSettings {
    DeltaSettings {
        identity: SinkIdentity(app.repeat(16)),
        target: target.clone(),
        rows: schema(),
        partition_by: Vec::new(),
        nonce: nonce.to_owned(),
        clock: SystemClock::shared(),
        crash: CrashPoints::none(),
    }
}

async fn upsert(target: &Target, app: &str, nonce: &str) -> DeltaUpsert {
    let outbox = Outbox {
        checkpoint: Target {
            prefix: Path::from(format!("{}-checkpoint", target.prefix)),
            ..target.clone()
        },
        lane: Lane::default(),
    };
    DeltaUpsert::open(settings(target, app, nonce), vec!["id".to_owned()], outbox)
        .await
        .unwrap()
}

fn schema() -> SchemaRef {
    let id = Field::new("id", DataType::Int64, false);
    Arc::new(Schema::new(vec![
        id,
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn rows(rows: impl Iterator<Item = (i64, String)>) -> SinkBatch {
    let (ids, names): (Vec<_>, Vec<_>) = rows.unzip();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(StringArray::from(names)),
    ];
    SinkBatch::Rows(RecordBatch::try_new(schema(), columns).unwrap())
}

fn intent(app: &str, epoch: u64, body: serde_json::Value) -> Intent {
    Intent {
        sink: SinkIdentity(app.repeat(16)),
        epoch: Epoch(epoch),
        prev: (epoch > 1).then(|| Epoch(epoch - 1)),
        body,
        apart: None,
    }
}

async fn content(target: &Target) -> BTreeMap<i64, Vec<String>> {
    let written = Written {
        tables: vec![("t".to_owned(), target.clone())],
        dead_letters: None,
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let (batches, cut) = ask(
        &tables.session,
        "SELECT id, CAST(name AS VARCHAR) AS name FROM t",
    )
    .await
    .unwrap();
    assert!(!cut);
    let mut content: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for batch in &batches {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let names = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
        for i in 0..batch.num_rows() {
            content
                .entry(ids.value(i))
                .or_default()
                .push(names.as_string::<i32>().value(i).to_owned());
        }
    }
    content
}

/// Applies until it is done, as the worker does.
macro_rules! apply {
    ($sink:expr, $intent:expr) => {
        loop {
            match $sink.roll_forward(&$intent).await {
                Ok(applied) => break applied,
                Err(SinkError::Unavailable { .. }) => {}
                Err(stop) => panic!("{stop}"),
            }
        }
    };
}

async fn append_epochs(target: Target, app: &'static str, base: i64, epochs: u64) {
    let mut sink = DeltaAppend::open(settings(&target, app, app))
        .await
        .unwrap();
    for epoch in 1..=epochs {
        let start = base + i64::try_from(epoch).unwrap() * 100;
        sink.stage(rows((start..start + 100).map(|i| (i, app.to_owned()))))
            .await
            .unwrap();
        let body = sink.seal(Epoch(epoch)).await.unwrap().unwrap();
        let intent = intent(app, epoch, body);
        apply!(sink, intent);
        if epoch % 3 == 0 {
            // As if the answer had been lost and the worker started anew.
            sink = DeltaAppend::open(settings(&target, app, &format!("{app}{epoch}")))
                .await
                .unwrap();
            apply!(sink, intent);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn three_writers_of_one_table_lose_and_double_nothing() {
    let target = target("append");
    tokio::join!(
        append_epochs(target.clone(), "a", 0, 10),
        append_epochs(target.clone(), "b", 10_000, 10),
        append_epochs(target.clone(), "c", 20_000, 10),
    );
    let content = content(&target).await;
    assert_eq!(content.len(), 3000);
    assert!(content.values().all(|names| names.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn upserts_beside_another_writer_keep_one_row_a_key() {
    let target = target("upsert");
    let upserts = async {
        let mut sink = upsert(&target, "u", "u").await;
        for epoch in 1..=8u64 {
            let name = format!("epoch {epoch}");
            sink.stage(rows(
                (0..50)
                    .chain([100 + i64::try_from(epoch).unwrap()])
                    .map(|i| (i, name.clone())),
            ))
            .await
            .unwrap();
            let body = sink.seal(Epoch(epoch)).await.unwrap().unwrap();
            let intent = intent("u", epoch, body);
            apply!(sink, intent);
        }
    };
    tokio::join!(upserts, append_epochs(target.clone(), "x", 10_000, 8));
    let content = content(&target).await;
    assert_eq!(content.len(), 50 + 8 + 800);
    assert!(content.values().all(|names| names.len() == 1));
    assert!((0..50).all(|id| content[&id] == ["epoch 8"]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_file_larger_than_one_part_arrives_whole() {
    let target = target("large");
    let mut sink = DeltaAppend::open(settings(&target, "l", "l"))
        .await
        .unwrap();
    let mut number = 1u64;
    for _ in 0..60 {
        let part: Vec<_> = (0..8192)
            .map(|_| {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (
                    i64::try_from(number >> 1).unwrap(),
                    format!("{number:032x}"),
                )
            })
            .collect();
        sink.stage(rows(part.into_iter())).await.unwrap();
    }
    let body = sink.seal(Epoch(1)).await.unwrap().unwrap();
    let size = body["add"][0]["size"].as_u64().unwrap();
    assert!(size > 6 << 20, "{size}");
    let intent = intent("l", 1, body);
    apply!(sink, intent);
    let written = Written {
        tables: vec![("t".to_owned(), target)],
        dead_letters: None,
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let (answer, _) = ask(
        &tables.session,
        "SELECT count(*), count(DISTINCT name) FROM t",
    )
    .await
    .unwrap();
    let answer = answer.iter().find(|b| b.num_rows() == 1).unwrap();
    let numbers: Vec<_> = answer
        .columns()
        .iter()
        .map(|c| c.as_primitive::<Int64Type>().value(0))
        .collect();
    assert_eq!(numbers, [60 * 8192, 60 * 8192]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn dead_letters_are_copied_once() {
    let target = target("dead");
    let letter = DeadLetter {
        raw: Some(b"{".to_vec()),
        source: NodeName::new("orders").unwrap(),
        split: SplitId::partition(0),
        position: Position(1),
        step: NodeName::new("orders").unwrap(),
        code: RejectCode::Malformed,
        message: "no JSON".to_owned(),
        field: None,
        epoch: Epoch(1),
        time: Micros(0),
    };
    let mut sink = FilesSink::new(FilesSettings {
        identity: SinkIdentity("d".repeat(16)),
        incarnation: "i".repeat(32),
        lane: Lane::default(),
        target: target.clone(),
        content: Content::DeadLetters(DeadLetterFormat::Parquet),
        nonce: "n".to_owned(),
        crash: CrashPoints::none(),
    })
    .unwrap();
    sink.stage(SinkBatch::Rows(dead_letter_batch(&[letter])))
        .await
        .unwrap();
    let body = sink.seal(Epoch(1)).await.unwrap().unwrap();
    let intent = intent("d", 1, body);
    assert_eq!(sink.probe(&intent).await.unwrap(), None);
    apply!(sink, intent);
    apply!(sink, intent);
    assert_eq!(sink.probe(&intent).await.unwrap(), Some(Epoch(1)));
    let written = Written {
        tables: Vec::new(),
        dead_letters: Some((target, DeadLetterFormat::Parquet)),
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let (rows, _) = ask(&tables.session, "SELECT * FROM dead_letters")
        .await
        .unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_denied_bucket_is_named_and_nothing_stops() {
    let mut target = target("denied");
    let store: Arc<dyn ObjectStore> = Arc::new(
        AmazonS3Builder::new()
            .with_endpoint(bed("EVP_BED_S3_ENDPOINT"))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(bed("EVP_BED_S3_ACCESS_KEY"))
            .with_secret_access_key("wrong")
            .with_bucket_name(bed("EVP_BED_S3_BUCKET"))
            .build()
            .unwrap(),
    );
    target.store = store;
    let Err(error) = DeltaAppend::open(settings(&target, "z", "z")).await else {
        panic!("it was let in");
    };
    let SinkError::Unavailable { reason, message } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, evp_api::reason::SINK_DENIED, "{message}");
    assert!(message.contains("s3://"), "{message}");
}
