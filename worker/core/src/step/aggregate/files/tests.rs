//! Laws of state in files, over random histories against maps: what is restored is what was, what did not change is not
//! written, and what is written is in proportion to what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::row::RowConverter;

use super::*;
use crate::check::{StepPlanned, check};
use crate::protocol::digest::Digest;
use crate::protocol::head::StateFile;
use crate::step::aggregate::groups::key_converter;
use crate::step::aggregate::layout::Layout;
use crate::step::aggregate::measures::{Measures, distinct_key};
use crate::step::aggregate::store::MergedRow;

const MINUTE: i64 = 60_000_000;

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Rows as a person would keep them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Rows {
    groups: BTreeMap<Vec<u8>, Vec<u8>>,
    distinct: BTreeSet<Vec<u8>>,
}

impl Rows {
    fn of(state: &State) -> Self {
        let windows = || state.windows.values();
        let groups = windows().flat_map(|window| &window.groups);
        let values = windows().flat_map(|window| window.distinct.keys());
        Self {
            groups: groups
                .map(|(key, row)| (key.to_vec(), row.state.to_vec()))
                .collect(),
            distinct: values.map(|key| key.to_vec()).collect(),
        }
    }

    fn apply(&mut self, merged: &Merged) {
        let Self { groups, distinct } = self;
        groups.extend(merged.changed().map(|(k, s)| (k.to_vec(), s.to_vec())));
        distinct.extend(merged.distinct.iter().map(|key| key.to_vec()));
        let closed = |start: i64| merged.closed.contains(&start);
        groups.retain(|key, _| !closed(start_of(key)));
        distinct.retain(|key| !start_of_distinct(key).is_some_and(closed));
    }
}

/// An aggregate's layout, and what makes rows for it.
struct Maker {
    keys: RowConverter,
    texts: RowConverter,
    new: Box<dyn Fn() -> State>,
}

impl Maker {
    fn new() -> Self {
        let spec = serde_json::json!({
            "checkpoint": {"path": "s3://lake/_c"},
            "sources": [{"name": "orders", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
                "schema": {"fields": [{"name": "kind", "type": "string"}, {"name": "id", "type": "string"},
                    {"name": "at", "type": "timestamp", "unit": "us"}]},
                "watermark": {"column": "at", "delay": "10m"}}],
            "steps": [{"name": "sums", "from": "orders", "aggregate": {"window": {"tumbling": {"size": "5m"}},
                "groupBy": ["kind"], "measures": "count(*) AS n, count(DISTINCT id) AS ids"}}],
            "sinks": [{"name": "gold", "from": "sums", "mode": "Update", "delta": {"path": "s3://lake/gold"}}]});
        let checked = check(&serde_json::from_value(spec).unwrap()).unwrap();
        let StepPlanned::Aggregate(plan) = checked.steps[0].clone() else {
            panic!("an aggregate")
        };
        let text = arrow::row::SortField::new(arrow::datatypes::DataType::Utf8);
        Self {
            keys: key_converter(&plan).unwrap(),
            texts: RowConverter::new(vec![text]).unwrap(),
            new: Box::new(move || {
                let measures = Measures::new(&plan).unwrap();
                State::new(Layout::new(&plan, &measures).unwrap())
            }),
        }
    }

    /// A change of these groups (window, number), each with a value that it counts.
    fn merged(&self, state: &State, groups: &BTreeSet<(i64, u64)>, value: u64) -> Merged {
        let starts: ArrayRef = Arc::new(Int64Array::from_iter_values(groups.iter().map(|g| g.0)));
        let kinds = groups.iter().map(|g| format!("kind-{}", g.1));
        let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(kinds));
        let keys = self.keys.convert_columns(&[starts, kinds]).unwrap();
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![
            i64::try_from(value).unwrap();
            groups.len()
        ]));
        let counts = state
            .layout
            .states_of(&[Arc::clone(&counts), counts])
            .unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec![format!("value-{}", value % 3)]));
        let texts = self.texts.convert_columns(&[texts]).unwrap();
        let mut merged = Merged::default();
        for (key, count) in keys.iter().zip(counts.iter()) {
            let key: Arc<[u8]> = key.data().into();
            let stored = state.windows.get(&start_of(&key));
            let stored = stored.and_then(|window| window.groups.get(&key));
            let mut value = Vec::new();
            distinct_key(&mut value, 1, &key, texts.row(0).data());
            if !state.has_distinct(start_of(&key), &value) {
                merged.distinct.push(value.into());
            }
            merged.rows.push(MergedRow {
                changed: stored.is_none_or(|row| &*row.state != count.data()),
                state: count.data().into(),
                key,
            });
        }
        merged
    }
}

