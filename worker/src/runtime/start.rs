//! From nothing to a running lane: checkpoint, sources, state, undone intents, sinks, readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evp_api::EventPipelineSpec;
use evp_api::plan::{NodeName, Plan, SourceKind, SourcePlan, digest_input};
use evp_api::reason;
use evp_core::check::{CheckedPlan, check};
use evp_core::dataflow::Dataflow;
use evp_core::position::{Epoch, Micros, Positions, SplitPositions, Term};
use evp_core::protocol::decide::Identity;
use evp_core::protocol::head::{Body, WatermarkSnapshots};
use evp_core::protocol::paths::Lane;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::apply::Applier;
use super::bound::RecordBound;
use super::fill::Filler;
use super::skip::Skips;
use super::tables::Tables;
use super::vouch::SharedSources;
use super::{Halt, Poison, Runtime, Until, state};
use crate::activity::Activity;
use crate::checkpointer::{
    Checkpointer, Fingerprints, OpenSinks, Report, Setup, StartPoint, StartPositions, Started, Stop,
};
use crate::ids::Ids;
use crate::job::{self, OpenError, Parts, SinkOpener, Sinks};
use crate::reader::{READ_AHEAD, Reader};
use crate::sink::Sink;
use crate::source::{Budget, Source, share};
use crate::store::Location;
use crate::tasks::Tasks;

/// What a lane is started with.
#[derive(Clone)]
pub struct Start {
    /// The plan.
    pub checked: Arc<CheckedPlan>,
    /// The spec it was checked from: it is kept beside the epochs decided under it.
    pub spec: EventPipelineSpec,
    /// The lane to own.
    pub lane: Lane,
    /// Places, credentials, time, memory.
    pub parts: Parts,
    /// Who we are.
    pub identity: Identity,
    /// Randomness.
    pub ids: Ids,
    /// Newest epoch that was ever seen of this pipeline.
    pub seen: Option<Epoch>,
    /// Who is told when a decided epoch must wait.
    pub waiting: Arc<dyn Report>,
    /// Records on which the engine failed in this process.
    pub poison: Poison,
    /// End when what is there now is committed.
    pub until_end: bool,
}

type Sources = BTreeMap<NodeName, Box<dyn Source>>;

/// Starts a lane: after this it is owned, undone intents are applied, and the readers run.
pub async fn start(start: &Start, stop: &CancellationToken) -> Result<Runtime, Halt> {
    let Start { checked, parts, .. } = start;
    let place = parts.storage.open(&checked.plan.checkpoint.path)?;
    let mut sources = open_sources(checked, parts);
    let mut dataflow = Dataflow::new(checked)
        .map_err(|e| Halt::person(reason::PLAN_REFUSED, e.strip_backtrace()))?;
    dataflow.limit_state(parts.budget.state);
    let mut fingerprints = dataflow.fingerprints();
    fingerprints.extend(evp_core::files::table::fingerprints(&checked.plan));
    let begun = begin(start, &place, &mut sources, fingerprints).await?;
    let mut checkpointer = begun.checkpointer;
    roll_forward(start, &place, &mut checkpointer).await?;
    checkpointer.reset().await?;
    let starts = positions(&mut sources, checkpointer.body()).await?;
    restore(&mut dataflow, &checkpointer, &starts).await?;
    let tables = remember(&mut sources, &checked.plan, &checkpointer).await?;
    let next = checkpointer.open(parts.clock.now());
    // Two of each: rows are staged to one while the other is rolled forward.
    let term = checkpointer.term();
    let staging = open_sinks(start, &place, (&next, term)).await?;
    let applying = open_sinks(start, &place, (&next, term)).await?;
    let until = until(start, &mut sources).await?;
    let bound = RecordBound::new(checked.plan.checkpoint.max_records, checkpointer.care());
    start.poison.skip(&checked.plan.skip);
    let skips = Skips::ahead(&checked.plan.skip, &starts);
    let activity = watch(checked, &starts);
    let sources: SharedSources = sources.into_iter().map(|(n, s)| (n, share(s))).collect();
    let (reads, readers) = spawn_readers(&sources, &starts, (parts, checked), stop);
    let filler = Filler {
        checked: Arc::clone(checked),
        dataflow,
        sinks: staging,
        clock: parts.clock.clone(),
        reads,
        activity,
        carried: None,
        polled: Duration::ZERO,
        troubled: BTreeMap::new(),
        bound,
        poison: start.poison.clone(),
        skips,
        tables,
        until,
    };
    let applier = Applier {
        checked: Arc::clone(checked),
        checkpointer,
        sinks: applying,
        versions: BTreeMap::new(),
        pending: None,
        // A process before this one may have applied the newest epoch.
        rejects_due: true,
    };
    Ok(Runtime {
        filler,
        applier,
        sources,
        clock: parts.clock.clone(),
        readers,
        starts,
    })
}

