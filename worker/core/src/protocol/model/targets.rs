//! The sinks' targets: what is visible in them, and their markers.

use super::damage::Damage;
use super::heads::{Heads, IntentId};
use super::world::{Violation, World, ensure};

/// An epoch of a sink as its target holds it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Held {
    /// Number of the sink's identity.
    pub sink: u8,
    pub epoch: u8,
    /// The process that staged the rows: the writer's nonce.
    pub writer: u8,
}

/// A table with versions: rows and the marker, which tells the newest epoch, go in one commit.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Table {
    /// Oldest first.
    pub commits: Vec<Held>,
}

/// A folder: files, then one marker for each epoch, then the staged files go.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Folder {
    /// Sorted; not visible.
    pub staged: Vec<(u8, u8)>,
    /// Sorted; visible.
    pub files: Vec<Held>,
    /// Sorted; content and all.
    pub markers: Vec<Held>,
}

impl Table {
    /// The newest epoch of a sink.
    pub(super) fn marker(&self, sink: u8) -> Option<u8> {
        let ours = self.commits.iter().filter(|c| c.sink == sink);
        ours.map(|c| c.epoch).next_back()
    }

    pub(super) fn version(&self) -> u8 {
        u8::try_from(self.commits.len()).unwrap()
    }
}

impl Folder {
    /// Who staged what the marker of an epoch speaks of; `None`: there is none.
    pub(super) fn marker(&self, sink: u8, epoch: u8) -> Option<u8> {
        let of = |m: &&Held| (m.sink, m.epoch) == (sink, epoch);
        self.markers.iter().find(of).map(|m| m.writer)
    }

    pub(super) fn is_marked(&self, sink: u8, epoch: u8) -> bool {
        self.marker(sink, epoch).is_some()
    }

    pub(super) fn file(&self, sink: u8, epoch: u8) -> Option<u8> {
        let of = |m: &&Held| (m.sink, m.epoch) == (sink, epoch);
        self.files.iter().find(of).map(|m| m.writer)
    }

    pub(super) fn stage(&mut self, epoch: u8, writer: u8) {
        self.staged.push((epoch, writer));
        self.staged.sort_unstable();
        self.staged.dedup();
    }

    pub(super) fn unstage(&mut self, epoch: u8, writer: u8) {
        self.staged.retain(|s| *s != (epoch, writer));
    }
}

impl World {
    /// Commits to the table if its version is still this one. `false`: somebody else committed first.
    pub(super) fn commit(
        &mut self,
        heads: &Heads,
        version: u8,
        id: IntentId,
    ) -> Result<bool, Violation> {
        if self.table.version() != version {
            return Ok(false);
        }
        self.check_decided(heads, id)?;
        let card = heads.intent(id);
        let twice = |c: &Held| c.epoch == card.epoch;
        ensure(
            !self.table.commits.iter().any(twice),
            "the table holds an epoch twice",
        )?;
        ensure(
            self.table.marker(card.sink) == card.prev,
            "the table holds an epoch without the one before it",
        )?;
        self.table.commits.push(Held {
            sink: card.sink,
            epoch: card.epoch,
            writer: card.writer.unwrap(),
        });
        Ok(true)
    }

    /// Copies a staged file of the letters to its final name. `false`: it is neither there nor staged.
    pub(super) fn publish(&mut self, heads: &Heads, id: IntentId) -> Result<bool, Violation> {
        let card = heads.intent(id);
        let held = Held {
            sink: card.sink,
            epoch: card.epoch,
            writer: card.writer.unwrap(),
        };
        let there = self.folder.file(held.sink, held.epoch);
        if !self.folder.staged.contains(&(held.epoch, held.writer)) {
            return Ok(there.is_some());
        }
        if there != Some(held.writer) {
            self.check_decided(heads, id)?;
            self.check_published(there, held, card.prev)?;
        }
        let files = &mut self.folder.files;
        files.retain(|f| (f.sink, f.epoch) != (held.sink, held.epoch));
        files.push(held);
        files.sort_unstable();
        Ok(true)
    }

    fn check_published(
        &self,
        there: Option<u8>,
        held: Held,
        prev: Option<u8>,
    ) -> Result<(), Violation> {
        // After a head was put back the second file takes the place of the first: its rows are there once.
        ensure(
            there.is_none() || self.damage.is_some(),
            "the folder's file of an epoch is replaced by another",
        )?;
        // A folder may be emptied between the look at its markers and the copy.
        let wiped = self.damage == Some(Damage::FolderWiped);
        ensure(
            wiped || prev.is_none_or(|prev| self.folder.is_marked(held.sink, prev)),
            "the folder holds an epoch without the one before it",
        )?;
        let later = |f: &Held| f.sink == held.sink && f.epoch > held.epoch;
        ensure(
            there.is_some() || !self.folder.files.iter().any(later),
            "the folder's epochs are out of order",
        )
    }

    /// Writes the letters' marker of an epoch.
    pub(super) fn mark(&mut self, heads: &Heads, id: IntentId) {
        let card = heads.intent(id);
        let held = Held {
            sink: card.sink,
            epoch: card.epoch,
            writer: card.writer.unwrap(),
        };
        let markers = &mut self.folder.markers;
        markers.retain(|m| (m.sink, m.epoch) != (held.sink, held.epoch));
        markers.push(held);
        markers.sort_unstable();
    }
}
