//! What visitors of a shop do, as rows of CSV (RFC 4180): 15 products in 5 categories, prices ± 10 % around a base; 60 % view,
//! 30 % add to the cart, 10 % buy.
//!
//! Columns: [`Template::columns`](evp_api::plan::Template::columns). The key is the event id.

use super::draw::{Draw, Purpose};
use super::events::{Events, Subject};
use super::rfc3339;

struct Product {
    id: u32,
    name: &'static str,
    category: &'static str,
    /// Base price in cents.
    cents: u64,
}

const fn product(id: u32, category: &'static str, name: &'static str, cents: u64) -> Product {
    Product {
        id,
        name,
        category,
        cents,
    }
}

/// Some names need quotes, as names in real catalogues do.
const PRODUCTS: [Product; 15] = [
    product(1001, "Electronics", "Wireless Headphones", 7_999),
    product(1002, "Electronics", "27\" Monitor", 22_900),
    product(1003, "Electronics", "USB-C Cable, 2 m", 1_290),
    product(2001, "Clothing", "Rain Jacket", 11_900),
    product(2002, "Clothing", "Wool Socks, Pack of 3", 1_990),
    product(2003, "Clothing", "Running Shoes", 8_900),
    product(3001, "Home", "Desk Lamp", 3_499),
    product(3002, "Home", "Frying Pan, 28 cm", 4_250),
    product(3003, "Home", "Linen Cushion \"Fjord\"", 2_750),
    product(4001, "Books", "Bread, Slowly", 2_400),
    product(4002, "Books", "An Atlas of Small Islands", 3_900),
    product(4003, "Books", "The \"Simple\" Algebra, 2nd Edition", 5_950),
    product(5001, "Sports", "Yoga Mat", 2_999),
    product(5002, "Sports", "Dumbbells, 2 × 5 kg", 3_690),
    product(5003, "Sports", "Water Bottle", 1_550),
];

const USERS: u64 = 5_000;

/// Number of columns.
const WIDTH: usize = 8;

/// The values of a row, before any quotes.
struct Row {
    event_id: String,
    user_id: String,
    product_id: String,
    product_name: Vec<u8>,
    category: String,
    price: String,
    event_type: String,
    timestamp: String,
}

/// One row without its line end.
pub(super) fn value(events: &Events, subject: Subject<'_>) -> Vec<u8> {
    let row = row(subject, &mut events.draw(subject.content, Purpose::Content));
    match subject.spoilt {
        None => line(row.values()),
        Some(way) => spoilt(row, way),
    }
}

fn row(subject: Subject<'_>, draw: &mut Draw) -> Row {
    let event_type = match draw.below(100) {
        0..60 => "view",
        60..90 => "add_to_cart",
        _ => "purchase",
    };
    let product = draw.pick(&PRODUCTS);
    let cents = product.cents * (9_000 + draw.below(2_001)) / 10_000;
    let user = 1 + draw.below(USERS);
    Row {
        event_id: subject.key.to_owned(),
        user_id: user.to_string(),
        product_id: product.id.to_string(),
        product_name: product.name.as_bytes().to_vec(),
        category: product.category.to_owned(),
        price: format!("{}.{:02}", cents / 100, cents % 100),
        event_type: event_type.to_owned(),
        timestamp: rfc3339(subject.time),
    }
}

impl Row {
    /// In the order of the columns.
    fn values(&self) -> [&[u8]; WIDTH] {
        [
            self.event_id.as_bytes(),
            self.user_id.as_bytes(),
            self.product_id.as_bytes(),
            &self.product_name,
            self.category.as_bytes(),
            self.price.as_bytes(),
            self.event_type.as_bytes(),
            self.timestamp.as_bytes(),
        ]
    }
}

/// A row that the schema or a rule of the shop's pipeline refuses, in one of several ways: its types, a price of at least 0
/// with two decimals, known event types, ids that are there. Each stays on its line.
fn spoilt(mut row: Row, way: u64) -> Vec<u8> {
    match way % 13 {
        0 => return line(row.values().into_iter().take(WIDTH - 1)),
        1 => return line(row.values().into_iter().chain([b"DE".as_slice()])),
        2 => return row.values().join(&b';'),
        3 => {
            // A quote that nobody doubled.
            row.product_name = b"27\" Monitor".to_vec();
            return row.values().join(&b',');
        }
        4 => "free".clone_into(&mut row.price),
        5 => row.price = row.price.replacen('.', ",", 1),
        6 => row.price.insert(0, '-'),
        7 => row.price.push('9'),
        8 => "wishlist".clone_into(&mut row.event_type),
        9 => row.event_id.clear(),
        10 => row.user_id.insert_str(0, "u-"),
        11 => row.timestamp.insert_str(0, "around "),
        _ => row.product_name.push(0xff),
    }
    line(row.values())
}

/// Values with commas between them, and quotes around those that need them (RFC 4180).
fn line<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut line = Vec::with_capacity(160);
    for (number, value) in values.into_iter().enumerate() {
        if number > 0 {
            line.push(b',');
        }
        if !value.iter().any(|b| b",\"\r\n".contains(b)) {
            line.extend_from_slice(value);
            continue;
        }
        line.push(b'"');
        for &byte in value {
            if byte == b'"' {
                line.push(byte);
            }
            line.push(byte);
        }
        line.push(b'"');
    }
    line
}
