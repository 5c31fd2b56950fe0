//! `evp demo`: a whole pipeline on embedded parts. No network, no server, no root.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::bind::{Binding, GeneratorBinding};
use super::place::{Place, PlaceArgs};
use super::run::{self, RunArgs};
use super::{Fault, view};
use crate::generate::Planting;
use crate::job::Sample;

/// The orders example, as it is in `examples/`.
const ORDERS: &str = include_str!("../../../examples/orders/pipeline.yaml");

/// How long a demo runs where nobody can press Ctrl-C.
const OFF_A_TERMINAL: Duration = Duration::from_secs(30);

/// Events a second, and how long before now the first one lies: 120,000 events at once, then live ones.
const RATE: i64 = 100;
const BACKLOG: Duration = Duration::from_mins(20);

/// Writes a pipeline, runs it on embedded parts, shows what it does.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Which pipeline.
    #[arg(value_parser = ["orders"], default_value = "orders")]
    pub pipeline: String,
    /// Where the manifest and the tables go; the same folder resumes.
    #[arg(long, value_name = "DIR", default_value = "./evp-demo")]
    pub dir: PathBuf,
    /// End after this long; absent: on Ctrl-C, or after 30 s off a terminal.
    #[arg(long = "for", value_name = "DURATION", value_parser = evp_api::plan::parse_duration)]
    pub duration: Option<Duration>,
    /// End after this many records.
    #[arg(long, conflicts_with = "duration")]
    pub records: Option<i64>,
}

/// Runs the demo and says what was written.
pub async fn run(args: DemoArgs) -> Result<ExitCode, Fault> {
    let file = write_manifest(&args.dir)?;
    let _ = writeln!(
        stderr(),
        "orders: events from an embedded generator, tables below {}",
        args.dir.display()
    );
    let run = RunArgs {
        file: file.clone(),
        place: PlaceArgs {
            bind: vec![binding(&args)],
            local: Some(args.dir.clone()),
            secrets: args.dir.join("secrets"),
        },
        until_end: args.records.is_some(),
        duration: None,
        remote: false,
        listen: None,
        memory: None,
    };
    let manifest = super::one_manifest(&file)?;
    let sample = Sample {
        planting: planting(),
        backlog: BACKLOG,
    };
    let written = Place::of(&manifest, &file, &run.place, false)?.written()?;
    let local = run::prepare(&manifest, &run, sample)?;
    let sql = "SELECT window_start, region, product_category, order_count, total_revenue FROM gold \
               ORDER BY window_start DESC, total_revenue DESC LIMIT 5";
    let show = view::Show::Sample {
        written,
        sql: sql.to_owned(),
    };
    let ended = run::drive(local, duration(&args), None, show).await?;
    next_commands(&args.dir);
    Ok(ended)
}

/// The manifest is written once: a user's changes stay.
fn write_manifest(dir: &Path) -> Result<PathBuf, Fault> {
    let file = dir.join("pipeline.yaml");
    let wrote = std::fs::create_dir_all(dir).and_then(|()| {
        if file.exists() {
            Ok(())
        } else {
            std::fs::write(&file, ORDERS.replace("interval: 30s", "interval: 2s"))
        }
    });
    wrote.map_err(|e| Fault::Environment(format!("{} cannot be written: {e}", file.display())))?;
    Ok(file)
}

fn binding(args: &DemoArgs) -> Binding {
    let generator = evp_api::source::Generator {
        template: evp_api::source::Template::Orders,
        rate: RATE,
        seed: 0,
        limit: args.records,
    };
    Binding::Source {
        source: "orders".into(),
        generator: GeneratorBinding {
            generator,
            backlog: BACKLOG,
        },
    }
}

/// A few of everything that goes wrong in the world.
fn planting() -> Planting {
    Planting {
        duplicates: 0.001,
        disorder: 0.01,
        late: 0.001,
        future: 0.0001,
        malformed: 0.001,
        ..Planting::default()
    }
}

fn duration(args: &DemoArgs) -> Option<Duration> {
    let endless = args.records.is_some() || stderr().is_terminal();
    args.duration.or((!endless).then_some(OFF_A_TERMINAL))
}

fn next_commands(dir: &Path) {
    let dir = dir.display();
    let _ = writeln!(stdout(), "tables and checkpoint: {dir}");
    let _ = writeln!(
        stdout(),
        "  evp query {dir} 'SELECT * FROM gold ORDER BY window_start DESC LIMIT 10'"
    );
    let _ = writeln!(
        stdout(),
        "  evp query {dir} 'SELECT code, count(*) AS n FROM dead_letters GROUP BY code'"
    );
}
