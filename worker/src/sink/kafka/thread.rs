//! The thread that owns a [`Writer`], for librdkafka blocks. One question at a time; it ends when its handle is dropped, and
//! nobody waits for it: what it is in the middle of ends by its own timeouts, and a transaction that is then open is aborted
//! by whoever begins next.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use super::progress::Progress;
use super::writer::{Rows, Writer};
use crate::kafka;
use crate::sink::SinkError;

/// An answer's way back.
pub(super) type Reply<T> = oneshot::Sender<Result<T, SinkError>>;

/// Said when the thread does not answer any more.
pub(super) const GONE: &str = "the thread that writes to Kafka ended; the log says why";

/// What the thread can be asked.
pub(super) enum Command {
    /// Is the topic there, and how large may a record be?
    Look(Reply<usize>),
    /// What does the progress topic say? Nobody is fenced and nothing created.
    Read(Reply<Option<Progress>>),
    /// The same, once whoever wrote before us is fenced; what an earlier attempt left open is given up.
    Begin(Reply<Option<Progress>>),
    /// Sends rows; they are not delivered when it answers.
    Send(Rows, Reply<()>),
    /// Delivers all of it with the record of progress.
    Commit(Progress, Reply<()>),
}

/// Handle of the thread.
pub(super) struct Thread {
    commands: SyncSender<Command>,
}

/// Questions that may wait: one that nobody waits for any more, and one more.
const QUEUE: usize = 2;

impl Thread {
    pub(super) fn start(writer: Writer) -> Self {
        let (commands, queue) = sync_channel(QUEUE);
        kafka::thread(move || serve(writer, &queue));
        Self { commands }
    }

    /// `Err`: the thread has ended or hangs with a full queue.
    pub(super) fn send(&self, command: Command) -> Result<(), ()> {
        self.commands.try_send(command).map_err(|_| ())
    }
}

fn serve(mut writer: Writer, queue: &Receiver<Command>) {
    // An answer nobody waits for any more is dropped: the caller has gone, and whoever comes begins anew.
    while let Ok(command) = queue.recv() {
        match command {
            Command::Look(reply) => drop(reply.send(writer.look())),
            Command::Read(reply) => drop(reply.send(writer.read())),
            Command::Begin(reply) => drop(reply.send(writer.begin())),
            Command::Send(rows, reply) => drop(reply.send(writer.send(&rows))),
            Command::Commit(progress, reply) => drop(reply.send(writer.commit(progress))),
        }
    }
}
