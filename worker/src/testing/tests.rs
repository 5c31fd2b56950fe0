//! Laws of whole tests: what they catch, in which variant, and what is said of a file that does not fit.

use std::path::Path;
use std::sync::LazyLock;

use super::*;
use crate::manifest;
use crate::mistake::{Mistake, while_made};

const PIPELINE: &str = "
apiVersion: eventpipeline.dev/v1alpha1
kind: EventPipeline
metadata: {name: orders}
spec:
  checkpoint: {path: s3://lake/_checkpoints, maxRecordsPerEpoch: 3}
  deadLetter: {files: {path: s3://lake/_dead_letters}}
  sources:
  - name: orders
    kafka: {bootstrapServers: 'kafka:9092', topic: orders}
    schema: {fields: [{name: id, type: string}, {name: region, type: string, optional: true}, {name: price, type: 'decimal(10,2)'}, {name: at, type: timestamp}]}
    watermark: {column: at, delay: 10m}
  steps:
  - name: placed
    from: orders
    query: {select: '* EXCLUDE (_meta), _meta.offset AS pos, _meta.key AS key, _meta.timestamp AS received'}
  - name: unique
    from: orders
    dedupe: {keys: [id]}
  - name: revenue
    from: orders
    aggregate: {window: {tumbling: {size: 5m}}, groupBy: [region], measures: 'count(*) AS n, sum(price) AS total'}
  sinks:
  - {name: all, from: placed, parquet: {path: s3://lake/all}}
  - {name: firsts, from: unique, delta: {path: s3://other/firsts}}
  - {name: gold, from: revenue, mode: Update, delta: {path: s3://lake/gold}}
  - {name: closed, from: revenue, kafka: {bootstrapServers: 'kafka:9092', topic: closed}}
  - {name: shown, from: placed, stdout: {}}
";

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let manifests = manifest::read(PIPELINE, "pipeline.yaml").unwrap();
    Subject::of(&manifests[0], Path::new("pipeline.yaml"))
        .map_err(|e| e.to_string())
        .unwrap()
});

fn one(text: &str) -> Test {
    let found = read(
        &format!("tests:\n- name: t\n{text}"),
        "tests.yaml",
        &SUBJECT,
    );
    found.unwrap().remove(0)
}

/// The variant that failed and why; the variants that passed.
fn ran(text: &str) -> (Option<(Variant, String)>, Vec<Variant>) {
    let Outcome { passed, failed } = run(&SUBJECT, &one(text));
    (failed, passed)
}

/// Two partitions; an epoch takes three records, so that there are several epochs.
const GIVEN: &str = "
  given:
    orders:
    - {partition: 1, key: k, record: {id: a, region: eu, price: 1.10, at: '2026-01-01T12:01:00Z'}}
    - {id: b, region: eu, price: 2, at: '2026-01-01T12:02:00Z'}
    - {id: b, region: eu, price: 2, at: '2026-01-01T12:02:00Z'}
    - {raw: '{'}
    - {partition: 1, timestamp: '2026-01-01T13:00:00Z', record: {id: c, price: 0.5, at: '2026-01-01T12:03:00Z'}}
    - {advanceWatermarkTo: '2026-01-01T12:05:00Z'}
    - {id: d, region: eu, price: 9, at: '2026-01-01T12:04:59Z'}
    - {partition: 1, record: {id: e, region: eu, price: 9, at: '2026-01-01T12:05:00Z'}}
";

const EXPECT: &str = "
  expect:
    all:
    - {id: a, pos: 0, key: aw==, received: '2026-01-01T12:05:00Z'}
    - {id: b, pos: 0, key: null}
    - {id: b, pos: 1, price: 2.00}
    - {id: c, pos: 1, received: '2026-01-01T13:00:00Z'}
    - {id: d, pos: 4}
    - {id: e, pos: 3}
    firsts: [{id: a}, {id: b}, {id: c}, {id: e}]
    gold:
    - {region: eu, n: 3, total: 5.1, window_start: '2026-01-01T12:00:00Z'}
    - {region: null, n: 1, total: '0.50'}
    - {region: eu, n: 1, window_end: '2026-01-01T12:10:00Z'}
    closed:
    - {region: eu, n: 3, total: 5.10}
    - {region: null, n: 1, total: 0.5}
    late: {revenue: 1, unique: 1}
    duplicates: {unique: 1}
    deadLetters: [{code: Malformed, position: 2, split: '0', raw: '{'}]
";

#[test]
fn every_variant_gives_the_rows_the_counts_and_the_dead_letters() {
    let (failed, passed) = ran(&format!("{GIVEN}{EXPECT}"));
    assert_eq!(failed, None);
    let crashes = passed
        .iter()
        .filter(|v| matches!(v, Variant::Crash(_)))
        .count();
    let interleaved = passed
        .iter()
        .filter(|v| matches!(v, Variant::Interleaved(_)))
        .count();
    assert_eq!((passed[0], crashes), (Variant::Plain, 3), "{passed:?}");
    assert!(interleaved > 1, "{passed:?}");
}

#[test]
fn a_crash_ends_the_first_process_and_the_second_goes_on_from_the_objects_alone() {
    let test = one(&format!("{GIVEN}{EXPECT}"));
    let of = |crash| {
        let lived = live(&SUBJECT, (&test, &test.scripts), crash).unwrap();
        (
            lived.lives,
            lived.head.owner.term.0,
            lived.head.owner.pod,
            lived.head.body.totals,
        )
    };
    let (lives, term, pod, totals) = of(None);
    assert_eq!((lives, term, pod.as_str()), (1, 1, "test-1"));
    for commit in 1..=3 {
        assert_eq!(
            of(Some(commit)),
            (2, 2, "test-2".to_owned(), totals.clone())
        );
    }
    assert_eq!(of(Some(4)).0, 1);
}

#[test]
fn a_row_that_is_not_as_expected_is_told_with_its_column_and_the_variant() {
    let wrong = EXPECT.replace("n: 3, total: 5.1,", "n: 3, total: 5.2,");
    let (failed, passed) = ran(&format!("{GIVEN}{wrong}"));
    let (variant, why) = failed.unwrap();
    assert_eq!((variant, passed.len()), (Variant::Plain, 0));
    assert_eq!(
        why,
        "gold: 3 rows expected, 3 found: 1 different\n  different     {region: eu, n: 3, total: 5.20, window_start: \
         2026-01-01T12:00:00Z}\n                `total` is 5.10, expected 5.20\n"
    );
    for (right, wrong, told) in [
        (
            "revenue: 1",
            "revenue: 0",
            "late: revenue counts 1, expected 0\n",
        ),
        (
            "duplicates: {unique: 1}",
            "duplicates: {unique: 2}",
            "duplicates: unique counts 1, expected 2\n",
        ),
        (
            "code: Malformed",
            "code: Late",
            "`code` is Malformed, expected Late\n",
        ),
    ] {
        let (failed, _) = ran(&format!("{GIVEN}{}", EXPECT.replace(right, wrong)));
        assert!(failed.unwrap().1.ends_with(told), "{told}");
    }
}

#[test]
fn an_outcome_that_depends_on_the_order_of_partitions_is_found() {
    let (failed, passed) = ran("
  given:
    orders:
    - {partition: 0, record: {id: a, region: eu, at: '2026-01-01T12:01:00Z'}}
    - {partition: 1, record: {id: a, region: us, at: '2026-01-01T12:01:00Z'}}
  expect:
    firsts: [{id: a, region: eu}]
");
    let (variant, why) = failed.unwrap();
    assert!(
        matches!(variant, Variant::Interleaved(_)),
        "{variant} {why}"
    );
    assert!(why.contains("`region` is us, expected eu"), "{why}");
    assert_eq!(passed, [Variant::Plain, Variant::Crash(1)]);
}

#[test]
fn what_a_worker_forgets_when_it_dies_is_missed_after_a_crash_and_not_before() {
    for mistake in [Mistake::StateNotRestored, Mistake::ReadsFromTheBeginning] {
        let (failed, passed) = while_made(mistake, || ran(&format!("{GIVEN}{EXPECT}")));
        let variant = failed.map(|(variant, _)| variant);
        assert!(
            matches!(variant, Some(Variant::Crash(_))),
            "{mistake:?}: {variant:?}"
        );
        assert_eq!(passed[0], Variant::Plain);
    }
}

#[test]
fn a_sink_may_be_named_as_a_count_is() {
    let text = PIPELINE.replace("{name: all,", "{name: late,");
    let manifests = manifest::read(&text, "pipeline.yaml").unwrap();
    let subject = Subject::of(&manifests[0], Path::new("pipeline.yaml"));
    let subject = subject.map_err(|e| e.to_string()).unwrap();
    let text = "tests: [{name: t, given: {}, expect: {late: [{id: a}]}}]";
    let tests = read(text, "tests.yaml", &subject).unwrap();
    let (_, why) = run(&subject, &tests[0]).failed.unwrap();
    assert_eq!(
        why,
        "late: 1 row expected, 0 found: 1 missing\n  missing       {id: a}\n"
    );
    let text =
        "tests: [{name: t, given: {}, expect: {late: {revenue: 0}, duplicates: {unique: 0}}}]";
    let tests = read(text, "tests.yaml", &subject).unwrap();
    assert_eq!(run(&subject, &tests[0]).failed, None);
}

#[test]
fn a_pipeline_that_stops_fails_its_test_and_says_why() {
    let text = PIPELINE.replace(
        "  deadLetter: {files: {path: s3://lake/_dead_letters}}\n",
        "",
    );
    let manifests = manifest::read(&text, "pipeline.yaml").unwrap();
    let subject = Subject::of(&manifests[0], Path::new("pipeline.yaml"))
        .map_err(|e| e.to_string())
        .unwrap();
    let tests = read(
        "tests: [{name: t, given: {orders: [{raw: x}]}, expect: {deadLetters: 0}}]",
        "tests.yaml",
        &subject,
    );
    let (variant, why) = run(&subject, &tests.unwrap()[0]).failed.unwrap();
    assert_eq!(variant, Variant::Plain);
    assert!(
        why.starts_with("the pipeline stops: RecordRefused"),
        "{why}"
    );
}

/// What is said of a file, with its place.
fn refused(text: &str) -> Vec<String> {
    let found = read(text, "tests.yaml", &SUBJECT).unwrap_err();
    let line = |f: &crate::diagnostics::Finding| {
        let help = f
            .help
            .as_ref()
            .map(|help| format!(" ({help})"))
            .unwrap_or_default();
        format!("{}:{} {} {}{help}", f.line, f.column, f.code, f.message)
    };
    found.iter().map(line).collect()
}

#[test]
fn what_does_not_fit_is_found_at_its_place_and_all_at_once() {
    let text = "\
tests:
- name: t
  given:
    order: []
    orders:
    - {id: a, regoin: eu, at: '2026-01-01T12:01:00Z'}
    - {id: a}
    - {advanceWatermarkTo: soon}
    - {partition: -1, raw: x}
    - {raw: x, id: a}
  expect:
    golf: []
    shown: []
    all: [{id: 5, prise: 1}, {price: 0.001}]
    gold: 1
    late: {revenu: 1, placed: 1}
    deadLetters: [{kode: Late}]
- {name: t, given: {}, expect: {}}
- {name: u, given: {}, expect: {late: 1}}
";
    assert_eq!(
        refused(text),
        [
            "4:5 EVP1002 the pipeline has no source `order` (did you mean `orders`?)",
            "6:15 EVP1002 `orders` has no column `regoin` (did you mean `region`?)",
            "7:8 EVP1003 `at` is the event time, which has no default",
            "8:28 EVP2021 `soon` must be an RFC 3339 instant such as `2026-01-01T00:00:00Z`",
            "9:19 EVP2016 `-1` is no number of a partition",
            "10:8 EVP1002 `orders` has no column `raw`",
            "10:8 EVP1003 `at` is the event time, which has no default",
            "12:5 EVP1002 the pipeline has no sink `golf` (did you mean `gold`?)",
            "13:5 EVP2018 what `shown` prints cannot be read back",
            "14:16 EVP1004 `id`: expected a text, found a number (put it in quotes: `\"5\"`)",
            "14:19 EVP1002 `all` has no column `prise` (did you mean `price`?)",
            "14:38 EVP1004 `price`: `0.001` has more than 2 digits after the point",
            "15:11 EVP1004 expected a list of rows, found a number",
            "16:12 EVP1002 the pipeline has no step with memory `revenu` (did you mean `revenue`?)",
            "16:23 EVP1002 the pipeline has no step with memory `placed`",
            "17:20 EVP1002 a dead letter has no column `kode` (did you mean `code`?)",
            "18:10 EVP2003 there is a test `t` already",
            "18:24 EVP1003 nothing is expected: the test could not fail",
            "19:39 EVP1004 expected counts by step, such as `{revenue: 1}`, found a number",
        ]
    );
    let shape = "tests:\n- {name: 1, given: {orders: {}}, expected: {}}\n";
    assert_eq!(
        refused(shape),
        [
            "2:4 EVP1003 missing field `expect`",
            "2:10 EVP1004 expected a text, found a number (put it in quotes: `\"1\"`)",
            "2:21 EVP1004 expected a list, found fields (write it as a list: `[…]`)",
            "2:34 EVP1002 unknown field `expected` (did you mean `expect`?)",
        ]
    );
    assert!(refused("tests: [")[0].contains("EVP1001"));
}

#[test]
fn a_column_with_the_name_of_a_form_is_never_taken_for_it_silently() {
    let more =
        "{name: raw, type: string, optional: true}, {name: record, type: string, optional: true}, ";
    let text = PIPELINE.replace("{name: region,", &format!("{more}{{name: region,"));
    let manifests = manifest::read(&text, "pipeline.yaml").unwrap();
    let subject = Subject::of(&manifests[0], Path::new("pipeline.yaml"));
    let subject = subject.map_err(|e| e.to_string()).unwrap();
    let of = |item: &str| {
        let given = format!("{{orders: [{item}]}}");
        let text = format!("tests: [{{name: t, given: {given}, expect: {{deadLetters: 0}}}}]");
        read(&text, "tests.yaml", &subject).map_err(|found| found[0].message.clone())
    };
    for form in ["raw", "record"] {
        let refused = of(&format!("{{{form}: {{}}}}")).unwrap_err();
        let told = format!("`{form}` is a column of `orders`, and a form of items too");
        assert_eq!(refused, told);
    }
    let bytes = |item: &str| {
        let scripts = of(item).unwrap().remove(0).scripts;
        scripts.into_values().next().unwrap().parts[0].records[0]
            .value
            .clone()
    };
    let columns = "raw: x, at: '2026-01-01T12:01:00Z'";
    let expected = br#"{"id":"","raw":"x","price":0,"at":"2026-01-01T12:01:00Z"}"#;
    for item in [
        format!("{{{columns}}}"),
        format!("{{partition: 0, record: {{{columns}}}}}"),
    ] {
        assert_eq!(bytes(&item).unwrap(), expected, "{item}");
    }
    assert_eq!(bytes("{partition: 0, raw: x}").unwrap(), b"x");
}
