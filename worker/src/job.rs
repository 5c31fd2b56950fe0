//! Wiring: a checked plan and the places it names become sources, a dataflow and sinks.

use std::collections::BTreeMap;
use std::io::stdout;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evp_api::plan::{
    Delivery, DeltaPlan, KafkaSinkPlan, Mode, NodeName, ParquetPlan, PostgresPlan, SinkKind,
    SinkPlan, SourceKind, SourcePlan, StoragePath,
};
use evp_core::check::CheckedPlan;
use evp_core::position::Term;
use evp_core::protocol::head::{Body, SinkEntry, SinkIdentity};
use evp_core::protocol::identity::Namespace;

use crate::checkpointer::CrashPoints;
use crate::clock::SharedClock;
use crate::generate::Planting;
use crate::secrets::Secrets;
use crate::settings::MemoryBudget;
use crate::sink::delta::{DeltaAppend, DeltaSettings, DeltaUpsert, Target};
use crate::sink::files::{Content, FilesSettings, FilesSink};
use crate::sink::kafka::{KafkaSink, KafkaSinkSettings};
use crate::sink::outbox::Outbox;
use crate::sink::postgres::{PostgresSettings, PostgresSink, PostgresWriter};
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, SinkError};
use crate::source::Source;
use crate::source::files::{self, Cut, FilesSource};
use crate::source::generator::GeneratorSource;
use crate::source::kafka::{self, KafkaSource};
use crate::source::script::{ScriptedSource, Scripts};
use crate::store::{Location, Storage, StoreError};

/// The dead letters' own sink; no node of a manifest has this name.
pub const DEAD_LETTERS: &str = evp_api::plan::DEAD_LETTERS;

pub use crate::checkpointer::Sinks;

/// What a job is made of beside its plan.
#[derive(Clone)]
pub struct Parts {
    /// Where storage paths lead.
    pub storage: Storage,
    /// Credentials.
    pub secrets: Secrets,
    /// Time.
    pub clock: SharedClock,
    /// What becomes of the topics that sinks name.
    pub topics: Topics,
    /// How memory is divided.
    pub budget: MemoryBudget,
    /// For generators: what they make.
    pub sample: Sample,
    /// For tests of a pipeline: what sources hand out, by name, instead of what they read.
    pub scripts: Scripts,
    /// For crash tests.
    pub crash: CrashPoints,
}

/// What becomes of the topics that sinks name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Topics {
    /// They are written.
    #[default]
    Written,
    /// They are asked what they hold, while somebody else may be writing them.
    Asked,
    /// A folder stands for them, one below it for each.
    Folder(PathBuf),
}

/// What generators make beside their manifest's words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Bad, late, repeated and disordered events, by rate.
    pub planting: Planting,
    /// How long before the first start the first event lies.
    pub backlog: Duration,
}

/// Opens a source. It connects when it is first used. `kafka_sources` share the fetch queue's bytes.
pub fn source(plan: &SourcePlan, parts: &Parts, kafka_sources: usize) -> Box<dyn Source> {
    if let Some(script) = parts.scripts.get(&plan.name) {
        return Box::new(ScriptedSource::new(Arc::clone(script), parts.clock.clone()));
    }
    match &plan.kind {
        SourceKind::Kafka(kafka) => Box::new(KafkaSource::new(kafka::Parts {
            plan: kafka.clone(),
            secrets: parts.secrets.clone(),
            clock: parts.clock.clone(),
            queue_bytes: parts.budget.fetch_queue / kafka_sources.max(1),
        })),
        SourceKind::Files(files) => Box::new(FilesSource::new(files::Parts {
            plan: files.clone(),
            cut: Cut::of(plan),
            storage: parts.storage.clone(),
            clock: parts.clock.clone(),
        })),
        SourceKind::Generator(generator) => Box::new(GeneratorSource::new(
            generator.clone(),
            parts.clock.clone(),
            parts.sample.planting,
            parts.sample.backlog,
        )),
    }
}

/// The target of each sink as text: it changes when the sink is re-pointed.
pub fn targets(checked: &CheckedPlan) -> BTreeMap<NodeName, String> {
    let sinks = checked
        .plan
        .sinks
        .iter()
        .map(|sink| (sink.name.clone(), sink.kind.target()));
    let letters = checked
        .plan
        .dead_letter
        .iter()
        .filter_map(|letters| Some((NodeName::new(DEAD_LETTERS)?, letters.path.to_string())));
    sinks.chain(letters).collect()
}

