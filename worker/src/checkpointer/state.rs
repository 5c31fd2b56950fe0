//! State files: written under names of their own before an epoch names them, checked when they are read.

use bytes::Bytes;
use evp_core::position::Epoch;
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::StateFile;
use evp_core::protocol::paths::{self, Lane};

use super::Checkpointer;
use super::crash::Step;
use super::io::Io;
use super::stop::Stop;

/// Writes the state files of a lane, and reads them.
#[derive(Clone, Debug)]
pub struct StateFiles {
    io: Io,
    lane: Lane,
}

impl StateFiles {
    pub(super) fn new(io: Io, lane: Lane) -> Self {
        Self { io, lane }
    }

    /// Writes a file for the open epoch. Garbage, until a decided epoch names it.
    pub async fn put(&self, epoch: Epoch, bytes: Bytes) -> Result<StateFile, Stop> {
        let name = paths::unique(epoch, &self.io.ids.nonce());
        let file = StateFile {
            name,
            length: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        };
        self.io
            .put(Step::StatePut, &self.lane.state(&file.name), bytes)
            .await?;
        Ok(file)
    }
}

impl Io {
    /// Reads an object that a head names. `None`: it is gone. `CheckpointDamaged`: it is not as it was written.
    async fn get_named(&self, name: &str, file: &StateFile) -> Result<Option<Bytes>, Stop> {
        let damaged = |what: &str| Stop::damaged(&self.url, &format!("{name} {what}"));
        let Some((bytes, _)) = self.get(name).await? else {
            return Ok(None);
        };
        if bytes.len() as u64 != file.length {
            return Err(damaged(&format!(
                "has {} bytes and not {}",
                bytes.len(),
                file.length
            )));
        }
        if Digest::of(&bytes) != file.sha256 && !mistaken!(StateChecksumIgnored) {
            return Err(damaged("does not have the checksum it was written with"));
        }
        Ok(Some(bytes))
    }
}

impl Checkpointer {
    /// Reads a state file of our head.
    pub async fn state_file(&self, file: &StateFile) -> Result<Bytes, Stop> {
        self.named(&self.lane.state(&file.name), file).await
    }

    /// Reads an object that our head names. One that is gone may have been collected by who owns the lane by now.
    pub(super) async fn named(&self, name: &str, file: &StateFile) -> Result<Bytes, Stop> {
        if let Some(bytes) = self.io.get_named(name, file).await? {
            return Ok(bytes);
        }
        let there = self.io.get(&self.lane.head()).await?;
        let gone = || Stop::damaged(&self.io.url, &format!("{name} is gone"));
        Err(self
            .verdict(&self.head.write, there.as_ref())
            .unwrap_or_else(gone))
    }
}
