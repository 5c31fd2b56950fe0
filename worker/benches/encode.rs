//! Writing orders as Parquet, in rows a second: what a Delta append costs beside decoding.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use criterion::{Criterion, Throughput};
use evp_worker::sink::parquet_writer::{Encode, FileWriter, WrittenFile};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

const BATCHES: i64 = 20;
const ROWS: i64 = 10_000;

fn text(f: impl Fn(u64) -> String, start: i64) -> ArrayRef {
    let rows = (start..start + ROWS).map(|i| f(i.unsigned_abs()));
    Arc::new(StringArray::from_iter_values(rows))
}

/// Spreads numbers as hashes do.
fn mix(i: u64) -> u64 {
    let i = (i ^ i >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let i = (i ^ i >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    i ^ i >> 31
}

fn batch(number: i64) -> RecordBatch {
    let start = number * ROWS;
    let time = |base: i64| -> ArrayRef {
        let times = (0..ROWS).map(|i| {
            base + (start + i) * 200 + i64::try_from(mix(i.unsigned_abs()) % 500_000).unwrap_or(0)
        });
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let cents = |i: i64| {
        i32::try_from(mix(i.unsigned_abs()) % 50_000).map_or(0.0, |c| f64::from(c) / 100.0)
    };
    let money = || -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(
            (start..start + ROWS).map(cents),
        ))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "order_id",
            text(|i| format!("{:016x}-{:016x}", mix(i), mix(!i)), start),
        ),
        (
            "customer_id",
            text(|i| format!("cust-{:05}", mix(i) % 50_000), start),
        ),
        (
            "product_id",
            text(|i| format!("prod-{:03}", mix(i) % 500), start),
        ),
        (
            "product_name",
            text(
                |i| format!("Wireless Noise Headphones {}", mix(i) % 500),
                start,
            ),
        ),
        (
            "product_category",
            text(|i| format!("category-{}", mix(i) % 8), start),
        ),
        (
            "quantity",
            Arc::new(Int32Array::from_iter_values(
                (0..ROWS).map(|i| i32::try_from(mix(i.unsigned_abs()) % 5).unwrap_or(0)),
            )),
        ),
        ("unit_price", money()),
        ("total_price", money()),
        (
            "event_type",
            text(
                |i| ["ORDER_PLACED", "ORDER_SHIPPED"][usize::from(i % 3 == 0)].to_owned(),
                start,
            ),
        ),
        ("region", text(|i| format!("region-{}", mix(i) % 5), start)),
        ("event_timestamp", time(1_767_225_600_000_000)),
        ("kafka_ingest_ts", time(1_767_225_601_000_000)),
        (
            "kafka_partition",
            Arc::new(Int32Array::from_iter_values(
                (0..ROWS).map(|i| i32::try_from(i % 3).unwrap_or(0)),
            )),
        ),
        (
            "kafka_offset",
            Arc::new(Int64Array::from_iter_values(start..start + ROWS)),
        ),
    ];
    RecordBatch::try_from_iter(columns)
        .unwrap_or_else(|e| unreachable!("columns of one length: {e}"))
}

async fn write(batches: &[RecordBatch], encode: &Encode) -> WrittenFile {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let written = async {
        let mut file = FileWriter::create(&store, Path::from("t/f.parquet"), encode)?;
        for batch in batches {
            file.write(batch.clone()).await?;
        }
        file.finish().await
    };
    written
        .await
        .unwrap_or_else(|e| unreachable!("memory takes all: {e}"))
}

fn orders(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build();
    let runtime = runtime.unwrap_or_else(|e| unreachable!("a runtime: {e}"));
    let batches: Vec<_> = (0..BATCHES).map(batch).collect();
    // As every file after the first is written.
    let mut encode = Encode::new(batches[0].schema());
    encode
        .plain
        .extend(runtime.block_on(write(&batches, &encode)).plain());
    let file = runtime.block_on(write(&batches, &encode));
    eprintln!(
        "{} bytes a row; no dictionary for {:?}",
        file.size / file.rows(),
        encode.plain
    );
    let mut group = criterion.benchmark_group("encode");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(file.rows()));
    group.bench_function("orders", |b| {
        b.iter(|| runtime.block_on(write(&batches, &encode)))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    orders(&mut criterion);
    criterion.final_summary();
}
