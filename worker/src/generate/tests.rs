//! Laws of the generators.

use std::collections::HashMap;

use evp_api::plan::{
    DataType, FormatPlan, GeneratorPlan, NodeName, PlannedField, RowSchema, SourceKind, SourcePlan,
    Template,
};
use evp_core::decode::{Decoder, MetaColumns};
use evp_core::position::{Micros, Position, SplitId};
use evp_core::record::{RawBatch, RawRecord, Span};

use super::*;

fn settings() -> Settings {
    Settings {
        seed: 7,
        started: Micros(1_767_268_800_000_000),
        rate: 5,
        partitions: 3,
        planting: Planting {
            duplicates: 0.05,
            disorder: 0.05,
            late: 0.05,
            future: 0.05,
            malformed: 0.05,
            late_from: 1_000,
        },
        idle: Some(IdlePartition {
            partition: 2,
            from: 500,
            to: 1_500,
        }),
    }
}

#[test]
fn an_event_is_a_function_of_settings_and_number() {
    let forward: Vec<_> = (0..300).map(|i| Orders::new(settings()).event(i)).collect();
    let orders = Orders::new(settings());
    let mut backward: Vec<_> = (0..300).rev().map(|i| orders.event(i)).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let other = Orders::new(Settings {
        seed: 8,
        ..settings()
    });
    assert_ne!(forward[0], other.event(0));
}

#[test]
fn each_kind_is_what_its_name_says() {
    let orders = Orders::new(settings());
    let events: Vec<_> = (0..4_000).map(|i| orders.event(i)).collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in &events {
        *counts.entry(format!("{:?}", event.kind)).or_default() += 1;
        let minutes = (event.time.0 - event.due.0) / 60_000_000;
        let parsed = serde_json::from_slice::<serde_json::Value>(&event.value);
        match event.kind {
            Kind::Good => assert_eq!(minutes, 0),
            Kind::Duplicate => {
                let same = |e: &&Event| {
                    e.kind == Kind::Good && e.value == event.value && e.key == event.key
                };
                assert!(
                    events[..usize::try_from(event.index).unwrap()]
                        .iter()
                        .any(|e| same(&e))
                );
            }
            Kind::Disorder => assert!((-5..=0).contains(&minutes)),
            Kind::Late => assert!(minutes <= -60 && event.index >= 1_000),
            Kind::Future => assert!(minutes >= 24 * 60),
            Kind::Malformed => continue,
        }
        let value = parsed.unwrap();
        assert_eq!(value["order_id"], event.key);
        assert_eq!(value["event_timestamp"], orders::rfc3339(event.time));
        let (unit, total) = (
            value["unit_price"].as_f64().unwrap(),
            value["total_price"].as_f64().unwrap(),
        );
        let quantity = f64::from(u32::try_from(value["quantity"].as_u64().unwrap()).unwrap());
        assert!((unit * quantity - total).abs() < 1e-6);
    }
    for kind in ["Duplicate", "Disorder", "Late", "Future", "Malformed"] {
        assert!((100..300).contains(&counts[kind]), "{counts:?}");
    }
}

#[test]
fn an_idle_partition_gets_nothing_for_its_time() {
    let orders = Orders::new(settings());
    let used =
        |range: std::ops::Range<u64>| range.filter(|&i| orders.event(i).partition == 2).count();
    assert!(used(0..500) > 100);
    assert_eq!(used(500..1_500), 0);
    assert!(used(1_500..2_000) > 100);
}

#[test]
fn one_orders_events_share_its_key_and_partition() {
    let orders = Orders::new(Settings {
        planting: Planting::default(),
        ..settings()
    });
    let events: Vec<_> = (0..2_000).map(|i| orders.event(i)).collect();
    let partitions: HashMap<_, _> = events.iter().map(|e| (&e.key, e.partition)).collect();
    assert!(events.iter().all(|e| partitions[&e.key] == e.partition));
    assert!((100..600).contains(&(events.len() - partitions.len())));
}

#[test]
fn events_are_due_at_their_rate() {
    let settings = settings();
    let at = |micros: i64| Micros(settings.started.0 + micros);
    assert_eq!(settings.due(10), at(2_000_000));
    assert_eq!(settings.due_by(at(-1)), 0);
    assert_eq!(settings.due_by(at(0)), 1);
    assert_eq!(settings.due_by(at(1_999_999)), 10);
    assert_eq!(settings.due_by(at(2_000_000)), 11);
    assert_eq!(settings.wait(10, at(1_500_000)), Duration::from_millis(500));
    assert_eq!(settings.wait(10, at(2_500_000)), Duration::ZERO);
    for rate in [1, 3, 7, 1_000_003] {
        let settings = Settings {
            rate,
            ..settings.clone()
        };
        for i in 0..1_000 {
            assert!(settings.due_by(settings.due(i)) <= i + 1);
            assert!(settings.due_by(Micros(settings.due(i).0 + 1)) > i);
        }
    }
}

/// The fields that tell a spoilt order from a good one.
fn order_source() -> SourcePlan {
    let fields = [
        ("order_id", DataType::String),
        ("product_category", DataType::String),
        ("quantity", DataType::Int),
        ("total_price", DataType::Double),
        ("region", DataType::String),
        ("event_timestamp", DataType::Timestamp),
    ];
    let field = |(name, data_type): (&str, DataType)| PlannedField {
        name: name.into(),
        data_type,
        optional: false,
        zone: None,
        unit: None,
    };
    SourcePlan {
        name: NodeName::new("orders").unwrap(),
        format: FormatPlan::Json,
        kind: SourceKind::Generator(GeneratorPlan {
            template: Template::Orders,
            rate: 5,
            seed: 7,
            limit: None,
        }),
        schema: RowSchema {
            fields: fields.into_iter().map(field).collect(),
        },
        refuse_unknown_fields: false,
        max_record_bytes: 1 << 20,
        watermark: None,
    }
}

#[test]
fn malformed_orders_are_refused_by_the_decoder_and_all_others_are_not() {
    let orders = Orders::new(settings());
    let mut raw = RawBatch {
        splits: vec![SplitId::partition(0)],
        ..RawBatch::default()
    };
    let mut malformed = Vec::new();
    for i in 0..4_000_u32 {
        let event = orders.event(u64::from(i));
        let start = u32::try_from(raw.bytes.len()).unwrap();
        raw.bytes.extend(&event.value);
        let value = Some(Span {
            start,
            end: u32::try_from(raw.bytes.len()).unwrap(),
        });
        let position = Position(i64::from(i));
        raw.records.push(RawRecord {
            split: 0,
            position,
            timestamp: event.due,
            key: None,
            value,
        });
        if event.kind == Kind::Malformed {
            malformed.push(i);
        }
    }
    let decoded = Decoder::new(&order_source(), MetaColumns::default()).decode(&raw);
    assert_eq!(
        decoded.rejects.iter().map(|r| r.record).collect::<Vec<_>>(),
        malformed
    );
}
