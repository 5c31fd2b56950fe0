//! `evp-operator`: `run` reconciles, `crds` prints what is to be installed before.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use evp_operator::run;
use evp_operator::settings::RunArgs;
use tracing_subscriber::EnvFilter;

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
    let result = match Cli::parse().command {
        Command::Run(args) => reconcile(*args),
        Command::Crds => crds(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            tracing::error!("{text}");
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn reconcile(args: RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run::run(args))?;
    Ok(())
}

fn crds() -> Result<(), Box<dyn std::error::Error>> {
    std::io::stdout().write_all(evp_operator::CRDS.as_bytes())?;
    Ok(())
}

/// Text on a terminal, JSON lines otherwise. `RUST_LOG` chooses what.
fn log() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    }
}
