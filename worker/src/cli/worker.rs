//! `evp worker`: what runs in pods.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evp_api::reason;
use evp_core::check::check;
use evp_core::position::Epoch;
use evp_core::protocol::decide::Identity;
use evp_core::protocol::paths::Lane;
use tokio_util::sync::CancellationToken;

use super::{Fault, on_interrupt};
use crate::checkpointer::{CrashPoints, Report};
use crate::clock::SystemClock;
use crate::ids::Ids;
use crate::job::{Parts, Sample, Topics};
use crate::manifest::Manifest;
use crate::report::Reporter;
use crate::runtime::{Poison, Start};
use crate::secrets::Secrets;
use crate::server;
use crate::settings::{MemoryBudget, WorkerArgs};
use crate::source::script::Scripts;
use crate::store::Storage;
use crate::supervise;
use crate::tasks::Tasks;

/// How long the endpoints may take to end.
const ENDPOINTS_END: Duration = Duration::from_secs(2);

/// Runs one lane until SIGTERM. Causes are reported and waited for; the process does not end by itself.
pub async fn run(args: WorkerArgs) -> Result<ExitCode, Fault> {
    let clock = SystemClock::shared();
    let manifest = super::one_manifest(&args.pipeline);
    let (name, path) = match &manifest {
        Ok(m) => (m.metadata.name.as_str(), m.spec.checkpoint.path.as_str()),
        Err(_) => ("", ""),
    };
    let (mut reporter, progress) = Reporter::new(name, path, clock.clone());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::below(&CancellationToken::new());
    tasks.spawn_until_stopped("interrupt", on_interrupt(stop.clone()));
    let bound = server::bind(args.listen)
        .await
        .map_err(|e| Fault::Environment(format!("{}: {e}", args.listen)))?;
    tasks.spawn(
        "endpoints",
        server::serve(bound, server::Shown { progress }, tasks.stopping()),
    );
    match manifest.and_then(|manifest| lane(&manifest, &args, reporter.waiting())) {
        Ok(lane) => supervise::until_stopped(&lane, &mut reporter, &stop).await,
        Err(refused) => {
            let message = refused.to_string();
            tracing::error!(code = reason::PLAN_REFUSED, "{message}");
            reporter.halted(reason::PLAN_REFUSED, &message, true);
            stop.cancelled().await;
        }
    }
    tasks.drain(&clock, ENDPOINTS_END).await;
    Ok(ExitCode::SUCCESS)
}

fn lane(manifest: &Manifest, args: &WorkerArgs, waiting: Arc<dyn Report>) -> Result<Start, Fault> {
    scratch(&args.scratch)?;
    let checked = check(&manifest.spec)
        .map_err(|found| Fault::Findings(super::found(&args.pipeline, &found)))?;
    let (secrets, ids) = (Secrets::new(&args.secrets), Ids::os());
    let crash = match &args.crash_at {
        Some(at) => CrashPoints::parse(at).map_err(Fault::Usage)?,
        None => CrashPoints::none(),
    };
    let poison = match &args.crash_on {
        Some(record) => Poison::deadly(record).map_err(Fault::Usage)?,
        None => Poison::default(),
    };
    let metadata = &manifest.metadata;
    let pod = args
        .pod_uid
        .clone()
        .unwrap_or_else(|| format!("{}:{}", args.pod_name, ids.nonce()));
    let identity = Identity {
        name: metadata.name.clone(),
        uid: metadata.uid.clone().unwrap_or_default(),
        namespace_uid: metadata.namespace_uid.clone().unwrap_or_default(),
        pod,
    };
    let parts = Parts {
        storage: Storage::new(checked.plan.s3.clone(), secrets.clone(), Vec::new()),
        secrets,
        clock: SystemClock::shared(),
        topics: Topics::Written,
        budget: MemoryBudget::of(args.memory.unwrap_or(MemoryBudget::DEFAULT_LIMIT)),
        sample: Sample::default(),
        scripts: Scripts::default(),
        crash,
    };
    Ok(Start {
        checked: Arc::new(checked),
        spec: manifest.spec.clone(),
        lane: Lane(args.lane.clone()),
        parts,
        identity,
        ids,
        seen: args.seen_epoch.map(Epoch),
        waiting,
        poison,
        until_end: false,
    })
}

/// Scratch must be there and writable: libraries put temporary files into it.
fn scratch(dir: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(dir)
        .map_err(|e| Fault::Environment(format!("{} cannot be written: {e}", dir.display())))
}
