//! Spec → children: what wakes a reconcile, how many run, and when a failed one is tried again.
//!
//! Pipelines wake on a new generation only, children on any change. Every pipeline is looked at again after 10 minutes,
//! give or take: the safety net for what no watch told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Config as Selected;
use kube::runtime::{WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rand::Rng;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::build::names;
use crate::clock::{SharedClock, within};
use crate::health::Health;
use crate::publish::Watched;
use crate::reconcile::{self, Again, Context};

/// The safety net, ± a tenth.
const RESYNC: Duration = Duration::from_mins(10);
/// Children of a namesake leave within seconds, its pods within their grace.
const SOON: Duration = Duration::from_secs(2);
/// A quota raised, a name freed: no watch of ours tells.
const IN_A_WHILE: Duration = Duration::from_secs(30);
/// One reconcile: a handful of requests.
const DEADLINE: Duration = Duration::from_secs(30);
/// First and longest time between attempts that fail.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Several events of one roll are one reason to look.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Where pipelines are watched.
#[derive(Clone)]
pub struct Scope {
    /// The API server.
    pub client: Client,
    /// `None`: all namespaces.
    pub namespace: Option<String>,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// What the watches fill.
#[derive(Clone)]
pub struct Stores {
    /// All pipelines.
    pub pipelines: Store<Watched>,
    /// Our Deployments.
    pub deployments: Store<Deployment>,
    /// Our pods.
    pub pods: Store<Pod>,
}

/// The watches and the queue, not yet running.
pub struct Loop {
    controller: Controller<Watched>,
    pods: futures::stream::BoxStream<'static, ()>,
    changes: Changes,
    /// Readers of what is watched.
    pub stores: Stores,
}

/// When the newest change of each pipeline was seen whose children are not yet applied.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<HashMap<String, Duration>>>);

impl Changes {
    fn seen(&self, pipeline: &Watched, now: Duration) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.insert(pipeline.uid().unwrap_or_default(), now);
    }

    fn applied(&self, uid: &str) -> Option<Duration> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid)
    }
}

/// Sets the watches up.
pub fn prepare(scope: &Scope, concurrency: u16, clock: SharedClock) -> Loop {
    let ours = || Selected::default().labels(&names::children_selector());
    let changes = Changes::default();
    let seen = changes.clone();
    let (pipelines, writer) = store::<Watched>();
    let wanted = watcher(scope.api::<Watched>(), Selected::default())
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation,
            kube::runtime::PredicateConfig::default(),
        )
        .inspect_ok(move |pipeline| seen.seen(pipeline, clock.elapsed()));
    let (deployments, writer) = store::<Deployment>();
    let moved = watcher(scope.api::<Deployment>(), ours())
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .touched_objects();
    let (pods, pod_stream) = watch_pods(scope.api::<Pod>(), ours());
    let controller = Controller::for_stream(wanted, pipelines.clone())
        .with_config(
            Config::default()
                .debounce(DEBOUNCE)
                .concurrency(concurrency),
        )
        .owns_stream(moved)
        .owns(scope.api::<ConfigMap>(), ours())
        .owns(scope.api::<ServiceAccount>(), ours());
    Loop {
        controller,
        pods: pod_stream,
        changes,
        stores: Stores {
            pipelines,
            deployments,
            pods,
        },
    }
}

fn watch_pods(
    api: Api<Pod>,
    selected: Selected,
) -> (Store<Pod>, futures::stream::BoxStream<'static, ()>) {
    let (reader, writer) = store::<Pod>();
    let stream = watcher(api, selected)
        .default_backoff()
        .modify(slim)
        .reflect(writer)
        .touched_objects()
        .map(|seen| {
            if let Err(error) = seen {
                tracing::warn!(error = %&error as &dyn std::error::Error, "the watch of pods is set up again");
            }
        });
    (reader, stream.boxed())
}

/// Nobody reads who manages which field.
fn slim<K: Resource + DeserializeOwned>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Failed attempts by pipeline.
#[derive(Default)]
struct Attempts(Mutex<HashMap<String, u32>>);

impl Attempts {
    /// Counts one more and says how long to wait.
    fn failed(&self, uid: &str) -> Duration {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = attempts.entry(uid.to_owned()).or_default();
        *count += 1;
        let (first, longest) = BACKOFF;
        first.saturating_mul(1 << (*count - 1).min(16)).min(longest)
    }

    fn succeeded(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

struct Shared {
    context: Context,
    health: Health,
    attempts: Attempts,
    changes: Changes,
}

impl Loop {
    /// Runs until told to stop; reconciles under way are finished.
    pub async fn run(self, context: Context, health: Health, stop: CancellationToken) {
        let shared = Arc::new(Shared {
            context,
            health,
            attempts: Attempts::default(),
            changes: self.changes,
        });
        let reconciles = self
            .controller
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(once, again_after, shared)
            .for_each(async |_| ());
        let pods = self
            .pods
            .take_until(stop.cancelled_owned())
            .for_each(async |()| ());
        futures::join!(reconciles, pods);
    }
}

async fn once(pipeline: Arc<Watched>, shared: Arc<Shared>) -> Result<Action, reconcile::Error> {
    let context = &shared.context;
    let pipeline = match &pipeline.0 {
        Ok(pipeline) => pipeline,
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::error!(
                pipeline = name,
                error = invalid.error,
                "this version of the operator cannot read it"
            );
            context.metrics.reconciled("unreadable", Duration::ZERO);
            return Ok(Action::requeue(RESYNC));
        }
    };
    let began = context.clock.elapsed();
    let reconcile = Box::pin(reconcile::reconcile(pipeline, context));
    let reconciled = within(&context.clock, DEADLINE, reconcile).await;
    let result = reconciled.unwrap_or(Err(reconcile::Error::Deadline(DEADLINE)));
    let took = context.clock.elapsed().saturating_sub(began);
    shared.health.reconciled();
    context.metrics.reconciled(
        result
            .as_ref()
            .map_or_else(reconcile::Error::word, |_| "done"),
        took,
    );
    let again = result?;
    let uid = pipeline.uid().unwrap_or_default();
    shared.attempts.succeeded(&uid);
    if let Some(seen) = shared.changes.applied(&uid) {
        let now = context.clock.elapsed();
        context.metrics.applied(now.saturating_sub(seen));
    }
    Ok(Action::requeue(match again {
        Again::Soon => SOON,
        Again::InAWhile => jittered(IN_A_WHILE),
        Again::Later => jittered(RESYNC),
    }))
}

#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn again_after(pipeline: Arc<Watched>, error: &reconcile::Error, shared: Arc<Shared>) -> Action {
    let wait = shared.attempts.failed(&pipeline.uid().unwrap_or_default());
    let (name, namespace) = (
        pipeline.name_any(),
        pipeline.namespace().unwrap_or_default(),
    );
    let error = error as &dyn std::error::Error;
    tracing::warn!(
        pipeline = name,
        namespace,
        error,
        ?wait,
        "not reconciled; tried again"
    );
    Action::requeue(jittered(wait))
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.9..1.1))
}