/// A lane with one step.
struct Lane {
    running: State,
    model: Rows,
    held: StepState,
    files: BTreeMap<String, Vec<u8>>,
    epoch: Epoch,
    /// The bytes of changes are counted.
    measures: bool,
    /// Bytes that were written, and that the changes alone would have taken.
    written: usize,
    changed: usize,
}

impl Lane {
    fn new(maker: &Maker) -> Self {
        Self {
            running: (maker.new)(),
            model: Rows::default(),
            held: StepState::new("f".into()),
            files: BTreeMap::new(),
            epoch: Epoch(0),
            measures: false,
            written: 0,
            changed: 0,
        }
    }

    /// Decides an epoch.
    fn decide(&mut self, merged: Merged) {
        self.epoch = self.epoch.next();
        let (epoch, change) = (self.epoch, self.running.change(&merged));
        let mut next = self.held.clone();
        let mut written = Vec::new();
        for write in writes((&self.running, &merged), &change, &self.held) {
            let StateWrite { at, bytes } = write.unwrap();
            let name = format!("{epoch}-{}", self.files.len());
            let file = StateFile {
                name: name.clone(),
                length: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            };
            self.written += bytes.len();
            assert_eq!(self.files.insert(name, bytes), None);
            written.push((at, file));
        }
        for bucket in change.changed.iter().filter(|_| self.measures) {
            let parts = parts((&self.running, &merged), *bucket, Since::Now);
            self.changed += parts.map(|part| part.unwrap().len()).sum::<usize>();
        }
        change.record(&mut next, epoch, written);
        let untouched = |(bucket, _): &(&Bucket, &Vec<Run>)| {
            !change.changed.contains(bucket) && !change.gone.contains(bucket)
        };
        assert_eq!(
            next.buckets.iter().filter(untouched).collect::<Vec<_>>(),
            self.held
                .buckets
                .iter()
                .filter(untouched)
                .collect::<Vec<_>>(),
            "what did not change is left as it is"
        );
        self.held = next;
        self.model.apply(&merged);
        self.running.apply(merged, epoch);
        assert!(Rows::of(&self.running) == self.model);
    }

    /// The state that a head's files hold.
    fn restored(&self, maker: &Maker) -> State {
        let mut state = (maker.new)();
        for run in self.held.runs() {
            for file in &run.files {
                let loaded = state.layout.read(&self.files[&file.name]).unwrap();
                state.take_in(loaded, run.epoch);
            }
        }
        assert!(Rows::of(&state) == self.model, "epoch {}", self.epoch);
        assert_eq!(state.bytes(), self.running.bytes());
        state
    }
}

/// One history: groups of windows that move on change, windows close and now and then come back, processes restart.
fn history(maker: &Maker, seed: u64, epochs: u64, groups: u64) -> Lane {
    let mut random = Random(seed);
    let mut lane = Lane::new(maker);
    let mut now = 0_i64;
    for _ in 0..epochs {
        let many = if random.one_in(12) { groups } else { 3 };
        let rows = random.below(many + 1);
        let mut touched = BTreeSet::new();
        for _ in 0..rows {
            let back = i64::try_from(random.below(30)).unwrap();
            touched.insert(((now - back) * 5 * MINUTE, random.below(groups)));
        }
        let mut merged = maker.merged(&lane.running, &touched, random.below(1_000));
        if random.one_in(3) {
            now += i64::try_from(random.below(4)).unwrap();
            let closes = (now - 20) * 5 * MINUTE;
            merged = lane.running.closing(merged, |start| start < closes);
        }
        lane.decide(merged);
        if random.one_in(4) {
            lane.running = lane.restored(maker);
        }
    }
    lane.restored(maker);
    lane
}

