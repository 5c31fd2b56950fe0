//! Errors of the store in bursts. Whether a request meets one follows from the seed, who asks, what, and how often it asked
//! before: not from the order of different requests.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::process::{Fate, Verb};

/// A store with troubles; by default it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) seed: u64,
    /// Writes of a thousand that are answered with an error; of half of them what was asked is done. Of reads it is one tenth:
    /// the client that the twin stands for repeats those.
    pub(super) per_mille: u64,
}

impl Trouble {
    /// `None`: nothing happens to the request.
    pub(super) fn fate(self, pod: &str, (verb, path, nth): (Verb, &str, u64)) -> Option<Fate> {
        if self.per_mille == 0 {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, pod, format!("{verb:?}"), path, nth).hash(&mut hasher);
        let draw = hasher.finish();
        let fate = if draw & 1 << 40 == 0 {
            Fate::Failed
        } else {
            Fate::Lost
        };
        let of = match verb {
            Verb::Get | Verb::List => 10_000,
            Verb::Put | Verb::Copy | Verb::Delete => 1000,
        };
        (draw % of < self.per_mille).then_some(fate)
    }
}
