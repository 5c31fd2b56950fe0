//! Laws of cutting a file into records.

use super::*;
use crate::decode::tests::Random;

const CSV: Framing = Framing::Rows(Marks {
    delimiter: b',',
    quote: b'"',
});

/// Cuts a file that comes in pieces: records, and whether each was too long.
fn cut_in_pieces(
    framing: Framing,
    bytes: &[u8],
    most: usize,
    piece: &mut dyn FnMut() -> usize,
) -> Vec<(Vec<u8>, bool)> {
    let (mut records, mut at, mut here) = (Vec::new(), 0, 0);
    loop {
        let is_all = here == bytes.len();
        if at == here && is_all {
            return records;
        }
        match framing.first(&bytes[at..here], is_all, most) {
            Frame::Record { value, end } => {
                records.push((bytes[at..here][value].to_vec(), false));
                at += end;
            }
            Frame::Blank { end } => at += end,
            Frame::TooLong => {
                let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end + 1);
                records.push((bytes[at..=at + most].to_vec(), true));
                (at, here) = (end, here.max(end));
            }
            Frame::More => {
                assert!(!is_all, "more than all of {bytes:?}");
                here = (here + piece()).min(bytes.len());
            }
        }
    }
}

fn cut_whole(framing: Framing, bytes: &[u8]) -> Vec<String> {
    let all = cut_in_pieces(framing, bytes, 100, &mut || bytes.len());
    let text = |(record, _): (Vec<u8>, bool)| String::from_utf8(record).unwrap();
    all.into_iter().map(text).collect()
}

#[track_caller]
fn check(bytes: &str, expected: &[&str]) {
    assert_eq!(cut_whole(CSV, bytes.as_bytes()), expected, "{bytes:?}");
}

#[test]
fn rule_34_a_row_ends_with_its_line_unless_a_quote_holds_it_open() {
    check("a,b\nc,d\n", &["a,b", "c,d"]);
    check("a,b\r\nc,d\r\n", &["a,b", "c,d"]);
    check("a,b\nc,d", &["a,b", "c,d"]);
    check("a,\"b\nc\",d\ne\n", &["a,\"b\nc\",d", "e"]);
    check("\"a\r\nb\"\r\nc\n", &["\"a\r\nb\"", "c"]);
    check("\"a\"\"\n\"\"b\"\nc\n", &["\"a\"\"\n\"\"b\"", "c"]);
    check("\"\"\n\"\",\"\"\n", &["\"\"", "\"\",\"\""]);
    check("a\rb\n", &["a\rb"]);
    check("", &[]);
}

#[test]
fn rule_34_a_lost_quote_harms_its_own_line_only() {
    check("a,\"b\nc,d\ne,f\n", &["a,\"b", "c,d", "e,f"]);
    check("a,b\"\nc,d\n", &["a,b\"", "c,d"]);
    check("a,\"b\"c\nd,\"e\nf\"\n", &["a,\"b\"c", "d,\"e\nf\""]);
    check("\"a\n\"b\",c\nd,e\n", &["\"a", "\"b\",c", "d,e"]);
    check("\"a", &["\"a"]);
    check("\"", &["\""]);
}

#[test]
fn rule_34_a_line_without_anything_is_no_record() {
    check("\n\na\n\r\n\nb\n\n", &["a", "b"]);
    check(" \na\n", &[" ", "a"]);
    assert_eq!(
        cut_whole(Framing::Lines, b"\n {\"a\":1} \r\n \t\r\n\n{}"),
        [" {\"a\":1} ", "{}"]
    );
}

#[test]
fn rule_34_a_record_over_the_limit_ends_with_its_line() {
    for framing in [CSV, Framing::Lines] {
        let file = b"aaaaa\nb\ncccc\n";
        let cut = cut_in_pieces(framing, file, 4, &mut || 1);
        let expected = [(&b"aaaaa"[..], true), (b"b", false), (b"cccc", false)];
        let expected = expected.map(|(text, long)| (text.to_vec(), long));
        // One byte more than the limit is enough to be refused; it may be here with its line end.
        let texts = |cut: &[(Vec<u8>, bool)]| -> Vec<Vec<u8>> {
            cut.iter().map(|(text, _)| text.clone()).collect()
        };
        assert_eq!(texts(&cut), texts(&expected));
        let long = [&b"x"[..]; 50].concat();
        let cut = cut_in_pieces(framing, &[&long[..], b"\nb\n"].concat(), 4, &mut || 3);
        assert_eq!(cut, [(b"xxxxx".to_vec(), true), (b"b".to_vec(), false)]);
    }
}

/// The same by looking at one byte after the other, with the whole file at hand.
fn naive(bytes: &[u8], most: usize) -> Vec<Vec<u8>> {
    let (mut records, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = naive_row(&bytes[at..], most)
            .or_else(|| bytes[at..].iter().position(|&b| b == b'\n').map(|i| i + 1))
            .unwrap_or(bytes.len() - at);
        let mut value = &bytes[at..at + end];
        value = value
            .strip_suffix(b"\n")
            .map_or(value, |v| v.strip_suffix(b"\r").unwrap_or(v));
        if !value.is_empty() {
            records.push(value[..value.len().min(most + 1)].to_vec());
        }
        at += end;
    }
    records
}

/// Bytes of a row that is as RFC 4180 wants it, its line end included.
fn naive_row(bytes: &[u8], most: usize) -> Option<usize> {
    #[derive(PartialEq)]
    enum In {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let mut state = In::Start;
    for (i, &b) in bytes.iter().enumerate() {
        if i >= most + 2 {
            return None;
        }
        state = match (state, b) {
            (In::Quoted, b'"') => In::Closed,
            (In::Quoted, _) | (In::Start | In::Closed, b'"') => In::Quoted,
            (_, b'\n') => return Some(i + 1),
            (In::Start | In::Plain | In::Closed, b',') => In::Start,
            (In::Closed, b'\r') if bytes.get(i + 1) == Some(&b'\n') => In::Closed,
            (In::Plain, b'"') | (In::Closed, _) => return None,
            (In::Start | In::Plain, _) => In::Plain,
        };
    }
    (state != In::Quoted && bytes.len() < most + 2).then_some(bytes.len())
}

const LETTERS: &[u8] = b"aa,,\"\"\"\n\n\r\xff";

#[test]
fn rule_34_any_bytes_in_any_pieces_are_cut_as_a_naive_reader_cuts_them() {
    let mut random = Random(4180);
    for case in 0..20_000 {
        let length = random.below(40);
        let bytes: Vec<u8> = (0..length)
            .map(|_| LETTERS[random.below(LETTERS.len())])
            .collect();
        let most = 1 + random.below(30);
        let cut = cut_in_pieces(CSV, &bytes, most, &mut || 1 + random.below(9));
        let cut: Vec<_> = cut
            .into_iter()
            .map(|(mut record, _)| {
                record.truncate(most + 1);
                record
            })
            .collect();
        assert_eq!(
            cut,
            naive(&bytes, most),
            "case {case}: {bytes:?}, at most {most}"
        );
    }
}
