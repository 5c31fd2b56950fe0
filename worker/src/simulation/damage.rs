//! What people and broken disks do to the objects between two processes, and the condition that each must end in.

use bytes::Bytes;
use evp_api::reason;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::matrix::{for_all, world};
use super::run::{End, World, run};
use super::script::{Fault, Outcome};
use super::universe::{Decision, HEAD, Universe};
use crate::checkpointer::Step;

/// One damage. All befall a pipeline whose newest epoch is decided and not yet applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Damage {
    CheckpointWiped,
    HeadRolledBack,
    /// Nobody remembers how far it was.
    HeadRolledBackUnseen,
    HeadGone,
    HeadFlipped,
    BornGone,
    OwnerGone,
    StateGone,
    StateCut,
    /// One bit of a state file, at a place that this number leads to.
    StateFlipped(u64),
    OutboxGone,
    BronzeLogGone,
    GoldLogGone,
    LettersGone,
    StagedRowsGone,
    StagedLettersGone,
}

impl Damage {
    /// Every damage; flipped bits by the seed.
    pub(super) fn all(seed: u64) -> [Self; 16] {
        [
            Self::StateFlipped(seed),
            Self::CheckpointWiped,
            Self::HeadRolledBack,
            Self::HeadRolledBackUnseen,
            Self::HeadGone,
            Self::HeadFlipped,
            Self::BornGone,
            Self::OwnerGone,
            Self::StateGone,
            Self::StateCut,
            Self::OutboxGone,
            Self::BronzeLogGone,
            Self::GoldLogGone,
            Self::LettersGone,
            Self::StagedRowsGone,
            Self::StagedLettersGone,
        ]
    }

    /// The condition it must end in.
    fn condition(self) -> &'static str {
        match self {
            Self::CheckpointWiped | Self::HeadRolledBack => reason::CHECKPOINT_BEHIND,
            Self::HeadRolledBackUnseen => reason::CHECKPOINT_BEHIND_SINK,
            Self::BronzeLogGone | Self::GoldLogGone | Self::LettersGone => {
                reason::SINK_HISTORY_LOST
            }
            Self::StagedRowsGone | Self::StagedLettersGone => reason::STAGED_FILE_MISSING,
            Self::HeadGone
            | Self::HeadFlipped
            | Self::BornGone
            | Self::OwnerGone
            | Self::StateGone
            | Self::StateCut
            | Self::StateFlipped(_)
            | Self::OutboxGone => reason::CHECKPOINT_DAMAGED,
        }
    }

    /// Gives what it took, as it was.
    pub(super) async fn befalls(self, universe: &Universe) -> Vec<(String, Bytes)> {
        let before = universe.copy().await;
        self.strike(universe).await;
        let after = universe.copy().await;
        let lost = before.into_iter();
        lost.filter(|(name, bytes)| after.get(name) != Some(bytes))
            .collect()
    }

    async fn strike(self, universe: &Universe) {
        match self {
            Self::CheckpointWiped => remove(universe, "checkpoint", |_| true).await,
            Self::HeadRolledBack => roll_back(universe, 2).await,
            // It has nothing undone: only the sinks know better.
            Self::HeadRolledBackUnseen => roll_back(universe, 0).await,
            Self::HeadGone => remove(universe, "checkpoint/0", |p| p == HEAD).await,
            Self::HeadFlipped => change(universe, HEAD, |head| flip(head, 7)).await,
            Self::BornGone => remove(universe, "checkpoint/0", |p| p.ends_with("born.json")).await,
            Self::OwnerGone => {
                remove(universe, "checkpoint", |p| p.ends_with("owner.json")).await;
            }
            Self::StateGone => remove(universe, "checkpoint/0/state", |_| true).await,
            Self::StateCut => state(universe, |file| file.truncate(file.len() / 2)).await,
            Self::StateFlipped(at) => state(universe, |file| flip(file, at)).await,
            Self::OutboxGone => remove(universe, "checkpoint/0/outbox", |_| true).await,
            Self::BronzeLogGone => remove(universe, "bronze/_delta_log", |_| true).await,
            Self::GoldLogGone => remove(universe, "gold/_delta_log", |_| true).await,
            Self::LettersGone => remove(universe, "dead-letters", |_| true).await,
            Self::StagedRowsGone => {
                let log = log_of(universe, "bronze").await;
                let is_staged = |path: &str| {
                    let name = path.strip_prefix("bronze/").unwrap_or(path);
                    !path.contains("_delta_log") && !log.contains(name)
                };
                remove(universe, "bronze", is_staged).await;
            }
            Self::StagedLettersGone => remove(universe, "dead-letters/_staging", |_| true).await,
        }
    }
}

