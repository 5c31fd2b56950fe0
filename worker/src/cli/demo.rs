//! `evp demo`: a whole pipeline on embedded parts. No network, no server, no root. Which there are: [`DEMOS`].

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use evp_api::source::{Generator, Template};

use super::bind::{Binding, GeneratorBinding};
use super::place::{Place, PlaceArgs};
use super::run::{self, RunArgs};
use super::{Fault, view};
use crate::generate::Planting;
use crate::job::Sample;

/// A pipeline that is shown: an example, and what stands in for the world around it.
struct Demo {
    name: &'static str,
    /// The manifest, as it is in `examples/`.
    manifest: &'static str,
    /// Its tests, as they are there.
    tests: &'static str,
    /// Its `checkpoint.interval`; here it is [`INTERVAL`], for somebody watches.
    interval: &'static str,
    /// The source that reads the generator.
    source: &'static str,
    template: Template,
    /// Events a second.
    rate: i64,
    /// How long before now the first event lies: so many are there at once.
    backlog: Duration,
    /// What is shown of its tables while it runs.
    sample: &'static str,
    /// What to ask next: each is a query.
    next: &'static [&'static str],
}

/// All that can be shown, in the order of their size: 120,000 orders at once, then live ones.
const DEMOS: [Demo; 3] = [ORDERS, SHOP, ACTIVITY];

const ORDERS: Demo = Demo {
    name: "orders",
    manifest: include_str!("../../../examples/orders/pipeline.yaml"),
    tests: include_str!("../../../examples/orders/tests.yaml"),
    interval: "interval: 30s",
    source: "orders",
    template: Template::Orders,
    rate: 100,
    backlog: Duration::from_mins(20),
    sample: "SELECT window_start, region, product_category, order_count, total_revenue FROM gold \
             ORDER BY window_start DESC, total_revenue DESC LIMIT 5",
    next: &[
        "SELECT * FROM gold ORDER BY window_start DESC LIMIT 10",
        "SELECT code, count(*) AS n FROM dead_letters GROUP BY code",
    ],
};

const SHOP: Demo = Demo {
    name: "shop",
    manifest: include_str!("../../../examples/shop/pipeline.yaml"),
    tests: include_str!("../../../examples/shop/tests.yaml"),
    interval: "interval: 10s",
    source: "raw",
    template: Template::Shop,
    rate: 50,
    backlog: Duration::from_mins(20),
    sample: "SELECT event_type, count(*) AS events, count(DISTINCT user_id) AS users, sum(price) AS price \
             FROM user_events GROUP BY event_type ORDER BY events DESC",
    next: &[
        "SELECT * FROM user_events ORDER BY timestamp DESC LIMIT 10",
        "SELECT code, message, count(*) AS n FROM dead_letters GROUP BY code, message",
    ],
};

const ACTIVITY: Demo = Demo {
    name: "activity",
    manifest: include_str!("../../../examples/activity/pipeline.yaml"),
    tests: include_str!("../../../examples/activity/tests.yaml"),
    interval: "interval: 30s",
    source: "incoming",
    template: Template::Activity,
    rate: 50,
    backlog: Duration::from_mins(40),
    sample: "SELECT * FROM totals_parquet ORDER BY window_start DESC, total_amount DESC LIMIT 5",
    next: &[
        "SELECT count(*) AS events FROM events_parquet",
        "SELECT * FROM totals_parquet ORDER BY window_start DESC LIMIT 10",
    ],
};

const INTERVAL: &str = "interval: 2s";

/// How long a demo runs where nobody can press Ctrl-C.
const OFF_A_TERMINAL: Duration = Duration::from_secs(30);

/// Writes a pipeline, runs it on embedded parts, shows what it does.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Which pipeline.
    #[arg(value_parser = PossibleValuesParser::new(DEMOS.map(|demo| demo.name)), default_value = "orders")]
    pub pipeline: String,
    /// Where the manifest, its tests and the tables go; the same folder resumes.
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
    let demo = DEMOS.iter().find(|demo| demo.name == args.pipeline);
    let demo = demo.ok_or_else(|| Fault::Usage(format!("no demo `{}`", args.pipeline)))?;
    let file = demo.write_files(&args.dir)?;
    let _ = writeln!(
        stderr(),
        "{}: events from an embedded generator, tables below {}",
        demo.name,
        args.dir.display()
    );
    let run = RunArgs {
        file: file.clone(),
        place: PlaceArgs {
            bind: vec![demo.binding(args.records)],
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
        backlog: demo.backlog,
    };
    let written = Place::of(&manifest, &file, &run.place, false)?.written()?;
    let local = run::prepare(&manifest, &run, sample)?;
    let show = view::Show::Sample {
        written,
        sql: demo.sample.to_owned(),
    };
    let ended = run::drive(local, duration(&args), None, show).await?;
    demo.say_next(&args.dir);
    Ok(ended)
}

impl Demo {
    /// The manifest and its tests are written once: a user's changes stay. Gives the manifest.
    fn write_files(&self, dir: &Path) -> Result<PathBuf, Fault> {
        let manifest = dir.join("pipeline.yaml");
        let text = self.manifest.replace(self.interval, INTERVAL);
        for (file, text) in [
            (&manifest, text.as_str()),
            (&dir.join("tests.yaml"), self.tests),
        ] {
            let wrote = std::fs::create_dir_all(dir).and_then(|()| {
                if file.exists() {
                    Ok(())
                } else {
                    std::fs::write(file, text)
                }
            });
            wrote.map_err(|e| {
                Fault::Environment(format!("{} cannot be written: {e}", file.display()))
            })?;
        }
        Ok(manifest)
    }

    fn binding(&self, limit: Option<i64>) -> Binding {
        let generator = Generator {
            template: self.template,
            rate: self.rate,
            seed: 0,
            limit,
        };
        Binding::Source {
            source: self.source.to_owned(),
            generator: GeneratorBinding {
                generator,
                backlog: self.backlog,
            },
        }
    }

    fn say_next(&self, dir: &Path) {
        let dir = dir.display();
        let _ = writeln!(stdout(), "tables and checkpoint: {dir}");
        for sql in self.next {
            let _ = writeln!(stdout(), "  evp query {dir} '{sql}'");
        }
        let _ = writeln!(stdout(), "  evp test {dir}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_demo_is_an_example_that_its_generator_can_feed() {
        for demo in &DEMOS {
            let dir = tempfile::tempdir().unwrap();
            let file = demo.write_files(dir.path()).unwrap();
            let manifest = super::super::one_manifest(&file).unwrap();
            assert!(demo.manifest.contains(demo.interval));
            let place = PlaceArgs {
                bind: vec![demo.binding(Some(1))],
                local: Some(dir.path().to_owned()),
                secrets: dir.path().join("secrets"),
            };
            let place = Place::of(&manifest, &file, &place, false);
            assert!(place.is_ok(), "{}: {}", demo.name, place.err().unwrap());
        }
    }
}
