//! What users do, as JSON documents: 2,000 users, amounts of two decimals that some events do not have.
//!
//! The key is the event id. A duplicate repeats its event within a few seconds of it at the usual rates; one of twenty
//! contradicts it: the same event with another amount.

use std::fmt::Write as _;

use super::draw::Purpose;
use super::events::{Events, Subject};
use super::rfc3339;

const USERS: u64 = 2_000;
/// One of so many duplicates has another amount.
const CONFLICTS: u64 = 20;

/// The parts of a document, as they are written.
struct Parts<'a> {
    key: &'a str,
    user: String,
    /// `None`: the field is absent.
    amount: Option<String>,
    event_type: &'a str,
    time: String,
}

/// One document.
pub(super) fn value(events: &Events, subject: Subject<'_>) -> Vec<u8> {
    let mut draw = events.draw(subject.content, Purpose::Content);
    let event_type = match draw.below(100) {
        0..45 => "click",
        45..80 => "view",
        80..95 => "purchase",
        _ => "login",
    };
    let user = format!("\"user-{:04}\"", draw.below(USERS));
    let cents = 100 + draw.below(50_000);
    let is_without = draw.below(10) == 0 || event_type == "login";
    let other = subject.repeated_by.and_then(|index| {
        let mut draw = events.draw(index, Purpose::Conflict);
        (draw.below(CONFLICTS) == 0).then(|| cents + 1 + draw.below(1_000))
    });
    let parts = Parts {
        key: subject.key,
        user,
        amount: other.or((!is_without).then_some(cents)).map(decimal),
        event_type,
        time: rfc3339(subject.time),
    };
    match subject.spoilt {
        None => parts.document().into_bytes(),
        Some(way) => parts.spoilt(way),
    }
}

fn decimal(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

impl Parts<'_> {
    fn document(&self) -> String {
        let Self {
            key,
            user,
            amount,
            event_type,
            time,
        } = self;
        let mut text = String::with_capacity(192);
        // Writing to a String cannot fail.
        let _ = write!(text, r#"{{"eventId":"{key}","userId":{user},"#);
        if let Some(amount) = amount {
            let _ = write!(text, r#""amount":{amount},"#);
        }
        let _ = write!(text, r#""eventType":"{event_type}","eventTime":"{time}"}}"#);
        text
    }

    /// A record that the schema refuses, in one of several ways.
    fn spoilt(mut self, way: u64) -> Vec<u8> {
        match way % 10 {
            0 => {
                let text = self.document();
                return text.as_bytes()[..text.len() / 2].to_vec();
            }
            1 => return self.document().repeat(2).into_bytes(),
            2 => {
                let text = self.document();
                return text.replacen("eventId", "event_id", 1).into_bytes();
            }
            3 => {
                let text = self.document();
                return text.replacen('{', "{\"eventId\":\"x\",", 1).into_bytes();
            }
            4 => {
                let mut bytes = self.document().into_bytes();
                let at = bytes.len() - 3;
                bytes[at] = 0xff;
                return bytes;
            }
            5 => "17".clone_into(&mut self.user),
            6 => "null".clone_into(&mut self.user),
            7 => self.amount = Some("\"12.50\"".to_owned()),
            8 => self.amount = Some("1e999".to_owned()),
            _ => self.time.insert_str(0, "around "),
        }
        self.document().into_bytes()
    }
}