/// The way back: the objects as they were, while no process runs.
pub(super) async fn put_back(universe: &Universe, lost: &[(String, Bytes)]) {
    for (name, bytes) in lost {
        let path = Path::from(name.as_str());
        let put = universe.objects.put(&path, bytes.clone().into());
        put.await.unwrap();
    }
}

async fn remove(universe: &Universe, folder: &str, which: impl Fn(&str) -> bool) {
    let names = universe.list(folder).await;
    let gone = names.into_iter().filter(|name| which(name));
    let gone: Vec<_> = gone.map(|name| Ok(Path::from(name))).collect();
    assert!(!gone.is_empty(), "there is nothing to damage in {folder}");
    let gone = futures::stream::iter(gone).boxed();
    let _: Vec<_> = universe.objects.delete_stream(gone).collect().await;
}

async fn change(universe: &Universe, object: &str, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = universe.get(object).await.unwrap().to_vec();
    with(&mut bytes);
    let (path, bytes) = (Path::from(object), Bytes::from(bytes));
    let put = universe.objects.put(&path, bytes.into());
    put.await.unwrap();
}

async fn state(universe: &Universe, with: impl FnOnce(&mut Vec<u8>)) {
    let files = universe.list("checkpoint/0/state").await;
    let head = universe.head().unwrap().head.to_string();
    let is_named = |file: &&String| head.contains(file.rsplit('/').next().unwrap_or_default());
    change(universe, files.iter().find(is_named).unwrap(), with).await;
}

fn flip(bytes: &mut [u8], at: u64) {
    let at = usize::try_from(at.wrapping_mul(977)).unwrap() % bytes.len();
    bytes[at] ^= 1;
}

async fn roll_back(universe: &Universe, epoch: u64) {
    let old = universe
        .heads()
        .into_iter()
        .find(|head| head.epoch() == epoch);
    let old = old.unwrap().bytes;
    change(universe, HEAD, |head| *head = old.to_vec()).await;
}

async fn log_of(universe: &Universe, table: &str) -> String {
    let mut text = String::new();
    for commit in universe.list(&format!("{table}/_delta_log")).await {
        let bytes = universe.get(&commit).await.unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

/// The first process dies when epoch 4 is decided.
fn damaged(damage: Damage) -> World {
    let died = Fault {
        place: (Step::HeadSwap, None),
        outcome: Outcome::CrashAfter,
        nth: 4,
    };
    World {
        faults: vec![died],
        stops: Vec::new(),
        damage: Some(damage),
        ..world(1, false)
    }
}

/// The next process stops with the condition, and decides nothing. Once the objects are put back, all is as if nothing had
/// been. `Err` says what happened instead.
pub(super) fn is_named(damage: Damage) -> Result<(), String> {
    let came = run(&damaged(damage));
    let condition = damage.condition();
    let stopped = came.ends.iter().any(|(at, end)| match end {
        End::Halted(halt) => *at == 1 && halt.reason == condition,
        _ => false,
    });
    let mut later = came.heads.iter().filter(|head| head.by == "p1");
    let first = later.next().map(Decision::epoch);
    let idle = later.all(|head| Some(head.epoch()) == first);
    // That it took over a head of long ago is the damage.
    let (ends, epochs, mut wrong) = (came.ends, came.epochs, came.wrong);
    wrong.retain(|what| !what.contains("p1"));
    if stopped && idle && wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{damage:?}: not {condition} and a way back but {ends:?}, {epochs} epochs, {wrong:#?}"
    ))
}

#[test]
fn each_damage_is_named_and_nothing_is_decided_on_it() {
    let flips = (2..=6).map(Damage::StateFlipped);
    let all: Vec<_> = Damage::all(1).into_iter().chain(flips).collect();
    for_all(&all, |damage| is_named(*damage).unwrap());
}
