//! One process as the world sees it: every request of it passes here, and may die, hang, fail or lose its reply.
//!
//! A dead process' requests never return. The Delta kernel asks from a thread of its own while ours waits for it, so there a
//! request of a dead process fails instead, and one of a process that stands still is let through: the next request from our
//! thread stands still.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use async_trait::async_trait;
use bytes::Bytes;
use evp_api::plan::NodeName;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio_util::sync::CancellationToken;

use super::script::{Outcome, Place, Script};
use super::trouble::Trouble;
use super::universe::{HEAD, Universe};
use crate::checkpointer::crash::Watch;
use crate::checkpointer::{Moment, Step};

/// Requests after which a world goes in circles.
const MOST_REQUESTS: usize = 60_000;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Put,
    Get,
    List,
    Copy,
    Delete,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Done,
    /// Nothing is done, and the answer is an error.
    Failed,
    /// It is done, and the answer is an error.
    Lost,
}

/// A process, from its start to its end.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pod: String,
    pub(super) universe: Arc<Universe>,
    pub(super) script: Arc<Script>,
    /// It is dead: whoever polls it lets go of it.
    pub(super) died: CancellationToken,
    /// It is told to end.
    pub(super) stop: CancellationToken,
    /// It is told to end so many requests after this epoch is decided.
    pub(super) stop_at: Option<(u64, u32)>,
    pub(super) trouble: Trouble,
    thread: ThreadId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Stands still until this is cancelled.
    paused: Option<CancellationToken>,
    /// What the next request of a step meets.
    pending: Option<(usize, Place, Fate)>,
    /// Requests until it is told to end.
    ends_in: Option<u32>,
    /// Requests so far of each kind for each object.
    asked: BTreeMap<String, u64>,
}

impl Process {
    pub(super) fn new(
        pod: String,
        (universe, script): (&Arc<Universe>, &Arc<Script>),
        stop_at: Option<(u64, u32)>,
        trouble: Trouble,
    ) -> Self {
        Self {
            pod,
            universe: Arc::clone(universe),
            script: Arc::clone(script),
            died: CancellationToken::new(),
            stop: CancellationToken::new(),
            stop_at,
            trouble,
            thread: std::thread::current().id(),
            state: Mutex::default(),
        }
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What becomes of this request.
    async fn fate(&self, verb: Verb, path: &str) -> Fate {
        let ours = std::thread::current().id() == self.thread;
        if ours {
            self.stands_still().await;
        }
        if self.died.is_cancelled() || self.universe.traced() > MOST_REQUESTS {
            if ours {
                pending::<()>().await;
            }
            return Fate::Failed;
        }
        self.ends_in_time();
        let fate = self.meets(verb, path).unwrap_or(Fate::Done);
        self.universe
            .trace(format!("{} {verb:?} {path} {fate:?}", self.pod));
        fate
    }

    /// Is told to end so many requests after the epoch at which it shall.
    fn ends_in_time(&self) {
        let is_due = self.state(|s| {
            let left = s.ends_in.as_mut()?;
            *left = left.saturating_sub(1);
            (*left == 0).then_some(())
        });
        if is_due.is_some() {
            self.stop.cancel();
        }
    }

    async fn stands_still(&self) {
        if let Some(paused) = self.state(|s| s.paused.clone()) {
            paused.cancelled().await;
            self.state(|s| s.paused = None);
        }
    }

    fn meets(&self, verb: Verb, path: &str) -> Option<Fate> {
        let planned = self.state(|s| {
            s.pending
                .take_if(|(_, place, _)| belongs(place, verb, path))
        });
        if let Some((fault, _, fate)) = planned {
            self.script.met(fault);
            return Some(fate);
        }
        let nth = self.state(|s| {
            let asked = s.asked.entry(format!("{verb:?} {path}")).or_default();
            *asked += 1;
            *asked
        });
        self.trouble.fate(&self.pod, (verb, path, nth))
    }

    fn written(&self, path: &Path, bytes: &Bytes) {
        self.universe.appears(&self.pod, path, Some(bytes));
        let before = self.universe.head().map(|head| head.epoch());
        let Some(head) = self.universe.written(&self.pod, path, bytes) else {
            return;
        };
        if let Some((epoch, requests)) = self.stop_at
            && head.epoch() >= epoch
        {
            self.state(|s| s.ends_in = s.ends_in.or(Some(requests + 1)));
        }
        if Some(head.epoch()) > before {
            self.script.release(Some(&self.pod));
        }
    }
}

/// Is this a request of that step?
fn belongs((step, sink): &Place, verb: Verb, path: &str) -> bool {
    let of_sink = |rest: fn(&str) -> bool| {
        let below = sink
            .as_ref()
            .and_then(|sink| path.strip_prefix(sink.as_str()));
        below.and_then(|p| p.strip_prefix('/')).is_some_and(rest)
    };
    let is_marker = |p: &str| p.starts_with("_delta_log/") || p.starts_with("_commits/");
    let put = verb == Verb::Put;
    match step {
        Step::OwnerCreate => put && path == "checkpoint/owner.json",
        Step::OwnSwap | Step::HeadCreate | Step::HeadSwap | Step::RecordSwap => put && path == HEAD,
        Step::BornCreate => put && path == "checkpoint/0/born.json",
        Step::PlanPut => put && path.starts_with("checkpoint/plans/"),
        Step::StatePut => put && path.starts_with("checkpoint/0/state/"),
        Step::OutboxPut => put && path.starts_with("checkpoint/0/outbox/"),
        Step::IntentPut => put && path.starts_with("checkpoint/0/intents/"),
        Step::HistoryPut => put && path.starts_with("checkpoint/0/epochs/"),
        Step::GcDelete => verb == Verb::Delete && path.starts_with("checkpoint/0/"),
        Step::StagePut => {
            put && of_sink(|p| !p.starts_with("_delta_log") && !p.starts_with("_commits"))
        }
        Step::Probe | Step::Begin => matches!(verb, Verb::Get | Verb::List) && of_sink(|_| true),
        Step::Write => {
            verb == Verb::Copy && of_sink(|_| true) || put && of_sink(|p| p.ends_with(".parquet"))
        }
        Step::CommitSend => put && of_sink(is_marker),
        Step::SourceSeek | Step::CommitAck => false,
    }
}

impl Watch for Process {
    fn passes(&self, sink: Option<&NodeName>, step: Step, moment: Moment) {
        if self.died.is_cancelled() {
            return;
        }
        let place = (step, sink.map(ToString::to_string));
        if moment == Moment::After {
            // A step that asked nobody meets no error.
            self.state(|s| s.pending.take_if(|(_, p, _)| *p == place));
        }
        let Some((fault, outcome)) = self.script.passes(&place, moment) else {
            return;
        };
        self.universe
            .trace(format!("{} {place:?} {outcome:?}", self.pod));
        let pending = |fate| self.state(|s| s.pending = Some((fault, place, fate)));
        match outcome {
            Outcome::CrashBefore | Outcome::CrashAfter => {
                self.script.met(fault);
                self.died.cancel();
            }
            Outcome::CleanError => pending(Fate::Failed),
            Outcome::ReplyLost => pending(Fate::Lost),
            Outcome::Zombie => {
                self.script.met(fault);
                let until = self.script.pauses(&self.pod);
                self.state(|s| s.paused = Some(until));
            }
        }
    }
}

/// The bucket as one process reaches it.
#[derive(Clone, Debug)]
pub(super) struct Bucket(pub(super) Arc<Process>);

impl Bucket {
    /// Does it, or not, and answers.
    async fn ask<T>(
        &self,
        (verb, path): (Verb, &Path),
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.0.fate(verb, path.as_ref()).await {
            Fate::Done => request.await,
            Fate::Failed => Err(no_answer()),
            Fate::Lost => request.await.and(Err(no_answer())),
        }
    }

