//! Decoding of 313-byte orders, in rows a second on one core.

#![expect(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evp_api::plan::{
    DataType, FormatPlan, GeneratorPlan, NodeName, PlannedField, RowSchema, SourceKind, SourcePlan,
    Template,
};
use evp_core::decode::{Decoder, MetaColumns};
use evp_core::position::{Micros, Position, SplitId};
use evp_core::record::{RawBatch, RawRecord, Span};

const ROWS: u32 = 10_000;

fn orders() -> SourcePlan {
    let required = |name: &str, data_type| PlannedField {
        name: name.to_owned(),
        data_type,
        optional: false,
        zone: None,
        unit: None,
    };
    let fields = vec![
        required("order_id", DataType::String),
        required("customer_id", DataType::String),
        required("product_id", DataType::String),
        required("product_name", DataType::String),
        required("product_category", DataType::String),
        required("quantity", DataType::Int),
        required("unit_price", DataType::Double),
        required("total_price", DataType::Double),
        required("event_type", DataType::String),
        required("region", DataType::String),
        required("event_timestamp", DataType::Timestamp),
    ];
    SourcePlan {
        name: NodeName::new("orders").unwrap_or_else(|| unreachable!("a DNS label")),
        format: FormatPlan::Json,
        kind: SourceKind::Generator(GeneratorPlan {
            template: Template::Orders,
            rate: 1,
            seed: 0,
            limit: None,
        }),
        schema: RowSchema { fields },
        refuse_unknown_fields: false,
        max_record_bytes: 1 << 20,
        watermark: None,
    }
}

fn batch() -> RawBatch {
    let mut raw = RawBatch {
        splits: vec![SplitId::partition(0)],
        ..RawBatch::default()
    };
    let mut end = 0;
    for i in 0..ROWS {
        let value = format!(
            r#"{{"order_id":"0d5b3c1e-8a34-4f0e-9c57-1f2e{i:08x}","customer_id":"cust-{:05}","product_id":"prod-{:03}","product_name":"Wireless Noise Headphones","product_category":"Electronics","quantity":{},"unit_price":{}.{:02},"total_price":{}.{:02},"event_type":"ORDER_PLACED","region":"us-east","event_timestamp":"2026-01-01T12:{:02}:{:02}.{:06}Z"}}"#,
            i % 50_000,
            i % 8,
            i % 5 + 1,
            i % 400,
            i % 100,
            i % 2000,
            i % 100,
            i / 60 % 60,
            i % 60,
            i * 7
        );
        raw.bytes.extend_from_slice(value.as_bytes());
        let start = end;
        end += u32::try_from(value.len()).unwrap_or(0);
        raw.records.push(RawRecord {
            split: 0,
            position: Position(i64::from(i)),
            timestamp: Micros(0),
            key: None,
            value: Some(Span { start, end }),
        });
    }
    raw
}

fn decode(c: &mut Criterion) {
    let raw = batch();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    let size = raw.bytes.len() / ROWS as usize;
    let meta = MetaColumns {
        timestamp: true,
        partition: true,
        offset: true,
        ..MetaColumns::default()
    };
    let mut decoder = Decoder::new(&orders(), meta);
    group.bench_function(format!("orders of {size} bytes"), |b| {
        b.iter(|| decoder.decode(black_box(&raw)));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
