//! `evp progress`: how far a pipeline is. From its checkpoint, whether or not a worker runs; or from a worker, which also knows
//! its lag.
//!
//! Owns what is asked and how it is printed. What a checkpoint says is made in [`decided`].

mod decided;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use evp_api::progress::{LedgerProgress, Progress, SourceProgress};
use evp_core::protocol::head::Head;
use evp_core::protocol::paths::Lane;

use super::place::{Place, PlaceArgs};
use super::query::Output;
use super::{Fault, table, view};

use decided::{Decided, instant};

/// How long a worker may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer that is read: many times what the bounds of a manifest allow.
const LARGEST_ANSWER: usize = 1 << 20;

/// Says how far a pipeline is.
#[derive(Clone, Debug, clap::Args)]
pub struct ProgressArgs {
    /// The manifest: its checkpoint is read.
    #[arg(short, long, value_name = "FILE", required_unless_present = "url")]
    pub file: Option<PathBuf>,
    /// Where its paths lead.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Allow tables and checkpoints in a remote object store.
    #[arg(long)]
    pub remote: bool,
    /// A worker, such as `http://localhost:9090`: it is asked for its own report.
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "local", "bind", "remote"])]
    pub url: Option<url::Url>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// Asks and prints.
pub async fn run(args: ProgressArgs) -> Result<ExitCode, Fault> {
    let mut out = stdout().lock();
    match (&args.url, &args.file) {
        (Some(url), _) => {
            let report = ask(url).await?;
            match args.output {
                Output::Json => serde_json::to_writer_pretty(&mut out, &report).map_err(json)?,
                Output::Table => print_report(&mut out, &report)?,
            }
        }
        (None, Some(file)) => {
            let decided = read(file, &args).await?;
            match args.output {
                Output::Json => serde_json::to_writer_pretty(&mut out, &decided).map_err(json)?,
                Output::Table => decided.print(&mut out)?,
            }
        }
        (None, None) => return Err(Fault::Usage("give -f FILE or --url URL".to_owned())),
    }
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}

fn json(error: serde_json::Error) -> Fault {
    Fault::Print(error.into())
}

/// What the checkpoint says.
async fn read(file: &Path, args: &ProgressArgs) -> Result<Decided, Fault> {
    let place = Place::to_read(file, &args.place, args.remote)?;
    let path = &place.checked.plan.checkpoint.path;
    let location = place.storage.open(path)?;
    let name = Lane::default().head();
    let environment = |what: String| Fault::Environment(format!("{}: {what}", location.url));
    let Some((bytes, _)) = location.store.get(&name).await? else {
        return Err(environment("no epoch was decided here".to_owned()));
    };
    let head = Head::from_bytes(&bytes).map_err(|e| environment(format!("{name} {e}")))?;
    Ok(Decided::of(&place.name, &path.to_string(), &head))
}

/// What a worker says of itself.
async fn ask(worker: &url::Url) -> Result<Progress, Fault> {
    let mut url = worker.clone();
    if !url.path().ends_with("/progress") {
        url.set_path(&format!("{}/progress", url.path().trim_end_matches('/')));
    }
    let environment = |e: &dyn std::fmt::Display| Fault::Environment(format!("{url}: {e}"));
    let failed = |e: reqwest::Error| {
        let cause = std::error::Error::source(&e).map(|cause| format!(": {cause}"));
        environment(&format!("no report: {e}{}", cause.unwrap_or_default()))
    };
    let client = reqwest::Client::builder().timeout(DEADLINE).build();
    let request = client.map_err(failed)?.get(url.as_str()).send();
    let mut answer = request
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        text.extend_from_slice(&chunk);
        if text.len() > LARGEST_ANSWER {
            return Err(environment(&"the answer is too large to be a report"));
        }
    }
    serde_json::from_slice(&text).map_err(|e| environment(&format!("this is no report: {e}")))
}

fn print_report(out: &mut impl Write, report: &Progress) -> std::io::Result<()> {
    let state = match &report.reason {
        Some(halt) => format!("{}: {}", halt.reason, halt.message),
        None if report.ready => "running".to_owned(),
        None => "starting".to_owned(),
    };
    writeln!(
        out,
        "{}: {state}\nepoch {}, term {}, decided {}, {} bytes of state, checkpoint {}\n{} records behind, {} a second\n{}\n",
        report.pipeline,
        report.epoch,
        report.term,
        instant(Some(report.decided_time).filter(|t| *t != 0)),
        report.state_bytes,
        report.checkpoint_path,
        report.lag_records,
        report.records_per_second,
        totals(&report.ledger),
    )?;
    let sources = report.sources.iter().map(|source| {
        vec![
            source.name.clone(),
            source.splits.to_string(),
            source.idle.to_string(),
            source.lag_records.to_string(),
            instant(source.watermark),
            source.held_by.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let columns = ["source", "splits", "idle", "lag", "watermark", "held by"];
    table::print(out, &columns, sources)?;
    for line in report.sources.iter().filter_map(explained) {
        writeln!(out, "{line}")?;
    }
    print_windows(out, report)?;
    let sinks = report.sinks.iter().map(|sink| {
        let version = sink
            .version
            .map_or_else(|| "-".to_owned(), |v| v.to_string());
        vec![
            sink.name.clone(),
            sink.delivery.clone(),
            sink.rows.to_string(),
            version,
            sink.pending.to_string(),
        ]
    });
    writeln!(out)?;
    table::print(
        out,
        &["sink", "delivery", "rows", "version", "pending"],
        sinks,
    )
}

/// Why a watermark stands where it stands, with what only holds at this moment.
fn explained(source: &SourceProgress) -> Option<String> {
    let idle_in = source.hold.as_ref().and_then(|hold| hold.idle_in);
    let soon = idle_in.map(|micros| format!(" (idle in {})", view::span(micros)));
    Some(source.explained()? + &soon.unwrap_or_default())
}

/// The windows that close next: of each step those that began first.
fn print_windows(out: &mut impl Write, report: &Progress) -> std::io::Result<()> {
    let rows: Vec<_> = report
        .steps
        .iter()
        .flat_map(|step| step.windows.iter().map(move |window| (step, window)))
        .map(|(step, window)| {
            let away = report.watermark.map(|w| (window.closes_at - w).max(0));
            vec![
                step.name.clone(),
                instant(Some(window.start)),
                instant(Some(window.end)),
                instant(Some(window.closes_at)),
                away.map_or_else(|| "-".to_owned(), view::span),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let columns = [
        "step",
        "window from",
        "to",
        "closes at watermark",
        "still to go",
    ];
    table::print(out, &columns, rows)?;
    for step in &report.steps {
        let more = step.open_windows - i64::try_from(step.windows.len()).unwrap_or(i64::MAX);
        if more > 0 {
            writeln!(out, "{}: {more} more windows are open", step.name)?;
        }
    }
    Ok(())
}

/// The totals in one line.
fn totals(ledger: &LedgerProgress) -> String {
    format!(
        "{} records read, {} filtered, {} late, {} duplicates, {} dead letters, {}",
        ledger.read,
        ledger.filtered,
        ledger.late,
        ledger.duplicate,
        ledger.dead_lettered,
        if ledger.balanced {
            "balanced"
        } else {
            "NOT balanced"
        }
    )
}
