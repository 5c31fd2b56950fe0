//! Laws of the generators.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Decimal128Type;
use evp_api::plan::{
    CsvPlan, DataType, FormatPlan, GeneratorPlan, NodeName, PlannedField, RowSchema, SourceKind,
    SourcePlan,
};
use evp_core::decode::{Decoded, Decoder, MetaColumns};
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

fn of(template: Template) -> Events {
    Events::new(template, settings())
}

fn plain(template: Template) -> Events {
    Events::new(
        template,
        Settings {
            planting: Planting::default(),
            idle: None,
            ..settings()
        },
    )
}

#[test]
fn an_event_is_a_function_of_template_settings_and_number() {
    let mut first = Vec::new();
    for template in Template::ALL {
        let forward: Vec<_> = (0..300).map(|i| of(template).event(i)).collect();
        let events = of(template);
        let mut backward: Vec<_> = (0..300).rev().map(|i| events.event(i)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let other = Settings {
            seed: 8,
            ..settings()
        };
        first.extend([forward[0].clone(), Events::new(template, other).event(0)]);
    }
    let values: BTreeSet<_> = first.into_iter().map(|event| event.value).collect();
    assert_eq!(values.len(), 6);
}

/// Event by event: number, kind, key, value, times and partition.
fn digest(events: impl Iterator<Item = Event>) -> String {
    use sha2::Digest as _;
    let mut sha = sha2::Sha256::new();
    for e in events {
        let head = format!(
            "{} {:?} {} {} {} {} ",
            e.index, e.kind, e.key, e.time.0, e.due.0, e.partition
        );
        sha.update(head.as_bytes());
        sha.update(&e.value);
        sha.update(b"\n");
    }
    format!("{:x}", sha.finalize())
}

#[test]
fn orders_are_the_same_bytes_as_ever() {
    let orders = of(Template::Orders);
    assert_eq!(
        digest((0..10_000).map(|i| orders.event(i))),
        "8a395c0a4b7198a434ed14f0a507e2320529af997fe2f2be33c00e90eeffd034"
    );
}

/// The key and the time that a good record says.
fn said(template: Template, value: &[u8]) -> (String, String) {
    let (key, time) = match template {
        Template::Orders => ("order_id", "event_timestamp"),
        Template::Activity => ("eventId", "eventTime"),
        Template::Shop => {
            let row = std::str::from_utf8(value).unwrap();
            let (key, _) = row.split_once(',').unwrap();
            let (_, time) = row.rsplit_once(',').unwrap();
            return (key.to_owned(), time.to_owned());
        }
    };
    let value: serde_json::Value = serde_json::from_slice(value).unwrap();
    let text = |field: &str| value[field].as_str().unwrap().to_owned();
    (text(key), text(time))
}

#[test]
fn each_kind_is_what_its_name_says() {
    for template in Template::ALL {
        let events: Vec<_> = (0..4_000).map(|i| of(template).event(i)).collect();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for event in &events {
            *counts.entry(format!("{:?}", event.kind)).or_default() += 1;
            let minutes = (event.time.0 - event.due.0) / 60_000_000;
            match event.kind {
                Kind::Good => assert_eq!(minutes, 0),
                Kind::Duplicate => {
                    let at = usize::try_from(event.index).unwrap();
                    let is_close = template == Template::Activity;
                    let original = |e: &Event| {
                        let is_its = e.kind == Kind::Good && e.key == event.key;
                        is_its && e.time == event.time && (is_close || e.value == event.value)
                    };
                    assert!(events[..at].iter().any(original));
                }
                Kind::Disorder => assert!((-5..=0).contains(&minutes)),
                Kind::Late => assert!(minutes <= -60 && event.index >= 1_000),
                Kind::Future => assert!(minutes >= 24 * 60),
                Kind::Malformed => continue,
            }
            let expected = (event.key.clone(), rfc3339(event.time));
            assert_eq!(said(template, &event.value), expected);
        }
        for kind in ["Duplicate", "Disorder", "Late", "Future", "Malformed"] {
            assert!((100..300).contains(&counts[kind]), "{counts:?}");
        }
    }
}

#[test]
fn an_idle_partition_gets_nothing_for_its_time() {
    for template in Template::ALL {
        let events = of(template);
        let used =
            |range: std::ops::Range<u64>| range.filter(|&i| events.event(i).partition == 2).count();
        assert!(used(0..500) > 100);
        assert_eq!(used(500..1_500), 0);
        assert!(used(1_500..2_000) > 100);
    }
}

#[test]
fn one_orders_events_share_its_key_and_partition() {
    let orders = plain(Template::Orders);
    let events: Vec<_> = (0..2_000).map(|i| orders.event(i)).collect();
    let partitions: HashMap<_, _> = events.iter().map(|e| (&e.key, e.partition)).collect();
    assert!(events.iter().all(|e| partitions[&e.key] == e.partition));
    assert!((100..600).contains(&(events.len() - partitions.len())));
}

#[test]
fn an_orders_total_is_its_price_times_its_quantity() {
    let orders = plain(Template::Orders);
    for index in 0..1_000 {
        let order: serde_json::Value = serde_json::from_slice(&orders.event(index).value).unwrap();
        let number = |field: &str| order[field].as_f64().unwrap();
        let total = number("unit_price") * number("quantity");
        assert!((total - number("total_price")).abs() < 1e-6);
    }
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

/// The fields that a template's reference pipeline declares, without those that spoil nothing.
fn fields(template: Template) -> Vec<(&'static str, DataType)> {
    let decimal = DataType::Decimal {
        precision: 10,
        scale: 2,
    };
    match template {
        Template::Orders => vec![
            ("order_id", DataType::String),
            ("product_category", DataType::String),
            ("quantity", DataType::Int),
            ("total_price", DataType::Double),
            ("region", DataType::String),
            ("event_timestamp", DataType::Timestamp),
        ],
        Template::Shop => vec![
            ("event_id", DataType::String),
            ("user_id", DataType::Long),
            ("product_id", DataType::Long),
            ("product_name", DataType::String),
            ("category", DataType::String),
            ("price", decimal),
            ("event_type", DataType::String),
            ("timestamp", DataType::Timestamp),
        ],
        Template::Activity => vec![
            ("eventId", DataType::String),
            ("userId", DataType::String),
            ("amount", DataType::Double),
            ("eventType", DataType::String),
            ("eventTime", DataType::Timestamp),
        ],
    }
}

fn source(template: Template) -> SourcePlan {
    let optional = ["product_name", "category", "amount", "eventType"];
    let field = |(name, data_type): (&str, DataType)| PlannedField {
        name: name.into(),
        data_type,
        optional: optional.contains(&name),
        zone: None,
        unit: None,
    };
    let rows = CsvPlan {
        header: false,
        delimiter: b',',
        quote: b'"',
        null_text: String::new(),
    };
    SourcePlan {
        name: NodeName::new("events").unwrap(),
        format: match template.columns() {
            Some(_) => FormatPlan::Csv(rows),
            None => FormatPlan::Json,
        },
        kind: SourceKind::Generator(GeneratorPlan {
            template,
            rate: 5,
            seed: 7,
            limit: None,
        }),
        schema: RowSchema {
            fields: fields(template).into_iter().map(field).collect(),
        },
        refuse_unknown_fields: false,
        max_record_bytes: 1 << 20,
        watermark: None,
    }
}

fn decoded(template: Template, events: &[Event]) -> Decoded {
    let mut raw = RawBatch {
        splits: vec![SplitId::partition(0)],
        ..RawBatch::default()
    };
    for event in events {
        let start = u32::try_from(raw.bytes.len()).unwrap();
        raw.bytes.extend(&event.value);
        let value = Some(Span {
            start,
            end: u32::try_from(raw.bytes.len()).unwrap(),
        });
        raw.records.push(RawRecord {
            split: 0,
            position: Position(i64::try_from(event.index).unwrap()),
            timestamp: event.due,
            key: None,
            value,
        });
    }
    Decoder::new(&source(template), MetaColumns::default()).decode(&raw)
}

/// The texts of one column.
fn texts(decoded: &Decoded, column: &str) -> Vec<String> {
    let column = decoded.rows.column_by_name(column).unwrap();
    let column = column.as_string::<i32>();
    (0..column.len())
        .map(|i| column.value(i).to_owned())
        .collect()
}

const EVENT_TYPES: [&str; 3] = ["view", "add_to_cart", "purchase"];

/// Rows that break a rule of the shop's pipeline.
fn broken(decoded: &Decoded) -> Vec<u32> {
    let prices = decoded.rows.column_by_name("price").unwrap();
    let prices = prices.as_primitive::<Decimal128Type>();
    let types = texts(decoded, "event_type");
    let is_broken =
        |&row: &usize| prices.value(row) < 0 || !EVENT_TYPES.contains(&types[row].as_str());
    let rows = (0..types.len()).filter(is_broken);
    rows.map(|row| decoded.origin[row]).collect()
}

#[test]
fn malformed_events_are_refused_by_the_schema_or_a_rule_and_all_others_are_not() {
    for template in Template::ALL {
        let events: Vec<_> = (0..8_000).map(|i| of(template).event(i)).collect();
        let decoded = decoded(template, &events);
        let mut refused: BTreeSet<_> = decoded.rejects.iter().map(|r| r.record).collect();
        if template == Template::Shop {
            let broken = broken(&decoded);
            assert!(broken.len() > 20);
            refused.extend(broken);
        }
        let malformed = (0_u32..).zip(&events);
        let malformed = malformed.filter(|(_, event)| event.kind == Kind::Malformed);
        assert_eq!(refused, malformed.map(|(i, _)| i).collect());
    }
}

#[test]
fn a_malformed_event_stays_on_its_line() {
    for template in Template::ALL {
        let events = (0..8_000).map(|i| of(template).event(i));
        assert!(events.into_iter().all(|e| !e.value.contains(&b'\n')));
    }
}

#[test]
fn shop_events_have_their_shares_and_names_that_need_quotes() {
    let shop = plain(Template::Shop);
    let events: Vec<_> = (0..10_000).map(|i| shop.event(i)).collect();
    let decoded = decoded(Template::Shop, &events);
    assert_eq!(decoded.rejects.len(), 0);
    let types = texts(&decoded, "event_type");
    for (event_type, share) in EVENT_TYPES.into_iter().zip([6_000, 3_000, 1_000]) {
        let count = types.iter().filter(|t| *t == event_type).count();
        assert!(count.abs_diff(share) < 200, "{event_type} {count}");
    }
    let categories: BTreeSet<_> = texts(&decoded, "category").into_iter().collect();
    assert_eq!(categories.len(), 5);
    let names: BTreeSet<_> = texts(&decoded, "product_name").into_iter().collect();
    assert_eq!(names.len(), 15);
    for name in ["27\" Monitor", "Frying Pan, 28 cm"] {
        assert!(names.contains(name));
    }
    assert_eq!(texts(&decoded, "event_id")[7], events[7].key);
}

#[test]
fn duplicates_of_activity_repeat_the_record_and_a_few_say_another_amount() {
    let activity = Events::new(
        Template::Activity,
        Settings {
            planting: Planting {
                duplicates: 0.5,
                ..Planting::default()
            },
            idle: None,
            ..settings()
        },
    );
    let mut good: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut same, mut conflicts) = (0, 0);
    for index in 0..4_000 {
        let event = activity.event(index);
        if event.kind == Kind::Good {
            good.insert(event.key, event.value);
            continue;
        }
        let original = &good[&event.key];
        if *original == event.value {
            same += 1;
            continue;
        }
        conflicts += 1;
        let parsed = |value| serde_json::from_slice::<serde_json::Value>(value).unwrap();
        let (mut first, mut second) = (parsed(original), parsed(&event.value));
        assert_ne!(first["amount"], second["amount"]);
        for value in [&mut first, &mut second] {
            value["amount"] = serde_json::Value::Null;
        }
        assert_eq!(first, second);
    }
    assert!(
        same > 1_500 && (50..200).contains(&conflicts),
        "{same} {conflicts}"
    );
}

#[test]
fn activity_is_that_of_many_users_and_some_of_it_has_no_amount() {
    let activity = plain(Template::Activity);
    let events: Vec<_> = (0..10_000).map(|i| activity.event(i)).collect();
    let decoded = decoded(Template::Activity, &events);
    let users: BTreeSet<_> = texts(&decoded, "userId").into_iter().collect();
    assert!((1_900..=2_000).contains(&users.len()));
    let amounts = decoded.rows.column_by_name("amount").unwrap();
    assert!((1_000..2_500).contains(&amounts.null_count()));
    let types: BTreeSet<_> = texts(&decoded, "eventType").into_iter().collect();
    assert!(types.into_iter().eq(["click", "login", "purchase", "view"]));
}
