//! Heads, bodies and intents as production makes them, each kept once and named by a number, so that a state is small.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::bodies::{GOLD, Make, small};
use super::bugs::Bug;
use super::world::Files;
use crate::protocol::digest::{Digest, canonical};
use crate::protocol::head::{Body, Head, Intent, Rolling, SinkIdentity};

/// A head.
pub(super) type HeadId = u16;
/// A rolling part of a head.
pub(super) type RollingId = u16;
/// An intent.
pub(super) type IntentId = u16;

/// A head, and what the model looks at in it.
pub(super) struct Card {
    pub head: Head,
    /// Number of the body's digest.
    pub body: u16,
    /// That of its parent.
    pub parent: Option<u16>,
    pub epoch: u8,
    pub rolling: RollingId,
    /// What the body wants done.
    pub intents: Vec<IntentId>,
    /// For each sink of the body what stands for its next intent.
    pub standing: Vec<IntentId>,
    /// State files that the body names.
    pub files: Files,
    /// State files that make up the state of this epoch.
    pub expected: Files,
}

/// An intent, and what the model looks at in it.
pub(super) struct IntentCard {
    pub intent: Intent,
    pub gold: bool,
    /// Number of the sink's identity.
    pub sink: u8,
    pub epoch: u8,
    pub prev: Option<u8>,
    /// The process that staged it; `None`: it stands for a next one.
    pub writer: Option<u8>,
}

/// What is still to be done according to a rolling part.
pub(super) struct Waiting {
    pub rolling: Rolling,
    /// Oldest first; those that are recorded as applied are left out.
    pub work: Vec<IntentId>,
    /// The oldest undone epoch.
    pub oldest: Option<u8>,
    /// Plans of undone epochs.
    pub plans: BTreeSet<Digest>,
}

/// Everything that was ever made.
pub(super) struct Heads {
    pub bug: Option<Bug>,
    cards: RefCell<Vec<Rc<Card>>>,
    made: RefCell<HashMap<(Make, u8), HeadId>>,
    writes: RefCell<HashMap<String, HeadId>>,
    bodies: RefCell<Vec<Digest>>,
    intents: RefCell<Vec<Rc<IntentCard>>>,
    sinks: RefCell<Vec<(SinkIdentity, bool)>>,
    waiting: RefCell<Vec<Rc<Waiting>>>,
    rollings: RefCell<HashMap<Vec<u8>, RollingId>>,
    noted: RefCell<HashMap<(RollingId, IntentId), RollingId>>,
}

