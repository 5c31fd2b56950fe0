//! Laws of texts with a grammar.

use crate::plan::parse::{data_type, parse_duration, parse_quantity};
use crate::plan::{DataType, StoragePath};

#[test]
fn durations_follow_gep_2257() {
    let cases = [
        ("10m", Some(600_000)),
        ("1h30m", Some(5_400_000)),
        ("250ms", Some(250)),
        ("0s", Some(0)),
        ("", None),
        ("10", None),
        ("1d", None),
        ("1h1h1h1h1h", None),
        ("123456s", None),
        ("-1s", None),
        ("1.5s", None),
    ];
    for (text, millis) in cases {
        assert_eq!(
            parse_duration(text).ok().map(|d| d.as_millis()),
            millis,
            "{text}"
        );
    }
}

#[test]
fn quantities_are_whole() {
    let cases = [
        ("64Mi", Some(64 << 20)),
        ("1k", Some(1000)),
        ("0", Some(0)),
        ("1.5Gi", None),
        ("Mi", None),
        ("1KB", None),
        ("99999999999Pi", None),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_quantity(text).ok(), bytes, "{text}");
    }
}

#[test]
fn storage_paths_name_a_bucket_or_an_absolute_folder() {
    let s3 = StoragePath::S3 {
        bucket: "lake".into(),
        prefix: "a/b".into(),
    };
    assert_eq!("s3://lake/a/b/".parse(), Ok(s3));
    assert_eq!(
        "file:///tmp/x".parse(),
        Ok(StoragePath::Local("/tmp/x".into()))
    );
    for wrong in [
        "s3://",
        "s3://lake//a",
        "s3://lake/../a",
        "file://x",
        "lake/a",
        "gs://lake",
        "s3://-lake/a",
        "s3://la..ke/a",
        "s3://Lake/a",
        "s3://lake/a b",
        "s3://lake/a?b",
        "s3://lake/a#b",
        "s3://lake/a%2Fb",
        "file:///a\nb",
        "file:///",
    ] {
        assert!(wrong.parse::<StoragePath>().is_err(), "{wrong}");
    }
}

#[test]
fn types_nest() {
    let nested = data_type::parse("list<struct<a: int, b: map<string, decimal(10, 2)>>>").unwrap();
    let DataType::List(item) = nested else {
        panic!("must be a list")
    };
    let DataType::Struct(members) = *item else {
        panic!("must hold structs")
    };
    assert_eq!(
        members[1].1,
        DataType::Map(Box::new(DataType::Decimal {
            precision: 10,
            scale: 2
        }))
    );
    for wrong in [
        "list<int",
        "map<int,int>",
        "decimal(39,0)",
        "decimal(3,4)",
        "struct<a int>",
        "int int",
        "Int",
    ] {
        assert!(data_type::parse(wrong).is_err(), "{wrong}");
    }
}
