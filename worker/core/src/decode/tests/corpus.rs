//! Odd inputs, one verdict each.

use super::*;
use RejectCode::{Malformed, MissingField, TooLarge, UnknownField, WrongType};

const GOOD: Option<RejectCode> = None;
const BAD: Option<RejectCode> = Some(Malformed);
const TYPE: Option<RejectCode> = Some(WrongType);

/// Judged against [`every_type`].
const CORPUS: &[(&[u8], Option<RejectCode>)] = &[
    // Documents.
    (b"{}", GOOD),
    (b" \t\r\n{ } \n", GOOD),
    (b"", BAD),
    (b"   ", BAD),
    (b"\xef\xbb\xbf{}", BAD),
    (b"{}{}", BAD),
    (b"{} {}", BAD),
    (b"{},", BAD),
    (b"{}x", BAD),
    (b"{}\0", BAD),
    (b"\0{}", BAD),
    (b"{}\x0b", BAD),
    (b"{", BAD),
    (b"}", BAD),
    (b"{]", BAD),
    (b"[]", TYPE),
    (b"[", BAD),
    (b"null", TYPE),
    (b"nul", BAD),
    (b"true", TYPE),
    (b"1", TYPE),
    (b"\"{}\"", TYPE),
    (b"{// comment\n}", BAD),
    (b"{/* */}", BAD),
    // Objects and arrays.
    (br#"{"s"}"#, BAD),
    (br#"{"s":}"#, BAD),
    (br#"{"s" "a"}"#, BAD),
    (br#"{"s":"a",}"#, BAD),
    (br#"{,"s":"a"}"#, BAD),
    (br#"{"s":"a" "i":1}"#, BAD),
    (br#"{"s":"a";"i":1}"#, BAD),
    (br#"{s:"a"}"#, BAD),
    (br"{'s':'a'}", BAD),
    (br#"{"s":'a'}"#, BAD),
    (br#"{1:"a"}"#, BAD),
    (br"{null:1}", BAD),
    (br#"{"u":[1,]}"#, BAD),
    (br#"{"u":[,1]}"#, BAD),
    (br#"{"u":[1 2]}"#, BAD),
    (br#"{"u":[1}"#, BAD),
    (br#"{"u":{"a":1]}"#, BAD),
    (br#"{ "s" : "a" , "i" : 1 }"#, GOOD),
    // Duplicate keys.
    (br#"{"s":"a","s":"a"}"#, BAD),
    (br#"{"s":"a","\u0073":"a"}"#, BAD),
    (br#"{"s":null,"s":null}"#, BAD),
    (br#"{"u":1,"u":2}"#, BAD),
    (br#"{"u":1,"v":1,"u":2}"#, BAD),
    (br#"{"u":1,"\u0075":2}"#, BAD),
    (br#"{"u":{"a":1,"a":2}}"#, BAD),
    (br#"{"u":[{"a":1,"b":[{"a":1}]}]}"#, GOOD),
    (br#"{"u":{"u":{"u":1}}}"#, GOOD),
    (br#"{"u":1,"U":2}"#, GOOD),
    (br#"{"":1}"#, GOOD),
    (br#"{"":1,"":2}"#, BAD),
    (br#"{"map":{"a":"1","a":"2"}}"#, BAD),
    (br#"{"map":{"a":"1","b":"2"}}"#, GOOD),
    (br#"{"st":{"x":1,"x":1}}"#, BAD),
    (br#"{"st":{"w":1,"w":1}}"#, BAD),
    (br#"{"s":1,"s":1}"#, BAD),
    // Strings.
    (br#"{"s":""}"#, GOOD),
    (br#"{"s":"\"\\\/\b\f\n\r\t\u00e9"}"#, GOOD),
    (br#"{"s":"\x"}"#, BAD),
    (br#"{"s":"\u12"}"#, BAD),
    (br#"{"s":"\u12g4"}"#, BAD),
    (br#"{"s":"\U0041"}"#, BAD),
    (br#"{"s":"\ud83d\ude00"}"#, GOOD),
    (br#"{"s":"\ud83d"}"#, BAD),
    (br#"{"s":"\ud83dx"}"#, BAD),
    (br#"{"s":"\ud83d\u0041"}"#, BAD),
    (br#"{"s":"\ude00"}"#, BAD),
    (br#"{"u":"\ude00"}"#, BAD),
    (br#"{"\ud800":1}"#, BAD),
    (br#"{"s":"\u0000"}"#, GOOD),
    (b"{\"s\":\"a\nb\"}", BAD),
    (b"{\"s\":\"a\tb\"}", BAD),
    (b"{\"s\":\"a\0b\"}", BAD),
    (b"{\"s\":\"0123456789\x1f\"}", BAD),
    (b"{\"s\":\"a\x7fb\"}", GOOD),
    (b"{\"s\":\"\xc3\xa9\"}", GOOD),
    (b"{\"s\":\"\xc3\"}", BAD),
    (b"{\"s\":\"\xed\xa0\x80\"}", BAD),
    (b"{\"s\":\"\xc0\xaf\"}", BAD),
    (b"{\"u\":\"\xff\"}", BAD),
    (b"{\"\xff\":1}", BAD),
    (br#"{"s":"abc}"#, BAD),
    (br#"{"s":"abc\"}"#, BAD),
    (br#"{"s":1}"#, TYPE),
    (br#"{"s":true}"#, TYPE),
    (br#"{"s":["a"]}"#, TYPE),
    (br#"{"s":null}"#, GOOD),
    // Literals.
    (br#"{"u":True}"#, BAD),
    (br#"{"u":nulL}"#, BAD),
    (br#"{"u":NaN}"#, BAD),
    (br#"{"d":NaN}"#, BAD),
    (br#"{"d":Infinity}"#, BAD),
    (br#"{"d":-Infinity}"#, BAD),
    (br#"{"u":undefined}"#, BAD),
    (br#"{"b":truex}"#, BAD),
    (br#"{"b":true}"#, GOOD),
    (br#"{"b":1}"#, TYPE),
    (br#"{"b":"true"}"#, TYPE),
    // The grammar of numbers, also where nobody reads them.
    (br#"{"u":01}"#, BAD),
    (br#"{"u":-01}"#, BAD),
    (br#"{"u":+1}"#, BAD),
    (br#"{"u":.5}"#, BAD),
    (br#"{"u":1.}"#, BAD),
    (br#"{"u":1.e3}"#, BAD),
    (br#"{"u":1e}"#, BAD),
    (br#"{"u":1e+}"#, BAD),
    (br#"{"u":-}"#, BAD),
    (br#"{"u":0x10}"#, BAD),
    (br#"{"u":1_000}"#, BAD),
    (br#"{"u":1e999999999999}"#, GOOD),
    (br#"{"u":-0.0E-0}"#, GOOD),
    (br#"{"i":00}"#, BAD),
    // Integers.
    (br#"{"i":-0}"#, GOOD),
    (br#"{"i":2147483647}"#, GOOD),
    (br#"{"i":-2147483648}"#, GOOD),
    (br#"{"i":2147483648}"#, TYPE),
    (br#"{"i":-2147483649}"#, TYPE),
    (br#"{"i":1.5}"#, TYPE),
    (br#"{"i":1.0}"#, TYPE),
    (br#"{"i":1e2}"#, TYPE),
    (br#"{"i":"7"}"#, TYPE),
    (br#"{"i":true}"#, TYPE),
    (br#"{"l":9223372036854775807}"#, GOOD),
    (br#"{"l":-9223372036854775808}"#, GOOD),
    (br#"{"l":9223372036854775808}"#, TYPE),
    (br#"{"l":18446744073709551617}"#, TYPE),
    (br#"{"l":184467440737095516170000000000000000001}"#, TYPE),
    // Floating point.
    (br#"{"d":1e308}"#, GOOD),
    (br#"{"d":1e309}"#, TYPE),
    (br#"{"d":-1e999999999999}"#, TYPE),
    (br#"{"d":1e-999999999999}"#, GOOD),
    (br#"{"d":5}"#, GOOD),
    (br#"{"d":"5.0"}"#, TYPE),
    (br#"{"f":3.5e38}"#, TYPE),
    (br#"{"f":3.4e38}"#, GOOD),
    // Decimals (6,2).
    (br#"{"n":1.25}"#, GOOD),
    (br#"{"n":1.250}"#, GOOD),
    (br#"{"n":1.255}"#, TYPE),
    (br#"{"n":9999.99}"#, GOOD),
    (br#"{"n":10000}"#, TYPE),
    (br#"{"n":1e2}"#, GOOD),
    (br#"{"n":1e-3}"#, TYPE),
    (br#"{"n":0e99}"#, GOOD),
    (br#"{"n":1e99999}"#, TYPE),
    (br#"{"n":"1.25"}"#, TYPE),
    // Dates and timestamps.
    (br#"{"date":"2024-02-29"}"#, GOOD),
    (br#"{"date":"2023-02-29"}"#, TYPE),
    (br#"{"date":"1900-02-29"}"#, TYPE),
    (br#"{"date":"2023-2-9"}"#, TYPE),
    (br#"{"date":"0000-01-01"}"#, TYPE),
    (br#"{"date":"2023-13-01"}"#, TYPE),
    (br#"{"date":"2023-01-01T00:00:00Z"}"#, TYPE),
    (br#"{"date":19000}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00Z"}"#, GOOD),
    (br#"{"t":"2026-01-01 12:00:00.123456z"}"#, GOOD),
    (br#"{"t":"2026-01-01T12:00:00.123456000Z"}"#, GOOD),
    (br#"{"t":"2026-01-01T12:00:00.1234567Z"}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00.Z"}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00+02:00"}"#, GOOD),
    (br#"{"t":"2026-01-01T12:00:00+0200"}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00+24:00"}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00"}"#, TYPE),
    (br#"{"t":"2026-01-01T24:00:00Z"}"#, TYPE),
    (br#"{"t":"2026-12-31T23:59:60Z"}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00Z"}"#, TYPE),
    (br#"{"t":"2026-01-01"}"#, TYPE),
    (br#"{"t":"0001-01-01T00:00:00+01:00"}"#, TYPE),
    (br#"{"t":"9999-12-31T23:59:59.999999-01:00"}"#, TYPE),
    (br#"{"t":" 2026-01-01T12:00:00Z"}"#, TYPE),
    (br#"{"t":"yesterday"}"#, TYPE),
    (br#"{"t":1767268800}"#, TYPE),
    (br#"{"t":"2026-01-01T12:00:00\u005a"}"#, GOOD),
    (br#"{"berlin":"2026-07-01T12:00:00"}"#, GOOD),
    (br#"{"berlin":"2026-03-29T02:30:00"}"#, TYPE),
    (br#"{"berlin":"2026-10-25T02:30:00"}"#, TYPE),
    (br#"{"berlin":"2026-10-25T02:30:00+01:00"}"#, GOOD),
    (br#"{"india":"2026-10-25T02:30:00"}"#, GOOD),
    (br#"{"ts":1767268800.000001}"#, GOOD),
    (br#"{"ts":1767268800.0000001}"#, TYPE),
    (br#"{"ts":1767268800000}"#, TYPE),
    (br#"{"tms":1767268800123}"#, GOOD),
    (br#"{"tus":1767268800123456}"#, GOOD),
    (br#"{"tus":0.5}"#, TYPE),
    (br#"{"tns":1767268800123456000}"#, GOOD),
    (br#"{"tns":1767268800123456789}"#, TYPE),
    (br#"{"tms":"1767268800123"}"#, TYPE),
    // Binary.
    (br#"{"bin":""}"#, GOOD),
    (br#"{"bin":"AAEC"}"#, GOOD),
    (br#"{"bin":"AAE="}"#, GOOD),
    (br#"{"bin":"AAE"}"#, TYPE),
    (br#"{"bin":"AA-_"}"#, TYPE),
    (br#"{"bin":"A A="}"#, TYPE),
    // Nested.
    (br#"{"list":[]}"#, GOOD),
    (br#"{"list":[1,null,3]}"#, GOOD),
    (br#"{"list":[1,"2"]}"#, TYPE),
    (br#"{"list":{}}"#, TYPE),
    (br#"{"list":1}"#, TYPE),
    (br#"{"map":{}}"#, GOOD),
    (br#"{"map":{"a":null}}"#, GOOD),
    (br#"{"map":{"a":1}}"#, TYPE),
    (br#"{"map":[]}"#, TYPE),
    (br#"{"st":{}}"#, GOOD),
    (br#"{"st":{"x":null,"other":[{}]}}"#, GOOD),
    (br#"{"st":{"x":1.5}}"#, TYPE),
    (br#"{"st":[1]}"#, TYPE),
    (br#"{"deep":[{"k":{"z":1.25},"l":null},null,{}]}"#, GOOD),
    (br#"{"deep":[{"k":{"z":1.255}}]}"#, TYPE),
    (br#"{"odd \"name\"":3}"#, GOOD),
    (br#"{"odd \"name\"":"3"}"#, TYPE),
    // Not JSON beats not of the type.
    (br#"{"i":1.5,"s":"x"#, BAD),
    (br#"{"i":1.5,"u":01}"#, BAD),
    (br"[1,]", BAD),
];

#[test]
fn each_odd_record_has_its_verdict() {
    let plan = source(every_type());
    assert!(CORPUS.len() >= 100);
    let wrong: Vec<_> = CORPUS
        .iter()
        .map(|(record, expected)| {
            (
                String::from_utf8_lossy(record),
                verdict(&plan, record),
                expected,
            )
        })
        .filter(|(_, verdict, expected)| verdict.as_ref().map(|v| v.0) != **expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nesting_ends_at_128_levels() {
    let plan = source(every_type());
    let nested = |levels: usize| {
        // The record itself is the first level.
        let inner = levels - 1;
        format!("{{\"u\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
    };
    assert_eq!(verdict(&plan, nested(128).as_bytes()), None);
    let (code, ..) = verdict(&plan, nested(129).as_bytes()).unwrap();
    assert_eq!(code, Malformed);
    let plan = SourcePlan {
        max_record_bytes: 1 << 22,
        ..plan
    };
    let (code, ..) = verdict(&plan, "[".repeat(1 << 22).as_bytes()).unwrap();
    assert_eq!(code, Malformed);
}

#[test]
fn a_record_over_the_limit_is_too_large_whatever_it_holds() {
    let plan = SourcePlan {
        max_record_bytes: 8,
        ..source(every_type())
    };
    assert_eq!(verdict(&plan, br#"{"i":  1}"#).unwrap().0, TooLarge);
    assert_eq!(verdict(&plan, b"[[[[[[[[[").unwrap().0, TooLarge);
    assert_eq!(verdict(&plan, br#"{"i": 1}"#), None);
}

#[test]
fn a_missing_or_null_required_field_names_itself() {
    let plan = source(vec![field("a", DataType::Int), field("b", DataType::Int)]);
    let missing = |record: &[u8]| {
        let (code, field, message) = verdict(&plan, record).unwrap();
        assert_eq!(code, MissingField);
        (field.unwrap(), message)
    };
    assert_eq!(
        missing(br#"{"a":1}"#),
        ("b".into(), "required field `b` is absent".into())
    );
    assert_eq!(missing(br#"{"b":1}"#).0, "a");
    assert_eq!(missing(b"{}").0, "a");
    assert_eq!(
        missing(br#"{"a":null,"b":1}"#),
        ("a".into(), "byte 5: required field `a` is null".into())
    );
    assert_eq!(verdict(&plan, br#"{"b":1,"a":2}"#), None);
}

#[test]
fn undeclared_fields_are_refused_only_where_the_schema_says_so() {
    let plan = source(every_type());
    assert_eq!(verdict(&plan, br#"{"new":{"s":[1,2]},"i":1}"#), None);
    let strict = SourcePlan {
        refuse_unknown_fields: true,
        ..plan
    };
    assert_eq!(verdict(&strict, br#"{"i":1}"#), None);
    assert_eq!(
        verdict(&strict, br#"{"i":1,"new":1}"#).unwrap().0,
        UnknownField
    );
    assert_eq!(
        verdict(&strict, br#"{"st":{"x":1,"new":1}}"#).unwrap().0,
        UnknownField
    );
    assert_eq!(verdict(&strict, br#"{"new":01}"#).unwrap().0, Malformed);
}

#[test]
fn messages_hold_names_and_places_but_nothing_of_the_record() {
    let plan = source(every_type());
    let (_, field, message) = verdict(&plan, br#"{"st":{"x":"s3cret"}}"#).unwrap();
    assert_eq!(field.as_deref(), Some("st.x"));
    assert_eq!(
        message,
        "byte 11: field `st.x` is a string, an int is expected"
    );
    let (_, field, message) = verdict(&plan, br#"{"deep":[{"s3cret":{"z":1.234}}]}"#).unwrap();
    assert_eq!(field.as_deref(), Some("deep[]{}.z"));
    assert_eq!(
        message,
        "byte 24: field `deep[]{}.z` is more precise than the type; a decimal(6,2) is expected"
    );
    for (record, _) in CORPUS {
        let secret = String::from_utf8_lossy(record)
            .replace("2026", "s3cret")
            .replace('a', "s3cret");
        if let Some((.., message)) = verdict(&plan, secret.as_bytes()) {
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
