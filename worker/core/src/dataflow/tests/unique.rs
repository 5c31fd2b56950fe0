//! Laws of `dedupe` over random histories: keys that come again early and late, in other splits, with other content, at the
//! watermark itself; splits that are idle; epochs that are abandoned; processes that go on from state files. Each row's fate is compared with a naive judge that keeps all
//! rows and loops over them.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};

use super::histories::Random;
use super::*;
use crate::dead_letter::RejectCode;
use crate::ledger::StepCounts;

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 600;
/// Later than every event.
const NOW: Micros = Micros(1_000_000 * SECOND);

/// A step by its manifest and, in seconds, as the naive judge knows it.
#[derive(Clone, Copy, Debug)]
struct Step {
    within: Option<i64>,
    late: &'static str,
}

impl Step {
    fn opened(self) -> Dataflow {
        let mut dedupe = json!({"keys": ["id"], "late": self.late});
        if let Some(within) = self.within {
            dedupe["within"] = format!("{within}s").into();
        }
        let mut dataflow = Dataflow::new(&checked(&dedupe)).unwrap();
        dataflow.open(NOW).unwrap();
        dataflow
    }
}

fn checked(dedupe: &Value) -> CheckedPlan {
    let spec = json!({
        "checkpoint": {"path": "s3://lake/_c"},
        "deadLetter": {"files": {"path": "s3://lake/_d"}},
        "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [{"name": "id", "type": "string", "optional": true}, {"name": "n", "type": "long"},
                {"name": "at", "type": "timestamp", "unit": "us"}]},
            "watermark": {"column": "at", "delay": format!("{DELAY}s")}}],
        "steps": [{"name": "unique", "from": "in", "dedupe": dedupe},
            {"name": "shown", "from": "unique", "query": {"select": "id, n, at, _meta.partition AS part, _meta.offset AS pos"}}],
        "sinks": [{"name": "out", "from": "shown", "stdout": {}}]});
    check(&serde_json::from_value(spec).unwrap()).unwrap()
}

/// A row: key (none: null), content, event time in seconds.
type Row = (Option<u8>, i64, i64);

fn text(&(id, n, at): &Row) -> String {
    json!({"id": id.map(|id| format!("k{id}")), "n": n, "at": at * SECOND}).to_string()
}

/// Keeps every row that passed, for ever.
#[derive(Clone, Debug)]
struct Naive {
    passed: Vec<Row>,
    /// Per split the newest event time of decided epochs.
    newest: [Option<i64>; 2],
    watermark: i64,
    counts: StepCounts,
}

impl Naive {
    fn new() -> Self {
        Self {
            passed: Vec::new(),
            newest: [None; 2],
            watermark: i64::MIN,
            counts: StepCounts::default(),
        }
    }

    fn passes(&mut self, step: Step, row: Row, w: i64) -> bool {
        let (Some(id), n, at) = row else {
            self.counts.rejected += 1;
            return false;
        };
        if at < w && step.late != "Pass" {
            match step.late {
                "Count" | "DeadLetter" => self.counts.late += 1,
                other => panic!("{other}"),
            }
            return false;
        }
        let repeated = self.passed.iter().find(|(k, _, t)| {
            let near = match step.within {
                Some(within) => t + within > w && (t - at).abs() < within,
                None => *t >= w,
            };
            *k == Some(id) && near
        });
        if let Some((_, first, t)) = repeated {
            self.counts.duplicates += 1;
            self.counts.conflicts += u64::from((*first, *t) != (n, at));
            return false;
        }
        self.passed.push(row);
        self.counts.output += 1;
        true
    }

    /// Places of the rows that pass.
    fn passing(
        &mut self,
        step: Step,
        (split, rows): &(i32, Vec<Row>),
        w: i64,
    ) -> Vec<(String, i64)> {
        self.counts.input += rows.len() as u64;
        let places = (0..).zip(rows);
        let passing = places.filter(|(_, row)| self.passes(step, **row, w));
        passing.map(|(at, _)| (split.to_string(), at)).collect()
    }

