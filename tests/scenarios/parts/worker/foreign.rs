//! Another engine on a pipeline's table: it appends, compacts and vacuums with commits of its own.
//!
//! delta-rs, whose commit loop, OPTIMIZE and VACUUM are none of ours. (Spark's writer has no put-if-absent on S3: beside it no
//! other writer of a table is safe.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::operations::optimize::OptimizeType;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::{DeltaTable, DeltaTableError};
use evp_tests::oracle::Table;
use evp_worker::sink::delta::Target;
use object_store::path::Path;
use serde_json::{Value, json};
use url::Url;

use super::pipeline::{Pipeline, bucket};
use super::process::look_again;

const DEADLINE: Duration = Duration::from_mins(1);

/// Noon of a day that no order of a test is of.
const THEN: &str = "2026-01-02T12:00:00";
const MICROS: i64 = 1_767_355_200_000_000;
const DAY: i32 = 20_455;

/// The other engine on one table.
pub(super) struct Foreign {
    table: Table,
    at: Url,
    /// The rows it appended, one a commit, as foreign readers tell them.
    pub(super) rows: Vec<Value>,
}

impl Foreign {
    /// On the table of this name.
    pub(super) fn on(pipeline: &Pipeline, table: Table, path: &str) -> Self {
        Self {
            table,
            at: Url::parse(&pipeline.table(path)).unwrap(),
            rows: Vec::new(),
        }
    }

    async fn open(&self) -> DeltaTable {
        // The address of an object in a store that is handed in; what is done there is the engine's.
        let at = Target {
            url: self.at.clone(),
            store: Arc::new(bucket()),
            prefix: Path::from(self.at.path()),
        };
        let mut table = DeltaTable::new(at.log_store());
        table.load().await.unwrap();
        table
    }

    /// One row, in a commit of its own.
    pub(super) async fn append(&mut self) {
        let number = i32::try_from(self.rows.len()).unwrap();
        let columns = match self.table {
            Table::Bronze => order(number),
            _ => window(number),
        };
        let row = columns.iter().map(|c| (c.0.to_owned(), c.2.clone()));
        self.rows.push(Value::Object(row.collect()));
        let batch = RecordBatch::try_from_iter(columns.into_iter().map(|c| (c.0, c.1))).unwrap();
        self.retried(async |table| table.write([batch.clone()]).await)
            .await;
    }

    /// Makes few files of many; how many it took away.
    pub(super) async fn compact(&self) -> u64 {
        let compact = async |table: DeltaTable| {
            let compacted = table.optimize().with_type(OptimizeType::Compact).await;
            compacted.map(|(_, metrics)| metrics.num_files_removed)
        };
        self.retried(compact).await
    }

    /// Deletes at once what the newest version does not name; how many files.
    pub(super) async fn vacuum(&self) -> usize {
        let vacuum = async |table: DeltaTable| {
            let vacuumed = table
                .vacuum()
                .with_mode(VacuumMode::Lite)
                .with_retention_period(chrono::Duration::zero())
                .with_enforce_retention_duration(false)
                .await;
            vacuumed.map(|(_, metrics)| metrics.files_deleted.len())
        };
        self.retried(vacuum).await
    }

    /// Does it to the newest version, again where the worker was faster and the engine gives way to it.
    async fn retried<T>(&self, work: impl AsyncFn(DeltaTable) -> Result<T, DeltaTableError>) -> T {
        let begun = Instant::now();
        loop {
            match work(self.open().await).await {
                Ok(done) => return done,
                Err(DeltaTableError::Transaction { source }) => {
                    assert!(begun.elapsed() < DEADLINE, "{source}");
                }
                Err(other) => panic!("{other}"),
            }
            look_again().await;
        }
    }
}

type Column = (&'static str, ArrayRef, Value);

fn text(name: &'static str, value: &str) -> Column {
    let array = Arc::new(StringArray::from(vec![value]));
    (name, array, json!(value))
}

fn int(name: &'static str, value: i32) -> Column {
    (name, Arc::new(Int32Array::from(vec![value])), json!(value))
}

fn long(name: &'static str, value: i64) -> Column {
    (name, Arc::new(Int64Array::from(vec![value])), json!(value))
}

fn double(name: &'static str, value: f64) -> Column {
    let array = Arc::new(Float64Array::from(vec![value]));
    (name, array, json!(value))
}

fn time(name: &'static str) -> Column {
    let array = TimestampMicrosecondArray::from(vec![MICROS]).with_timezone("UTC");
    (name, Arc::new(array), json!(format!("{THEN}.000000Z")))
}

fn order(number: i32) -> Vec<Column> {
    vec![
        text("order_id", "foreign"),
        text("customer_id", "c"),
        text("product_id", "p"),
        text("product_name", "n"),
        text("product_category", "Home"),
        int("quantity", 1),
        double("unit_price", 1.5),
        double("total_price", 1.5),
        text("event_type", "ORDER_PLACED"),
        text("region", "foreign"),
        time("event_timestamp"),
        time("kafka_ingest_ts"),
        int("kafka_partition", 1_000),
        long("kafka_offset", number.into()),
        (
            "event_date",
            Arc::new(Date32Array::from(vec![DAY])),
            json!(&THEN[..10]),
        ),
    ]
}

fn window(number: i32) -> Vec<Column> {
    vec![
        time("window_start"),
        time("window_end"),
        text("region", &format!("foreign-{number}")),
        text("product_category", "Home"),
        long("order_count", 1),
        double("total_revenue", 1.5),
        double("avg_order_value", 1.5),
        long("total_units_sold", 1),
        long("unique_customers", 1),
    ]
}
