//! `evp-operator run`: everything wired, from the flags to the last task's end.

use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::build::names;
use crate::clock::{SharedClock, SystemClock};
use crate::controller::{self, Scope};
use crate::health::{self, Health};
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::progress::{Asker, Reports};
use crate::publish::{Publisher, Verdicts};
use crate::reconcile::Context;
use crate::settings::RunArgs;
use crate::tasks::Tasks;

/// SIGTERM to exit: reconciles under way have a deadline of their own.
const DRAIN: Duration = Duration::from_secs(20);

/// Why the operator ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No threads.
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
    /// No way to the API server is configured.
    #[error("cannot find out how to reach the API server")]
    Config(#[source] kube::config::InferConfigError),
    /// The configuration is of no use.
    #[error("cannot make a client")]
    Client(#[source] Box<kube::Error>),
    /// No client for the workers.
    #[error("cannot make a client for the workers")]
    Http(#[source] reqwest::Error),
    /// The port of the endpoints is taken.
    #[error("cannot listen on {0}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// No signals.
    #[error("cannot listen for signals")]
    Signal(#[source] std::io::Error),
    /// Another replica may lead now.
    #[error("the lead was lost")]
    LeadLost,
    /// A task that must not end has ended.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// How the API server is reached.
pub struct Clients {
    /// By all but the leader's election.
    pub api: Client,
    /// By the election; must not retry.
    pub lease: Client,
}

impl Clients {
    /// As the environment says: a kubeconfig, or the pod's own account.
    pub async fn infer() -> Result<Self, Error> {
        let mut config = Config::infer().await.map_err(Error::Config)?;
        let api = client(config.clone())?;
        config.default_retry = false;
        let lease = client(config)?;
        Ok(Self { api, lease })
    }
}

fn client(config: Config) -> Result<Client, Error> {
    Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))
}

/// Runs until SIGTERM or SIGINT, or until something fails that a new process should make good.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let clients = Clients::infer().await?;
    let stop = on_signal()?;
    with_clients(args, clients, stop).await
}

/// [`run`] against a given API server, until told to stop.
pub async fn with_clients(
    args: RunArgs,
    clients: Clients,
    stop: CancellationToken,
) -> Result<(), Error> {
    let clock = SystemClock::shared();
    let metrics = Metrics::new();
    let health = Health::new(clock.clone());
    let mut tasks = Tasks::default();
    let listener = health::bind(args.listen)
        .await
        .map_err(|e| Error::Listen(args.listen, e))?;
    tasks.spawn(
        "the server of the endpoints",
        health::serve(listener, health.clone(), metrics.clone(), tasks.stopping()),
    );
    let (namespace, name) = (&args.lease_namespace, &args.lease_name);
    let mut election = Election::new(
        clients.lease,
        namespace,
        name,
        &args.identity,
        clock.clone(),
    );
    tracing::info!(identity = args.identity, "waiting for the lead");
    tokio::select! {
        () = stop.cancelled() => {
            tasks.drain(&clock, DRAIN).await;
            return Ok(());
        }
        () = election.win() => {}
    }
    tracing::info!("leading");
    metrics.leads(true);
    health.leads();
    lead(&args, clients.api, &mut tasks, (&clock, &metrics, &health))?;
    // Renewing goes on while tasks finish; the lease is given back when nothing of ours runs any more.
    let finished = CancellationToken::new();
    let work = std::pin::pin!(work(tasks, &clock, &stop, &finished));
    let held = std::pin::pin!(election.hold(finished.clone()));
    match futures::future::select(work, held).await {
        Either::Left((outcome, held)) => {
            held.await;
            outcome
        }
        Either::Right(_) => Err(Error::LeadLost),
    }
}

/// Until told to stop, or until a task ends that must not; then all are drained.
async fn work(
    mut tasks: Tasks,
    clock: &SharedClock,
    stop: &CancellationToken,
    finished: &CancellationToken,
) -> Result<(), Error> {
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = tasks.next_ended() => ended,
    };
    tasks.drain(clock, DRAIN).await;
    finished.cancel();
    ended.map_or(Ok(()), |name| Err(Error::Ended(name)))
}

/// Starts the three loops.
fn lead(
    args: &RunArgs,
    client: Client,
    tasks: &mut Tasks,
    (clock, metrics, health): (&SharedClock, &Metrics, &Health),
) -> Result<(), Error> {
    let scope = Scope {
        client: client.clone(),
        namespace: args.watch_namespace.clone(),
    };
    let controller = controller::prepare(&scope, args.concurrency, clock.clone());
    let stores = controller.stores.clone();
    let (verdicts, reports, round) = (
        Verdicts::default(),
        Reports::default(),
        Arc::new(Notify::new()),
    );
    let asker = Asker {
        pods: stores.pods.clone(),
        reports: reports.clone(),
        round: Arc::clone(&round),
        clock: clock.clone(),
        metrics: metrics.clone(),
        http: Asker::client().map_err(Error::Http)?,
    };
    let reporter = Reporter {
        controller: names::MANAGER.to_owned(),
        instance: Some(args.identity.clone()),
    };
    let publisher = Publisher {
        client: client.clone(),
        recorder: Recorder::new(client.clone(), reporter),
        pipelines: stores.pipelines,
        deployments: stores.deployments,
        pods: stores.pods,
        verdicts: verdicts.clone(),
        reports,
        round,
        clock: clock.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let context = Context {
        client,
        clock: clock.clone(),
        defaults: args.worker_defaults(),
        verdicts,
        metrics: metrics.clone(),
    };
    let stop = tasks.stopping();
    tasks.spawn(
        "the controller",
        controller.run(context, health.clone(), stop.clone()),
    );
    tasks.spawn("the loop that asks workers", asker.run(stop.clone()));
    tasks.spawn("the writer of status", publisher.run(stop));
    Ok(())
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> Result<CancellationToken, Error> {
    let mut term = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut waiting = Tasks::default();
    waiting.spawn("the wait for signals", async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        told.cancel();
    });
    waiting.detach();
    Ok(stop)
}
