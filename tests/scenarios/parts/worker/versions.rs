//! Not only the last version of a table: each one that was ever committed is what an evaluation of the input up to the
//! positions of its epoch says, whoever was killed and whoever else wrote to the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use evp_tests::oracle::{Expected, Table, delta_history, dump_versions, evaluate_up_to};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::end_to_end::PLANTED;
use super::foreign::Foreign;
use super::pipeline::{Feed, Pipeline, bucket};

const ROUNDS: i64 = 5;
const A_ROUND: i64 = 400;

/// Epochs evaluated at the same time.
const AT_ONCE: usize = 2;

/// Decided bodies by epoch: the copies, and the newest one in the head.
async fn bodies(pipeline: &Pipeline) -> BTreeMap<u64, Value> {
    let store = bucket();
    let listed = store.list(Some(&pipeline.object("0/epochs")));
    let mut names: Vec<_> = listed.map_ok(|o| o.location).try_collect().await.unwrap();
    names.push(pipeline.object("0/head.json"));
    let mut bodies = BTreeMap::new();
    for name in names {
        let bytes = store.get(&name).await.unwrap().bytes().await.unwrap();
        let object: Value = serde_json::from_slice(&bytes).unwrap();
        let body = object.get("body").unwrap_or(&object).clone();
        bodies.insert(body["epoch"].as_u64().unwrap(), body);
    }
    bodies
}

fn positions(body: &Value) -> BTreeMap<i32, i64> {
    let splits = body["positions"]["orders"].as_object().unwrap();
    let next = |split: &Value| split["next"].as_i64().unwrap();
    splits
        .iter()
        .map(|(name, split)| (name.parse().unwrap(), next(split)))
        .collect()
}

fn assert_nothing_goes_back(bodies: &BTreeMap<u64, Value>) {
    let all: Vec<_> = bodies.iter().collect();
    for pair in all.windows(2) {
        let [(epoch, older), (next, newer)] = pair else {
            continue;
        };
        assert_eq!(**next, **epoch + 1, "every epoch has its copy");
        let before = positions(older);
        let after = positions(newer);
        assert!(
            before.iter().all(|(split, at)| after[split] >= *at),
            "{next}"
        );
        let watermark = |body: &Value| body["watermarks"]["orders"]["watermark"].as_i64();
        assert!(watermark(older) <= watermark(newer), "{next}");
    }
}

/// What was committed to a table: for each version the newest epoch in it, and how many rows the other engine had appended.
/// Stops at an epoch that was committed twice.
pub(super) fn commits(at: &str) -> BTreeMap<u64, (Option<u64>, usize)> {
    let (mut newest, mut foreign) = (None, 0);
    let mut commits = BTreeMap::new();
    for commit in delta_history(at) {
        match commit["txn"].as_array().unwrap().as_slice() {
            [] if commit["operation"] == "WRITE" => foreign += 1,
            [] => {}
            [ours] => {
                let epoch = ours["version"].as_u64();
                assert!(epoch > newest, "an epoch is committed once: {commit}");
                newest = epoch;
            }
            more => panic!("{more:?}"),
        }
        commits.insert(commit["version"].as_u64().unwrap(), (newest, foreign));
    }
    commits
}

/// A table as a foreign reader found it.
struct Dumped {
    table: Table,
    /// `<version>.jsonl` for each version.
    dir: tempfile::TempDir,
    commits: BTreeMap<u64, (Option<u64>, usize)>,
    /// What the other engine appended to it.
    foreign: Vec<Value>,
}

