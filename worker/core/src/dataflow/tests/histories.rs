//! Windows of every kind, alone and below each other, over random histories: rows out of order and at the watermark, idle
//! splits, epochs that are abandoned and come back in another order, processes that go on from state files. What each epoch
//! gives out is compared with a naive evaluation that keeps all rows and loops over them.

mod naive;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use serde_json::{Value, json};

use super::*;
use naive::{Model, Row};

const SECOND: i64 = 1_000_000;
const DELAY: i64 = 4;
const SPLITS: usize = 3;

/// splitmix64
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    pub(super) fn between(&mut self, least: i64, most: i64) -> i64 {
        least + i64::try_from(self.below(usize::try_from(most - least + 1).unwrap())).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A window by its manifest and, in seconds, as the naive evaluation knows it.
#[derive(Clone, Copy, Debug)]
enum Window {
    Fixed { size: i64, slide: i64, origin: i64 },
    Session { gap: i64 },
}

const TUMBLING: Window = Window::Fixed {
    size: 5,
    slide: 5,
    origin: 0,
};
const WIDE: Window = Window::Fixed {
    size: 10,
    slide: 10,
    origin: 3,
};
const HOPPING: Window = Window::Fixed {
    size: 7,
    slide: 3,
    origin: 1,
};
const SESSION: Window = Window::Session { gap: 3 };
const LONG_SESSION: Window = Window::Session { gap: 6 };

impl Window {
    fn manifest(self) -> Value {
        let seconds = |n: i64| format!("{n}s");
        match self {
            Self::Fixed {
                size,
                slide,
                origin,
            } => {
                let origin = format!("1970-01-01T00:00:{origin:02}Z");
                if size == slide {
                    json!({"tumbling": {"size": seconds(size), "origin": origin}})
                } else {
                    json!({"hopping": {"size": seconds(size), "slide": seconds(slide), "origin": origin}})
                }
            }
            Self::Session { gap } => json!({"session": {"gap": seconds(gap)}}),
        }
    }
}

/// One aggregate, or one over another.
#[derive(Clone, Copy, Debug)]
struct Shape {
    windows: &'static [Window],
    lateness: i64,
}

fn measures(window: Window) -> &'static str {
    match window {
        Window::Fixed { .. } => {
            "count(*) AS c, sum(n) AS total, min(n) AS least, max(n) AS most, count(DISTINCT n) AS ids"
        }
        Window::Session { .. } => {
            "count(*) AS c, sum(n) AS total, min(n) AS least, max(n) AS most, count(*) AS ids"
        }
    }
}

impl Shape {
    fn plan(self) -> CheckedPlan {
        let (mut steps, mut sinks, mut from) = (Vec::new(), Vec::new(), "in".to_owned());
        for (i, &window) in self.windows.iter().enumerate() {
            let name = format!("a{i}");
            steps.push(json!({"name": name, "from": from, "aggregate": {
                "window": window.manifest(), "groupBy": ["kind"], "measures": measures(window)}}));
            let below = format!("q{i}");
            steps.push(json!({"name": below, "from": name, "query": {
                "select": "window_end, kind, total AS n", "where": "total <> 7"}}));
            from = below;
            sinks.push(json!({"name": format!("append{i}"), "from": name, "stdout": {}}));
            if matches!(window, Window::Fixed { .. }) {
                sinks.push(json!({"name": format!("update{i}"), "from": name, "mode": "Update", "stdout": {}}));
            }
        }
        let field = |name: &str, data_type: &str| json!({"name": name, "type": data_type});
        let mut at = field("at", "timestamp");
        at["unit"] = "us".into();
        let spec = json!({
            "checkpoint": {"path": "s3://lake/_c"},
            "deadLetter": {"files": {"path": "s3://lake/_d"}},
            "sources": [{"name": "in", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
                "schema": {"fields": [field("kind", "long"), field("n", "long"), at]},
                "watermark": {"column": "at", "delay": format!("{DELAY}s"), "allowedLateness": format!("{}s", self.lateness)}}],
            "steps": steps, "sinks": sinks});
        check(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn models(self) -> Vec<Model> {
        let model = |&window: &Window| Model::new(window, self.lateness);
        self.windows.iter().map(model).collect()
    }
}

/// A lane: what runs, what its head and store hold, and the naive evaluation beside it.
struct Lane<'a> {
    shape: Shape,
    plan: &'a CheckedPlan,
    running: Dataflow,
    state: BTreeMap<NodeName, StepState>,
    watermarks: WatermarkSnapshots,
    files: BTreeMap<String, Vec<u8>>,
    epoch: Epoch,
    models: Vec<Model>,
    splits: [Option<i64>; SPLITS],
    watermark: Option<i64>,
}

/// A record of a split.
type Record = (usize, Row);

impl<'a> Lane<'a> {
    fn new(shape: Shape, plan: &'a CheckedPlan) -> Self {
        let mut lane = Self {
            shape,
            plan,
            running: Dataflow::new(plan).unwrap(),
            state: BTreeMap::new(),
            watermarks: WatermarkSnapshots::new(),
            files: BTreeMap::new(),
            epoch: Epoch(0),
            models: shape.models(),
            splits: [None; SPLITS],
            watermark: None,
        };
        lane.register();
        lane
    }