/// Opens the sinks of a plan under the identities that a body gives them.
pub struct SinkOpener<'a> {
    /// The plan.
    pub checked: &'a CheckedPlan,
    /// Places and time.
    pub parts: &'a Parts,
    /// The checkpoint's own place: outboxes lie below it.
    pub checkpoint: &'a Location,
    /// Identities and incarnation.
    pub body: &'a Body,
    /// A nonce of this run: names of files are unique by it.
    pub nonce: &'a str,
    /// Under which the lane is owned; 0: sinks are only asked.
    pub term: Term,
    /// Rows that a sink refuses after the decision are kept; else they stop it.
    pub keeps_rejects: bool,
}

/// A sink that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its place cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its target does not fit, or cannot be reached.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl SinkOpener<'_> {
    /// All of them.
    pub async fn open(&self) -> Result<Sinks, OpenError> {
        let mut sinks = Sinks::new();
        for name in self.body.sinks.keys() {
            if let Some(sink) = self.open_one(name).await? {
                sinks.insert(name.clone(), sink);
            }
        }
        Ok(sinks)
    }

    /// One of them. `None`: plan and body do not both have it.
    pub async fn open_one(&self, name: &NodeName) -> Result<Option<Box<dyn Sink>>, OpenError> {
        let Some(entry) = self.body.sinks.get(name) else {
            return Ok(None);
        };
        let mut planned = self.checked.plan.sinks.iter();
        match planned.find(|sink| &sink.name == name) {
            Some(plan) => Ok(Some(self.sink(plan, entry).await?)),
            None => self.dead_letters(name, &entry.identity),
        }
    }

    async fn sink(&self, plan: &SinkPlan, entry: &SinkEntry) -> Result<Box<dyn Sink>, OpenError> {
        match &plan.kind {
            SinkKind::Delta(delta) => self.delta(plan, delta, entry).await,
            // Boxed: it would make every future of a start twice as large.
            SinkKind::Postgres(postgres) => Box::pin(self.postgres(plan, postgres, entry)).await,
            SinkKind::Parquet(parquet) => self.parquet(parquet, &plan.name, entry),
            SinkKind::Kafka(kafka) => self.kafka(kafka, &plan.name, entry).await,
            // A test of a pipeline prints nothing of it.
            SinkKind::Stdout if self.parts.scripts.is_empty() => {
                Ok(Box::new(StdoutSink::new(stdout())))
            }
            SinkKind::Stdout => Ok(Box::new(StdoutSink::new(std::io::sink()))),
        }
    }

    async fn delta(
        &self,
        plan: &SinkPlan,
        delta: &DeltaPlan,
        entry: &SinkEntry,
    ) -> Result<Box<dyn Sink>, OpenError> {
        let settings = DeltaSettings {
            identity: entry.identity.clone(),
            target: target(&self.parts.storage.open(&delta.path)?),
            rows: self.checked.sinks[&plan.name].clone(),
            partition_by: delta.partition_by.clone(),
            nonce: self.nonce.to_owned(),
            clock: self.parts.clock.clone(),
            crash: self.parts.crash.of_sink(&plan.name),
        };
        Ok(match plan.mode {
            Mode::Append => Box::new(DeltaAppend::open(settings).await?),
            Mode::Update => {
                Box::new(DeltaUpsert::open(settings, plan.keys.clone(), self.outbox()).await?)
            }
        })
    }

    async fn postgres(
        &self,
        plan: &SinkPlan,
        postgres: &PostgresPlan,
        entry: &SinkEntry,
    ) -> Result<Box<dyn Sink>, OpenError> {
        let name = self.namespace().lasting(&plan.name, &postgres.target());
        let settings = PostgresSettings {
            plan: postgres.clone(),
            secrets: self.parts.secrets.clone(),
            rows: self.checked.sinks[&plan.name].clone(),
            mode: plan.mode,
            keys: plan.keys.clone(),
            null_keys: plan.mode == Mode::Update && self.checked.plan.aggregate_above(&plan.from),
            keeps_rejects: self.keeps_rejects,
            writer: PostgresWriter {
                sink: name.0,
                name: plan.name.to_string(),
                incarnation: self.body.incarnation.clone(),
                added_at: entry.added_at,
                term: self.term,
            },
            outbox: self.outbox(),
            nonce: self.nonce.to_owned(),
            crash: self.parts.crash.of_sink(&plan.name),
        };
        Ok(Box::new(PostgresSink::open(settings).await?))
    }

    fn namespace(&self) -> Namespace<'_> {
        Namespace {
            checkpoint: &self.body.checkpoint,
            incarnation: &self.body.incarnation,
            lane: &self.body.lane,
        }
    }

    fn outbox(&self) -> Outbox {
        Outbox {
            checkpoint: target(self.checkpoint),
            lane: self.body.lane.clone(),
        }
    }

    async fn kafka(
        &self,
        plan: &KafkaSinkPlan,
        name: &NodeName,
        entry: &SinkEntry,
    ) -> Result<Box<dyn Sink>, OpenError> {
        let crash = self.parts.crash.of_sink(name);
        if let Topics::Folder(topics) = &self.parts.topics {
            let folder = StoragePath::Local(format!("{}/{}", topics.display(), plan.topic));
            let content = Content::Records(plan.key_column.clone());
            return self.files(name, &entry.identity, &folder, content);
        }
        let (space, targets) = (self.namespace(), targets(self.checked));
        let lasting = |name: &NodeName| Some(space.lasting(name, targets.get(name)?));
        let is_sibling = |sink: &&SinkPlan| match &sink.kind {
            SinkKind::Kafka(other) => {
                &sink.name != name
                    && other.progress_topic == plan.progress_topic
                    && other.delivery == Delivery::ExactlyOnce
            }
            SinkKind::Delta(_)
            | SinkKind::Parquet(_)
            | SinkKind::Postgres(_)
            | SinkKind::Stdout => false,
        };
        let siblings = self.checked.plan.sinks.iter().filter(is_sibling);
        let settings = KafkaSinkSettings {
            identity: entry.identity.clone(),
            name: lasting(name).unwrap_or_else(|| entry.identity.clone()),
            siblings: siblings.filter_map(|sink| lasting(&sink.name)).collect(),
            plan: plan.clone(),
            secrets: self.parts.secrets.clone(),
            asks_only: self.parts.topics == Topics::Asked,
            outbox: self.outbox(),
            epoch: self.body.epoch,
            nonce: self.nonce.to_owned(),
            crash,
        };
        Ok(Box::new(KafkaSink::open(settings).await?))
    }

    fn dead_letters(
        &self,
        name: &NodeName,
        identity: &SinkIdentity,
    ) -> Result<Option<Box<dyn Sink>>, OpenError> {
        let Some(plan) = &self.checked.plan.dead_letter else {
            return Ok(None);
        };
        let content = Content::DeadLetters(plan.format);
        self.files(name, identity, &plan.path, content).map(Some)
    }

    fn parquet(
        &self,
        plan: &ParquetPlan,
        name: &NodeName,
        entry: &SinkEntry,
    ) -> Result<Box<dyn Sink>, OpenError> {
        let content = Content::Rows {
            schema: self.checked.sinks[name].clone(),
            partition_by: plan.partition_by.clone(),
        };
        self.files(name, &entry.identity, &plan.path, content)
    }

    fn files(
        &self,
        name: &NodeName,
        identity: &SinkIdentity,
        folder: &StoragePath,
        content: Content,
    ) -> Result<Box<dyn Sink>, OpenError> {
        Ok(Box::new(FilesSink::new(FilesSettings {
            identity: identity.clone(),
            incarnation: self.body.incarnation.clone(),
            lane: self.body.lane.clone(),
            target: target(&self.parts.storage.open(folder)?),
            content,
            nonce: self.nonce.to_owned(),
            crash: self.parts.crash.of_sink(name),
        })?))
    }
}

/// A place as sinks use it.
pub fn target(location: &Location) -> Target {
    Target {
        store: location.root.clone(),
        prefix: location.prefix.clone(),
        url: location.url.clone(),
    }
}

/// Every place that a plan writes, by the field that names it.
pub fn places(checked: &CheckedPlan) -> Vec<(String, StoragePath)> {
    let plan = &checked.plan;
    let mut places = vec![(
        "spec.checkpoint.path".to_owned(),
        plan.checkpoint.path.clone(),
    )];
    places.extend(
        plan.dead_letter
            .iter()
            .map(|d| ("spec.deadLetter.files.path".to_owned(), d.path.clone())),
    );
    let folder = |sink: &SinkPlan| Some((format!("sink {}", sink.name), sink.kind.path()?.clone()));
    places.extend(plan.sinks.iter().filter_map(folder));
    places
}
