//! What people type: one file a command. [`run`] parses and dispatches.

pub mod audit;
pub mod bind;
pub mod check;
pub mod dead_letters;
pub mod demo;
pub mod explain;
pub mod place;
pub mod produce;
pub mod progress;
pub mod query;
pub mod query_command;
pub mod run;
mod table;
pub mod test;
pub mod view;
pub mod worker;

use std::io::{Write, stderr};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use evp_api::plan::Violation;
use tokio_util::sync::CancellationToken;

use crate::manifest::Manifest;
use crate::runtime::Halt;
use crate::settings::WorkerArgs;

/// Declarative, exactly-once event pipelines.
#[derive(Debug, clap::Parser)]
#[command(name = "evp", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a whole pipeline on embedded parts
    Demo(demo::DemoArgs),
    /// Run a production manifest here
    Run(run::RunArgs),
    /// Say exactly what the operator would say of a manifest
    Check(check::CheckArgs),
    /// Test pipelines: records in, rows out, in virtual time
    Test(test::TestArgs),
    /// Ask SQL questions of a pipeline's tables
    Query(query_command::QueryArgs),
    /// List the records that could not be processed: counts, then rows
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Say how far a pipeline is, from its checkpoint or its worker
    Progress(progress::ProgressArgs),
    /// Judge what a pipeline has decided: no gap, no overlap, balanced, or where not
    Audit(audit::AuditArgs),
    /// Send reference events to a real place, with a ledger of what was sent
    Produce(produce::ProduceArgs),
    /// Explain an error code or a field of the manifest
    Explain(explain::ExplainArgs),
    /// What runs in pods
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Why a command did not do what it was asked to. The variant gives the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The command line does not fit.
    #[error("{0}")]
    Usage(String),
    /// The manifest has findings, rendered.
    #[error("{0}")]
    Findings(String),
    /// Something around us could not be reached or written.
    #[error("{0}")]
    Environment(String),
    /// The pipeline halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Events could not be sent.
    #[error(transparent)]
    Produce(#[from] produce::Error),
    /// Tables could not be asked.
    #[error(transparent)]
    Query(#[from] query::Error),
    /// An answer could not be printed.
    #[error("the answer cannot be printed")]
    Print(#[from] std::io::Error),
}

impl From<crate::store::StoreError> for Fault {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Environment(error.describe())
    }
}

impl Fault {
    /// As `head` does once it has what it wants.
    fn is_of_a_reader_that_left(&self) -> bool {
        match self {
            Self::Print(error) | Self::Query(query::Error::Print(error)) => {
                error.kind() == std::io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Findings(_) | Self::Query(query::Error::Sql(_)) => 1,
            Self::Usage(_) => 2,
            Self::Environment(_) | Self::Halted(_) | Self::Query(_) | Self::Print(_) => 3,
            Self::Produce(error) => error.exit_code(),
        })
    }
}

/// What a running pipeline logs: our own steps, and what others warn of.
const OURS: &str = "warn,evp_worker=info,evp_core=info";

/// Runs the command that was typed.
pub async fn run() -> ExitCode {
    let command = Cli::parse().command;
    let quiet = !matches!(command, Command::Worker(_) | Command::Run(_));
    crate::logging::start(if quiet { "error" } else { OURS });
    let done = match command {
        // Boxed: it holds a manifest, its plan and its world.
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Run(args) => run::run(args).await,
        Command::Check(args) => Ok(check::run(&args)),
        Command::Test(args) => test::run(args).await,
        Command::Query(args) => query_command::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Progress(args) => progress::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Produce(args) => produce::run(args)
            .await
            .map(|()| ExitCode::SUCCESS)
            .map_err(Fault::from),
        Command::Explain(args) => Ok(explain::run(&args)),
        Command::Worker(args) => worker::run(args).await,
    };
    done.unwrap_or_else(|fault| {
        if fault.is_of_a_reader_that_left() {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(stderr(), "evp: {fault}");
        fault.exit()
    })
}

/// The one pipeline of a file.
fn one_manifest(file: &Path) -> Result<Manifest, Fault> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Fault::Environment(format!("{} cannot be read: {e}", file.display())))?;
    let mut manifests = crate::manifest::read(&text, &file.display().to_string())
        .map_err(|findings| Fault::Findings(crate::diagnostics::render(&text, &findings)))?;
    match manifests.len() {
        1 => Ok(manifests.remove(0)),
        n => Err(Fault::Usage(format!(
            "{} holds {n} pipelines; one is needed",
            file.display()
        ))),
    }
}

/// Findings of a file as text.
fn found(file: &Path, violations: &[Violation]) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let name = file.display().to_string();
    let findings = crate::diagnostics::locate(&text, &name, violations);
    crate::diagnostics::render(&text, &findings)
}

/// Cancels on Ctrl-C or SIGTERM.
async fn on_interrupt(stop: CancellationToken) {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
    stop.cancel();
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}