    fn register(&mut self) {
        for split in 0..SPLITS {
            let split = SplitId::partition(i32::try_from(split).unwrap());
            self.running.register(&name("in"), &split);
        }
    }

    /// A process that goes on from the head.
    fn restart(&mut self) {
        self.running = Dataflow::new(self.plan).unwrap();
        self.running.restore_watermarks(&self.watermarks);
        for (step, state) in &self.state {
            let reader = self.running.state_reader(step).unwrap();
            for run in state.runs() {
                for file in &run.files {
                    let loaded = reader.read(&self.files[&file.name]).unwrap();
                    self.running.restore_state(step, loaded, run.epoch).unwrap();
                }
            }
        }
        self.register();
    }

    /// Rows of an epoch go in, in batches of one split each.
    fn push(&mut self, records: &[Record]) {
        self.running.open(Micros(1_000 * SECOND)).unwrap();
        for batch in records.chunk_by(|a, b| a.0 == b.0) {
            let text = |(_, row): &Record| {
                let Row { kind, n, t } = row;
                format!(r#"{{"kind":{kind},"n":{n},"at":{}}}"#, t * SECOND)
            };
            let texts: Vec<_> = batch.iter().map(text).collect();
            let split = i32::try_from(batch[0].0).unwrap();
            let pushed = self.running.push(&name("in"), &raw(split, &texts)).unwrap();
            assert_eq!(pushed.sinks, []);
        }
    }

    fn decide(&mut self, records: &[Record], idle: &[usize], random: &mut Random) {
        let idle_splits = idle
            .iter()
            .map(|&n| SplitId::partition(i32::try_from(n).unwrap()));
        let idle_splits = Idle::from([(name("in"), idle_splits.collect())]);
        if random.one_in(6) {
            let mut other: Vec<_> = records.to_vec();
            random.shuffle(&mut other);
            self.push(&other);
            if random.one_in(2) {
                self.running.close(&idle_splits).unwrap();
            }
            self.running.abandon().unwrap();
        }
        self.push(records);
        let closed = self.running.close(&idle_splits).unwrap();
        self.agrees(records, idle, &closed);
        self.epoch = self.epoch.next();
        self.store(&closed);
        self.watermarks = closed.watermarks.clone();
        self.running.commit(closed, self.epoch).unwrap();
        if random.one_in(4) {
            self.restart();
        }
    }

    fn store(&mut self, closed: &Closed) {
        for (step, fingerprint) in self.running.fingerprints() {
            let state = self.state.entry(step.clone());
            let state = state.or_insert_with(|| StepState::new(fingerprint));
            let Some(change) = closed.state.get(&step) else {
                continue;
            };
            let mut written = Vec::new();
            for write in self.running.state_writes(closed, &step, state) {
                let StateWrite { at, bytes } = write.unwrap();
                let file = StateFile {
                    name: format!("{}-{}", self.epoch, self.files.len()),
                    length: bytes.len() as u64,
                    sha256: Digest::of(&bytes),
                };
                self.files.insert(file.name.clone(), bytes);
                written.push((at, file));
            }
            change.record(state, self.epoch, written);
        }
    }

    /// The epoch gives out and counts what the naive evaluation does.
    fn agrees(&mut self, records: &[Record], idle: &[usize], closed: &Closed) {
        let before = self.watermark;
        for &(split, row) in records {
            self.splits[split] = self.splits[split].max(Some(row.t - DELAY));
        }
        let busy = (0..SPLITS).filter(|split| !idle.contains(split));
        let lowest = busy.map(|split| self.splits[split]).min().flatten();
        self.watermark = before.max(lowest);
        let w = closed.watermarks[&name("in")].watermark;
        assert_eq!(w.map(|w| w.0), self.watermark.map(|w| w * SECOND));
        let mut rows: Vec<(i64, i64, i64)> = records
            .iter()
            .map(|(_, row)| (row.kind, row.n, row.t * SECOND))
            .collect();
        for (i, model) in self.models.iter_mut().enumerate() {
            let late = model.push(&rows, before.map(|w| w * SECOND));
            assert!(i == 0 || late == 0, "windows are never late below windows");
            let (changed, ends) = model.close(self.watermark.map(|w| w * SECOND));
            let counts = closed.ledger.steps.get(&name(&format!("a{i}")));
            let counts = counts.copied().unwrap_or_default();
            assert_eq!((counts.input, counts.late), (rows.len() as u64, late));
            let at = || {
                format!(
                    "{:?} epoch {} W {:?}",
                    self.shape, self.epoch, self.watermark
                )
            };
            assert_eq!(
                given(closed, &format!("append{i}")),
                ends,
                "closed, {}",
                at()
            );
            if matches!(self.shape.windows[i], Window::Fixed { .. }) {
                assert_eq!(
                    given(closed, &format!("update{i}")),
                    changed,
                    "changed, {}",
                    at()
                );
            }
            let passed = ends.iter().filter(|row| row[4] != 7);
            rows = passed.map(|row| (row[2], row[4], row[1] - 1)).collect();
        }
    }
}

/// What a sink was given, in order.
fn given(closed: &Closed, sink: &str) -> Vec<Vec<i64>> {
    let mut rows = Vec::new();
    for (_, batch) in closed
        .sinks
        .iter()
        .filter(|(name, _)| name.as_str() == sink)
    {
        match batch {
            SinkBatch::Rows(batch) => rows.extend(numbers(batch)),
            SinkBatch::Changes {
                rows: batch,
                delete,
            } => {
                assert!(!delete.contains(&true));
                rows.extend(numbers(batch));
            }
        }
    }
    rows.sort_unstable();
    rows
}

fn numbers(batch: &RecordBatch) -> Vec<Vec<i64>> {
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
            _ => column
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .to_vec(),
        })
        .collect();
    let row = |i: usize| columns.iter().map(|column| column[i]).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// One history: time goes on in steps, rows come a little before and after it.
fn history(shape: Shape, plan: &CheckedPlan, seed: u64) {
    let mut random = Random(seed);
    let mut lane = Lane::new(shape, plan);
    let mut now = random.between(-20, 20);
    let kinds = random.between(1, 4);
    for _ in 0..random.between(2, 10) {
        let mut records: Vec<Record> = (0..random.below(9))
            .map(|_| {
                let row = Row {
                    kind: random.between(1, kinds),
                    n: random.between(1, 5),
                    t: now + random.between(-12, 3),
                };
                (random.below(SPLITS), row)
            })
            .collect();
        if let Some(w) = lane.watermark.filter(|_| random.one_in(2)) {
            let row = Row {
                kind: 1,
                n: 1,
                t: w + random.between(-1, 1),
            };
            records.push((random.below(SPLITS), row));
        }
        random.shuffle(&mut records);
        let idle: Vec<usize> = (0..SPLITS).filter(|_| random.one_in(3)).collect();
        lane.decide(&records, &idle, &mut random);
        now += random.between(0, 9);
    }
}

/// Many sessions of few kinds, most of them untouched by an epoch: files hold what changed, and which sessions are gone. The
/// watermark follows a slow split.
fn large(window: &'static [Window], seed: u64) {
    let shape = Shape {
        windows: window,
        lateness: 0,
    };
    let (plan, mut random, mut slow) = (shape.plan(), Random(seed), 0);
    let mut lane = Lane::new(shape, &plan);
    let record = |random: &mut Random, t: i64| {
        let (kind, n) = (random.between(1, 60), random.between(1, 5));
        (0, Row { kind, n, t })
    };
    let mut tiers = BTreeSet::new();
    for epoch in 0..60 {
        let rows = if epoch == 0 { 1_500 } else { random.below(7) };
        let times = |random: &mut Random| (slow - 8).max(0) + random.between(0, 4_000 - slow);
        let mut records: Vec<Record> = (0..rows)
            .map(|_| {
                let t = times(&mut random);
                record(&mut random, t)
            })
            .collect();
        let (kind, n, t) = (1, 1, slow + DELAY);
        records.push((1, Row { kind, n, t }));
        lane.decide(&records, &[2], &mut random);
        tiers.extend(
            lane.state
                .values()
                .flat_map(StepState::runs)
                .map(|run| run.tier),
        );
        slow += random.between(0, 12);
    }
    assert_eq!(tiers, [0, 1].into());
}

#[test]
fn sessions_that_close_or_are_joined_stay_gone_in_files_of_changes() {
    for seed in 0..4 {
        large(&[SESSION], seed);
        large(&[LONG_SESSION], seed);
    }
}

#[test]
fn what_a_window_gives_reaches_the_windows_below_it_in_the_epoch_that_closes_both() {
    let shape = Shape {
        windows: &[TUMBLING, TUMBLING],
        lateness: 2,
    };
    let plan = shape.plan();
    let (mut lane, mut random) = (Lane::new(shape, &plan), Random(0));
    let at = |t| vec![(0, Row { kind: 1, n: 1, t })];
    for (t, ends) in [(1, 0), (5 + DELAY + 1, 0), (5 + DELAY + 2, 1)] {
        lane.push(&at(t));
        let idle = [1, 2].map(SplitId::partition).into();
        let closed = lane
            .running
            .close(&Idle::from([(name("in"), idle)]))
            .unwrap();
        for sink in ["append0", "append1"] {
            assert_eq!(given(&closed, sink).len(), ends, "{sink} {t}");
        }
        lane.running.abandon().unwrap();
        lane.decide(&at(t), &[1, 2], &mut random);
    }
}

/// Rows (kind, n, seconds) of an epoch that only split 0 speaks in; what the step's sink was given, and its late rows.
fn epoch(running: &mut Dataflow, rows: &[(i64, i64)]) -> (Vec<Vec<i64>>, u64) {
    running.open(Micros(1_000 * SECOND)).unwrap();
    let text = |(n, t): &(i64, i64)| format!(r#"{{"kind":1,"n":{n},"at":{}}}"#, t * SECOND);
    let texts: Vec<_> = rows.iter().map(text).collect();
    running.push(&name("in"), &raw(0, &texts)).unwrap();
    let closed = running.close(&Idle::new()).unwrap();
    let late = closed.ledger.steps.get(&name("a0")).map_or(0, |c| c.late);
    let rows = given(&closed, "append0");
    running.commit(closed, Epoch(1)).unwrap();
    (rows, late)
}

#[test]
fn after_a_reset_a_session_that_may_be_the_rest_of_an_older_one_is_not_given_out() {
    let shape = Shape {
        windows: &[SESSION],
        lateness: 0,
    };
    let mut running = Dataflow::new(&shape.plan()).unwrap();
    running.begin_at(&name("a0"), Micros(10 * SECOND + 1));
    // One row of before; one that may follow it within the gap; one that follows that; one that follows none.
    let (given, late) = epoch(&mut running, &[(1, 10), (2, 12), (3, 14), (4, 20)]);
    assert_eq!((given, late), (Vec::new(), 1));
    let (given, late) = epoch(&mut running, &[(5, 40)]);
    let starts: Vec<_> = given.iter().map(|row| row[0] / SECOND).collect();
    assert_eq!((starts, late), (vec![20], 0));
}

/// Histories over windows, without and with lateness allowed.
fn check_all(windows: &'static [Window], seeds: std::ops::Range<u64>) {
    for lateness in [0, 2] {
        let shape = Shape { windows, lateness };
        let plan = shape.plan();
        seeds.clone().for_each(|seed| history(shape, &plan, seed));
    }
}

#[test]
fn rules_5_6_16_18_tumbling_windows_are_what_a_naive_evaluation_says_after_any_history() {
    check_all(&[TUMBLING], 0..50);
}

#[test]
fn rules_5_6_16_18_hopping_windows_are_what_a_naive_evaluation_says_after_any_history() {
    check_all(&[HOPPING], 0..50);
}

#[test]
fn rules_5_6_17_sessions_are_what_a_naive_evaluation_says_after_any_history() {
    check_all(&[SESSION], 0..100);
}

#[test]
fn rule_7_windows_over_windows_are_what_a_naive_evaluation_says_after_any_history() {
    for windows in CHAINS {
        check_all(windows, 0..20);
    }
}

const CHAINS: [&[Window]; 4] = [
    &[TUMBLING, WIDE],
    &[HOPPING, LONG_SESSION],
    &[SESSION, TUMBLING, WIDE],
    &[SESSION, LONG_SESSION],
];

#[test]
#[ignore = "minutes of a core: run by ./tests/run laws"]
fn ten_thousand_histories_of_windows_are_what_a_naive_evaluation_says() {
    check_all(&[TUMBLING], 1_000..2_200);
    check_all(&[HOPPING], 1_000..2_200);
    check_all(&[SESSION], 1_000..2_600);
    for windows in CHAINS {
        check_all(windows, 1_000..1_300);
    }
}
