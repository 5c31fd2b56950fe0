//! Orders of a small shop as JSON documents: 8 products in 6 categories, 5 regions, prices ± 15 % around a base, mostly placed
//! orders. The key is the order id, so one order's events stay in order.

use std::fmt::Write as _;

use super::draw::Purpose;
use super::events::{Events, REACH, Subject};
use super::{Kind, rfc3339};

struct Product {
    id: &'static str,
    name: &'static str,
    category: &'static str,
    /// Base price in cents.
    cents: u64,
}

const PRODUCTS: [Product; 8] = [
    Product {
        id: "prod-001",
        name: "Wireless Headphones",
        category: "Electronics",
        cents: 7_999,
    },
    Product {
        id: "prod-002",
        name: "Mechanical Keyboard",
        category: "Electronics",
        cents: 12_950,
    },
    Product {
        id: "prod-003",
        name: "Running Shoes",
        category: "Apparel",
        cents: 8_900,
    },
    Product {
        id: "prod-004",
        name: "Rain Jacket",
        category: "Apparel",
        cents: 11_900,
    },
    Product {
        id: "prod-005",
        name: "Yoga Mat",
        category: "Sports",
        cents: 2_999,
    },
    Product {
        id: "prod-006",
        name: "Desk Lamp",
        category: "Home",
        cents: 3_499,
    },
    Product {
        id: "prod-007",
        name: "Vitamin D Drops",
        category: "Health",
        cents: 1_450,
    },
    Product {
        id: "prod-008",
        name: "Espresso Machine",
        category: "Appliances",
        cents: 24_900,
    },
];

/// Regions with the share up to which each reaches, in percent.
const REGIONS: [(&str, u64); 5] = [
    ("us-east", 35),
    ("us-west", 60),
    ("eu-west", 80),
    ("eu-central", 92),
    ("ap-southeast", 100),
];

const CUSTOMERS: u64 = 5_000;

/// The order id: a new one, or that of the order which the event changes.
pub(super) fn key(events: &Events, index: u64) -> String {
    events.new_key(changed_order(events, index).unwrap_or(index))
}

/// `ORDER_PLACED` for 80 of 100 events, and always where no earlier order can be changed.
fn event_type(events: &Events, index: u64) -> &'static str {
    match (
        events.draw(index, Purpose::Content).below(100),
        changed_order(events, index),
    ) {
        (0..80, _) | (_, None) => "ORDER_PLACED",
        (80..92, Some(_)) => "ORDER_UPDATED",
        _ => "ORDER_CANCELLED",
    }
}

fn changed_order(events: &Events, index: u64) -> Option<u64> {
    let mut draw = events.draw(index, Purpose::Content);
    let placed =
        |i: u64| events.draw(i, Purpose::Content).below(100) < 80 && events.kind(i) == Kind::Good;
    if draw.below(100) < 80 {
        return None;
    }
    let other = index.checked_sub(1 + draw.below(REACH))?;
    (placed(other) && !events.must_avoid(index, &events.new_key(other))).then_some(other)
}

/// One document.
pub(super) fn value(events: &Events, subject: Subject<'_>) -> Vec<u8> {
    let Subject {
        content: index,
        key,
        time,
        ..
    } = subject;
    let event_type = event_type(events, index);
    let mut draw = events.draw(index, Purpose::Content);
    // The first draws decide the type and the order that is changed.
    let (_, _) = (draw.next(), draw.next());
    let product = draw.pick(&PRODUCTS);
    let share = draw.below(100);
    let region = REGIONS
        .iter()
        .find(|(_, reach)| share < *reach)
        .map_or("us-east", |r| r.0);
    let quantity = 1 + draw.below(5);
    let unit = product.cents * (8_500 + draw.below(3_001)) / 10_000;
    let customer = draw.below(CUSTOMERS);
    let total = unit * quantity;
    let Product {
        id, name, category, ..
    } = product;
    let mut text = String::with_capacity(352);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"{{"order_id":"{key}","customer_id":"cust-{customer:05}","product_id":"{id}","product_name":"{name}","product_category":"{category}","quantity":{quantity},"unit_price":{}.{:02},"total_price":{}.{:02},"event_type":"{event_type}","region":"{region}","event_timestamp":"{}"}}"#,
        unit / 100,
        unit % 100,
        total / 100,
        total % 100,
        rfc3339(time),
    );
    let mut bytes = text.into_bytes();
    if let Some(way) = subject.spoilt {
        spoil(&mut bytes, way);
    }
    bytes
}

/// Makes a record undecodable, in one of several ways. Each is refused by a rule of its own (semantics 34, 36).
fn spoil(value: &mut Vec<u8>, way: u64) {
    let text = String::from_utf8_lossy(value).into_owned();
    let quantity = text
        .find("\"quantity\":")
        .map_or(0, |at| at + "\"quantity\":".len());
    let with_quantity = |other: &str| {
        let mut text = text.clone();
        text.replace_range(quantity..=quantity, other);
        text.into_bytes()
    };
    *value = match way % 9 {
        0 => value[..value.len() / 2].to_vec(),
        1 => with_quantity("\"3\""),
        2 => with_quantity("1.5"),
        3 => with_quantity("99999999999"),
        4 => text.replacen("\"region\"", "\"regoin\"", 1).into_bytes(),
        5 => format!("{text}{text}").into_bytes(),
        6 => text
            .replacen("{\"order_id\"", "{\"order_id\":\"x\",\"order_id\"", 1)
            .into_bytes(),
        7 => text
            .replacen(
                "\"event_timestamp\":\"",
                "\"event_timestamp\":\"not a time ",
                1,
            )
            .into_bytes(),
        _ => {
            let mut bytes = text.into_bytes();
            let at = bytes.len() - 2;
            bytes[at - 1] = 0xff;
            bytes
        }
    };
}
