//! Records that no producer should send, among good ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evp_tests::oracle::parquet_rows;
use serde_json::{Value, json};

use super::pipeline::{Feed, Pipeline};

fn order(id: usize) -> Value {
    json!({
        "order_id": format!("o-{id}"), "customer_id": "c", "product_category": "Home", "quantity": 1, "total_price": 9.5,
        "event_type": "ORDER_PLACED", "region": "eu-west", "event_timestamp": now(),
    })
}

fn now() -> String {
    let milliseconds = jiff::Timestamp::now().as_millisecond();
    jiff::Timestamp::from_millisecond(milliseconds)
        .unwrap()
        .to_string()
}

/// A good order with one field replaced by a text that may be no JSON.
fn with(field: &str, text: &str) -> Vec<u8> {
    let mut order = order(0);
    order[field] = json!("HERE");
    order.to_string().replace("\"HERE\"", text).into_bytes()
}

fn odd() -> Vec<(&'static str, Option<Vec<u8>>)> {
    let good = order(0).to_string();
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    let nested = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    vec![
        ("tombstone", None),
        ("empty", some(b"")),
        ("blanks", some(b" \n ")),
        ("null", some(b"null")),
        ("a list", some(b"[]")),
        ("a number", some(b"7")),
        ("cut short", some(&good.as_bytes()[..good.len() / 2])),
        ("two documents", some(format!("{good}{good}").as_bytes())),
        ("zero byte", some(format!("{good}\0").as_bytes())),
        (
            "byte order mark",
            some(format!("\u{feff}{good}").as_bytes()),
        ),
        ("deep", Some(with("unknown", &nested))),
        (
            "duplicate key",
            Some(with("region", "\"a\",\"region\":\"b\"")),
        ),
        (
            "duplicate unknown key",
            Some(with("unknown", "{\"a\":1,\"a\":2}")),
        ),
        ("no UTF-8", some(b"{\"order_id\":\"\xff\xfe\"}")),
        ("lone surrogate", Some(with("region", "\"\\ud800\""))),
        ("control character", Some(with("region", "\"\u{1}\""))),
        (
            "huge int",
            Some(with("quantity", "99999999999999999999999")),
        ),
        ("int past its type", Some(with("quantity", "2147483648"))),
        ("fraction for an int", Some(with("quantity", "1.5"))),
        ("infinite double", Some(with("total_price", "1e400"))),
        ("NaN", Some(with("total_price", "NaN"))),
        ("text for a number", Some(with("total_price", "\"9.5\""))),
        ("number for a text", Some(with("region", "7"))),
        ("no region", Some(with("region", "null"))),
        (
            "no zone",
            Some(with("event_timestamp", "\"2026-03-01T12:00:00\"")),
        ),
        ("no time", Some(with("event_timestamp", "\"yesterday\""))),
        (
            "larger than a record may be",
            Some(with(
                "product_name",
                &format!("\"{}\"", "x".repeat(1_200_000)),
            )),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "bed"]
async fn each_record_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_unharmed() {
    let mut feed = Feed::new(2).await;
    let ledger = feed.new_ledger().to_owned();
    let large = with("product_name", &format!("\"{}\"", "x".repeat(1_000_000)));
    let mut records: Vec<(&str, Option<Vec<u8>>)> = vec![("good", Some(large))];
    for (id, (_, bytes)) in odd().into_iter().enumerate() {
        let kind = if bytes.is_some() { "malformed" } else { "good" };
        records.push((kind, bytes));
        records.push(("good", Some(order(id + 1).to_string().into_bytes())));
    }
    let mut lines = String::new();
    for (i, (kind, bytes)) in records.iter().enumerate() {
        let partition = i32::try_from(i % 2).unwrap();
        let (offset, timestamp) = feed.topic.put(partition, bytes.as_deref()).await;
        let mut line = json!({
            "i": i, "kind": kind, "partition": partition, "offset": offset, "timestamp": timestamp, "key": "", "value": null,
        });
        if let Some(bytes) = bytes {
            line["value_base64"] = json!(STANDARD.encode(bytes));
        }
        lines += &line.to_string();
        lines.push('\n');
    }
    std::fs::write(ledger, lines).unwrap();

    let pipeline = Pipeline::new(&feed.topic.name);
    let mut worker = pipeline.start("a");
    let report = worker
        .until("all is committed", |p| p.ledger.read == feed.sent())
        .await;
    worker.terminate().await;
    let expected = feed.expected();
    pipeline.assert_holds(&expected).await;
    let dead = i64::try_from(odd().len() - 1).unwrap();
    assert_eq!(expected.counts["rows"]["dead_letters"], dead);
    assert_eq!(expected.counts["tombstones"], 1);
    assert!(report.ledger.balanced, "{report:?}");
    assert_eq!(report.ledger.dead_lettered, dead);
    let letters = parquet_rows(&pipeline.table("dead"));
    assert!(letters.iter().all(|row| row["code"] != ""), "{letters:?}");
}
