//! Laws of CSV rows (semantics 34): odd inputs with one verdict each, and rows against a naive reader.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use evp_api::plan::{CsvPlan, FormatPlan};
use std::sync::Arc;

use super::*;
use crate::files::{FileId, InFiles, Place, Progress, SourceFile};
use RejectCode::{Malformed, MissingField, TooLarge, UnknownField, WrongType};

const GOOD: Option<RejectCode> = None;
const BAD: Option<RejectCode> = Some(Malformed);
const TYPE: Option<RejectCode> = Some(WrongType);
const MISSING: Option<RejectCode> = Some(MissingField);

fn rows(fields: Vec<PlannedField>, header: bool) -> SourcePlan {
    SourcePlan {
        format: FormatPlan::Csv(CsvPlan {
            header,
            delimiter: b',',
            quote: b'"',
            null_text: String::new(),
        }),
        ..source(fields)
    }
}

/// Decodes rows of a file with this header.
fn decode_rows(plan: &SourcePlan, header: &[u8], rows: &[&[u8]]) -> Decoded {
    let values: Vec<_> = rows.iter().map(|row| Some(*row)).collect();
    let mut raw = batch(&values);
    raw.in_files = InFiles {
        files: vec![Arc::new(SourceFile {
            id: FileId {
                path: "day/1.csv".into(),
                size: 1,
                version: "1".into(),
            },
            header: Some(header.to_vec()),
        })],
        places: (2..)
            .zip(rows)
            .map(|(line, _)| Place {
                file: 0,
                line,
                after: Progress::default(),
            })
            .collect(),
        notes: Vec::new(),
    };
    let meta = MetaColumns {
        file: true,
        line: true,
        ..MetaColumns::default()
    };
    Decoder::new(plan, meta).decode(&raw)
}

#[track_caller]
fn check(plan: &SourcePlan, header: &[u8], row: &[u8], expected: Option<RejectCode>) {
    let decoded = decode_rows(plan, header, &[row]);
    assert_eq!(decoded.rows.num_rows() + decoded.rejects.len(), 1);
    let code = decoded.rejects.first().map(|reject| reject.code);
    let shown = String::from_utf8_lossy(row);
    assert_eq!(code, expected, "{shown:?}: {:?}", decoded.rejects);
}