    fn read(&mut self, epoch: &Given) {
        for (split, rows) in &epoch.batches {
            let newest = &mut self.newest[usize::try_from(*split).unwrap()];
            *newest = rows.iter().map(|row| row.2).max().max(*newest);
        }
        let awake = (0..)
            .zip(self.newest)
            .filter(|(n, _)| !epoch.idle.contains(n));
        let reached = awake.map(|(_, newest)| newest.map_or(i64::MIN, |t| t - DELAY));
        self.watermark = self.watermark.max(reached.min().unwrap_or(i64::MIN));
    }
}

/// Rows of splits, in batches; and the splits that are idle at its end.
struct Given {
    batches: Vec<(i32, Vec<Row>)>,
    idle: Vec<i32>,
}

fn history(random: &mut Random) -> Vec<Given> {
    // With coarse times rows often lie at the watermark, and exactly `within` apart.
    let unit = if random.one_in(2) { 300 } else { 1 };
    let coarse = move |t: i64| t / unit * unit;
    let mut now = 10_000;
    let epochs = random.between(1, 12);
    let epoch = |random: &mut Random, now: i64| {
        let batches = random.between(1, 3);
        let batch = |random: &mut Random| {
            let split = i32::from(random.one_in(2));
            let rows = random.between(0, 120);
            let row = |random: &mut Random| {
                let id = u8::try_from(random.below(60)).unwrap();
                let at = coarse(now - random.between(0, 3 * DELAY));
                ((!random.one_in(40)).then_some(id), random.between(0, 2), at)
            };
            (split, (0..rows).map(|_| row(random)).collect())
        };
        Given {
            batches: (0..batches).map(|_| batch(random)).collect(),
            idle: (0..2).filter(|_| random.one_in(5)).collect(),
        }
    };
    (0..epochs)
        .map(|_| {
            now += random.between(0, 9_000);
            epoch(random, now)
        })
        .collect()
}

/// What an epoch let through: split, position, row's time.
fn shown(pushed: &Pushed) -> Vec<(String, i64)> {
    let mut shown = Vec::new();
    for (_, batch) in &pushed.sinks {
        let SinkBatch::Rows(batch) = batch else {
            panic!()
        };
        let parts = batch.column_by_name("part").unwrap();
        let parts = ArrayFormatter::try_new(parts, &FormatOptions::default()).unwrap();
        let at = batch
            .column_by_name("pos")
            .unwrap()
            .as_primitive::<Int64Type>();
        shown.extend((0..batch.num_rows()).map(|i| (parts.value(i).to_string(), at.value(i))));
    }
    shown
}

fn compare(step: Step, seed: u64) {
    let told = format!("seed {seed}, {step:?},");
    let mut random = Random(seed);
    let (mut dataflow, mut naive) = (step.opened(), Naive::new());
    let (mut state, mut files) = (StepState::new("f".into()), BTreeMap::new());
    let (unique, source) = (name("unique"), name("in"));
    (0..2).for_each(|n| dataflow.register(&source, &SplitId::partition(n)));
    for (epoch, number) in history(&mut random).into_iter().zip(1..) {
        let abandoned = random.one_in(4).then(|| naive.clone());
        for attempt in 0..=usize::from(abandoned.is_some()) {
            if attempt == 1 {
                dataflow.abandon().unwrap();
                naive = abandoned.clone().unwrap();
            }
            dataflow.open(NOW).unwrap();
            naive.counts = StepCounts::default();
            let w = naive.watermark;
            for batch in &epoch.batches {
                let lines: Vec<_> = batch.1.iter().map(text).collect();
                let pushed = dataflow.push(&source, &raw(batch.0, &lines)).unwrap();
                let passing = naive.passing(step, batch, w);
                assert_eq!(shown(&pushed), passing, "{told} epoch {number}");
                let is_late = |(_, r): &&Rejected| r.code == RejectCode::Late;
                let kept = pushed.rejected.iter().filter(is_late).count();
                assert!(step.late == "DeadLetter" || kept == 0);
            }
            naive.read(&epoch);
        }
        let idle = epoch.idle.iter().map(|&n| SplitId::partition(n));
        let idle = Idle::from([(source.clone(), idle.collect())]);
        let closed = dataflow.close(&idle).unwrap();
        let counts = closed.ledger.steps.get(&unique).copied();
        let counts = counts.unwrap_or_default();
        assert_eq!(counts, naive.counts, "{told} epoch {number}");
        let stored = (&mut state, &mut files);
        let number = Epoch(number);
        write_of(&unique, (&dataflow, &closed), number, stored);
        let watermarks = closed.watermarks.clone();
        dataflow.commit(closed, number).unwrap();
        if random.one_in(4) {
            dataflow = step.opened();
            dataflow.restore_watermarks(&watermarks);
            restore_of(&unique, &mut dataflow, (&state, &files));
        }
    }
}

