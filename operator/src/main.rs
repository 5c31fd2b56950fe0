//! `evp-operator`: `run` reconciles, `crds` prints what is to be installed before.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use evp_operator::clock::SystemClock;
use evp_operator::settings::RunArgs;
use evp_operator::{logging, run};

/// Turns EventPipeline resources into running workers.
#[derive(Parser)]
#[command(name = "evp-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile until stopped.
    Run(Box<RunArgs>),
    /// Print the `CustomResourceDefinitions` as YAML.
    Crds,
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    match Cli::parse().command {
        Command::Run(args) => reconcile(*args),
        Command::Crds => crds(),
    }
}

fn reconcile(args: RunArgs) -> ExitCode {
    logging::start("info,kube=warn", SystemClock::shared());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run::run(args)),
        Err(error) => Err(run::Error::Runtime(error)),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let error = &error as &(dyn std::error::Error + 'static);
    tracing::error!(error, "the operator ends");
    ExitCode::FAILURE
}

fn crds() -> ExitCode {
    let written = std::io::stdout().write_all(evp_operator::CRDS.as_bytes());
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
