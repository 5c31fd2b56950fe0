//! Properties over random records.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::{Map, Value, json};

use super::*;

const BAD: &[&[u8]] = &[
    b"",
    b"{",
    b"{}{}",
    br#"{"s":"left behind","list":[1,2,3"#,
    br#"{"s":"left behind","list":[1,2,"x"]}"#,
    br#"{"map":{"a":"b","c":1}}"#,
    br#"{"map":{"a":"b","a":"c"}}"#,
    br#"{"st":{"y":"left","x":1.5}}"#,
    br#"{"deep":[{"a":{"z":1},"b":{"z":"x"}}]}"#,
    br#"{"deep":[{"a":{"z":1},"b":{"z":2}"#,
    br#"{"bin":"AAECA"}"#,
    b"{\"s\":\"\xff\"}",
    br#"{"u":{"v":1,"v":2}}"#,
    br#"{"s":"\n\ud800"}"#,
    b"\"quote",
];

fn random_value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 3 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.chance(2)),
        2 => json!(i64::try_from(random.next() >> random.below(63)).unwrap_or(-1)),
        3 => json!(f64::from(i32::try_from(random.below(1 << 20)).unwrap()) / 64.0),
        4 | 5 => json!(random_text(random)),
        6 => Value::Array(
            (0..random.below(4))
                .map(|_| random_value(random, depth + 1))
                .collect(),
        ),
        _ => Value::Object(random_members(random, depth + 1)),
    }
}

fn random_members(random: &mut Random, depth: usize) -> Map<String, Value> {
    (0..random.below(20))
        .map(|_| (random_text(random), random_value(random, depth)))
        .collect()
}

fn random_text(random: &mut Random) -> String {
    let alphabet = [
        'a', 'b', '"', '\\', '\n', '\0', 'é', '😀', ' ', 'z', '\u{7f}', '/',
    ];
    (0..random.below(20))
        .map(|_| alphabet[random.below(alphabet.len())])
        .collect()
}

/// A record that fits [`every_type`].
fn good_record(random: &mut Random) -> Vec<u8> {
    let mut record = Map::new();
    let mut add = |random: &mut Random, name: &str, value: Value| {
        if !random.chance(3) {
            record.insert(name.to_owned(), value);
        }
    };
    let text = random_text(random);
    add(random, "s", json!(text));
    add(random, "i", json!(7));
    add(random, "d", json!(1.5));
    add(random, "b", json!(true));
    add(random, "t", json!("2026-01-01T12:00:00Z"));
    let items: Vec<_> = (0..random.below(5)).collect();
    add(random, "list", json!(items));
    add(random, "map", json!({"k": "v", text.clone(): null}));
    add(random, "st", json!({"x": 1, "y": text}));
    add(random, "deep", json!([{"k": {"z": 1.25}}, null, {}]));
    let other = random_value(random, 0);
    add(random, "undeclared", other);
    serde_json::to_vec(&record).unwrap()
}

fn roomy() -> SourcePlan {
    SourcePlan {
        max_record_bytes: 1 << 20,
        ..source(every_type())
    }
}

fn concat(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).unwrap()
}

#[test]
fn bad_records_never_change_their_neighbours() {
    let plan = roomy();
    let mut random = Random(42);
    for _ in 0..100 {
        let good: Vec<_> = (0..random.below(12))
            .map(|_| good_record(&mut random))
            .collect();
        let alone = decode(
            &plan,
            &good.iter().map(|g| Some(&g[..])).collect::<Vec<_>>(),
        );
        assert_eq!(alone.rejects, []);
        let mut mixed: Vec<Option<&[u8]>> = Vec::new();
        let mut origin = Vec::new();
        for record in &good {
            while random.chance(2) {
                mixed.push((!random.chance(5)).then(|| BAD[random.below(BAD.len())]));
            }
            origin.push(u32::try_from(mixed.len()).unwrap());
            mixed.push(Some(record));
        }
        let together = decode(&plan, &mixed);
        assert_eq!(together.rows, alone.rows);
        assert_eq!(together.origin, origin);
        let counted = together.rows.num_rows()
            + together.rejects.len()
            + usize::try_from(together.tombstones).unwrap();
        assert_eq!(counted, mixed.len());
    }
}