/// Histories through each kind of step.
fn compare_all(seeds: std::ops::Range<u64>) {
    for within in [None, Some(1), Some(900), Some(20_000), Some(90_000)] {
        for late in ["Count", "Pass", "DeadLetter"] {
            let step = Step { within, late };
            seeds.clone().for_each(|seed| compare(step, seed));
        }
    }
}

#[test]
fn rule_20_rows_of_random_histories_pass_exactly_as_a_judge_says_that_forgets_nothing() {
    compare_all(0..30);
}

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn ten_thousand_histories_of_equal_keys_pass_exactly_as_a_judge_says_that_forgets_nothing() {
    compare_all(1_000..1_670);
}

#[test]
fn rule_20_the_first_in_the_order_of_splits_and_positions_wins_inside_a_batch() {
    let mut dataflow = Step {
        within: None,
        late: "Count",
    }
    .opened();
    let mut batch = raw(1, &[text(&(Some(1), 0, 5))]);
    let second = raw(0, &[text(&(Some(1), 1, 5))]);
    batch.splits.push(SplitId::partition(0));
    let shift = u32::try_from(batch.bytes.len()).unwrap();
    batch.bytes.extend(&second.bytes);
    let span = second.records[0].value.unwrap();
    let value = Some(Span {
        start: span.start + shift,
        end: span.end + shift,
    });
    batch.records.push(RawRecord {
        split: 1,
        value,
        ..second.records[0]
    });
    let pushed = dataflow.push(&name("in"), &batch).unwrap();
    assert_eq!(shown(&pushed), [("0".to_owned(), 0)]);
}

#[test]
fn keys_that_expired_give_their_memory_back_and_their_files_go() {
    let step = Step {
        within: Some(3_600),
        late: "Count",
    };
    let mut dataflow = step.opened();
    let (source, unique) = (name("in"), name("unique"));
    let (mut state, mut files) = (StepState::new("f".into()), BTreeMap::new());
    let mut most = 0;
    for hour in 0..30 {
        dataflow.open(NOW).unwrap();
        let id = |n: i64| {
            json!({"id": format!("{hour}-{n}"), "n": 0, "at": (hour * 3_600 + n) * SECOND})
                .to_string()
        };
        let rows: Vec<_> = (0..3_000).map(id).collect();
        dataflow.push(&source, &raw(0, &rows)).unwrap();
        let closed = dataflow.close(&Idle::new()).unwrap();
        let epoch = Epoch(u64::try_from(hour).unwrap() + 1);
        write_of(
            &unique,
            (&dataflow, &closed),
            epoch,
            (&mut state, &mut files),
        );
        dataflow.commit(closed, epoch).unwrap();
        let facts = dataflow.state_facts().remove(&unique).unwrap();
        most = most.max(facts.bytes);
        assert!(facts.keys <= 4 * 3_000, "{facts:?}");
        assert!(state.buckets.len() <= 4, "{}", state.buckets.len());
    }
    assert!(most < 4 * 3_000 * 64, "{most}");
}

