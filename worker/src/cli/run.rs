//! `evp run`: the production manifest, here.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_api::progress::Progress;
use evp_core::check::CheckedPlan;
use evp_core::protocol::decide::Identity;
use evp_core::protocol::paths::Lane;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bind::Binding;
use super::place::{Place, PlaceArgs};
use super::view;
use super::{Fault, on_interrupt};
use crate::checkpointer::{CrashPoints, Logged};
use crate::clock::{SharedClock, SystemClock};
use crate::ids::{self, Ids};
use crate::job::{Parts, Sample, Topics};
use crate::manifest::Manifest;
use crate::report::Reporter;
use crate::runtime::{Poison, Remedy, Start};
use crate::server;
use crate::settings::MemoryBudget;
use crate::source::script::Scripts;
use crate::supervise;
use crate::tasks::Tasks;

/// Runs a production manifest here, through the same code as in a pod.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where its paths lead.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// End when everything that is there now is committed.
    #[arg(long)]
    pub until_end: bool,
    /// End after this long, such as `30s`.
    #[arg(long = "for", value_name = "DURATION", value_parser = evp_api::plan::parse_duration)]
    pub duration: Option<Duration>,
    /// Allow tables and checkpoints in a remote object store.
    #[arg(long)]
    pub remote: bool,
    /// Serve `/healthz`, `/readyz`, `/metrics` and `/progress` here.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
    /// Memory the worker may use, as a quantity such as `256Mi`.
    #[arg(long, value_name = "QUANTITY", value_parser = evp_api::plan::parse_quantity)]
    pub memory: Option<u64>,
}

/// A pipeline that is ready to run here.
pub struct Local {
    /// What a lane is started with.
    pub start: Start,
    /// Its name.
    pub name: String,
}

/// Runs until the end that was asked for.
pub async fn run(args: RunArgs) -> Result<ExitCode, Fault> {
    let manifest = super::one_manifest(&args.file)?;
    let local = prepare(&manifest, &args, Sample::default())?;
    drive(local, args.duration, args.listen, view::Show::Lines).await
}

/// Checks the manifest with its bindings and finds where everything lies.
pub fn prepare(manifest: &Manifest, args: &RunArgs, sample: Sample) -> Result<Local, Fault> {
    let backlog = args.place.bind.iter().find_map(|binding| match binding {
        Binding::Source { generator, .. } => Some(generator.backlog),
        Binding::Files { .. } | Binding::Path { .. } => None,
    });
    let sample = Sample {
        backlog: backlog.unwrap_or(sample.backlog),
        ..sample
    };
    let Place {
        name,
        spec,
        checked,
        storage,
        secrets,
        topics,
    } = Place::of(manifest, &args.file, &args.place, args.remote)?;
    let (clock, ids) = (SystemClock::shared(), Ids::os());
    let identity = identity(&name, &ids)?;
    let parts = Parts {
        storage,
        secrets,
        clock,
        topics: topics.map_or(Topics::Written, Topics::Folder),
        budget: MemoryBudget::of(args.memory.unwrap_or(MemoryBudget::DEFAULT_LIMIT)),
        sample,
        scripts: Scripts::default(),
        crash: CrashPoints::none(),
    };
    Ok(Local {
        start: start(checked, spec, parts, (identity, ids, args.until_end)),
        name,
    })
}

fn start(
    checked: CheckedPlan,
    spec: EventPipelineSpec,
    parts: Parts,
    who: (Identity, Ids, bool),
) -> Start {
    let (identity, ids, until_end) = who;
    let checked = Arc::new(checked);
    Start {
        checked,
        spec,
        lane: Lane::default(),
        parts,
        identity,
        ids,
        seen: None,
        waiting: Arc::new(Logged),
        poison: Poison::default(),
        until_end,
    }
}

/// The same user resumes the same checkpoint.
fn identity(name: &str, ids: &Ids) -> Result<Identity, Fault> {
    let state = ids::state_home()
        .ok_or_else(|| Fault::Usage("neither XDG_STATE_HOME nor HOME is set".into()))?;
    let owner = ids::local_owner(ids, &state)
        .map_err(|e| Fault::Environment(format!("{} cannot be written: {e}", state.display())))?;
    Ok(Identity {
        name: name.to_owned(),
        uid: format!("{owner}/{name}"),
        namespace_uid: owner,
        pod: format!("local:{}", ids.nonce()),
    })
}

/// Runs a lane with its view and endpoints; Ctrl-C commits and ends it.
pub async fn drive(
    local: Local,
    duration: Option<Duration>,
    listen: Option<std::net::SocketAddr>,
    show: view::Show,
) -> Result<ExitCode, Fault> {
    let Local { start, name } = local;
    let clock = start.parts.clock.clone();
    let path = start.checked.plan.checkpoint.path.to_string();
    let (mut reporter, progress) = Reporter::new(&name, &path, clock.clone());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::below(&CancellationToken::new());
    tasks.spawn_until_stopped("interrupt", on_interrupt(stop.clone()));
    if let Some(duration) = duration {
        tasks.spawn_until_stopped("deadline", deadline(clock.clone(), duration, stop.clone()));
    }
    if let Some(address) = listen {
        let bound = server::bind(address)
            .await
            .map_err(|e| Fault::Environment(format!("{address}: {e}")))?;
        let shown = server::Shown {
            progress: progress.clone(),
        };
        tasks.spawn("endpoints", server::serve(bound, shown, tasks.stopping()));
    }
    tasks.spawn(
        "view",
        view::run(show, progress.clone(), clock.clone(), tasks.stopping()),
    );
    let ended = attempts(&start, &mut reporter, &stop).await;
    tasks.drain(&clock, Duration::from_secs(2)).await;
    summary(&progress, ended)
}

/// On a laptop a cause that a person must end ends the run; others are waited for.
async fn attempts(
    start: &Start,
    reporter: &mut Reporter,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    loop {
        match supervise::once(start, reporter, stop).await {
            Ok(()) => return Ok(()),
            Err(halt) if halt.remedy != Remedy::Wait => return Err(Fault::Halted(halt)),
            Err(halt) => {
                reporter.halted(halt.reason, &halt.message, false);
                tracing::warn!(code = halt.reason, "{}; trying again", halt.message);
                tokio::select! {
                    () = stop.cancelled() => return Err(Fault::Halted(halt)),
                    () = start.parts.clock.sleep(Duration::from_secs(3)) => {}
                }
            }
        }
    }
}

async fn deadline(clock: SharedClock, duration: Duration, stop: CancellationToken) {
    clock.sleep(duration).await;
    stop.cancel();
}

fn summary(
    progress: &watch::Receiver<Progress>,
    ended: Result<(), Fault>,
) -> Result<ExitCode, Fault> {
    let last = progress.borrow().clone();
    view::summary(&last);
    ended.map(|()| ExitCode::SUCCESS)
}