#[test]
fn how_records_are_batched_changes_nothing() {
    let plan = roomy();
    let mut random = Random(7);
    let records: Vec<_> = (0..60).map(|_| good_record(&mut random)).collect();
    let values: Vec<_> = records.iter().map(|r| Some(&r[..])).collect();
    let whole = decode(&plan, &values);
    let mut decoder = Decoder::new(&plan, MetaColumns::default());
    let parts: Vec<_> = values
        .chunks(7)
        .map(|c| decoder.decode(&batch(c)).rows)
        .collect();
    assert_eq!(concat(&parts), whole.rows);
}

#[test]
fn a_record_is_json_exactly_when_an_independent_parser_says_so() {
    let plan = SourcePlan {
        max_record_bytes: 1 << 20,
        ..source(vec![optional("zz", DataType::Int)])
    };
    let mut random = Random(3);
    for round in 0..4_000 {
        let mut record = serde_json::to_vec(&random_members(&mut random, 0)).unwrap();
        if round % 2 == 1 {
            for _ in 0..=random.below(3) {
                mutate(&mut random, &mut record);
            }
        }
        let ours = verdict(&plan, &record).is_none_or(|(code, ..)| code != RejectCode::Malformed);
        let Some(theirs) = oracle(&record) else {
            continue;
        };
        assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&record));
    }
}

/// `serde_json` with duplicate keys refused; `None`: a number that no double holds stopped it, which is no matter of grammar.
fn oracle(record: &[u8]) -> Option<bool> {
    struct Strict;
    impl<'de> serde::Deserialize<'de> for Strict {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Visitor)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Strict;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_unit<E>(self) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
            while items.next_element::<Strict>()?.is_some() {}
            Ok(Strict)
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut members: A,
        ) -> Result<Strict, A::Error> {
            let mut names = std::collections::HashSet::new();
            while let Some((name, _)) = members.next_entry::<String, Strict>()? {
                if !names.insert(name) {
                    return Err(serde::de::Error::custom("duplicate"));
                }
            }
            Ok(Strict)
        }
    }
    match serde_json::from_slice::<Strict>(record) {
        Ok(_) => Some(true),
        Err(e) if e.to_string().starts_with("number out of range") => None,
        Err(_) => Some(false),
    }
}

fn mutate(random: &mut Random, record: &mut Vec<u8>) {
    let at = random
        .below(record.len().max(1))
        .min(record.len().saturating_sub(1));
    let interesting = b"{}[]\",:\\u0 1.e-+tn\xff\n";
    let byte = interesting[random.below(interesting.len())];
    match random.below(4) {
        0 if !record.is_empty() => {
            record.remove(at);
        }
        1 if !record.is_empty() => record[at] = byte,
        2 => record.truncate(at),
        _ => record.insert(at, byte),
    }
}

#[test]
fn no_bytes_make_it_panic_or_lose_count() {
    let plan = roomy();
    let mut random = Random(99);
    let mut decoder = Decoder::new(&plan, MetaColumns::ALL);
    for _ in 0..500 {
        let records: Vec<Vec<u8>> = (0..8)
            .map(|_| {
                let mut record = good_record(&mut random);
                for _ in 0..random.below(6) {
                    mutate(&mut random, &mut record);
                }
                record
            })
            .collect();
        let outcome = decoder.decode(&batch(
            &records.iter().map(|r| Some(&r[..])).collect::<Vec<_>>(),
        ));
        assert_eq!(
            outcome.rows.num_rows() + outcome.rejects.len(),
            records.len()
        );
        assert_eq!(outcome.origin.len(), outcome.rows.num_rows());
    }
}

#[test]
fn tombstones_are_counted_and_dropped() {
    let decoded = decode(&source(every_type()), &[None, Some(b"{}"), None]);
    assert_eq!(
        (decoded.tombstones, decoded.origin, decoded.rejects.len()),
        (2, vec![1], 0)
    );
}

#[test]
fn thousands_of_undeclared_keys_are_compared_in_short_time() {
    let plan = SourcePlan {
        max_record_bytes: 1 << 22,
        ..source(every_type())
    };
    let members = |n: usize| {
        (0..n)
            .map(|i| format!("\"key{i}\":{i}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(
        verdict(&plan, format!("{{{}}}", members(100_000)).as_bytes()),
        None
    );
    let twice = format!("{{{},\"key7\":0}}", members(100_000));
    assert_eq!(
        verdict(&plan, twice.as_bytes()).unwrap().0,
        RejectCode::Malformed
    );
}