async fn open_sinks(
    start: &Start,
    place: &Location,
    (body, term): (&Body, Term),
) -> Result<Sinks, Halt> {
    let nonce = start.ids.nonce();
    let opener = SinkOpener {
        checked: &start.checked,
        parts: &start.parts,
        checkpoint: place,
        body,
        nonce: &nonce,
        term,
        keeps_rejects: start.checked.plan.dead_letter.is_some(),
    };
    Ok(opener.open().await?)
}

fn open_sources(checked: &CheckedPlan, parts: &Parts) -> Sources {
    let is_kafka = |source: &&SourcePlan| matches!(source.kind, SourceKind::Kafka(_));
    let kafka = checked.plan.sources.iter().filter(is_kafka).count();
    checked
        .plan
        .sources
        .iter()
        .map(|plan| (plan.name.clone(), job::source(plan, parts, kafka)))
        .collect()
}

/// Resolves the start of every source, once in the life of a pipeline.
struct FirstPositions<'a>(&'a mut Sources);

#[async_trait]
impl StartPositions for FirstPositions<'_> {
    async fn resolve(&mut self, _now: Micros) -> Result<StartPoint, Stop> {
        let mut positions = Positions::new();
        for (name, source) in self.0.iter_mut() {
            let splits = source.splits(None).await.map_err(|error| {
                let halt = Halt::from(error);
                Stop {
                    reason: halt.reason,
                    message: halt.message,
                    retry: halt.remedy == super::Remedy::Wait,
                }
            })?;
            positions.insert(name.clone(), splits);
        }
        Ok(StartPoint {
            positions,
            watermarks: WatermarkSnapshots::new(),
        })
    }
}

async fn begin(
    start: &Start,
    place: &Location,
    sources: &mut Sources,
    fingerprints: Fingerprints,
) -> Result<Started, Halt> {
    let setup = Setup {
        location: place.clone(),
        identity: start.identity.clone(),
        lane: start.lane.clone(),
        plan: digest_input(&start.spec),
        targets: job::targets(&start.checked),
        adopt_from: start.checked.plan.checkpoint.adopt_from.clone(),
        reset_nonce: start.checked.plan.reset_nonce,
        history: Micros::from(start.checked.plan.checkpoint.history),
        fingerprints,
        max_records: start.checked.plan.checkpoint.max_records,
        again: start.poison.owned(),
        seen: start.seen.filter(|_| !mistaken!(SeenEpochIgnored)),
        clock: start.parts.clock.clone(),
        ids: start.ids.clone(),
        crash: start.parts.crash.clone(),
        report: Arc::clone(&start.waiting),
    };
    let started = Checkpointer::start(setup, &mut FirstPositions(sources)).await?;
    start.poison.own();
    Ok(started)
}

/// Where each split is read on: the head's positions, and the start of splits it does not know yet.
async fn positions(sources: &mut Sources, body: &Body) -> Result<Positions, Halt> {
    let mut positions = Positions::new();
    for (name, source) in sources {
        let known = body.positions.get(name).cloned().unwrap_or_default();
        let mut splits = source.splits(Some(&known)).await?;
        splits.extend(known);
        if mistaken!(ReadsFromTheBeginning) {
            splits.values_mut().for_each(|p| p.next.0 = 0);
        }
        positions.insert(name.clone(), splits);
    }
    Ok(positions)
}

/// Reads the head's watermarks and state; that they fit the plan was judged before the lane was taken.
async fn restore(
    dataflow: &mut Dataflow,
    checkpointer: &Checkpointer,
    starts: &Positions,
) -> Result<(), Halt> {
    let body = checkpointer.body();
    if !mistaken!(WatermarkNotRestored) {
        dataflow.restore_watermarks(&body.watermarks);
    }
    for (step, from) in body.reset.iter().flat_map(|reset| &reset.from) {
        if !mistaken!(PartOverWhole) {
            dataflow.begin_at(step, *from);
        }
    }
    state::restore(dataflow, checkpointer).await?;
    for (source, splits) in starts {
        splits
            .keys()
            .for_each(|split| dataflow.register(source, split));
    }
    Ok(())
}

/// Reads which files were read, and tells the sources that read on.
async fn remember(
    sources: &mut Sources,
    plan: &Plan,
    checkpointer: &Checkpointer,
) -> Result<Tables, Halt> {
    let mut tables = Tables::of(plan);
    tables.restore(checkpointer).await?;
    for (name, source) in sources {
        if let Some(table) = tables.get(name) {
            source.remember(table);
        }
    }
    Ok(tables)
}

