//! The progress topic: under each sink's name, the newest epoch that its topic holds. One partition, compacted, shared by all sinks
//! of a cluster.
//!
//! With transactions the key is the name alone, and the record is in the transaction of its rows. Without, a worker that slept
//! could still write an old epoch behind a newer one: so each run has a key of its own below the name, the newest epoch of all
//! of them counts, and a run that wrote takes the keys that it found before it out.

use std::time::Duration;

use evp_api::reason;
use evp_core::position::Epoch;
use evp_core::protocol::head::SinkIdentity;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::topic::{Cluster, consumer};
use super::trouble::Place;
use crate::kafka::{Connection, Errors};
use crate::sink::SinkError;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Looks until other sinks' transactions on the topic have ended, each of which takes as long as its last two requests; and
/// until more of the topic comes.
const LOOKS: u32 = 300;

/// Looks after which such a transaction is not about to end.
const STUCK: u32 = 20;

/// The format this code writes, and the newest it reads.
const FORMAT: u32 = 1;

/// How far a sink is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Progress {
    format: u32,
    /// Which life of the sink: its identity holds the incarnation.
    pub(super) sink: SinkIdentity,
    /// The newest epoch that the topic holds.
    pub(super) epoch: Epoch,
}

impl Progress {
    pub(super) fn new(sink: &SinkIdentity, epoch: Epoch) -> Self {
        Self {
            format: FORMAT,
            sink: sink.clone(),
            epoch,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What the topic says of one sink.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest epoch; `None`: nothing is known of the sink.
    pub(super) newest: Option<Progress>,
    /// All keys under its name.
    pub(super) keys: Vec<String>,
}

/// The key of a run that writes without transactions.
pub(super) fn key_of_run(name: &SinkIdentity, nonce: &str) -> String {
    format!("{name}/{nonce}")
}

/// Reads the topic to the end that it has now.
///
/// With open transactions before that end, those of other sinks, committed records behind them are not handed out yet: they are
/// waited for, and once that takes long, `unstick` may end some. Our own are not open any more, for we began.
pub(super) fn read(
    (connection, cluster): (&Connection, &Cluster),
    place: &Place,
    (topic, name): (&str, &SinkIdentity),
    unstick: &dyn Fn(),
) -> Result<Found, SinkError> {
    let reader = Reader {
        committed: consumer(connection, place, "read_committed")?,
        all: cluster.asker(),
        place,
        topic,
    };
    reader.wait_for_others(unstick)?;
    reader.read(name)
}

struct Reader<'a> {
    committed: BaseConsumer<Errors>,
    all: &'a BaseConsumer<Errors>,
    place: &'a Place,
    topic: &'a str,
}

impl Reader<'_> {
    fn failed(&self, error: &KafkaError, of: &BaseConsumer<Errors>) -> SinkError {
        let what = "the progress of sinks cannot be read";
        self.place.failed(what, error, of.client().context())
    }

    fn end(&self, of: &BaseConsumer<Errors>) -> Result<i64, SinkError> {
        let range = of.fetch_watermarks(self.topic, 0, QUESTION);
        Ok(range.map_err(|e| self.failed(&e, of))?.1)
    }

    fn wait_for_others(&self, unstick: &dyn Fn()) -> Result<(), SinkError> {
        let end = self.end(self.all)?;
        for look in 0..LOOKS {
            if look == STUCK {
                unstick();
            }
            if self.end(&self.committed)? >= end {
                return Ok(());
            }
            std::thread::park_timeout(LOOK);
        }
        let what = "another pipeline left a transaction open on the progress topic; its worker ends it when it starts again, or the broker in a \
                    minute, at most a quarter of an hour";
        Err(self.place.unavailable(reason::SINK_UNAVAILABLE, what))
    }

    fn read(&self, name: &SinkIdentity) -> Result<Found, SinkError> {
        let from = &self.committed;
        let mut at = TopicPartitionList::new();
        let assigned = at.add_partition_offset(self.topic, 0, Offset::Beginning);
        let assigned = assigned.and_then(|()| from.assign(&at));
        assigned.map_err(|e| self.failed(&e, from))?;
        let mut found = Found::default();
        let mut idle = 0;
        while idle < LOOKS {
            match from.poll(LOOK) {
                None => idle += 1,
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(found),
                Some(Err(e)) => return Err(self.failed(&e, from)),
                Some(Ok(message)) => {
                    idle = 0;
                    let text = message.key().and_then(|key| str::from_utf8(key).ok());
                    let ours = text.filter(|key| key.split('/').next() == Some(&name.0));
                    if let Some(key) = ours {
                        self.take(&mut found, key, message.payload())?;
                    }
                }
            }
        }
        let what = "its end is not reached in time";
        Err(self.place.unavailable(reason::SINK_UNAVAILABLE, what))
    }

    fn take(&self, found: &mut Found, key: &str, value: Option<&[u8]>) -> Result<(), SinkError> {
        found.keys.retain(|known| known != key);
        let Some(value) = value else {
            return Ok(());
        };
        let progress: Option<Progress> = serde_json::from_slice(value).ok();
        let Some(progress) = progress.filter(|progress| progress.format == FORMAT) else {
            let what = format!(
                "the record under key {key} is none that this version wrote; run the version that did, or restore the topic"
            );
            return Err(self.place.stop(reason::TOPIC_MISMATCH, &what));
        };
        found.keys.push(key.to_owned());
        if found
            .newest
            .as_ref()
            .is_none_or(|newest| newest.epoch <= progress.epoch)
        {
            found.newest = Some(progress);
        }
        Ok(())
    }
}
