//! Orders of a small shop: 8 products in 6 categories, 5 regions, prices ± 15 % around a base, mostly placed orders.

use std::fmt::Write as _;

use evp_core::position::Micros;

use super::draw::{Draw, Purpose, hash};
use super::{Event, Kind, Settings};

/// Makes orders.
#[derive(Clone, Debug)]
pub struct Orders {
    settings: Settings,
}

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
const MINUTE: u64 = 60_000_000;
/// How far back a duplicate or an update may reach, in events.
const REACH: u64 = 50;

impl Orders {
    /// Orders by these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// What the events are a function of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Event `index`.
    pub fn event(&self, index: u64) -> Event {
        let kind = self.kind(index);
        let due = self.settings.due(index);
        let original = match kind {
            Kind::Duplicate => self.earlier_good(index),
            _ => None,
        };
        let content = original.unwrap_or(index);
        let kind = if kind == Kind::Duplicate && original.is_none() {
            Kind::Good
        } else {
            kind
        };
        let time = self.time(content, if original.is_some() { Kind::Good } else { kind });
        let key = self.key(content);
        let mut value = self.value(content, &key, time);
        if kind == Kind::Malformed {
            spoil(
                &mut value,
                Draw::new(self.settings.seed, index, Purpose::Kind).next(),
            );
        }
        let partition = self.partition(&key);
        Event {
            index,
            kind,
            key,
            value,
            time,
            due,
            partition,
        }
    }

    fn draw(&self, index: u64, purpose: Purpose) -> Draw {
        Draw::new(self.settings.seed, index, purpose)
    }

    fn kind(&self, index: u64) -> Kind {
        let planting = &self.settings.planting;
        let late = if index < planting.late_from {
            0.0
        } else {
            planting.late
        };
        let mut left = self.draw(index, Purpose::Kind).unit();
        let shares = [
            (planting.malformed, Kind::Malformed),
            (planting.duplicates, Kind::Duplicate),
            (planting.disorder, Kind::Disorder),
            (planting.future, Kind::Future),
            (late, Kind::Late),
        ];
        for (share, kind) in shares {
            if left < share {
                return kind;
            }
            left -= share;
        }
        Kind::Good
    }

    /// An earlier event that a duplicate repeats: a good one whose key may be used now.
    fn earlier_good(&self, index: u64) -> Option<u64> {
        let nearest = 1 + self.draw(index, Purpose::Content).below(REACH / 2);
        let usable = |&i: &u64| self.kind(i) == Kind::Good && !self.must_avoid(index, &self.key(i));
        (nearest..REACH)
            .filter_map(|back| index.checked_sub(back))
            .find(usable)
    }

    fn time(&self, index: u64, kind: Kind) -> Micros {
        let due = self.settings.due(index).0;
        let draw = self.draw(index, Purpose::Time).next();
        let within = |span: u64| i64::try_from(draw % span).unwrap_or(0);
        let hour = 60 * i64::try_from(MINUTE).unwrap_or(0);
        Micros(match kind {
            Kind::Disorder => due - within(5 * MINUTE),
            Kind::Late => due - hour - within(60 * MINUTE),
            Kind::Future => due + 24 * hour + within(60 * MINUTE),
            Kind::Good | Kind::Duplicate | Kind::Malformed => due,
        })
    }

    /// `ORDER_PLACED` for 80 of 100 events, and always where no earlier order can be changed.
    fn event_type(&self, index: u64) -> &'static str {
        match (
            self.draw(index, Purpose::Content).below(100),
            self.changed_order(index),
        ) {
            (0..80, _) | (_, None) => "ORDER_PLACED",
            (80..92, Some(_)) => "ORDER_UPDATED",
            _ => "ORDER_CANCELLED",
        }
    }

    fn changed_order(&self, index: u64) -> Option<u64> {
        let mut draw = self.draw(index, Purpose::Content);
        let placed =
            |i: u64| self.draw(i, Purpose::Content).below(100) < 80 && self.kind(i) == Kind::Good;
        if draw.below(100) < 80 {
            return None;
        }
        let other = index.checked_sub(1 + draw.below(REACH))?;
        (placed(other) && !self.must_avoid(index, &self.new_key(other))).then_some(other)
    }

    /// The order id: a new one, or that of the order which the event changes.
    fn key(&self, index: u64) -> String {
        self.new_key(self.changed_order(index).unwrap_or(index))
    }

    /// A UUID; drawn again while its partition must stay silent.
    fn new_key(&self, index: u64) -> String {
        let mut draw = self.draw(index, Purpose::Identity);
        loop {
            let bytes = (u128::from(draw.next()) << 64) | u128::from(draw.next());
            let key = uuid::Builder::from_random_bytes(bytes.to_be_bytes())
                .into_uuid()
                .to_string();
            if !self.must_avoid(index, &key) {
                return key;
            }
        }
    }

    fn must_avoid(&self, index: u64, key: &str) -> bool {
        // With one partition nothing else is left to use.
        self.settings.idle.is_some_and(|idle| {
            (idle.from..idle.to).contains(&index)
                && self.settings.partitions > 1
                && self.partition(key) == idle.partition
        })
    }

    fn partition(&self, key: &str) -> u32 {
        let partitions = u64::from(self.settings.partitions.max(1));
        u32::try_from(hash(key.as_bytes()) % partitions).unwrap_or(0)
    }

    fn value(&self, index: u64, key: &str, time: Micros) -> Vec<u8> {
        let event_type = self.event_type(index);
        let mut draw = self.draw(index, Purpose::Content);
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
        text.into_bytes()
    }
}

/// `2026-01-01T12:00:00.123456Z`.
pub fn rfc3339(time: Micros) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| String::new(), |t| format!("{t:.6}"))
}

/// Makes a record undecodable, in one of several ways. Each is refused by a rule of its own (semantics 34, 36).
fn spoil(value: &mut Vec<u8>, draw: u64) {
    let text = String::from_utf8_lossy(value).into_owned();
    let quantity = text
        .find("\"quantity\":")
        .map_or(0, |at| at + "\"quantity\":".len());
    let with_quantity = |other: &str| {
        let mut text = text.clone();
        text.replace_range(quantity..=quantity, other);
        text.into_bytes()
    };
    *value = match draw % 9 {
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
