//! The shop example with files of Parquet for its table: CSV files of a bucket become others, the worker killed at every step that
//! such a pipeline takes, and an evaluation of the CSV files says what they hold.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use evp_tests::oracle::{self, Expected, Table};
use evp_tests::{bed, evp, succeed};
use evp_worker::checkpointer::Step;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use tempfile::TempDir;

use super::cells::all_hold;
use super::crash::{LANE, Who, cells, takes_over};
use super::pipeline::{Pipeline, bucket, new_prefix};
use crate::examples::overlaid;

const RECORDS: i64 = 700;

/// CSV files in the bucket, and what becomes of them.
struct Dropped {
    prefix: String,
    expected: Arc<Expected>,
    _dir: TempDir,
}

impl Dropped {
    /// Files that end in the middle of epochs; some of their rows are bad, some repeat others.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (raw, ledger) = (dir.path().join("raw"), dir.path().join("sent.jsonl"));
        let mut produce = evp(dir.path());
        produce
            .args(["produce", "shop", "--rate", "5000", "--file-rows", "130"])
            .args(["--limit", &RECORDS.to_string(), "--seed", "4"])
            .args(["--malformed", "0.05", "--duplicates", "0.1"])
            .arg("--to")
            .arg(format!("dir:{}", raw.display()))
            .arg("--ledger")
            .arg(&ledger);
        succeed(&mut produce);
        let prefix = new_prefix();
        upload(&raw, &prefix).await;
        let expected = dir.path().join("expected");
        let expected = oracle::evaluate_shop(&raw, &[&ledger], &[], &expected);
        Self {
            prefix,
            expected: Arc::new(expected),
            _dir: dir,
        }
    }
}

async fn upload(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let to = object_store::path::Path::from(format!("{prefix}/{name}"));
        let bytes = std::fs::read(entry.path()).unwrap();
        bucket().put(&to, PutPayload::from(bytes)).await.unwrap();
    }
}

/// An epoch a second, or a hundred records.
fn pipeline(raw: &str) -> Pipeline {
    let prefix = new_prefix();
    let path = |name: &str| json!(format!("s3://{}/{name}", bed("EVP_BED_S3_BUCKET")));
    let own = |name: &str| path(&format!("{prefix}/{name}"));
    let mut manifest = overlaid("shop");
    manifest["metadata"] =
        json!({"name": "shop", "namespace": "shop", "uid": prefix, "namespaceUid": "shop-uid"});
    let spec = &mut manifest["spec"];
    spec["checkpoint"] =
        json!({"path": own("checkpoint"), "interval": "1s", "maxRecordsPerEpoch": 100});
    spec["deadLetter"]["files"]["path"] = own("error");
    spec["objectStore"]["s3"]["endpoint"] = json!(bed("EVP_BED_S3_ENDPOINT"));
    spec["objectStore"]["s3"]["allowHttp"] = json!(true);
    spec["sources"][0]["files"]["path"] = path(raw);
    let parquet = json!({"path": own("table")});
    spec["sinks"] = json!([{"name": "user-events", "from": "unique", "parquet": parquet}]);
    Pipeline::of(manifest, prefix, "shop")
}

/// Who takes a step; dead letters are files as well, and so are those of all other pipelines.
fn who(step: Step) -> &'static [Who] {
    match step {
        Step::OwnerCreate
        | Step::OwnSwap
        | Step::HeadCreate
        | Step::BornCreate
        | Step::SourceSeek
        | Step::PlanPut
        | Step::StatePut
        | Step::HistoryPut
        | Step::HeadSwap
        | Step::RecordSwap
        | Step::GcDelete => LANE,
        Step::StagePut
        | Step::Probe
        | Step::Begin
        | Step::Write
        | Step::CommitSend
        | Step::CommitAck => &[Some("user-events")],
        // Rows are in their files before the decision, and the head has room for their names.
        Step::OutboxPut | Step::IntentPut => &[],
    }
}

async fn crashed_and_started_again(step: Step, at: String, raw: String, expected: Arc<Expected>) {
    let begun = Instant::now();
    let mut pipeline = pipeline(&raw);
    if step == Step::GcDelete {
        // Garbage is what forty epochs leave.
        pipeline.set("/checkpoint/maxRecordsPerEpoch", 15);
    }
    if takes_over(step) {
        let mut worker = pipeline.start("a");
        worker.until("a second epoch", |p| p.epoch >= 2).await;
        worker.kill();
    }
    pipeline.start_armed("b", &at).crashed().await;
    pipeline.commit("b", RECORDS).await;
    let (table, error) = (pipeline.table("table"), pipeline.table("error"));
    let compared = tokio::task::spawn_blocking(move || {
        expected.assert_equals(Table::UserEvents, &table);
        expected.assert_refused(&error);
    });
    compared.await.unwrap();
    eprintln!("{at}: {:.1} s", begun.elapsed().as_secs_f32());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_worker_that_crashes_at_any_step_from_files_to_files_loses_and_doubles_nothing() {
    let dropped = Dropped::new().await;
    let planted = |name: &str| dropped.expected.counts[name].as_i64() > Some(0);
    assert!(planted("duplicate") && planted("dead_letters"));
    all_hold(cells(who).into_iter().map(|(step, at)| {
        let of = (dropped.prefix.clone(), Arc::clone(&dropped.expected));
        (at.clone(), crashed_and_started_again(step, at, of.0, of.1))
    }))
    .await;
}
