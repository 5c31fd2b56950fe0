//! A seeded stream of one template's events: what kind event i is, when it was, which key it has and where that goes.
//!
//! Owns what all templates share: planted shares, duplicates, event times, keys and partitions. What a record says, and in
//! which ways it may be spoilt, is its template's file.

use evp_api::plan::Template;
use evp_core::position::Micros;

use super::draw::{Draw, Purpose, hash};
use super::{Event, Kind, Settings, activity, orders, shop};

/// Makes events.
#[derive(Clone, Debug)]
pub struct Events {
    template: Template,
    settings: Settings,
}

/// What the record of one event is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The event whose content it is: of a duplicate, the one that it repeats.
    pub(super) content: u64,
    /// The duplicate's own number, if it is one.
    pub(super) repeated_by: Option<u64>,
    pub(super) key: &'a str,
    pub(super) time: Micros,
    /// Spoil it, in the way that this number says.
    pub(super) spoilt: Option<u64>,
}

const MINUTE: u64 = 60_000_000;
/// How far back an event may refer to another one, in events.
pub(super) const REACH: u64 = 50;

impl Events {
    /// Events of a template by these settings.
    pub fn new(template: Template, settings: Settings) -> Self {
        Self { template, settings }
    }

    /// What the events are about.
    pub fn template(&self) -> Template {
        self.template
    }

    /// What the events are a function of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Event `index`.
    pub fn event(&self, index: u64) -> Event {
        let planted = self.kind(index);
        let original = match planted {
            Kind::Duplicate => self.earlier_good(index),
            _ => None,
        };
        let kind = match planted {
            Kind::Duplicate if original.is_none() => Kind::Good,
            planted => planted,
        };
        let content = original.unwrap_or(index);
        let time = self.time(content, if original.is_some() { Kind::Good } else { kind });
        let key = self.key(content);
        let spoilt = (kind == Kind::Malformed).then(|| self.draw(index, Purpose::Kind).next());
        let value = self.value(Subject {
            content,
            repeated_by: original.map(|_| index),
            key: &key,
            time,
            spoilt,
        });
        Event {
            index,
            kind,
            value,
            time,
            due: self.settings.due(index),
            partition: self.partition(&key),
            key,
        }
    }

    /// The key of the record that event `index` makes by itself.
    fn key(&self, index: u64) -> String {
        match self.template {
            Template::Orders => orders::key(self, index),
            Template::Shop | Template::Activity => self.new_key(index),
        }
    }

    fn value(&self, subject: Subject<'_>) -> Vec<u8> {
        match self.template {
            Template::Orders => orders::value(self, subject),
            Template::Shop => shop::value(self, subject),
            Template::Activity => activity::value(self, subject),
        }
    }

    pub(super) fn draw(&self, index: u64, purpose: Purpose) -> Draw {
        Draw::new(self.settings.seed, index, purpose)
    }

    pub(super) fn kind(&self, index: u64) -> Kind {
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

    /// A UUID; drawn again while its partition must stay silent.
    pub(super) fn new_key(&self, index: u64) -> String {
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

    pub(super) fn must_avoid(&self, index: u64, key: &str) -> bool {
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
}
