//! The shop example from CSV files in a bucket to a table of PostgreSQL, through kills: asked by psql, and held against an
//! evaluation of the files themselves.

use std::collections::BTreeSet;

use evp_tests::bed;
use evp_tests::oracle::{self, Expected, Table};
use evp_worker::ids::Ids;
use serde_json::{Value, json};

use super::bed::apply;
use super::objects::Objects;
use super::producer::{Producer, paths};
use super::site::{Site, plain_store, set};
use crate::parts::postgres::psql::Psql;

const PIPELINE: &str = "shop-events";

/// Rows of files that lie there before the pipeline does: of the day before yesterday.
const OLD: &str = "--limit 60 --rate 60 --seed 1 --malformed 0.1";
/// Small files, some of whose rows are bad, some of which repeat others.
const NEW: &str = "--rate 200 --file-rows 30 --seed 2 --malformed 0.05 --duplicates 0.05";
/// A file of the day before yesterday that is dropped once more, when nothing remembers its rows.
const FORGOTTEN: &str = "forgotten.csv";

/// A row as a foreign reader tells it: decimals as text, times to the microsecond.
const ROWS: &str = r#"SELECT to_jsonb(t) || jsonb_build_object('price', price::text,
    'timestamp', to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) FROM user_events t"#;

/// Columns of each index, and whether it is unique.
const INDEXES: &str = "SELECT pg_get_indexdef(i.indexrelid, 1, true), i.indnatts, i.indisunique \
    FROM pg_index i WHERE i.indrelid = 'user_events'::regclass";

/// A shop: its namespace, bucket and database.
struct Shop {
    site: Site,
    objects: Objects,
    database: Psql,
}

impl Shop {
    async fn new() -> Self {
        let site = Site::new("shop", "shop").await;
        let database = database(&site.namespace);
        let authority = std::fs::read(bed("EVP_BED_POSTGRES_CA")).unwrap();
        site.keep_secret(
            "shop-postgres",
            &[
                ("password", database.password.as_bytes()),
                ("ca.crt", &authority),
            ],
        );
        site.keep_store_secret("shop");
        let objects = Objects::of(&site);
        Self {
            site,
            objects,
            database,
        }
    }

    fn manifest(&self) -> Value {
        let (site, sink) = (&self.site, "/spec/sinks/0/postgres");
        let mut patch = plain_store();
        patch.extend([
            set(&format!("{sink}/host"), self.database.host.clone()),
            set(&format!("{sink}/port"), self.database.port),
            set(&format!("{sink}/database"), self.database.database.clone()),
            set(&format!("{sink}/username"), self.database.user.clone()),
            set("/spec/sources/0/files/path", site.path("raw")),
            set("/spec/sources/0/files/pollInterval", "1s"),
            set("/spec/checkpoint/interval", "2s"),
            set("/spec/checkpoint/path", site.path("checkpoint")),
            set("/spec/deadLetter/files/path", site.path("error")),
        ]);
        site.overlaid(&patch)
    }

    /// Rows of all files that are there.
    async fn dropped(&self) -> usize {
        let mut rows = 0;
        for name in self.objects.names("raw").await {
            let file = self.objects.get(&format!("raw/{name}")).await.unwrap();
            rows += file.split_inclusive(|&b| b == b'\n').count() - 1;
        }
        rows
    }

    /// Until every row of every file is decided, whatever became of it.
    async fn decided(&self) {
        let rows = self.dropped().await;
        self.objects.until_read(&self.site, "raw", rows).await;
    }

    /// Until the status says that all is committed.
    async fn through(&self) {
        let rows = self.dropped().await;
        let all = |status: &Value| (status["ledger"]["read"] == rows).then_some(());
        self.site.status(PIPELINE, "all rows read", all).await;
        self.site.drained(PIPELINE).await;
    }

