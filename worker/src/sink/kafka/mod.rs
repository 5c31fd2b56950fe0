//! The Kafka sink: each epoch's rows are encoded into the outbox, and sent in one transaction once the epoch is decided.
//!
//! In the same transaction goes a record of progress ([`progress`]): under a name that outlives resets, the sink's identity and the
//! epoch. The name is the `transactional.id` too, so that whoever begins ([`writer`]) fences whoever was there, and what the progress
//! topic says after that is the truth. Whatever a transactional call answers but success is a doubt: the producer is
//! destroyed, and the next attempt begins anew and reads. Being fenced is such a doubt and no proof that another owns the
//! lane: a worker that slept may begin after us. It finds our epoch done, or does what was decided anyway; the head tells who
//! owns the lane.
//!
//! At least once: the same without transactions; the record of progress follows the rows.

mod producer;
mod progress;
mod thread;
mod topic;
mod trouble;
mod writer;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use async_trait::async_trait;
use evp_api::plan::KafkaSinkPlan;
use evp_api::reason;
use evp_core::dataflow::SinkBatch;
use evp_core::position::Epoch;
use evp_core::protocol::head::{Intent, SinkIdentity};
use evp_core::protocol::paths::unique;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use self::progress::Progress;
use self::thread::{Command, Reply, Thread};
use self::trouble::Place;
use self::writer::{Rows, Writer};
use super::json::{keyed, keyed_schema};
use super::outbox::{Outbox, Stored};
use super::{Applied, Sink, SinkError};
use crate::checkpointer::{CommitPermit, CrashPoints, Moment, Step};
use crate::secrets::Secrets;

/// Rows that are encoded at once.
const ROWS_AT_ONCE: usize = 1024;

/// Bytes of keys and values at which an object of the outbox is full. An epoch holds one such part at a time in memory, and
/// as much again while it is stored or sent.
const PART_BYTES: usize = 8 << 20;

/// What a record takes beside key and value: three headers, and what the protocol adds to a record and to a batch of one.
const RECORD_OVERHEAD: usize = 256;

/// What the sink needs to know.
#[derive(Clone)]
pub struct KafkaSinkSettings {
    /// Who writes.
    pub identity: SinkIdentity,
    /// Name of the sink at its target, whatever was reset or removed in between: `transactional.id`, and key of its progress.
    pub name: SinkIdentity,
    /// Names of the pipeline's other sinks on the same progress topic: what they left open when the worker died is in our way.
    pub siblings: Vec<SinkIdentity>,
    /// The manifest's words.
    pub plan: KafkaSinkPlan,
    /// Where credentials are read, anew at each connection.
    pub secrets: Secrets,
    /// Nothing is written and nobody fenced: it is asked what it holds while another may be at work.
    pub asks_only: bool,
    /// Where rows wait for the decision.
    pub outbox: Outbox,
    /// The epoch that opens next.
    pub epoch: Epoch,
    /// A nonce of this run, in letters that may stand in an object's name: no other run has it.
    pub nonce: String,
    /// For crash tests, this sink's.
    pub crash: CrashPoints,
}

/// What the head keeps for one epoch of this sink.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    outbox: Vec<Stored>,
    records: u64,
}

/// A Kafka topic that is written.
pub struct KafkaSink {
    settings: KafkaSinkSettings,
    place: Place,
    thread: Thread,
    /// The largest record batch that the topic takes, bytes.
    largest: usize,
    open: Open,
    /// Objects that this run wrote, for names of their own.
    count: u64,
}

/// What the open epoch holds so far.
#[derive(Default)]
struct Open {
    parts: Vec<Stored>,
    records: u64,
    held: Vec<RecordBatch>,
    bytes: usize,
}

