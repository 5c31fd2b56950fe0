//! What is wrong with the world is told by name, with what to do; the process stays up, goes on by itself once the world is
//! as it must be, and nothing is lost.

use std::net::SocketAddr;

use evp_api::progress::Halt;
use evp_api::reason;
use evp_tests::bed;
use object_store::ObjectStoreExt;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::pipeline::{Feed, Pipeline, bucket};
use super::process::{Worker, free_address};
use super::proxy::{Fault, Proxy};

const RECORDS: i64 = 200;

async fn fed() -> Feed {
    let mut feed = Feed::new(2).await;
    feed.send(&format!("--limit {RECORDS} --seed 7 --malformed 0.05"))
        .await;
    feed
}

#[track_caller]
fn says(halt: &Halt, stalled: bool, words: &[&str]) {
    assert_eq!(halt.stalled, stalled, "{halt:?}");
    for word in words {
        assert!(halt.message.contains(word), "`{word}` is not in {halt:?}");
    }
}

/// The same process that was halted commits everything.
async fn goes_on(mut worker: Worker, pipeline: &Pipeline, feed: &Feed) {
    worker
        .until("it goes on by itself", |p| {
            p.ready && p.ledger.read == feed.sent()
        })
        .await;
    worker.terminate().await;
    pipeline.assert_holds(&feed.expected()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_broker_out_of_reach_is_waited_for() {
    let feed = fed().await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    let address = free_address();
    pipeline.set(
        "/sources/0/kafka/bootstrapServers",
        format!("localhost:{}", address.port()),
    );
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::SOURCE_UNAVAILABLE).await;
    says(&halt, false, &["localhost:", "refused"]);
    relay(address, bed("EVP_BED_KAFKA_SASL_SSL")).await;
    goes_on(worker, &pipeline, &feed).await;
}

/// Everything that connects to `from` reaches `to`.
async fn relay(from: SocketAddr, to: String) {
    let listener = TcpListener::bind(from).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                // Either side may end it at any time.
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok()
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_topic_that_is_not_there_is_waited_for() {
    let mut feed = fed().await;
    let pipeline = Pipeline::new(&format!("{}-later", feed.topic.name));
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::TOPIC_MISSING).await;
    says(&halt, false, &[&feed.topic.name, "Create it"]);
    feed = Feed::named(&format!("{}-later", feed.topic.name), 2).await;
    feed.send(&format!("--limit {RECORDS} --seed 8 --malformed 0.05"))
        .await;
    goes_on(worker, &pipeline, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn credentials_that_are_refused_are_read_again_until_they_are_right() {
    let feed = fed().await;
    let pipeline = Pipeline::new(&feed.topic.name);
    pipeline.put_secret("lake", "secretAccessKey", "wrong-but-s3cret");
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::STORE_DENIED).await;
    says(&halt, false, &["s3://", "check the credentials"]);
    pipeline.put_secret("lake", "secretAccessKey", &bed("EVP_BED_S3_SECRET_KEY"));
    pipeline.put_secret("kafka-orders", "password", "wrong-but-s3cret");
    let halt = worker.halted(reason::SOURCE_DENIED).await;
    says(&halt, false, &[&bed("EVP_BED_KAFKA_SASL_SSL")]);
    assert!(!worker.log_text().contains("wrong-but-s3cret"));
    pipeline.put_secret("kafka-orders", "password", &bed("EVP_BED_KAFKA_PASSWORD"));
    goes_on(worker, &pipeline, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_secret_that_is_not_there_is_waited_for() {
    let feed = fed().await;
    let pipeline = Pipeline::new(&feed.topic.name);
    pipeline.drop_secret("lake", "accessKeyId");
    pipeline.drop_secret("kafka-orders", "password");
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::SECRET_MISSING).await;
    says(&halt, false, &["Secret lake", "'accessKeyId'"]);
    pipeline.put_secret("lake", "accessKeyId", &bed("EVP_BED_S3_ACCESS_KEY"));
    worker
        .until("the next one that is missing", |p| {
            let halt = p.reason.as_ref();
            halt.is_some_and(|h| h.message.contains("Secret kafka-orders"))
        })
        .await;
    pipeline.put_secret("kafka-orders", "password", &bed("EVP_BED_KAFKA_PASSWORD"));
    goes_on(worker, &pipeline, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_bucket_that_is_not_there_is_named() {
    let feed = fed().await;
    let mut pipeline = Pipeline::new(&feed.topic.name);
    pipeline.set("/checkpoint/path", "s3://no-such-bucket/orders");
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::STORE_UNAVAILABLE).await;
    says(&halt, false, &["s3://no-such-bucket", "create it"]);
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_store_without_conditional_writes_is_refused() {
    let (feed, proxy) = (fed().await, Proxy::new().await);
    let forgets = proxy.on("PUT", "", |_| true, Fault::ForgetCondition);
    let mut pipeline = Pipeline::new(&feed.topic.name);
    pipeline.set("/objectStore/s3/endpoint", proxy.endpoint());
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::STORE_UNFIT).await;
    says(&halt, true, &["use a store with conditional writes"]);
    forgets.met().await;
    let owner = bucket().head(&pipeline.object("owner.json")).await;
    assert!(owner.is_err(), "nothing was written to it: {owner:?}");
    worker.terminate().await;
}

/// The first version of a table that somebody else made: its `order_id` is a number.
fn foreign_table() -> String {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let fields = [column("order_id", "long"), column("event_date", "date")];
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let metadata = json!({"metaData": {
        "id": "00000000-0000-0000-0000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
        "partitionColumns": ["event_date"],
        "configuration": {},
        "createdTime": 0,
    }});
    format!("{protocol}\n{metadata}\n")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_table_with_other_columns_is_named_and_left_alone() {
    let feed = fed().await;
    let pipeline = Pipeline::new(&feed.topic.name);
    let version = format!(
        "{}/bronze/_delta_log/00000000000000000000.json",
        pipeline.prefix
    );
    let version = object_store::path::Path::from(version);
    bucket()
        .put(&version, foreign_table().into())
        .await
        .unwrap();
    let mut worker = pipeline.start("a");
    let halt = worker.halted(reason::TABLE_MISMATCH).await;
    says(&halt, true, &["/bronze", "order_id"]);
    worker.terminate().await;
    // The table is moved away: nothing of what was read is lost.
    bucket().delete(&version).await.unwrap();
    goes_on(pipeline.start("a"), &pipeline, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn a_pipeline_file_that_cannot_be_taken_is_told_and_does_not_end_the_process() {
    let mut pipeline = Pipeline::new("any");
    let whole = pipeline.manifest.to_string();
    pipeline.set("/sources/0/schema/fields/0/type", "strung");
    let wrong = pipeline.manifest.to_string();
    for (uid, text, word) in [
        ("cut", &whole[..whole.len() / 2], "cut.json"),
        ("empty", "", "empty.json"),
        ("wrong", &wrong, "strung"),
    ] {
        let mut worker = pipeline.start_with(text, uid, "", None);
        let halt = worker.halted(reason::PLAN_REFUSED).await;
        says(&halt, true, &[word]);
        worker.terminate().await;
    }
}
