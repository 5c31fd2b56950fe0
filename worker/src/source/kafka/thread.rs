//! The thread that owns a [`Reader`]. One question at a time; it ends when its handle is dropped, and nobody waits for it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use evp_core::position::SplitPositions;
use evp_core::record::RawBatch;
use tokio::sync::oneshot;

use super::reader::Reader;
use crate::kafka;
use crate::source::{Budget, SourceError};

/// An answer's way back.
pub(super) type Reply<T> = oneshot::Sender<Result<T, SourceError>>;

/// What the thread can be asked.
pub(super) enum Command {
    Splits(Option<SplitPositions>, Reply<SplitPositions>),
    Seek(SplitPositions, Reply<()>),
    Poll {
        budget: Budget,
        wait: Duration,
        reply: Reply<RawBatch>,
    },
    Vouch(Reply<()>),
    Ends(Reply<SplitPositions>),
}

/// Handle of the thread.
pub(super) struct Thread {
    commands: SyncSender<Command>,
}

/// Questions that may wait: one open poll, and one more.
const QUEUE: usize = 4;

impl Thread {
    pub(super) fn start(reader: Reader) -> Self {
        let (commands, queue) = sync_channel(QUEUE);
        // Not joined: closing a consumer may wait for a broker, and shutdown must not.
        kafka::thread(move || serve(reader, &queue));
        Self { commands }
    }

    /// `Err`: the thread has ended or hangs with a full queue.
    pub(super) fn send(&self, command: Command) -> Result<(), ()> {
        self.commands.try_send(command).map_err(|_| ())
    }
}

fn serve(mut reader: Reader, queue: &Receiver<Command>) {
    // An answer nobody waits for any more is dropped: the caller has gone or will seek.
    while let Ok(command) = queue.recv() {
        match command {
            Command::Splits(known, reply) => drop(reply.send(reader.splits(known.as_ref()))),
            Command::Seek(positions, reply) => {
                reader.seek(positions);
                drop(reply.send(Ok(())));
            }
            Command::Poll {
                budget,
                wait,
                reply,
            } => drop(reply.send(reader.poll(budget, wait))),
            Command::Vouch(reply) => drop(reply.send(reader.vouch())),
            Command::Ends(reply) => drop(reply.send(reader.ends())),
        }
    }
}
