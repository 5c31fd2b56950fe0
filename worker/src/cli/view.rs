//! Live progress: a block that is drawn anew on a terminal, else a line every ten seconds. Always on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use evp_api::progress::{Progress, SinkProgress};
use evp_core::position::Micros;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::query;
use crate::clock::SharedClock;

/// How often the block is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// Draws between two lines off a terminal, and between two samples of gold on one.
const LINE_EVERY: u32 = 20;
const SAMPLE_EVERY: u32 = 4;

/// What is shown.
pub enum Show {
    /// Counts.
    Lines,
    /// Counts and newest rows of a table.
    Sample {
        /// Where the tables are.
        written: query::Written,
        /// What to ask.
        sql: String,
    },
}

/// Shows reports until told to stop.
pub async fn run(
    show: Show,
    progress: watch::Receiver<Progress>,
    clock: SharedClock,
    stop: CancellationToken,
) {
    let terminal = stderr().is_terminal();
    let (mut drawn, mut sample) = (0, String::new());
    let mut draws = 0_u32;
    loop {
        let report = progress.borrow().clone();
        if terminal {
            if draws.is_multiple_of(SAMPLE_EVERY) {
                sample = newest(&show).await.unwrap_or(sample);
            }
            drawn = draw(&block(&report, clock.now(), &sample), drawn);
        } else if draws.is_multiple_of(LINE_EVERY) {
            say(&line(&report, clock.now()));
        }
        draws += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(DRAW_EVERY) => {}
        }
    }
}

/// `None`: nothing to show, or the table is not there yet.
async fn newest(show: &Show) -> Option<String> {
    let Show::Sample { written, sql } = show else {
        return None;
    };
    let tables = query::open_tables(written).await.ok()?;
    let (batches, _) = query::ask(&tables.session, sql).await.ok()?;
    let mut text = Vec::new();
    query::print(&mut text, &batches, query::Output::Table).ok()?;
    String::from_utf8(text).ok()
}

fn say(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Draws over the last block; gives the number of lines drawn.
fn draw(block: &str, last: usize) -> usize {
    let mut out = stderr().lock();
    if last > 0 {
        let _ = write!(out, "\x1b[{last}A\x1b[J");
    }
    let _ = write!(out, "{block}");
    let _ = out.flush();
    block.lines().count()
}

fn block(report: &Progress, now: Micros, sample: &str) -> String {
    let halt = report.reason.iter();
    let halt = halt.map(|halt| format!("  {}: {}", halt.reason, halt.message));
    let lines = std::iter::once(line(report, now))
        .chain(report.sinks.iter().map(sink))
        .chain(halt);
    let lines: String = lines.map(|line| line + "\n").collect();
    lines + sample
}

fn sink(sink: &SinkProgress) -> String {
    let version = sink
        .version
        .map_or_else(|| "no version yet".to_owned(), |v| format!("version {v}"));
    format!("  {:<14} {:>10} rows   {version}", sink.name, sink.rows)
}

/// One line that says everything that matters.
pub fn line(report: &Progress, now: Micros) -> String {
    let windows: i64 = report.steps.iter().map(|s| s.open_windows).sum();
    let watermark = match report.watermark {
        Some(w) => format!("watermark {} behind", span((now.0 - w).max(0))),
        None => "no watermark yet".to_owned(),
    };
    let tables: Vec<_> = report
        .sinks
        .iter()
        .filter_map(|s| Some(format!("{} v{}", s.name, s.version?)))
        .collect();
    let state = match &report.reason {
        Some(halt) => halt.reason.as_str(),
        None if report.ready => "running",
        None => "starting",
    };
    format!(
        "{}: {state}, epoch {}, {} read, {}/s, lag {}, {watermark}, {windows} windows open, {} late, {} dead letters{}{}",
        report.pipeline,
        report.epoch,
        report.ledger.read,
        report.records_per_second,
        report.lag_records,
        report.ledger.late,
        report.ledger.dead_lettered,
        if tables.is_empty() { "" } else { ", " },
        tables.join(" "),
    )
}

/// A span of time for people.
pub(super) fn span(micros: i64) -> String {
    match micros / 1_000_000 {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// What a run did.
pub fn summary(report: &Progress) {
    if report.epoch == 0 && report.ledger.read == 0 {
        say(&format!(
            "{}: stopped before anything was committed",
            report.pipeline
        ));
        return;
    }
    let ledger = &report.ledger;
    say(&format!(
        "{}: {} records read, {} late, {} duplicates, {} dead letters, {} {}, ledger {}",
        report.pipeline,
        ledger.read,
        ledger.late,
        ledger.duplicate,
        ledger.dead_lettered,
        report.epoch,
        if report.epoch == 1 { "epoch" } else { "epochs" },
        if ledger.balanced {
            "balanced"
        } else {
            "NOT balanced"
        },
    ));
    for sink in &report.sinks {
        say(&format!(
            "  {}: {} rows{}",
            sink.name,
            sink.rows,
            sink.version
                .map(|v| format!(", version {v}"))
                .unwrap_or_default()
        ));
    }
}
