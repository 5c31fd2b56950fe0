//! `evp run`: the production manifest, here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_api::progress::Progress;
use evp_core::check::{CheckedPlan, check};
use evp_core::protocol::decide::Identity;
use evp_core::protocol::paths::Lane;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bind::{Binding, bind_sources};
use super::view;
use super::{Fault, on_interrupt};
use crate::checkpointer::{CrashPoints, Logged};
use crate::clock::{SharedClock, SystemClock};
use crate::ids::{self, Ids};
use crate::job::{self, Parts, Sample};
use crate::manifest::Manifest;
use crate::report::Reporter;
use crate::runtime::{Poison, Remedy, Start};
use crate::secrets::Secrets;
use crate::server;
use crate::settings::MemoryBudget;
use crate::store::{LocalMapping, Storage};
use crate::supervise;
use crate::tasks::Tasks;

/// Runs a production manifest here, through the same code as in a pod.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Bind a source or a path: `orders=generator:orders?rate=200`, `s3://lake=./lake`. May be given several times.
    #[arg(long, value_name = "BINDING")]
    pub bind: Vec<Binding>,
    /// Map every object-store path below this folder.
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
    /// Folder of Secrets: `<name>/<key>`.
    #[arg(long, value_name = "DIR", default_value = "./secrets")]
    pub secrets: PathBuf,
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
    let mut spec = manifest.spec.clone();
    bind_sources(&mut spec, &args.bind).map_err(Fault::Usage)?;
    let backlog = args.bind.iter().find_map(|binding| match binding {
        Binding::Source { generator, .. } => Some(generator.backlog),
        Binding::Path { .. } => None,
    });
    let sample = Sample {
        backlog: backlog.unwrap_or(sample.backlog),
        ..sample
    };
    let checked =
        check(&spec).map_err(|found| Fault::Findings(super::found(&args.file, &found)))?;
    let storage = storage(&checked, args)?;
    refuse_remote(&checked, &storage, args)?;
    let (clock, ids) = (SystemClock::shared(), Ids::os());
    let identity = identity(&manifest.metadata.name, &ids)?;
    let parts = Parts {
        storage,
        secrets: Secrets::new(&args.secrets),
        clock,
        budget: MemoryBudget::of(args.memory.unwrap_or(MemoryBudget::DEFAULT_LIMIT)),
        sample,
        crash: CrashPoints::none(),
    };
    let name = manifest.metadata.name.clone();
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

/// Locations of a plan under the bindings of a command line.
pub fn storage(checked: &CheckedPlan, args: &RunArgs) -> Result<Storage, Fault> {
    let mappings = args.bind.iter().filter_map(|binding| match binding {
        Binding::Path { prefix, dir } => Some(LocalMapping {
            prefix: prefix.clone(),
            dir: absolute(dir),
        }),
        Binding::Source { .. } => None,
    });
    let storage = Storage::new(
        checked.plan.s3.clone(),
        Secrets::new(&args.secrets),
        mappings.collect(),
    );
    Ok(match &args.local {
        Some(dir) => storage.with_all_local(absolute(dir)),
        None => storage,
    })
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// A laptop with cloud credentials must not write production tables by accident.
fn refuse_remote(checked: &CheckedPlan, storage: &Storage, args: &RunArgs) -> Result<(), Fault> {
    if args.remote {
        return Ok(());
    }
    match job::places(checked)
        .into_iter()
        .find(|(_, path)| storage.is_remote(path))
    {
        None => Ok(()),
        Some((field, path)) => Err(Fault::Usage(format!(
            "{field} is {path}, a remote store; use --local DIR or --bind {path}=DIR to write here, or --remote to write there"
        ))),
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
    tasks.spawn("interrupt", on_interrupt(stop.clone()));
    if let Some(duration) = duration {
        tasks.spawn("deadline", deadline(clock.clone(), duration, stop.clone()));
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

/// Targets of a plan's tables, for questions about them.
pub fn written(checked: &CheckedPlan, storage: &Storage) -> Result<super::query::Written, Fault> {
    let open = |path| {
        storage
            .open(path)
            .map(|l| job::target(&l))
            .map_err(|e| Fault::Environment(e.describe()))
    };
    let mut tables: BTreeMap<String, _> = BTreeMap::new();
    for sink in &checked.plan.sinks {
        if let evp_api::plan::SinkKind::Delta(delta) = &sink.kind {
            tables.insert(sink.name.to_string(), open(&delta.path)?);
        }
    }
    let letters = checked.plan.dead_letter.as_ref();
    let dead_letters = letters
        .map(|d| Ok::<_, Fault>((open(&d.path)?, d.format)))
        .transpose()?;
    Ok(super::query::Written {
        tables: tables.into_iter().collect(),
        dead_letters,
    })
}