    /// In the middle of a stream of files: ends the container, the pod with it, and the next pod's container.
    async fn kills_mid_stream(&self) {
        let Self { site, objects, .. } = self;
        self.one_more_epoch().await;
        site.kill_worker(PIPELINE).await;
        self.one_more_epoch().await;
        site.kill_pod(PIPELINE).await;
        // A file that a shop drops twice.
        let names = objects.names("raw").await;
        let newest = format!("raw/{}", names.last().unwrap());
        objects.copy(&newest, "raw/again.csv").await;
        self.one_more_epoch().await;
        site.kill_worker(PIPELINE).await;
        self.one_more_epoch().await;
    }

    async fn one_more_epoch(&self) {
        let before = self.objects.epoch().await;
        self.objects.epoch_after(&self.site, before).await;
    }

    fn assert_table(&self, expected: &Expected) {
        let told = self.database.print(ROWS);
        let rows: Vec<_> = told
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        expected.assert_equals_rows(Table::UserEvents, &rows);
        let told = self.database.print(INDEXES);
        let found: BTreeSet<_> = told.lines().collect();
        let others = ["user_id|1|f", "event_type|1|f", "\"timestamp\"|1|f"];
        let wanted: BTreeSet<_> = others.into_iter().chain(["event_id|1|t"]).collect();
        assert_eq!(found, wanted);
    }

    fn assert_status(&self, counts: &Value) {
        let status = self.site.pipeline(PIPELINE)["status"].take();
        let wanted = json!({
            "read": counts["read"],
            "filtered": 0,
            "late": 0,
            "duplicate": counts["duplicate"],
            "deadLettered": counts["dead_letters"],
            "balanced": true,
        });
        assert_eq!(status["ledger"], wanted);
        assert_eq!(status["sinks"][0]["rows"], counts["passed"]);
        assert_eq!(status["sinks"][0]["delivery"], "ExactlyOnce");
        assert!(
            ["duplicate", "dead_letters"]
                .iter()
                .all(|planted| counts[planted].as_i64() > Some(0)),
            "{counts}"
        );
    }
}

/// A database whose owner is a role of its own, with a password that is nobody else's.
fn database(name: &str) -> Psql {
    let bed = Psql::bed();
    let password = format!("word-{}", Ids::os().nonce());
    for sql in [
        format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'"),
        format!("GRANT \"{name}\" TO {}", bed.user),
        format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""),
    ] {
        bed.print(&sql);
    }
    Psql {
        user: name.to_owned(),
        database: name.to_owned(),
        password,
        ..bed
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_table_of_postgresql_is_what_an_evaluation_of_the_files_says_through_kills() {
    let shop = Shop::new().await;
    let site = &shop.site;
    let two_days_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(48);
    let old = format!("{OLD} --start {two_days_ago}");
    let old = Producer::of_files(site, "raw", "old.jsonl", &old).end();
    let first = shop.objects.names("raw").await.remove(0);
    let manifest = shop.manifest();
    apply(&manifest);
    site.wait_ready(PIPELINE);
    let producer = Producer::of_files(site, "raw", "new.jsonl", NEW);
    shop.kills_mid_stream().await;
    let ledgers = [old, producer.stop()];
    shop.decided().await;
    let forgotten = format!("raw/{FORGOTTEN}");
    shop.objects.copy(&format!("raw/{first}"), &forgotten).await;
    shop.through().await;

    let files = shop.objects.download("raw", site.dir().join("files")).await;
    let expected = site.dir().join("expected");
    let expected = oracle::evaluate_shop(&files, &paths(&ledgers), &[FORGOTTEN], &expected);
    shop.assert_table(&expected);
    expected.assert_refused(&site.path("error"));
    shop.assert_status(&expected.counts);
    site.assert_audited(&manifest);
    let secret = bed("EVP_BED_S3_SECRET_KEY");
    site.assert_untold(PIPELINE, &[&shop.database.password, &secret]);
}
