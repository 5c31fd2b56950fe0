//! The one pipeline of the simulation: sample orders to bronze (append), per window and region to gold (upsert), each event once
//! to Parquet files, what cannot be processed and what is late to the dead letters.

use std::sync::Arc;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_core::check::{CheckedPlan, check};

use crate::generate::Planting;
use crate::job::Sample;

/// Event time that a window covers, in microseconds.
pub(super) const WINDOW: i64 = 20_000_000;
/// How far the watermark stays behind, in microseconds.
pub(super) const DELAY: i64 = 30_000_000;
/// How far ahead of its epoch's time an event may be, in microseconds.
pub(super) const MAX_FUTURE: i64 = 3_600_000_000;
/// Events a second.
pub(super) const RATE: u64 = 1;

/// What varies between plans.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    pub(super) events: u64,
    pub(super) per_epoch: u64,
    pub(super) seed: u64,
    /// Beside bronze, orders that were placed go to a table of their own.
    pub(super) placed: bool,
    /// The sales mean something else, and `resetNonce` consents to counting them anew.
    pub(super) anew: bool,
}

/// A plan with the spec it was checked from.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub(super) spec: EventPipelineSpec,
    pub(super) checked: Arc<CheckedPlan>,
}

/// Bad, late, repeated and disordered events, more of them than in any example.
pub(super) fn planting() -> Planting {
    Planting {
        duplicates: 0.06,
        disorder: 0.15,
        late: 0.06,
        future: 0.03,
        malformed: 0.08,
        late_from: 10,
    }
}

/// All events are due before the first start.
pub(super) fn sample() -> Sample {
    Sample {
        planting: planting(),
        backlog: Duration::from_hours(1),
    }
}

impl Pipeline {
    pub(super) fn new(shape: Shape) -> Self {
        let Shape {
            events,
            per_epoch,
            seed,
            placed,
            anew,
        } = shape;
        let mut text = TEXT
            .replace("PER_EPOCH", &per_epoch.to_string())
            .replace("EVENTS", &events.to_string())
            .replace("SEED", &seed.to_string());
        if placed {
            text.push_str(PLACED);
        }
        if anew {
            text = text.replace("sum(quantity)", "sum(quantity * 1)");
            text.push_str("resetNonce: 1\n");
        }
        let spec: EventPipelineSpec = serde_saphyr::from_str(&text).unwrap();
        let checked = check(&spec).unwrap_or_else(|found| panic!("{found:?}"));
        Self {
            spec,
            checked: Arc::new(checked),
        }
    }
}

const TEXT: &str = r"
checkpoint:
  path: s3://lake/checkpoint
  maxRecordsPerEpoch: PER_EPOCH
deadLetter:
  files:
    path: s3://lake/dead-letters
    format: JsonLines
sources:
- name: orders
  generator:
    template: orders
    rate: 1
    seed: SEED
    limit: EVENTS
  schema:
    fields:
    - {name: order_id, type: string}
    - {name: product_id, type: string}
    - {name: quantity, type: int}
    - {name: event_type, type: string}
    - {name: region, type: string}
    - {name: event_timestamp, type: timestamp}
  watermark:
    column: event_timestamp
    delay: 30s
    idleTimeout: 240h
steps:
- name: placed
  from: orders
  query:
    where: event_type = 'ORDER_PLACED'
- name: with-offsets
  from: orders
  query:
    select: _meta.partition AS part, _meta.offset AS pos, order_id, quantity, event_timestamp
- name: unique
  from: orders
  dedupe:
    keys: [order_id, quantity, event_timestamp]
- name: sales
  from: placed
  aggregate:
    window:
      tumbling:
        size: 20s
    groupBy: [region]
    measures: count(order_id) AS orders, sum(quantity) AS units, count(DISTINCT product_id) AS products
    late: DeadLetter
sinks:
- name: bronze
  from: with-offsets
  delta:
    path: s3://lake/bronze
- name: gold
  from: sales
  mode: Update
  delta:
    path: s3://lake/gold
- name: once
  from: unique
  parquet:
    path: s3://lake/once
    partitionBy: [region]
";

const PLACED: &str = r"- name: placed-orders
  from: placed
  delta:
    path: s3://lake/placed-orders
";