/// One value of an optional field of each type, as the row's second column; the first is a required text.
const VALUES: &[(&str, &[u8], Option<RejectCode>)] = &[
    // Texts: nothing is cut off.
    ("s", b"plain", GOOD),
    ("s", b"", GOOD),
    ("s", b"\"\"", GOOD),
    ("s", b"  spaces  ", GOOD),
    ("s", b"\"a,b\"", GOOD),
    ("s", b"\"a\nb\"", GOOD),
    ("s", b"\"a\r\nb\"", GOOD),
    ("s", b"\"a\"\"b\"", GOOD),
    ("s", b"\"\"\"\"", GOOD),
    ("s", b"\"\"\"\"\"\"", GOOD),
    ("s", b"\"\"\"", BAD),
    ("s", b"\"", BAD),
    ("s", b"\"open", BAD),
    ("s", b"\"a\"b", BAD),
    ("s", b"\"a\" ", BAD),
    ("s", b" \"a\"", BAD),
    ("s", b"a\"b", BAD),
    ("s", b"a\"", BAD),
    ("s", b"a\nb", BAD),
    ("s", b"a\rb", GOOD),
    ("s", b"'a'", GOOD),
    ("s", b"\\\"", BAD),
    ("s", b"\\n", GOOD),
    ("s", b"a\0b", GOOD),
    ("s", b"a\tb", GOOD),
    ("s", b"a;b", GOOD),
    ("s", "\u{e9}\u{1f600}".as_bytes(), GOOD),
    ("s", b"\xff", BAD),
    ("s", b"\"\xc3\"", BAD),
    ("s", b"\xed\xa0\x80", BAD),
    ("s", b"NULL", GOOD),
    ("s", b"null", GOOD),
    ("s", b"{\"a\":1}", BAD),
    ("s", b"=1+1", GOOD),
    // A row of another length.
    ("s", b"a,b", BAD),
    ("s", b"a,", BAD),
    ("s", b",", BAD),
    // Whole numbers.
    ("i", b"0", GOOD),
    ("i", b"-0", GOOD),
    ("i", b"-12", GOOD),
    ("i", b"\"12\"", GOOD),
    ("i", b"+12", TYPE),
    ("i", b"012", TYPE),
    ("i", b"1.0", TYPE),
    ("i", b"1e2", TYPE),
    ("i", b" 1", TYPE),
    ("i", b"1 ", TYPE),
    ("i", b"1_000", TYPE),
    ("i", b"\"1,000\"", TYPE),
    ("i", b"0x10", TYPE),
    ("i", b"-", TYPE),
    ("i", b"--1", TYPE),
    ("i", b"NaN", TYPE),
    ("i", b"abc", TYPE),
    ("i", b"\"\"", TYPE),
    ("i", b"", GOOD),
    ("i", b"2147483647", GOOD),
    ("i", b"2147483648", TYPE),
    ("i", b"-2147483648", GOOD),
    ("i", b"-2147483649", TYPE),
    ("i", "\u{661}".as_bytes(), TYPE),
    ("l", b"9223372036854775807", GOOD),
    ("l", b"9223372036854775808", TYPE),
    ("l", b"-9223372036854775808", GOOD),
    ("l", b"99999999999999999999999999", TYPE),
    // Doubles and floats.
    ("d", b"1.5", GOOD),
    ("d", b"-1.5e-3", GOOD),
    ("d", b"1E5", GOOD),
    ("d", b"1.", TYPE),
    ("d", b".5", TYPE),
    ("d", b"1e", TYPE),
    ("d", b"1e999", TYPE),
    ("d", b"Infinity", TYPE),
    ("d", b"NaN", TYPE),
    ("d", b"\"1,5\"", TYPE),
    ("d", b"$1.5", TYPE),
    ("d", b"50%", TYPE),
    ("f", b"1.5", GOOD),
    ("f", b"1e39", TYPE),
    // decimal(6,2).
    ("n", b"1234.56", GOOD),
    ("n", b"1234.5", GOOD),
    ("n", b"1234.560", GOOD),
    ("n", b"1234.567", TYPE),
    ("n", b"12345.6", TYPE),
    ("n", b"1e3", GOOD),
    ("n", b"-0.01", GOOD),
    ("n", b"free", TYPE),
    // Booleans.
    ("b", b"true", GOOD),
    ("b", b"false", GOOD),
    ("b", b"\"true\"", GOOD),
    ("b", b"TRUE", TYPE),
    ("b", b"yes", TYPE),
    ("b", b"1", TYPE),
    ("b", b"0", TYPE),
    ("b", b" true", TYPE),
    // Dates and times.
    ("date", b"2026-01-31", GOOD),
    ("date", b"2026-02-30", TYPE),
    ("date", b"31.01.2026", TYPE),
    ("date", b"01/31/2026", TYPE),
    ("date", b"2026-1-31", TYPE),
    ("date", b"20260131", TYPE),
    ("t", b"2026-01-31T12:00:00Z", GOOD),
    ("t", b"2026-01-31 12:00:00Z", GOOD),
    ("t", b"2026-01-31T12:00:00.123456+02:00", GOOD),
    ("t", b"2026-01-31T12:00:00.1234567Z", TYPE),
    ("t", b"2026-01-31T12:00:00", TYPE),
    ("t", b"2026-01-31", TYPE),
    ("t", b"1769860800", TYPE),
    ("t", b"2026-01-31T12:00:60Z", TYPE),
    ("berlin", b"2026-01-31T12:00:00", GOOD),
    ("berlin", b"2026-03-29T02:30:00", TYPE),
    ("ts", b"1769860800", GOOD),
    ("ts", b"1769860800.5", GOOD),
    ("ts", b"2026-01-31T12:00:00Z", GOOD),
    ("tns", b"1", TYPE),
    // Bytes.
    ("bin", b"aGk=", GOOD),
    ("bin", b"aGk", TYPE),
    ("bin", b"\"aGk=\"", GOOD),
    ("bin", b"!", TYPE),
];

