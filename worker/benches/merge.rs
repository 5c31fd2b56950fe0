//! Merging one epoch's changed windows into a table of some thousands: what a Delta upsert costs.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use criterion::{Criterion, Throughput};
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::Lane;
use evp_worker::checkpointer::CrashPoints;
use evp_worker::clock::SystemClock;
use evp_worker::sink::Sink;
use evp_worker::sink::delta::{DeltaSettings, DeltaUpsert, Target};
use evp_worker::sink::outbox::Outbox;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use url::Url;

/// Windows in the table.
const WINDOWS: i64 = 10_000;

/// Windows that an epoch changes.
const CHANGED: i64 = 1_000;

const APP: &str = "0123456789abcdef";

/// Windows `start..start + count` as epoch `epoch` has them.
fn windows(start: i64, count: i64, epoch: i64) -> RecordBatch {
    let rows = || start..start + count;
    let time = |i: i64| 1_767_225_600_000_000 + i / 40 * 300_000_000;
    let text = |f: fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows().map(f)))
    };
    let times = |shift: i64| -> ArrayRef {
        let times = rows().map(|i| time(i) + shift);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let count: ArrayRef = Arc::new(Int64Array::from_iter_values(
        rows().map(|i| i % 100 + epoch),
    ));
    let sums = rows().map(|i| f64::from(i32::try_from(i % 977 + epoch).unwrap_or(0)) * 1.25);
    let sum: ArrayRef = Arc::new(Float64Array::from_iter_values(sums));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("window_start", times(0)),
        ("window_end", times(300_000_000)),
        ("region", text(|i| format!("region-{}", i % 5))),
        (
            "product_category",
            text(|i| format!("category-{}", i / 5 % 8)),
        ),
        ("order_count", Arc::clone(&count)),
        ("total_revenue", Arc::clone(&sum)),
        ("avg_order_value", sum),
        ("unique_customers", count),
    ];
    RecordBatch::try_from_iter(columns)
        .unwrap_or_else(|e| unreachable!("columns of one length: {e}"))
}

async fn epoch(
    sink: &mut DeltaUpsert,
    number: u64,
    rows: RecordBatch,
) -> Result<(), Box<dyn std::error::Error>> {
    sink.stage(SinkBatch::Rows(rows)).await?;
    let body = sink.seal(Epoch(number)).await?.unwrap_or_default();
    let intent = Intent {
        sink: SinkIdentity(APP.to_owned()),
        epoch: Epoch(number),
        prev: (number > 1).then(|| Epoch(number - 1)),
        body,
        apart: None,
    };
    sink.roll_forward(&intent).await?;
    Ok(())
}

async fn open() -> Result<DeltaUpsert, Box<dyn std::error::Error>> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let settings = DeltaSettings {
        identity: SinkIdentity(APP.to_owned()),
        target: Target {
            store: Arc::clone(&store),
            prefix: Path::from("gold"),
            url: Url::parse("memory:///gold")?,
        },
        rows: windows(0, 1, 0).schema(),
        partition_by: Vec::new(),
        nonce: "n".to_owned(),
        clock: SystemClock::shared(),
        crash: CrashPoints::none(),
    };
    let outbox = Outbox {
        store,
        checkpoint: Path::from("checkpoint"),
        lane: Lane::default(),
    };
    let keys = ["window_start", "region", "product_category"].map(str::to_owned);
    let mut sink = DeltaUpsert::open(settings, keys.to_vec(), outbox).await?;
    epoch(&mut sink, 1, windows(0, WINDOWS, 0)).await?;
    Ok(sink)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut sink = runtime.block_on(open())?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("merge");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(CHANGED.unsigned_abs()));
    let mut number = 1;
    group.bench_function("1,000 of 10,000 windows", |b| {
        b.iter(|| {
            number += 1;
            let shift = i64::try_from(number).unwrap_or(0);
            let rows = windows(WINDOWS - CHANGED, CHANGED, shift);
            runtime
                .block_on(epoch(&mut sink, number, rows))
                .unwrap_or_else(|e| unreachable!("memory takes all: {e}"));
        });
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