#[test]
fn after_any_history_the_files_hold_what_a_map_would() {
    let maker = Maker::new();
    for seed in 0..1_000 {
        history(&maker, seed, 8, 1 + seed % 40);
    }
    for seed in 1_000..1_005 {
        history(&maker, seed, 80, 200);
    }
}

#[test]
fn small_changes_of_a_large_state_go_through_every_tier_and_cost_in_proportion_to_themselves() {
    let maker = Maker::new();
    for seed in 0..2 {
        let (mut lane, mut random) = (Lane::new(&maker), Random(seed));
        lane.measures = true;
        let all = (0..3_000).map(|group| (0, group)).collect();
        let merged = maker.merged(&lane.running, &all, 0);
        lane.decide(merged);
        let base = lane.written;
        let mut tiers = BTreeSet::new();
        for epoch in 1..=130 {
            let touched = (0..2).map(|_| (0, random.below(3_000))).collect();
            let merged = maker.merged(&lane.running, &touched, epoch);
            lane.decide(merged);
            tiers.extend(lane.held.runs().map(|run| run.tier));
            if random.one_in(20) {
                lane.running = lane.restored(&maker);
            }
        }
        lane.restored(&maker);
        assert_eq!(tiers, [0, 1, 2].into());
        let (written, changed) = (lane.written - base, lane.changed - base);
        assert!(written <= changed * 8, "{written} for {changed}");
        assert!(lane.held.runs().count() <= 1 + 7 * 3);
    }
}

#[test]
fn windows_that_close_one_by_one_stay_closed_through_every_merge_of_their_bucket() {
    let maker = Maker::new();
    for seed in 0..4 {
        let (mut lane, mut random) = (Lane::new(&maker), Random(seed));
        let all = (0..2_400).map(|n| ((n % 12) * 5 * MINUTE, n.unsigned_abs()));
        let merged = maker.merged(&lane.running, &all.collect(), 0);
        lane.decide(merged);
        let mut tiers = BTreeSet::new();
        for epoch in 1..=40 {
            // The newest windows stay, so that the bucket does; those before them close at any time, and may come back.
            let window = i64::try_from(random.below(12)).unwrap() * 5 * MINUTE;
            let touched = [(window, random.below(2_400))].into();
            let mut merged = maker.merged(&lane.running, &touched, epoch);
            if random.one_in(4) {
                let closes = i64::try_from(random.below(4)).unwrap() * 5 * MINUTE;
                merged = lane.running.closing(merged, |start| start == closes);
            }
            lane.decide(merged);
            tiers.extend(lane.held.runs().map(|run| run.tier));
            if random.one_in(3) {
                lane.running = lane.restored(&maker);
            }
        }
        lane.restored(&maker);
        assert!(tiers.contains(&1), "{tiers:?}");
    }
}

#[test]
fn equal_states_make_equal_files() {
    let maker = Maker::new();
    let files = || history(&maker, 7, 30, 200).files;
    assert_eq!(files(), files());
}

#[test]
fn a_window_that_closed_stays_closed_in_the_files_of_a_bucket_that_stands_and_may_come_back() {
    let maker = Maker::new();
    let mut lane = Lane::new(&maker);
    let groups = |windows: &[i64]| windows.iter().map(|w| (w * 5 * MINUTE, 1)).collect();
    let merged = maker.merged(&lane.running, &groups(&[0, 1, 2]), 1);
    lane.decide(merged);
    let merged = lane.running.closing(Merged::default(), |start| start == 0);
    lane.decide(merged);
    assert_eq!(lane.restored(&maker).windows.len(), 2);
    for (epoch, window) in [1, 2, 0, 1, 2, 1, 2, 1, 2, 1].into_iter().enumerate() {
        let value = 2 + epoch as u64;
        let merged = maker.merged(&lane.running, &groups(&[window]), value);
        lane.decide(merged);
        lane.running = lane.restored(&maker);
    }
    let merged = lane.running.closing(Merged::default(), |_| true);
    lane.decide(merged);
    assert_eq!(lane.held.buckets, BTreeMap::new());
    assert_eq!((lane.running.bytes(), lane.running.closed.len()), (0, 0));
}