#[test]
fn rule_34_odd_values_have_one_verdict_each() {
    for &(name, value, expected) in VALUES {
        let typed = every_type().into_iter().find(|f| f.name == name).unwrap();
        let plan = rows(vec![field("key", DataType::String), typed], true);
        let header = format!("key,{name}");
        check(&plan, header.as_bytes(), &[b"k,", value].concat(), expected);
        // The same the other way round, so that it does not matter where a value stands.
        let header = format!("{name},key");
        check(&plan, header.as_bytes(), &[value, b",k"].concat(), expected);
    }
    assert!(VALUES.len() >= 110);
}

/// Headers for the fields `a` (required long), `b` (optional text); rows `1,x`.
const HEADERS: &[(&[u8], &[u8], Option<RejectCode>)] = &[
    (b"a,b", b"1,x", GOOD),
    (b"b,a", b"x,1", GOOD),
    (b"a", b"1", GOOD),
    (b"\"a\",\"b\"", b"1,x", GOOD),
    (b"a,b,c", b"1,x,y", GOOD),
    (b"c,a,d", b"x,1,y", GOOD),
    (b"b", b"x", MISSING),
    (b"c", b"x", MISSING),
    (b"A,b", b"1,x", MISSING),
    (b" a,b", b"1,x", MISSING),
    (b"a,a", b"1,1", BAD),
    (b"a,c,c", b"1,2,3", BAD),
    (b"a,,", b"1,2,3", BAD),
    (b"a,", b"1,2", GOOD),
    (b"a;b", b"1;x", MISSING),
    (b"a,\"b", b"1,x", BAD),
    (b"a,b\"", b"1,x", BAD),
    (b"\xff,a", b"1,1", BAD),
    (b"a,b", b"1", BAD),
    (b"a,b", b"1,x,", BAD),
    (b"a,b", b",x", MISSING),
    (b"a,b", b"\"\",x", TYPE),
    (b"a,b", b"1,", GOOD),
    (b"a,b", b"1,x\ny", BAD),
];

#[test]
fn rule_34_a_header_names_the_columns_in_any_order_and_its_faults_are_told_with_each_row() {
    let fields = || vec![field("a", DataType::Long), optional("b", DataType::String)];
    for &(header, row, expected) in HEADERS {
        check(&rows(fields(), true), header, row, expected);
    }
    let strict = SourcePlan {
        refuse_unknown_fields: true,
        ..rows(fields(), true)
    };
    check(&strict, b"a,b,c", b"1,x,y", Some(UnknownField));
    check(&strict, b"b,a", b"x,1", GOOD);
    let told = decode_rows(&rows(fields(), true), b"b,c", &[b"x,y", b"x,y"]);
    let told: Vec<_> = told
        .rejects
        .into_iter()
        .map(|r| (r.message, r.field))
        .collect();
    let one = (
        "the file's header has no column `a`".to_owned(),
        Some("a".to_owned()),
    );
    assert_eq!(told, [one.clone(), one]);
}

#[test]
fn rule_34_without_a_header_values_stand_in_the_order_of_the_fields() {
    let plan = rows(
        vec![field("a", DataType::Long), optional("b", DataType::String)],
        false,
    );
    for (row, expected) in [
        (&b"1,x"[..], None),
        (b"1,", None),
        (b"x,1", TYPE),
        (b"1", BAD),
        (b"1,2,3", BAD),
        (b"", BAD),
    ] {
        let decoded = decode(&plan, &[Some(row)]);
        assert_eq!(decoded.rejects.first().map(|r| r.code), expected, "{row:?}");
    }
    assert_eq!(decode(&plan, &[None]).tombstones, 1);
}

