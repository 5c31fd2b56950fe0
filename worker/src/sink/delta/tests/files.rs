//! Laws of the data files: nothing is lost between row groups, partitions and files, and pruning by bloom filters errs on no key.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, Date32Array, Float64Array, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use serde_json::json;

use super::super::actions::AddFile;
use super::super::added::AddedFiles;
use super::super::prune::ChangedKeys;
use super::*;
use crate::sink::parquet_writer::{Encode, FileWriter};

/// Spreads numbers as hashes do.
fn mix(i: u64) -> i64 {
    let i = (i ^ i >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    i64::try_from((i ^ i >> 27) >> 1).unwrap()
}

fn files(world: &World, partition_by: &[String]) -> AddedFiles {
    let mut settings = world.settings(schema(), "f");
    settings.partition_by = partition_by.to_vec();
    let shape = settings.shape().unwrap();
    AddedFiles::new(
        world.target.clone(),
        Arc::clone(&shape.partitioning),
        &["id".to_owned()],
        settings.names(),
        Arc::new(StillClock),
    )
}

async fn footer(world: &World, file: &AddFile) -> SerializedFileReader<bytes::Bytes> {
    let location = world.target.data_file(&file.path).unwrap();
    let bytes = world
        .target
        .store
        .get(&location)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes.len() as u64, file.size);
    SerializedFileReader::new(bytes).unwrap()
}

