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

/// Spreads numbers as hashes do.
fn mix(i: u64) -> u64 {
    let i = (i ^ i >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let i = (i ^ i >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    i ^ i >> 31
}

/// Orders of one batch, column by column.
struct Orders {
    start: i64,
}

impl Orders {
    fn rows(&self) -> impl Iterator<Item = u64> {
        (self.start..self.start + ROWS).map(i64::unsigned_abs)
    }

    fn text(&self, value: impl Fn(u64) -> String) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.rows().map(value)))
    }

    fn int(&self, value: impl Fn(u64) -> u64) -> ArrayRef {
        let values = self.rows().map(|i| i32::try_from(value(i)).unwrap_or(0));
        Arc::new(Int32Array::from_iter_values(values))
    }

    fn money(&self) -> ArrayRef {
        let cents = |i| i32::try_from(mix(i) % 50_000).map_or(0.0, |c| f64::from(c) / 100.0);
        Arc::new(Float64Array::from_iter_values(self.rows().map(cents)))
    }

    /// Advances by 200 µs a row, up to half a second out of order.
    fn time(&self, base: i64) -> ArrayRef {
        let micros = |i| i64::try_from(i * 200 + mix(i) % 500_000).unwrap_or(0);
        let times = self.rows().map(|i| base + micros(i));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    }

    fn batch(&self) -> RecordBatch {
        let kind =
            |i: u64| ["ORDER_PLACED", "ORDER_SHIPPED"][usize::from(i.is_multiple_of(3))].to_owned();
        let name = |i| format!("Wireless Noise Headphones {}", mix(i) % 500);
        let offsets = self.start..self.start + ROWS;
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "order_id",
                self.text(|i| format!("{:016x}-{:016x}", mix(i), mix(!i))),
            ),
            (
                "customer_id",
                self.text(|i| format!("cust-{:05}", mix(i) % 50_000)),
            ),
            (
                "product_id",
                self.text(|i| format!("prod-{:03}", mix(i) % 500)),
            ),
            ("product_name", self.text(name)),
            (
                "product_category",
                self.text(|i| format!("category-{}", mix(i) % 8)),
            ),
            ("quantity", self.int(|i| mix(i) % 5)),
            ("unit_price", self.money()),
            ("total_price", self.money()),
            ("event_type", self.text(kind)),
            ("region", self.text(|i| format!("region-{}", mix(i) % 5))),
            ("event_timestamp", self.time(1_767_225_600_000_000)),
            ("kafka_ingest_ts", self.time(1_767_225_601_000_000)),
            ("kafka_partition", self.int(|i| i % 3)),
            (
                "kafka_offset",
                Arc::new(Int64Array::from_iter_values(offsets)),
            ),
        ];
        RecordBatch::try_from_iter(columns)
            .unwrap_or_else(|e| unreachable!("columns of one length: {e}"))
    }
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
    let batches: Vec<_> = (0..BATCHES)
        .map(|i| Orders { start: i * ROWS }.batch())
        .collect();
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
        b.iter(|| runtime.block_on(write(&batches, &encode)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    orders(&mut criterion);
    criterion.final_summary();
}