#[test]
fn rule_34_a_null_is_what_stands_without_quotes() {
    let mut plan = rows(
        vec![
            field("a", DataType::String),
            optional("b", DataType::String),
        ],
        true,
    );
    let values = |plan: &SourcePlan, rows: &[&[u8]]| -> Vec<Option<String>> {
        let decoded = decode_rows(plan, b"a,b", rows);
        assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
        let column = decoded.rows.column(1).as_string::<i32>();
        column.iter().map(|v| v.map(str::to_owned)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(values(&plan, &[b"k,", b"k,\"\""]), [None, some("")]);
    let FormatPlan::Csv(csv) = &mut plan.format else {
        panic!("is CSV")
    };
    csv.null_text = "\\N".to_owned();
    assert_eq!(
        values(&plan, &[b"k,\\N", b"k,", b"k,\"\\N\""]),
        [None, some(""), some("\\N")]
    );
}

#[test]
fn rule_34_a_row_over_the_limit_is_told() {
    let plan = rows(vec![field("a", DataType::String)], true);
    check(&plan, b"a", &[b'x'; 4097], Some(TooLarge));
    check(&plan, b"a", &[b'x'; 4096], GOOD);
}

#[test]
fn a_file_and_a_line_can_be_read_as_columns() {
    let plan = rows(vec![field("a", DataType::Long)], true);
    let decoded = decode_rows(&plan, b"a", &[b"1", b"bad", b"3"]);
    let files = decoded.rows.column(1).as_string::<i32>();
    let lines = decoded.rows.column(2).as_primitive::<Int64Type>();
    assert_eq!(files.iter().collect::<Vec<_>>(), [Some("day/1.csv"); 2]);
    assert_eq!(lines.values(), &[2, 4]);
}

/// A value as a naive writer writes it; some without need in quotes.
fn written(value: &str, quoted: bool) -> String {
    if quoted || value.contains(['"', ',', '\n', '\r']) || value.is_empty() {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

const LETTERS: [char; 8] = ['a', 'b', ',', '"', '\n', '\r', ' ', '\u{e9}'];

#[test]
fn rule_34_what_is_written_is_read_whatever_it_is_and_bad_neighbours_do_not_matter() {
    let mut random = Random(34);
    let plan = rows(
        vec![
            field("a", DataType::String),
            field("b", DataType::Long),
            field("c", DataType::String),
        ],
        true,
    );
    for case in 0..2_000 {
        let (mut records, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.below(12) {
            let mut text = || -> String {
                (0..random.below(7))
                    .map(|_| LETTERS[random.below(8)])
                    .collect()
            };
            let (a, c) = (text(), text());
            let b = random.next().cast_signed();
            let mut row = [
                written(&c, random.chance(3)),
                b.to_string(),
                written(&a, random.chance(3)),
            ]
            .join(",")
            .into_bytes();
            if random.chance(4) {
                // Any byte anywhere: it may still be a row, but then it is judged alone.
                row = (0..random.below(20))
                    .map(|_| b"\"\",,1a\n\xff"[random.below(8)])
                    .collect();
                let alone = decode_rows(&plan, b"c,b,a", &[&row]);
                assert_eq!(alone.rows.num_rows() + alone.rejects.len(), 1);
                if alone.rejects.is_empty() {
                    expected.extend(shown(&alone));
                }
            } else {
                expected.push((a, b, c));
            }
            records.push(row);
        }
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let decoded = decode_rows(&plan, b"c,b,a", &records);
        assert_eq!(
            decoded.rows.num_rows() + decoded.rejects.len(),
            records.len()
        );
        assert_eq!(shown(&decoded), expected, "case {case}: {records:?}");
    }
}

fn shown(decoded: &Decoded) -> Vec<(String, i64, String)> {
    let (a, c) = (decoded.rows.column(0), decoded.rows.column(2));
    let b = decoded.rows.column(1).as_primitive::<Int64Type>();
    let text = |column: &Arc<dyn Array>, i| column.as_string::<i32>().value(i).to_owned();
    (0..decoded.rows.num_rows())
        .map(|i| (text(a, i), b.value(i), text(c, i)))
        .collect()
}

#[test]
fn rule_34_no_bytes_of_a_header_make_it_panic() {
    let mut random = Random(180);
    let plan = rows(
        vec![field("a", DataType::Long), optional("b", DataType::String)],
        true,
    );
    for _ in 0..2_000 {
        let mut bytes = || -> Vec<u8> {
            (0..random.below(12))
                .map(|_| b"ab,\"\n1\r\xff"[random.below(8)])
                .collect()
        };
        let (header, row) = (bytes(), bytes());
        let decoded = decode_rows(&plan, &header, &[&row, &row]);
        assert_eq!(decoded.rows.num_rows() + decoded.rejects.len(), 2);
    }
}