fn rows_of(file: &AddFile) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&file.stats).unwrap();
    stats["numRecords"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_one_file_of_its_partition_however_many_are_open() {
    let world = World::new();
    let mut files = files(&world, &["name".to_owned()]);
    for round in 0..5 {
        let rows: Vec<_> = (0..90)
            .map(|i| (round * 90 + i, format!("p{}", i % 9)))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(id, name)| (*id, Some(name.as_str())))
            .collect();
        files.write(&batch(&rows)).await.unwrap();
    }
    let add = files.finish().await.unwrap();
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for file in &add {
        assert_eq!(
            footer(&world, file)
                .await
                .metadata()
                .file_metadata()
                .num_rows(),
            i64::try_from(rows_of(file)).unwrap()
        );
        *counts
            .entry(file.partition_values["name"].clone())
            .or_default() += rows_of(file);
    }
    assert_eq!(counts.len(), 9);
    assert!(counts.values().all(|&c| c == 50), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_end_at_their_target_and_row_groups_at_theirs() {
    let world = World::new();
    let mut files = files(&world, &[]);
    files.files.target_bytes = 100 << 20;
    let mut rows = 0;
    for round in 0..64u64 {
        let names: Vec<_> = (0..8192)
            .map(|i| {
                format!(
                    "{:016x}{:016x}",
                    mix(round * 8192 + i),
                    mix(i << 40 | round)
                )
            })
            .collect();
        let part: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(i, n)| (mix(i as u64), Some(n.as_str())))
            .collect();
        files.write(&batch(&part)).await.unwrap();
        rows += part.len() as u64;
    }
    let add = files.finish().await.unwrap();
    assert_eq!(add.len(), 1);
    assert_eq!(add.iter().map(rows_of).sum::<u64>(), rows);
    let groups = footer(&world, &add[0]).await.metadata().num_row_groups();
    assert!(groups > 1, "{groups} row groups in {} bytes", add[0].size);
    files.files.target_bytes = 50_000;
    for round in 0..6u64 {
        let part: Vec<_> = (0..8192).map(|i| (mix(round * 8192 + i), None)).collect();
        files.write(&batch(&part)).await.unwrap();
    }
    let add = files.finish().await.unwrap();
    assert!(add.len() > 1);
    assert_eq!(add.iter().map(rows_of).sum::<u64>(), 6 * 8192);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_merged_through_its_bloom_filters() {
    let world = World::new();
    let mut sink = world.upsert("a").await;
    let mut expected: BTreeMap<i64, Option<String>> = BTreeMap::new();
    let ids: Vec<_> = (0..60_000).map(mix).collect();
    let first: Vec<_> = ids.iter().map(|id| (*id, Some("old"))).collect();
    sink.write(1, &first).await;
    expected.extend(ids.iter().map(|id| (*id, Some("old".to_owned()))));
    let file = &world.commit(0).await[4]["add"];
    assert!(file["size"].as_u64().unwrap() > 300_000, "{file}");
    let changed: Vec<_> = (0..50u64)
        .map(|i| {
            (
                if i % 2 == 0 {
                    mix(i * 997)
                } else {
                    mix(i + (1 << 40))
                },
                Some("new"),
            )
        })
        .collect();
    sink.write(2, &changed).await;
    expected.extend(
        changed
            .iter()
            .map(|(id, name)| (*id, name.map(str::to_owned))),
    );
    let sql =
        "SELECT count(*), count(DISTINCT id), sum(CASE WHEN name = 'new' THEN 1 ELSE 0 END) FROM t";
    let all = i64::try_from(expected.len()).unwrap();
    assert_eq!(numbers(&world, sql).await, [all, all, 50]);
    // One key at a time: a filter that misses it would leave the old row beside the new one.
    for epoch in 3..9 {
        sink.write(epoch, &[(mix(epoch * 31), Some("one"))]).await;
    }
    let sql =
        "SELECT count(*), count(DISTINCT id), sum(CASE WHEN name = 'one' THEN 1 ELSE 0 END) FROM t";
    assert_eq!(numbers(&world, sql).await, [all, all, 6]);
    assert_eq!(world.files().await.len(), 2, "one large file, one small");
    let before = world.faults.data_files();
    let absent: Vec<_> = (0..20u64)
        .map(|i| (mix(i + (1 << 41)), None, true))
        .collect();
    upsert::change(&mut sink, 9, &absent).await;
    let writes = "a delete of absent keys writes nothing";
    assert_eq!(world.faults.data_files(), before, "{writes}");
}

/// The one row of an answer.
async fn numbers(world: &World, sql: &str) -> Vec<i64> {
    let written = Written {
        tables: vec![("t".to_owned(), world.target.clone())],
        dead_letters: None,
        ..Written::default()
    };
    let tables = open_tables(&written).await.unwrap();
    let (answer, _) = ask(&tables.session, sql).await.unwrap();
    let answer = answer.iter().find(|b| b.num_rows() == 1).unwrap();
    let columns = answer.columns().iter();
    columns
        .map(|c| c.as_primitive::<Int64Type>().value(0))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bloom_filter_holds_every_key_of_its_row_group_and_few_others() {
    let rows = |range: std::ops::Range<i32>| {
        let number = || range.clone().map(|i| mix(i.unsigned_abs().into()));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(number()));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
            number().map(|n| n.to_string()),
        ));
        let days: ArrayRef = Arc::new(Date32Array::from_iter_values(range.clone()));
        let times = TimestampMicrosecondArray::from_iter_values(number().map(|n| n / 1024));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        RecordBatch::try_from_iter([("id", ids), ("text", texts), ("day", days), ("time", times)])
            .unwrap()
    };
    let present = rows(0..2000);
    let mut encode = Encode::new(present.schema());
    encode.bloom = present
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut file = FileWriter::create(&store, Path::from("f"), &encode).unwrap();
    file.write(present.clone()).await.unwrap();
    file.finish().await.unwrap();
    let bytes = store
        .get(&Path::from("f"))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let options = ReadOptionsBuilder::new();
    let properties = ReaderProperties::builder()
        .set_read_bloom_filter(true)
        .build();
    let options = options.with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(bytes, options).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let absent = rows(5000..7000);
    for column in 0..4 {
        let filter = group.get_column_bloom_filter(column).cloned();
        assert!(filter.is_some());
        let may = |rows: &RecordBatch, row| {
            ChangedKeys::new(&rows.slice(row, 1), &[column])
                .may_be_under(std::slice::from_ref(&filter))
        };
        assert!((0..2000).all(|row| may(&present, row)), "column {column}");
        let errors = (0..2000).filter(|&row| may(&absent, row)).count();
        assert!(errors < 20, "column {column}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_utc_microseconds_and_a_nan_has_no_upper_bound() {
    let world = World::new();
    let rows = Arc::new(Schema::new(vec![
        Field::new(
            "t",
            DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
            true,
        ),
        Field::new("d", DataType::Float64, true),
        Field::new("b", DataType::Boolean, true),
    ]));
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1_500_001, -1_000]).with_timezone("UTC"));
    let times = arrow::compute::cast(&times, rows.field(0).data_type()).unwrap();
    let columns: Vec<ArrayRef> = vec![
        times,
        Arc::new(Float64Array::from(vec![f64::NAN, 0.5])),
        Arc::new(BooleanArray::from(vec![None, Some(true)])),
    ];
    let mut sink = DeltaAppend::open(world.settings(Arc::clone(&rows), "a"))
        .await
        .unwrap();
    sink.stage(SinkBatch::Rows(
        RecordBatch::try_new(rows, columns).unwrap(),
    ))
    .await
    .unwrap();
    let body = sink.seal(Epoch(1)).await.unwrap().unwrap();
    let stats: serde_json::Value =
        serde_json::from_str(body["add"][0]["stats"].as_str().unwrap()).unwrap();
    assert_eq!(
        stats,
        json!({
            "numRecords": 2,
            "minValues": {"t": "1969-12-31T23:59:59.999Z", "d": 0.5, "b": true},
            "maxValues": {"t": "1970-01-01T00:00:01.500Z", "b": true},
            "nullCount": {"t": 0, "d": 0, "b": 1},
        })
    );
    sink.roll(&intent(1, None, body)).await.unwrap();
    let schema: serde_json::Value = serde_json::from_str(
        world.commit(0).await[3]["metaData"]["schemaString"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(schema["fields"][0]["type"], json!("timestamp"));
}