impl Heads {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            cards: RefCell::default(),
            made: RefCell::default(),
            writes: RefCell::default(),
            bodies: RefCell::default(),
            intents: RefCell::default(),
            sinks: RefCell::default(),
            waiting: RefCell::default(),
            rollings: RefCell::default(),
            noted: RefCell::default(),
        }
    }

    pub(super) fn get(&self, id: HeadId) -> Rc<Card> {
        Rc::clone(&self.cards.borrow()[usize::from(id)])
    }

    pub(super) fn intent(&self, id: IntentId) -> Rc<IntentCard> {
        Rc::clone(&self.intents.borrow()[usize::from(id)])
    }

    pub(super) fn waiting(&self, id: RollingId) -> Rc<Waiting> {
        Rc::clone(&self.waiting.borrow()[usize::from(id)])
    }

    /// The rolling part after a sink is known to hold an intent.
    pub(super) fn note(&self, id: RollingId, intent: IntentId) -> RollingId {
        if let Some(known) = self.noted.borrow().get(&(id, intent)) {
            return *known;
        }
        let mut rolling = self.waiting(id).rolling.clone();
        let card = self.intent(intent);
        rolling.note(&card.intent.sink, card.intent.epoch);
        let noted = self.keep_rolling(rolling);
        self.noted.borrow_mut().insert((id, intent), noted);
        noted
    }

    /// A head under a plan; made once.
    pub(super) fn make(&self, make: Make, plan: u8) -> HeadId {
        if let Some(known) = self.made.borrow().get(&(make, plan)) {
            return *known;
        }
        let head = self.seal(make, plan);
        let known = self.writes.borrow().get(&head.write).copied();
        let id = known.unwrap_or_else(|| self.keep(head));
        self.made.borrow_mut().insert((make, plan), id);
        id
    }

    fn keep(&self, head: Head) -> HeadId {
        let body = &head.body;
        for (name, entry) in &body.sinks {
            self.keep_sink(&entry.identity, name.as_str() == GOLD);
        }
        let standing = body.sinks.values().map(|entry| Intent {
            sink: entry.identity.clone(),
            epoch: body.epoch.next(),
            prev: entry.prev,
            body: serde_json::Value::Null,
            apart: None,
        });
        let digest = self.keep_digest(&head.digest);
        let names = body.state_files().map(|f| f.name.as_str());
        let card = Card {
            body: digest,
            parent: body.parent.as_ref().map(|p| self.keep_digest(p)),
            epoch: small(body.epoch),
            rolling: self.keep_rolling(head.rolling.clone()),
            intents: body.intents.iter().map(|i| self.keep_intent(i)).collect(),
            standing: standing.map(|i| self.keep_intent(&i)).collect(),
            files: Files::of(names),
            expected: self.expected(body),
            head,
        };
        let mut cards = self.cards.borrow_mut();
        let id = HeadId::try_from(cards.len()).unwrap();
        self.writes.borrow_mut().insert(card.head.write.clone(), id);
        cards.push(Rc::new(card));
        id
    }

    /// The state is that of the parent and of this epoch's rows: told by who decided each, not by what the body names.
    fn expected(&self, body: &Body) -> Files {
        let parent = body.parent.as_ref().and_then(|p| {
            let cards = self.cards.borrow();
            cards.iter().find(|c| c.head.digest == *p).cloned()
        });
        match (parent, body.intents.first()) {
            (Some(parent), Some(intent)) => {
                let by = intent.body.as_u64().unwrap();
                Files::after(
                    parent.expected,
                    small(body.epoch),
                    u8::try_from(by).unwrap(),
                )
            }
            _ => Files::default(),
        }
    }

    fn keep_digest(&self, digest: &Digest) -> u16 {
        let mut bodies = self.bodies.borrow_mut();
        let found = bodies.iter().position(|d| d == digest);
        let at = found.unwrap_or_else(|| {
            bodies.push(digest.clone());
            bodies.len() - 1
        });
        u16::try_from(at).unwrap()
    }

    fn keep_rolling(&self, rolling: Rolling) -> RollingId {
        let bytes = canonical(&rolling).unwrap();
        if let Some(known) = self.rollings.borrow().get(&bytes) {
            return *known;
        }
        let undone = || rolling.undone.iter();
        let intents = undone().flat_map(|u| &u.intents);
        let work = intents.filter(|i| !rolling.holds(i));
        let kept = Waiting {
            work: work.map(|i| self.keep_intent(i)).collect(),
            oldest: undone().next().map(|u| small(u.epoch)),
            plans: undone().map(|u| u.plan.clone()).collect(),
            rolling,
        };
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(Rc::new(kept));
        let id = RollingId::try_from(waiting.len() - 1).unwrap();
        self.rollings.borrow_mut().insert(bytes, id);
        id
    }

    fn keep_intent(&self, intent: &Intent) -> IntentId {
        let mut intents = self.intents.borrow_mut();
        let found = intents.iter().position(|c| c.intent == *intent);
        let at = found.unwrap_or_else(|| {
            let (sink, gold) = self.sink(&intent.sink);
            let writer = intent.body.as_u64();
            intents.push(Rc::new(IntentCard {
                gold,
                sink,
                epoch: small(intent.epoch),
                prev: intent.prev.map(small),
                writer: writer.map(|w| u8::try_from(w).unwrap()),
                intent: intent.clone(),
            }));
            intents.len() - 1
        });
        IntentId::try_from(at).unwrap()
    }

    fn keep_sink(&self, identity: &SinkIdentity, gold: bool) {
        let mut sinks = self.sinks.borrow_mut();
        if sinks.iter().all(|(s, _)| s != identity) {
            sinks.push((identity.clone(), gold));
        }
    }

    /// Number of an identity that some body has, and whether it is that of the gold sink.
    fn sink(&self, identity: &SinkIdentity) -> (u8, bool) {
        let sinks = self.sinks.borrow();
        let at = sinks.iter().position(|(s, _)| s == identity).unwrap();
        (u8::try_from(at).unwrap(), sinks[at].1)
    }
}