#[test]
fn a_dedupe_needs_a_watermark_its_columns_and_records() {
    let spec = |edit: &dyn Fn(&mut Value)| {
        let mut spec = json!({
            "checkpoint": {"path": "s3://lake/_c"},
            "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
                "schema": {"fields": [{"name": "id", "type": "string"}, {"name": "at", "type": "timestamp"}]},
                "watermark": {"column": "at", "delay": "1m"}}],
            "steps": [{"name": "unique", "from": "in", "dedupe": {"keys": ["id"]}}],
            "sinks": [{"name": "out", "from": "unique", "stdout": {}}]});
        edit(&mut spec);
        let found = check(&serde_json::from_value(spec).unwrap());
        found.map_or_else(|found| found[0].path.clone(), |_| "accepted".into())
    };
    let keys = |keys: Value| spec(&|s| s["steps"][0]["dedupe"]["keys"] = keys.clone());
    assert_eq!(spec(&|_| ()), "accepted");
    assert_eq!(keys(json!(["ip"])), "spec.steps[0].dedupe.keys[0]");
    assert_eq!(keys(json!(["id", "id"])), "spec.steps[0].dedupe.keys[1]");
    assert_eq!(keys(json!([])), "spec.steps[0].dedupe.keys");
    assert_eq!(
        keys(json!(["_meta.offset"])),
        "spec.steps[0].dedupe.keys[0]"
    );
    let no_watermark =
        spec(&|s| drop(s["sources"][0].as_object_mut().unwrap().remove("watermark")));
    assert_eq!(no_watermark, "spec.steps[0].dedupe");
    let zero = spec(&|s| s["steps"][0]["dedupe"]["within"] = "0s".into());
    assert_eq!(zero, "spec.steps[0].dedupe.within");
    let nowhere = spec(&|s| s["steps"][0]["dedupe"]["late"] = "DeadLetter".into());
    assert_eq!(nowhere, "spec.steps[0].dedupe.late");
    let changed = spec(&|s| {
        s["steps"] = json!([{"name": "q", "from": "in", "query": {"select": "id, date_trunc('hour', at) AS at"}},
            {"name": "unique", "from": "q", "dedupe": {"keys": ["id"]}}]);
    });
    assert_eq!(changed, "spec.steps[1].from");
    let below = spec(&|s| {
        s["steps"] = json!([{"name": "a", "from": "in", "aggregate": {"window": {"tumbling": {"size": "1m"}},
                "groupBy": ["id"], "measures": "count(*) AS n"}},
            {"name": "unique", "from": "a", "dedupe": {"keys": ["id"]}}]);
    });
    assert_eq!(below, "spec.steps[1].dedupe");
}

/// The hash of a key is in state files: one that changed would let every event of a day pass again.
#[test]
fn the_hash_of_a_key_is_the_one_that_was_written_last_year() {
    let mut dataflow = Step {
        within: None,
        late: "Count",
    }
    .opened();
    dataflow
        .push(&name("in"), &raw(0, &[text(&(Some(7), 3, 5))]))
        .unwrap();
    let closed = dataflow.close(&Idle::new()).unwrap();
    let held = StepState::new("f".into());
    let writes: Vec<_> = dataflow
        .state_writes(&closed, &name("unique"), &held)
        .collect();
    let file = &writes[0].as_ref().unwrap().bytes;
    let decoded = crate::state::decode(file).unwrap();
    let batch = &decoded.sections[0].batches[0];
    let hash = batch.column(0).as_fixed_size_binary().value(0);
    let hash = u128::from_be_bytes(hash.try_into().unwrap());
    assert_eq!(hash, 0xc0a0_b711_3664_69ec_9a36_d883_e494_4335);
}