/// Opens sinks under the plans of decided epochs, with today's credentials: a path is the same place under every plan.
struct DecidedSinks<'a> {
    start: &'a Start,
    place: &'a Location,
    nonce: String,
    term: Term,
    /// The plan that was asked for last.
    plan: Arc<CheckedPlan>,
}

impl DecidedSinks<'_> {
    /// An old plan whose sinks are reached as they are today: who corrects an address or a Secret means what is undone too.
    fn within_reach(&self, mut old: CheckedPlan) -> CheckedPlan {
        for sink in &mut old.plan.sinks {
            let mut today = self.start.checked.plan.sinks.iter();
            let same =
                today.find(|now| now.name == sink.name && now.kind.target() == sink.kind.target());
            if let Some(same) = same {
                sink.kind.reach_as(&same.kind);
            }
        }
        old
    }
}

#[async_trait]
impl OpenSinks for DecidedSinks<'_> {
    async fn open(
        &mut self,
        body: &Body,
        plan: &serde_json::Value,
        name: &NodeName,
    ) -> Result<Option<Box<dyn Sink>>, Stop> {
        if self.plan.digest != body.plan {
            self.plan = if body.plan == self.start.checked.digest {
                Arc::clone(&self.start.checked)
            } else {
                Arc::new(self.within_reach(old_plan(plan, body)?))
            };
        }
        let opener = SinkOpener {
            checked: &self.plan,
            parts: &self.start.parts,
            checkpoint: self.place,
            body,
            nonce: &self.nonce,
            term: self.term,
            keeps_rejects: self.start.checked.plan.dead_letter.is_some(),
        };
        opener.open_one(name).await.map_err(|error| match error {
            OpenError::Store(store) => store.into(),
            OpenError::Sink(sink) => sink.into(),
        })
    }
}

/// What is decided and not recorded as applied is applied first, under the plan that decided it; every sink is asked what it
/// holds.
async fn roll_forward(
    start: &Start,
    place: &Location,
    checkpointer: &mut Checkpointer,
) -> Result<(), Halt> {
    let mut sinks = DecidedSinks {
        start,
        place,
        nonce: start.ids.nonce(),
        term: checkpointer.term(),
        plan: Arc::clone(&start.checked),
    };
    Ok(checkpointer.roll_forward(&mut sinks).await?)
}

fn old_plan(spec: &serde_json::Value, body: &Body) -> Result<CheckedPlan, Stop> {
    let damaged = |what: String| {
        let message = format!(
            "the plan of epoch {} {what}; restore plans/{}.json",
            body.epoch, body.plan
        );
        Stop::stalled(reason::CHECKPOINT_DAMAGED, message)
    };
    let spec = EventPipelineSpec::deserialize(spec)
        .map_err(|e| damaged(format!("cannot be read: {e}")))?;
    check(&spec).map_err(|found| damaged(format!("is not accepted: {}", found[0])))
}

async fn until(start: &Start, sources: &mut Sources) -> Result<Until, Halt> {
    if !start.until_end {
        return Ok(Until::Stopped);
    }
    let mut ends = Positions::new();
    for (name, source) in sources {
        ends.insert(name.clone(), source.end_positions().await?);
    }
    Ok(Until::Reached(ends))
}

fn watch(checked: &CheckedPlan, starts: &Positions) -> Activity {
    let mut activity = Activity::default();
    for source in &checked.plan.sources {
        let timeout = source.watermark.as_ref().map(|w| w.idle_timeout);
        let none = SplitPositions::new();
        activity.watch(
            &source.name,
            timeout,
            starts.get(&source.name).unwrap_or(&none),
        );
    }
    activity
}

fn spawn_readers(
    sources: &SharedSources,
    starts: &Positions,
    (parts, checked): (&Parts, &CheckedPlan),
    stop: &CancellationToken,
) -> (mpsc::Receiver<crate::reader::Read>, Tasks) {
    let (batches, reads) = mpsc::channel(READ_AHEAD);
    let mut tasks = Tasks::below(stop);
    let batch = parts.budget.batch;
    let most = checked.plan.checkpoint.max_records.unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let budget = Budget {
        records: batch.records.min(most),
        ..batch
    };
    for (name, source) in sources {
        let positions = starts.get(name).cloned().unwrap_or_default();
        let reader = Reader {
            name: name.clone(),
            source: Arc::clone(source),
            positions,
            budget,
            batches: batches.clone(),
            clock: parts.clock.clone(),
            crash: parts.crash.clone(),
        };
        let stopping = tasks.stopping();
        tasks.spawn("reader", reader.run(stopping));
    }
    (reads, tasks)
}