impl Dumped {
    async fn read(table: Table, at: String, foreign: Foreign) -> Self {
        let read = move || {
            let dir = tempfile::tempdir().unwrap();
            dump_versions(&at, dir.path());
            let commits = commits(&at);
            let foreign = foreign.rows;
            Self {
                table,
                dir,
                commits,
                foreign,
            }
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Stops at a version after this epoch that does not hold what it must.
    fn assert_after(&self, epoch: Option<u64>, expected: &Expected) {
        for (version, (newest, foreign)) in &self.commits {
            if *newest == epoch {
                let actual = self.dir.path().join(format!("{version}.jsonl"));
                expected.assert_equals_dump(self.table, &self.foreign[..*foreign], &actual);
            }
        }
    }
}

/// Stops at a version of a table that is not the evaluation up to the positions of its epoch.
async fn assert_versions(feed: &Feed, bodies: BTreeMap<u64, Value>, tables: [Dumped; 2]) {
    let of_all = |table: &Dumped| table.commits.values().map(|c| c.0).collect::<Vec<_>>();
    let epochs: BTreeSet<_> = tables.iter().flat_map(of_all).collect();
    let (ledgers, tables) = (Arc::new(feed.ledgers.clone()), Arc::new(tables));
    let compared = epochs.into_iter().map(|epoch| {
        let positions = epoch.map_or(BTreeMap::new(), |e| positions(&bodies[&e]));
        let (ledgers, tables) = (Arc::clone(&ledgers), Arc::clone(&tables));
        tokio::task::spawn_blocking(move || {
            let dir = tempfile::tempdir().unwrap();
            let ledgers: Vec<_> = ledgers.iter().map(PathBuf::as_path).collect();
            let expected = evaluate_up_to(&ledgers, &positions, dir.path());
            for table in tables.iter() {
                table.assert_after(epoch, &expected);
            }
        })
    });
    let mut compared = futures::stream::iter(compared).buffer_unordered(AT_ONCE);
    while let Some(done) = compared.next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn every_committed_version_is_the_evaluation_at_the_positions_of_its_epoch() {
    let mut feed = Feed::new(3).await;
    let pipeline = Pipeline::new(&feed.topic.name);
    let mut bronze = Foreign::on(&pipeline, Table::Bronze, "bronze");
    let mut gold = Foreign::on(&pipeline, Table::Gold, "gold");
    let mut epoch = 0;
    let mut compacted = 0;
    for round in 0..ROUNDS {
        feed.send(&format!(
            "--limit {A_ROUND} --seed {} {PLANTED}",
            20 + round
        ))
        .await;
        let mut worker = pipeline.start("a");
        worker
            .until("an epoch of its own", |p| p.epoch > epoch)
            .await;
        let beside = async {
            tokio::join!(bronze.append(), gold.append());
            let (b, g) = tokio::join!(bronze.compact(), gold.compact());
            b + g
        };
        let (report, taken) =
            tokio::join!(worker.until("some epochs", |p| p.epoch > epoch + 3), beside);
        worker.kill();
        epoch = report.epoch;
        compacted += taken;
    }
    pipeline.commit("a", ROUNDS * A_ROUND).await;
    assert!(compacted > 0, "nothing was compacted under the worker");

    let bodies = bodies(&pipeline).await;
    assert_nothing_goes_back(&bodies);
    let (bronze, gold) = tokio::join!(
        Dumped::read(Table::Bronze, pipeline.table("bronze"), bronze),
        Dumped::read(Table::Gold, pipeline.table("gold"), gold),
    );
    for dumped in [&bronze, &gold] {
        let count = dumped.commits.len();
        assert!(count > 20, "only {count} versions of {:?}", dumped.table);
    }
    assert_versions(&feed, bodies, [bronze, gold]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn tables_that_are_compacted_and_vacuumed_under_the_worker_lose_and_double_nothing() {
    let mut feed = Feed::new(3).await;
    let pipeline = Pipeline::new(&feed.topic.name);
    let bronze = Foreign::on(&pipeline, Table::Bronze, "bronze");
    let gold = Foreign::on(&pipeline, Table::Gold, "gold");
    feed.send(&format!("--limit 2000 --seed 31 {PLANTED}"))
        .await;
    let mut worker = pipeline.start("a");
    worker.until("a second epoch", |p| p.epoch >= 2).await;
    let mut deleted = 0;
    for _ in 0..8 {
        tokio::join!(bronze.compact(), gold.compact());
        let (b, g) = tokio::join!(bronze.vacuum(), gold.vacuum());
        deleted += b + g;
    }
    assert!(deleted > 0, "nothing was vacuumed under the worker");
    let report = worker
        .until("all is committed", |p| p.ledger.read == 2000)
        .await;
    assert_eq!(report.term, 1, "{report:?}");
    worker.terminate().await;
    pipeline.assert_holds(&feed.expected()).await;
}