impl KafkaSink {
    /// Looks at the topic: it must be there, and says how large a record may be.
    pub async fn open(settings: KafkaSinkSettings) -> Result<Self, SinkError> {
        let place = Place::of(&settings.plan);
        let (thread, asks_only) = (Thread::start(Writer::new(&settings)), settings.asks_only);
        let mut sink = Self {
            settings,
            place,
            thread,
            largest: 0,
            open: Open::default(),
            count: 0,
        };
        if !asks_only {
            sink.largest = sink.ask(Command::Look).await?;
        }
        Ok(sink)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, SinkError> {
        let (reply, answer) = oneshot::channel();
        let gone = || self.place.stop(reason::SINK_UNAVAILABLE, thread::GONE);
        self.thread.send(command(reply)).map_err(|()| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Encodes rows and holds them; full parts go to the outbox.
    async fn take(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let key = self.settings.plan.key_column.clone();
        for from in (0..rows.num_rows()).step_by(ROWS_AT_ONCE) {
            let some = rows.slice(from, ROWS_AT_ONCE.min(rows.num_rows() - from));
            let records = keyed(&some, key.as_deref());
            let records =
                records.map_err(|e| self.place.stop(reason::PLAN_REFUSED, &e.to_string()))?;
            self.open.bytes += self.sized(&records)?;
            self.open.records += records.num_rows() as u64;
            self.open.held.push(records);
            if self.open.bytes >= PART_BYTES {
                self.put().await?;
            }
        }
        Ok(())
    }

    /// Bytes of keys and values. One record that the topic would not take is an error before anything is decided.
    fn sized(&self, records: &RecordBatch) -> Result<usize, SinkError> {
        let [keys, values] = [0, 1].map(|at| records.column(at).as_binary::<i32>());
        let sizes = (0..records.num_rows()).map(|row| {
            usize::try_from(keys.value_length(row) + values.value_length(row)).unwrap_or(usize::MAX)
        });
        let largest = sizes.clone().max().unwrap_or_default();
        if largest.saturating_add(RECORD_OVERHEAD) > self.largest {
            return Err(self.place.unavailable(
                reason::SINK_REJECTED,
                &format!(
                    "a row is {largest} bytes of JSON, and the topic takes records of {} bytes; raise its max.message.bytes, \
                     or leave columns or rows out in a query step",
                    self.largest
                ),
            ));
        }
        Ok(sizes.sum())
    }

    /// Makes what is held one object of the outbox.
    async fn put(&mut self) -> Result<(), SinkError> {
        let held = std::mem::take(&mut self.open.held);
        self.open.bytes = 0;
        let rows = concat_batches(&keyed_schema(), &held);
        let rows = rows.map_err(|e| self.place.stop(reason::PLAN_REFUSED, &e.to_string()))?;
        let (id, nonce) = (self.settings.identity.id8(), &self.settings.nonce);
        let name = format!("{id}-{nonce}-{}.arrow", self.count);
        self.count += 1;
        let crash = &self.settings.crash;
        crash.hit(Step::OutboxPut, Moment::Before);
        let name = unique(self.settings.epoch, &name);
        let stored = self.settings.outbox.put(&name, &rows).await?;
        crash.hit(Step::OutboxPut, Moment::After);
        self.open.parts.push(stored);
        Ok(())
    }

    /// [`Sink::apply`] for tests against a real broker, where no head decides.
    #[doc(hidden)]
    pub async fn roll_forward(&mut self, intent: &Intent) -> Result<Applied, SinkError> {
        let body = serde_json::from_value(intent.body.clone());
        let body: Body =
            body.map_err(|e| self.place.stop(reason::CHECKPOINT_DAMAGED, &e.to_string()))?;
        let crash = self.settings.crash.clone();
        crash.hit(Step::Begin, Moment::Before);
        let held = self.ask(Command::Begin).await?;
        let held = held.and_then(|progress| held_for(&progress, intent));
        if self.standing(held, intent)? == Standing::Done {
            return Ok(Applied::default());
        }
        crash.hit(Step::Begin, Moment::After);
        crash.hit(Step::Write, Moment::Before);
        let mut first = 0;
        for part in &body.outbox {
            let records = self.settings.outbox.get(part).await?;
            let count = records.num_rows() as u64;
            let rows = Rows {
                epoch: intent.epoch,
                first,
                records,
            };
            self.ask(|reply| Command::Send(rows, reply)).await?;
            first += count;
        }
        crash.hit(Step::Write, Moment::After);
        crash.hit(Step::CommitSend, Moment::Before);
        let progress = Progress::new(&intent.sink, intent.epoch);
        self.ask(|reply| Command::Commit(progress, reply)).await?;
        crash.hit(Step::CommitSend, Moment::After);
        Ok(Applied::default())
    }

    fn standing(&self, held: Option<Epoch>, intent: &Intent) -> Result<Standing, SinkError> {
        let topic = &self.settings.plan.progress_topic;
        match (held, intent.prev) {
            (Some(held), _) if held >= intent.epoch => Ok(Standing::Done),
            (held, prev) if held == prev => Ok(Standing::Due),
            (held, Some(prev)) if held < Some(prev) => Err(self.place.stop(
                reason::SINK_HISTORY_LOST,
                &format!(
                    "epoch {prev} was committed here, and the progress topic {topic} does not say so any more; restore it, or give \
                     the sink a new name and topic"
                ),
            )),
            (held, prev) => Err(self.place.stop(
                reason::CHECKPOINT_BEHIND_SINK,
                &format!(
                    "the progress topic {topic} holds epoch {}, which the checkpoint does not know of (it says {}); restore the \
                     newest checkpoint",
                    held.unwrap_or_default(),
                    prev.map_or_else(|| "none".to_owned(), |p| format!("epoch {p}"))
                ),
            )),
        }
    }
}

/// Where our progress stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The epoch is in the topic.
    Done,
    /// The epoch before it is; this one is next.
    Due,
}

/// What the progress under our name says to an intent. That of another identity is of an earlier life of the sink, from before a
/// reset or before it was added anew: unless it is of this epoch or a later one, for then it is we who are of the past.
fn held_for(progress: &Progress, intent: &Intent) -> Option<Epoch> {
    let is_ours = progress.sink == intent.sink;
    (is_ours || progress.epoch >= intent.epoch).then_some(progress.epoch)
}

#[async_trait]
impl Sink for KafkaSink {
    async fn stage(&mut self, batch: SinkBatch) -> Result<(), SinkError> {
        match batch {
            SinkBatch::Rows(rows) => self.take(&rows).await,
            SinkBatch::Changes { rows, delete } if !delete.contains(&true) => {
                self.take(&rows).await
            }
            SinkBatch::Changes { .. } => {
                let what = "a row is to be taken back, and a log takes nothing back";
                Err(self.place.stop(reason::PLAN_REFUSED, what))
            }
        }
    }

    async fn seal(&mut self, epoch: Epoch) -> Result<Option<serde_json::Value>, SinkError> {
        if !self.open.held.is_empty() {
            self.put().await?;
        }
        // Each decided epoch is sealed, whether or not it has rows: the next one is known. Its number is for the sweep, which
        // takes nothing that is not far behind.
        self.settings.epoch = epoch.next();
        let Open { parts, records, .. } = std::mem::take(&mut self.open);
        let body = Body {
            outbox: parts,
            records,
        };
        Ok((records > 0).then(|| json!(body)))
    }

    async fn abandon(&mut self) {
        self.open = Open::default();
    }

    async fn apply(
        &mut self,
        intent: &Intent,
        _permit: &CommitPermit,
    ) -> Result<Applied, SinkError> {
        self.roll_forward(intent).await
    }

    async fn probe(&mut self, intent: &Intent) -> Result<Option<Epoch>, SinkError> {
        let asks_only = self.settings.asks_only;
        let held = self.ask(if asks_only {
            Command::Read
        } else {
            Command::Begin
        });
        let held = held.await?;
        Ok(held.and_then(|progress| held_for(&progress, intent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(of: &str, epoch: u64) -> Option<Epoch> {
        let intent = Intent {
            sink: SinkIdentity("ours".to_owned()),
            epoch: Epoch(5),
            prev: None,
            body: serde_json::Value::Null,
            apart: None,
        };
        let progress = Progress::new(&SinkIdentity(of.to_owned()), Epoch(epoch));
        held_for(&progress, &intent)
    }

    #[test]
    fn an_earlier_life_of_the_sink_holds_nothing_and_a_later_one_holds_all() {
        assert_eq!(held("ours", 4), Some(Epoch(4)));
        assert_eq!(held("before the reset", 4), None);
        assert_eq!(held("after the reset", 5), Some(Epoch(5)));
    }
}
