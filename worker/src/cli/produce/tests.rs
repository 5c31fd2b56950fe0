//! Laws of `evp produce`.

use std::path::Path;

use evp_core::files::frame::{Frame, Framing, Marks};
use serde_json::Value;

use super::target::{Cut, Place, parse};
use super::*;

#[test]
fn targets_are_a_topic_a_folder_or_a_prefix_of_a_bucket() {
    let kafka = Target::Kafka {
        servers: "a:1,b:2".into(),
        topic: "t".into(),
    };
    assert_eq!(parse("kafka://a:1,b:2/t").unwrap(), kafka);
    let dir = Place::Dir("/tmp/x".into());
    assert_eq!(parse("dir:/tmp/x").unwrap(), Target::Files(dir));
    let bucket = Place::Bucket("s3://shop/raw".parse().unwrap());
    assert_eq!(parse("s3://shop/raw").unwrap(), Target::Files(bucket));
    for wrong in [
        "",
        "dir:",
        "kafka://a:1",
        "kafka://a:1/",
        "kafka:///t",
        "kafka://a/t/u",
        "http://a/t",
        "s3://",
    ] {
        assert!(matches!(parse(wrong), Err(Error::Usage(_))), "{wrong}");
    }
}

#[test]
fn an_idle_partition_is_written_as_number_and_range() {
    assert_eq!(
        idle_partition("2:10..50"),
        Ok(IdlePartition {
            partition: 2,
            from: 10,
            to: 50
        })
    );
    assert!(idle_partition("2:10-50").is_err());
    assert!(share("1.1").is_err() && share("NaN").is_err() && share("0.25") == Ok(0.25));
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: ProduceArgs,
}

fn args(words: &str) -> ProduceArgs {
    let words = format!("produce {words}");
    <Cli as clap::Parser>::parse_from(words.split(' ')).args
}

async fn produce(words: &str) -> Result<(), Error> {
    run(args(words)).await
}

fn ledger(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

#[tokio::test]
async fn a_folder_gets_json_lines_and_the_ledger_tells_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let (out, told) = (dir.path().join("out"), dir.path().join("ledger.jsonl"));
    let words = format!(
        "orders --to dir:{} --ledger {} --limit 500 --start 2026-01-01T12:00:00Z --malformed 0.2",
        out.display(),
        told.display()
    );
    produce(&words).await.unwrap();
    let sent = std::fs::read(out.join("orders-1767268800000000.jsonl")).unwrap();
    let sent: Vec<_> = sent.split_inclusive(|&b| b == b'\n').collect();
    let told = ledger(&told);
    assert_eq!((sent.len(), told.len()), (500, 500));
    for ((number, line), sent) in (1..).zip(&told).zip(sent) {
        assert_eq!(line["file"], "orders-1767268800000000.jsonl");
        assert_eq!(line["line"], number);
        if let Some(value) = line["value"].as_str() {
            assert_eq!(value.as_bytes(), sent.trim_ascii_end());
        } else {
            assert!(line["value_base64"].is_string() && std::str::from_utf8(sent).is_err());
        }
    }
    // An earlier ledger may be the only record of what a topic holds.
    assert!(matches!(produce(&words).await, Err(Error::File { .. })));
}

#[tokio::test]
async fn shares_over_one_are_a_usage_error() {
    let error = produce("orders --to dir:/nonexistent --late 0.6 --malformed 0.6")
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn rows_go_to_many_files_and_json_lines_of_a_folder_to_one() {
    let cut = |words: &str| {
        let args = args(&format!("{words} --to dir:/x"));
        (Cut::of(&args, &Place::Dir("/x".into())), args)
    };
    let (default, ten) = (Cut::default(), Some(Duration::from_secs(10)));
    let rows = |rows| Cut {
        rows: Some(rows),
        every: ten,
    };
    assert_eq!(cut("activity").0, default);
    assert_eq!(cut("shop").0, rows(100));
    assert_eq!(cut("orders --file-rows 7").0, rows(7));
    let bucket = Place::Bucket("s3://shop/raw".parse().unwrap());
    assert_eq!(Cut::of(&cut("activity").1, &bucket), rows(100));
}

#[tokio::test]
async fn what_means_nothing_for_the_target_is_refused() {
    for words in [
        "shop --to kafka://a:1/t --file-rows 5",
        "shop --to kafka://a:1/t --region eu",
        "shop --to dir:/nonexistent --s3-secret lake",
    ] {
        assert_eq!(produce(words).await.unwrap_err().exit_code(), 2, "{words}");
    }
}

/// Rows of a CSV file with the number of the line on which each begins.
fn rows(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let framing = Framing::Rows(Marks {
        delimiter: b',',
        quote: b'"',
    });
    let (mut rest, mut line, mut rows) = (bytes, 1, Vec::new());
    while !rest.is_empty() {
        let Frame::Record { value, end } = framing.first(rest, true, 4_096) else {
            panic!("a row is expected");
        };
        rows.push((line, rest[value].to_vec()));
        line += rest[..end].split_inclusive(|&b| b == b'\n').count() as u64;
        rest = &rest[end..];
    }
    rows
}

#[tokio::test]
async fn shop_files_have_a_header_and_the_ledger_tells_file_and_line_of_each_row() {
    let dir = tempfile::tempdir().unwrap();
    let (out, told) = (dir.path().join("out"), dir.path().join("ledger.jsonl"));
    let words = format!(
        "shop --to dir:{} --ledger {} --limit 250 --file-rows 60 --start 2026-01-01T12:00:00Z --malformed 0.3 --duplicates 0.1",
        out.display(),
        told.display()
    );
    produce(&words).await.unwrap();
    let told = ledger(&told);
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = (1..=5).map(|n| format!("shop-1767268800000000-{n:06}.csv"));
    assert!(names.iter().cloned().eq(expected), "{names:?}");
    let mut found = Vec::new();
    for name in names {
        let file = std::fs::read(out.join(&name)).unwrap();
        let mut rows = rows(&file).into_iter();
        let header = "event_id,user_id,product_id,product_name,category,price,event_type,timestamp";
        assert_eq!(rows.next(), Some((1, header.into())));
        found.extend(rows.map(|(line, row)| (name.clone(), line, row)));
    }
    assert_eq!((found.len(), told.len()), (250, 250));
    for (line, (name, number, row)) in told.iter().zip(found) {
        assert_eq!(
            (line["file"].as_str(), line["line"].as_u64()),
            (Some(name.as_str()), Some(number))
        );
        if let Some(value) = line["value"].as_str() {
            assert_eq!(value.as_bytes(), row);
        } else {
            assert!(line["value_base64"].is_string() && std::str::from_utf8(&row).is_err());
        }
    }
}
