//! What the tables must hold, by plain loops over the events: no code of the engine runs here.

use std::collections::{BTreeMap, BTreeSet};

use evp_api::plan::Template;
use serde_json::Value;

use super::pipeline::{DELAY, MAX_FUTURE, RATE, WINDOW, planting};
use super::universe::Decision;
use crate::generate::{Event, Events, Kind, Settings};

/// What one epoch leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Expected {
    /// Rows that bronze gains.
    pub(super) bronze: Vec<String>,
    /// Rows that the table of placed orders gains, if the plan has one.
    pub(super) placed: Vec<String>,
    /// All rows of gold.
    pub(super) gold: Vec<String>,
    /// Some row of gold is another one than before.
    pub(super) gold_changed: bool,
    /// Rows that the Parquet files gain: each event once.
    pub(super) once: Vec<String>,
    /// Events that had come before.
    pub(super) duplicates: u64,
    /// Dead letters: step, split, position.
    pub(super) letters: Vec<String>,
    pub(super) watermark: Option<i64>,
    /// Rows of gold whose window was closed before this epoch.
    pub(super) closed: BTreeSet<String>,
    pub(super) read: u64,
}

/// A window and region: orders, units, products.
type Group = (u64, i64, BTreeSet<String>);

#[derive(Default)]
struct Evaluation {
    newest: [Option<i64>; 3],
    watermark: Option<i64>,
    gold: BTreeMap<(i64, String), Group>,
    /// Events that came in time, for ever.
    passed: BTreeSet<String>,
    /// Windows that start earlier were begun before a reset.
    from: Option<i64>,
}

/// What each epoch must leave, from epoch 1 on; `decided`: the body of each epoch from 0 on.
pub(super) fn evaluate(seed: u64, decided: &[Decision]) -> Vec<Expected> {
    let started = decided[0].head["body"]["positions"]["orders"]["0"]["started"].as_i64();
    let settings = Settings {
        seed,
        started: evp_core::position::Micros(started.unwrap_or_default()),
        rate: RATE,
        partitions: 3,
        planting: planting(),
        idle: None,
    };
    let orders = Events::new(Template::Orders, settings);
    let mut evaluation = Evaluation::default();
    let epochs = decided.windows(2).map(|pair| {
        let now = pair[1].head["body"]["epochTime"]
            .as_i64()
            .unwrap_or_default();
        let (from, to) = (pair[0].positions(), pair[1].positions());
        if pair[1].reset_nonce() > pair[0].reset_nonce() {
            evaluation.begin_anew();
        }
        let mut epoch = Expected::default();
        let mut newest = evaluation.newest;
        for split in 0..3 {
            for position in from[split]..to[split] {
                let event = orders.event(position * 3 + split as u64);
                evaluation.record((split, position), (&event, now), &mut epoch, &mut newest);
            }
        }
        evaluation.close(newest, &mut epoch);
        epoch
    });
    epochs.collect()
}

impl Evaluation {
    /// Every plan with a higher nonce counts something else: only windows that no event was in yet will be whole.
    fn begin_anew(&mut self) {
        self.from = self.newest.into_iter().flatten().max().map(|t| t + 1);
    }

    fn record(
        &mut self,
        (split, position): (usize, u64),
        (event, now): (&Event, i64),
        epoch: &mut Expected,
        newest: &mut [Option<i64>; 3],
    ) {
        epoch.read += 1;
        if event.kind == Kind::Malformed || event.time.0 > now + MAX_FUTURE {
            return epoch.letters.push(format!("orders {split} {position}"));
        }
        let order: Value = serde_json::from_slice(&event.value).unwrap();
        let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
        let quantity = order["quantity"].as_i64().unwrap_or_default();
        newest[split] = newest[split].max(Some(event.time.0));
        let (id, time) = (text("order_id"), event.time.0);
        epoch
            .bronze
            .push(format!("{split} {position} {id} {quantity} {time}"));
        // Equal keys are equal rows here, so it does not matter which of them passes.
        let row = format!("{id} {quantity} {time}");
        if self.watermark.is_none_or(|w| time >= w) {
            match self.passed.insert(row.clone()) {
                true => epoch.once.push(row.clone()),
                false => epoch.duplicates += 1,
            }
        }
        if text("event_type") != "ORDER_PLACED" {
            return;
        }
        epoch.placed.push(row);
        let start = event.time.0.div_euclid(WINDOW) * WINDOW;
        let is_part = self.from.is_some_and(|from| start < from);
        if is_part || self.watermark.is_some_and(|w| start + WINDOW <= w) {
            return epoch.letters.push(format!("sales {split} {position}"));
        }
        let group = self.gold.entry((start, text("region"))).or_default();
        group.0 += 1;
        group.1 += quantity;
        group.2.insert(text("product_id"));
        epoch.gold_changed = true;
    }

    fn close(&mut self, newest: [Option<i64>; 3], epoch: &mut Expected) {
        let before = self.watermark;
        self.newest = newest;
        let least: Option<Vec<i64>> = newest.into_iter().collect();
        let least = least
            .and_then(|all| all.into_iter().min())
            .map(|t| t - DELAY);
        self.watermark = self.watermark.max(least);
        epoch.watermark = self.watermark;
        for ((start, region), (orders, units, products)) in &self.gold {
            let row = format!("{start} {region} {orders} {units} {}", products.len());
            if before.is_some_and(|w| start + WINDOW <= w) {
                epoch.closed.insert(row.clone());
            }
            epoch.gold.push(row);
        }
        for rows in [
            &mut epoch.bronze,
            &mut epoch.placed,
            &mut epoch.gold,
            &mut epoch.once,
            &mut epoch.letters,
        ] {
            rows.sort();
        }
    }
}
