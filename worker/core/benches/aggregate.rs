//! Aggregation of decoded orders into 5-minute windows, in rows a second on one core: taking rows in, and an epoch's close; and
//! state in files, in bytes a second on one core: written and read back.

#![expect(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use evp_core::check::{AggregatePlanned, StepPlanned, check};
use evp_core::position::{Epoch, Micros};
use evp_core::protocol::head::StepState;
use evp_core::step::Rows;
use evp_core::step::aggregate::Aggregate;

const ROWS: u32 = 10_000;

/// The gold table of the orders pipeline, with other groups and measures.
fn revenue(groups: &[&str], measures: &str) -> AggregatePlanned {
    let field = |name: &str, data_type: &str| serde_json::json!({"name": name, "type": data_type});
    let spec = serde_json::json!({
        "checkpoint": {"path": "s3://lake/checkpoint"},
        "sources": [{"name": "orders", "kafka": {"bootstrapServers": "k:1", "topic": "t"},
            "schema": {"fields": [field("order_id", "string"), field("customer_id", "string"), field("region", "string"),
                field("product_category", "string"), field("quantity", "int"), field("total_price", "double"),
                field("event_timestamp", "timestamp")]},
            "watermark": {"column": "event_timestamp", "delay": "10m"}}],
        "steps": [{"name": "revenue", "from": "orders", "aggregate": {"window": {"tumbling": {"size": "5m"}},
            "groupBy": groups, "measures": measures}}],
        "sinks": [{"name": "gold", "from": "revenue", "mode": "Update", "delta": {"path": "s3://lake/gold"}}]});
    let checked = serde_json::from_value(spec)
        .ok()
        .and_then(|spec| check(&spec).ok());
    match checked.as_ref().map(|checked| &checked.steps[0]) {
        Some(StepPlanned::Aggregate(planned)) => planned.clone(),
        other => unreachable!("the plan is sound: {other:?}"),
    }
}

/// Rows of 5 regions, 8 categories, 3 windows and 2,000 customers.
fn rows(plan: &AggregatePlanned, seed: u32) -> Rows {
    let mixed = |i: u32| (i + seed * ROWS).wrapping_mul(2_654_435_761) >> 7;
    let text = |prefix: &str, number: &dyn Fn(u32) -> u32| -> ArrayRef {
        let values = (0..ROWS).map(|i| format!("{prefix}-{}", number(i)));
        Arc::new(StringArray::from_iter_values(values))
    };
    let at = (0..ROWS).map(|i| 1_800_000_000_000_000 + i64::from(mixed(i) % 900) * 1_000_000);
    let columns: Vec<ArrayRef> = vec![
        text("order", &|i| i + seed * ROWS),
        text("customer", &|i| mixed(i) % 2_000),
        text("region", &|i| mixed(i) % 5),
        text("category", &|i| mixed(i) / 5 % 8),
        Arc::new(Int32Array::from_iter_values(
            (0..ROWS).map(|i| i32::try_from(i % 9).unwrap_or(0)),
        )),
        Arc::new(Float64Array::from_iter_values(
            (0..ROWS).map(|i| f64::from(mixed(i) % 50_000) / 100.0),
        )),
        Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")),
    ];
    let batch = RecordBatch::try_new(plan.input.clone(), columns)
        .unwrap_or_else(|e| unreachable!("the columns of the plan: {e}"));
    Rows {
        batch,
        origin: (0..ROWS).collect(),
    }
}

fn opened(plan: &AggregatePlanned) -> Aggregate {
    let mut aggregate = Aggregate::new(plan.clone()).unwrap_or_else(|e| unreachable!("{e}"));
    let _ = aggregate.open(Micros(0));
    aggregate
}

fn bench(c: &mut Criterion) {
    let sums = "count(order_id) AS orders, sum(total_price) AS revenue, avg(total_price) AS mean, sum(quantity) AS units";
    let gold = format!("{sums}, count(DISTINCT customer_id) AS customers");
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    for (name, measures) in [("sums", sums), ("sums and distinct", &gold)] {
        let plan = revenue(&["region", "product_category"], measures);
        let batches: Vec<Rows> = (0..16).map(|seed| rows(&plan, seed)).collect();
        let mut aggregate = opened(&plan);
        let mut next = batches.iter().cycle();
        group.bench_function(format!("push, {name}"), |b| {
            b.iter_batched(
                || next.next().cloned(),
                |rows| black_box(rows.map(|rows| aggregate.push(rows, Some(Micros(0))).is_ok())),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("epoch of 10,000 rows, {name}"), |b| {
            let mut aggregate = opened(&plan);
            b.iter_batched(
                || next.next().cloned(),
                |rows| {
                    let _ = rows.map(|rows| aggregate.push(rows, Some(Micros(0))).is_ok());
                    let closing = aggregate.close(Some(Micros(0)), true);
                    let closing = closing.unwrap_or_else(|e| unreachable!("{e}"));
                    let (change, held) = (aggregate.change(&closing), StepState::default());
                    black_box(aggregate.writes(&closing, &change, &held).count());
                    black_box(aggregate.commit(closing, Epoch(1)).is_ok())
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// A group for each of half a million orders.
fn bench_state(c: &mut Criterion) {
    let plan = revenue(
        &["order_id"],
        "count(*) AS orders, sum(total_price) AS revenue",
    );
    let mut aggregate = opened(&plan);
    for seed in 0..50 {
        let pushed = aggregate.push(rows(&plan, seed), None);
        assert!(pushed.is_ok());
    }
    let closing = aggregate
        .close(None, true)
        .unwrap_or_else(|e| unreachable!("{e}"));
    let (change, held) = (aggregate.change(&closing), StepState::default());
    let write = || aggregate.writes(&closing, &change, &held);
    let files: Vec<Vec<u8>> = write().flatten().map(|write| write.bytes).collect();
    let mut group = c.benchmark_group("state");
    let bytes: usize = files.iter().map(Vec::len).sum();
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(10);
    group.bench_function("write", |b| b.iter(|| black_box(write().count())));
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut restored = opened(&plan);
            let reader = restored.reader();
            for file in &files {
                let loaded = reader.read(file).unwrap_or_else(|e| unreachable!("{e}"));
                restored.restore(loaded, Epoch(1));
            }
            black_box(restored.state_bytes())
        });
    });
}

criterion_group!(benches, bench, bench_state);
criterion_main!(benches);