    fn objects(&self) -> &InMemory {
        &self.0.universe.objects
    }

    /// Puts, or makes the mistakes of a client of the store.
    async fn put_mistakenly(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let is_head = location.as_ref() == HEAD;
        if is_head && matches!(opts.mode, PutMode::Update(_)) && mistaken!(SwapWithoutETag) {
            opts.mode = PutMode::Overwrite;
        }
        match self.objects().put_opts(location, payload, opts).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. })
                if is_head && mistaken!(RefusedTakenAsWon) =>
            {
                let there = self.objects().head(location).await?;
                Ok(PutResult {
                    e_tag: there.e_tag,
                    version: None,
                })
            }
            put => put,
        }
    }
}

fn no_answer() -> Error {
    Error::Generic {
        store: "simulation",
        source: "the answer did not come".into(),
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.ask((Verb::Put, location), async {
            let bytes = Bytes::from(payload.clone());
            let put = self.put_mistakenly(location, payload, opts).await?;
            self.0.written(location, &bytes);
            Ok(put)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "uploads in parts: no object here is that large".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = self.objects().get_opts(location, options);
        self.ask((Verb::Get, location), request).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let request = self.objects().get_ranges(location, ranges);
        self.ask((Verb::Get, location), request).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let delete = move |location: Result<Path>| {
            let bucket = bucket.clone();
            async move {
                let location = location?;
                bucket
                    .ask((Verb::Delete, &location), async {
                        bucket.0.universe.deletes(&bucket.0.pod, &location);
                        let one = futures::stream::iter([Ok(location.clone())]).boxed();
                        let objects = bucket.objects();
                        objects.delete_stream(one).try_collect::<Vec<_>>().await
                    })
                    .await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (bucket, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let listed = async { bucket.objects().list(Some(&prefix)).try_collect().await };
            let found: Result<Vec<_>> = bucket.ask((Verb::List, &prefix), listed).await;
            match found {
                Ok(found) => futures::stream::iter(found.into_iter().map(Ok)).boxed(),
                Err(e) => futures::stream::iter([Err(e)]).boxed(),
            }
        };
        listed.into_stream().flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        let request = self.objects().list_with_delimiter(prefix);
        self.ask((Verb::List, &at), request).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.ask((Verb::Copy, to), async {
            self.objects().copy_opts(from, to, options).await?;
            self.0.universe.appears(&self.0.pod, to, None);
            Ok(())
        })
        .await
    }
}
