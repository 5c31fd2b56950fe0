//! The Kafka source: explicit assignment, positions from the head, never a group's rebalancing or commits.
//!
//! librdkafka blocks in most calls and lends its messages, so it lives on a thread of its own ([`thread`]); this is the
//! asynchronous handle. What is asked there and how answers become records and positions: [`reader`]. What only
//! librdkafka's C API knows (high watermarks without a question, leader epochs, topic ids): [`native`].

mod batch;
mod check;
mod client;
mod native;
mod reader;
mod thread;

use std::time::Duration;

use async_trait::async_trait;
use evp_api::plan::KafkaPlan;
use evp_api::reason;
use evp_core::position::SplitPositions;
use evp_core::record::RawBatch;
use tokio::sync::oneshot;

use self::reader::Reader;
use self::thread::{Command, Thread};
use super::{Budget, Source, SourceError};
use crate::clock::SharedClock;
use crate::secrets::Secrets;

/// A Kafka source.
pub struct KafkaSource {
    thread: Thread,
    /// A poll whose caller went away before the answer: its records must not be lost.
    polling: Option<oneshot::Receiver<Result<RawBatch, SourceError>>>,
}

/// What a Kafka source is made of.
pub struct Parts {
    /// The manifest's words.
    pub plan: KafkaPlan,
    /// Where credentials are read, anew at each connection.
    pub secrets: Secrets,
    /// Most bytes that librdkafka may hold fetched ahead.
    pub queue_bytes: usize,
    /// Time.
    pub clock: SharedClock,
}

impl KafkaSource {
    /// Connects with the first question.
    pub fn new(parts: Parts) -> Self {
        Self {
            thread: Thread::start(Reader::new(parts)),
            polling: None,
        }
    }

    async fn ask<T>(
        &mut self,
        command: impl FnOnce(oneshot::Sender<Result<T, SourceError>>) -> Command,
    ) -> Result<T, SourceError> {
        let (reply, answer) = oneshot::channel();
        self.thread.send(command(reply)).map_err(|()| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn splits(
        &mut self,
        known: Option<&SplitPositions>,
    ) -> Result<SplitPositions, SourceError> {
        let known = known.cloned();
        self.ask(|reply| Command::Splits(known, reply)).await
    }

    async fn seek(&mut self, positions: &SplitPositions) -> Result<(), SourceError> {
        // What an abandoned poll may still bring belongs to the old positions.
        self.polling = None;
        let positions = positions.clone();
        self.ask(|reply| Command::Seek(positions, reply)).await
    }

    /// May be dropped while it waits: the next call takes the same answer (so with the earlier call's budget).
    async fn poll(&mut self, budget: Budget, wait: Duration) -> Result<RawBatch, SourceError> {
        let answer = match &mut self.polling {
            Some(answer) => answer,
            none => {
                let (reply, answer) = oneshot::channel();
                self.thread
                    .send(Command::Poll {
                        budget,
                        wait,
                        reply,
                    })
                    .map_err(|()| gone())?;
                none.insert(answer)
            }
        };
        let answer = answer.await;
        self.polling = None;
        answer.map_err(|_| gone())?
    }

    async fn vouch(&mut self, _: &SplitPositions) -> Result<(), SourceError> {
        self.ask(Command::Vouch).await
    }

    async fn end_positions(&mut self) -> Result<SplitPositions, SourceError> {
        self.ask(Command::Ends).await
    }
}

/// The thread ended, which it does only by a panic.
fn gone() -> SourceError {
    SourceError::Stop {
        reason: reason::SOURCE_UNAVAILABLE,
        message: "the thread that reads Kafka ended; the log says why".to_owned(),
    }
}
