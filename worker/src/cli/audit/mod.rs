//! `evp audit`: what a pipeline has decided, judged: "no gap, no overlap, balanced", or where not.
//!
//! Owns what is asked and how the answer is printed. [`read`] gets the objects, [`sinks`] asks the sinks, and
//! [`evp_core::protocol::audit`] judges. Nothing is written, and a pipeline that runs meanwhile is not disturbed.

mod read;
mod sinks;

use std::io::{Write, stdout};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use evp_core::ledger::Ledger;
use evp_core::position::Epoch;
use evp_core::protocol::audit::{Finding, Verdict};
use evp_core::protocol::head::Head;
use serde::Serialize;

use super::Fault;
use super::check::Output;
use super::place::{Place, PlaceArgs};

use read::Reader;

/// Judges what a pipeline has decided: its epochs, their state, and what its sinks hold of them.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// The manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where its paths lead.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Allow tables and checkpoints in a remote object store.
    #[arg(long)]
    pub remote: bool,
    /// The oldest epoch that is judged; absent: the oldest that is kept.
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// The newest epoch that is judged; absent: the newest.
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// The answer. Part of the command line's promise: fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    pipeline: String,
    checkpoint: String,
    /// Nothing was found.
    clean: bool,
    /// Oldest and newest epoch that were asked for.
    from: Epoch,
    to: Epoch,
    /// The oldest epoch whose copy is kept.
    retained_from: Epoch,
    /// Epochs whose bodies could be judged.
    epochs: u64,
    /// Sinks that were asked what they hold.
    sinks: usize,
    /// Counts of all epochs up to the newest; `None`: there is no head.
    totals: Option<Ledger>,
    findings: Vec<Finding>,
    /// Findings that are not listed.
    more: usize,
}

/// 0: clean; 1: findings.
pub async fn run(args: AuditArgs) -> Result<ExitCode, Fault> {
    let place = Place::to_read(&args.file, &args.place, args.remote)?;
    if !args.remote {
        place.refuse_topics()?;
    }
    let path = &place.checked.plan.checkpoint.path;
    let location = place.storage.open(path)?;
    let objects = read::objects(location.store.as_ref()).await?;
    if objects.head.is_none() && objects.born.is_none() {
        let what = format!("{}: no epoch was decided here", location.url);
        return Err(Fault::Environment(what));
    }
    let head = objects.head.as_ref().and_then(|head| head.as_ref().ok());
    let range = range(&args, head)?;
    let totals = head.map(|head| head.body.totals.clone());
    let retained_from = head.map_or(Epoch(0), |head| head.rolling.retained);
    let mut reader = Reader::begin(location.clone(), &place.name, range.clone(), objects);
    reader.bodies(&range).await?;
    let plan = reader.plans().await?;
    let sinks = sinks::ask(&mut reader, &place, &location, plan).await?;
    let Verdict {
        epochs,
        findings,
        more,
    } = reader.end();
    let answer = Answer {
        pipeline: place.name,
        checkpoint: path.to_string(),
        clean: findings.is_empty(),
        from: *range.start(),
        to: *range.end(),
        retained_from,
        epochs,
        sinks,
        totals,
        findings,
        more,
    };
    print(&answer, args.output)?;
    Ok(ExitCode::from(u8::from(!answer.clean)))
}

/// The epochs that were asked for, as far as there are any.
fn range(args: &AuditArgs, head: Option<&Head>) -> Result<RangeInclusive<Epoch>, Fault> {
    let newest = head.map_or(0, |head| head.body.epoch.0);
    let to = args.to.unwrap_or(newest).min(newest);
    let retained = head.map_or(0, |head| head.rolling.retained.0);
    let from = args.from.unwrap_or_else(|| retained.min(to));
    if from > to {
        let what = format!("there is no epoch from {from} to {to}; the newest one is {newest}");
        return Err(Fault::Usage(what));
    }
    Ok(Epoch(from)..=Epoch(to))
}

fn print(answer: &Answer, output: Output) -> std::io::Result<()> {
    let mut out = stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, answer)?;
        return writeln!(out);
    }
    let Answer {
        pipeline,
        checkpoint,
        from,
        to,
        ..
    } = answer;
    for finding in &answer.findings {
        let Finding {
            kind,
            message,
            help,
            ..
        } = finding;
        writeln!(out, "{kind:?}: {message}\n  = help: {help}")?;
    }
    if answer.more > 0 {
        writeln!(out, "and {} more", answer.more)?;
    }
    let verdict = match answer.findings.len() + answer.more {
        0 => "no gap, no overlap, balanced".to_owned(),
        1 => "1 finding".to_owned(),
        findings => format!("{findings} findings"),
    };
    let read: u64 = answer
        .totals
        .iter()
        .flat_map(|t| t.sources.values())
        .map(|c| c.read)
        .sum();
    let written: u64 = answer.totals.iter().flat_map(|t| t.sinks.values()).sum();
    writeln!(
        out,
        "{pipeline}: epochs {from} to {to} of {checkpoint}: {verdict}\n{} epochs judged, retained from epoch {}; {} sinks asked; \
         {read} records read and {written} rows handed to sinks since epoch 0",
        answer.epochs, answer.retained_from, answer.sinks
    )
}
