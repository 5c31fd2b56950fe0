//! `evp produce`: the reference generators against real parts, with a ledger of what was sent.
//!
//! The ledger is a fixed contract with the oracles that judge pipelines: JSON lines in send order, one a record,
//! `{"i", "kind", "partition", "offset", "timestamp", "key", "value" or "value_base64"}`; offsets are those acknowledged. A row
//! in a file also has `"file"`, the file's name, and `"line"`, where 1 is the file's first; its partition is 0, its offset
//! counts rows. Files are told of before they are seen: after a crash what is told of a file that is not there was not sent.

mod ledger;
mod target;
#[cfg(test)]
mod tests;
mod to_files;
mod to_kafka;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use evp_api::plan::{SaslMechanism, Template};
use evp_core::position::Micros;

use crate::clock::{SharedClock, SystemClock};
use crate::generate::{Events, IdlePartition, Planting, Settings, usual_rate};
use crate::store::StoreError;

use target::{FileArgs, Target};

/// Sends sample events.
#[derive(Args, Clone, Debug)]
pub struct ProduceArgs {
    /// Which events: orders, shop or activity.
    pub template: Template,
    /// Where to: `kafka://host:port/topic`, `dir:PATH` or `s3://bucket/prefix`; in files orders and activity are JSON lines, shop is
    /// CSV with a header.
    #[arg(long)]
    pub to: String,
    /// Events a second; absent: 5, of shop 10.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,
    /// Same seed and start, same events.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Ends after this many events; without it, with Ctrl-C.
    #[arg(long)]
    pub limit: Option<u64>,
    /// Event time of the first event, RFC 3339; what is due since is sent at once. Default: now.
    #[arg(long)]
    pub start: Option<String>,
    /// Share of events, 0 to 1, that repeat an earlier one.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub duplicates: f64,
    /// Share of events up to five minutes out of order.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub disorder: f64,
    /// Share of events at least an hour late.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub late: f64,
    /// First event that may be late.
    #[arg(long, default_value_t = 0)]
    pub late_from: u64,
    /// Share of events at least a day ahead.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub future: f64,
    /// Share of records that the schema, or a rule, of the template's pipeline refuses.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub malformed: f64,
    /// PARTITION:FROM..TO: no event of these numbers goes to that partition.
    #[arg(long, value_parser = idle_partition)]
    pub idle_partition: Option<IdlePartition>,
    /// Writes what was sent, with acknowledged offsets.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// How files are cut and where a bucket is.
    #[command(flatten)]
    pub files: FileArgs,
    /// Encrypts, trusting the system's authorities; --ca implies it.
    #[arg(long)]
    pub tls: bool,
    /// PEM authorities to trust.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// SASL mechanism.
    #[arg(long, value_enum, requires = "username", requires = "password_file")]
    pub sasl_mechanism: Option<Mechanism>,
    /// SASL user.
    #[arg(long)]
    pub username: Option<String>,
    /// File that holds the SASL password.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
}

/// SASL mechanism, as users write it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Mechanism {
    /// PLAIN.
    #[value(name = "PLAIN")]
    Plain,
    /// SCRAM-SHA-256.
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
}

impl From<Mechanism> for SaslMechanism {
    fn from(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::ScramSha256 => Self::ScramSha256,
            Mechanism::ScramSha512 => Self::ScramSha512,
        }
    }
}

/// Why producing ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// Why: part of the message, for that is all that is printed.
        cause: std::io::Error,
    },
    /// The cluster or the bucket could not be reached, or did not take a record.
    #[error("{0}")]
    Unreachable(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unreachable(error.describe())
    }
}

impl Error {
    /// Exit code of the process: 2 usage, 3 an environment could not be reached, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::File { .. } => 1,
            Self::Unreachable(_) => 3,
        }
    }

    fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::File { path, cause }
    }
}

/// Decides which events are due, until the limit or a signal.
struct Pace {
    clock: SharedClock,
    limit: u64,
    next: u64,
}

/// Runs until the limit or Ctrl-C, then waits for what is in flight. A summary goes to standard error.
pub async fn run(args: ProduceArgs) -> Result<(), Error> {
    let clock = SystemClock::shared();
    let target = target::target(&args)?;
    let settings = settings(&args, clock.now())?;
    let begun = clock.elapsed();
    let pace = Pace {
        clock: clock.clone(),
        limit: args.limit.unwrap_or(u64::MAX),
        next: 0,
    };
    let sent = match target {
        Target::Kafka { servers, topic } => {
            to_kafka::send(&args, settings, pace, (&servers, &topic)).await?
        }
        Target::Files(place) => to_files::write(&args, settings, pace, place).await?,
    };
    let seconds = clock.elapsed().saturating_sub(begun).as_secs_f64();
    eprintln!("{sent} events sent to {} in {seconds:.1} s", args.to);
    Ok(())
}

impl Pace {
    /// Numbers of the events that are due now, at most `most`; waits a little if none is. `None`: no more will come.
    async fn due(&mut self, events: &Events, most: u64) -> Option<std::ops::Range<u64>> {
        if self.next >= self.limit {
            return None;
        }
        let wait = events.settings().wait(self.next, self.clock.now());
        if !wait.is_zero() {
            // Short enough to notice acknowledgements and the end of the program meanwhile.
            self.clock.sleep(wait.min(Duration::from_millis(20))).await;
        }
        let due = events.settings().due_by(self.clock.now()).min(self.limit);
        let end = due.clamp(self.next, self.next.saturating_add(most));
        let range = self.next..end;
        self.next = end;
        Some(range)
    }
}

fn settings(args: &ProduceArgs, now: Micros) -> Result<Settings, Error> {
    let planting = Planting {
        duplicates: args.duplicates,
        disorder: args.disorder,
        late: args.late,
        future: args.future,
        malformed: args.malformed,
        late_from: args.late_from,
    };
    let shares = args.duplicates + args.disorder + args.late + args.future + args.malformed;
    if shares > 1.0 {
        return Err(Error::Usage(
            "the shares of planted events exceed 1 together".to_owned(),
        ));
    }
    let started = match &args.start {
        None => now,
        Some(text) => {
            let time: jiff::Timestamp = text
                .parse()
                .map_err(|e| Error::Usage(format!("--start {text}: {e}")))?;
            Micros(time.as_microsecond())
        }
    };
    // Partitions are known once the target is.
    Ok(Settings {
        seed: args.seed,
        started,
        rate: args.rate.unwrap_or_else(|| usual_rate(args.template)),
        partitions: 1,
        planting,
        idle: args.idle_partition,
    })
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text
        .parse()
        .map_err(|_| "a number from 0 to 1 is expected".to_owned())?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a number from 0 to 1 is expected".to_owned())
    }
}

fn idle_partition(text: &str) -> Result<IdlePartition, String> {
    let parse = || {
        let (partition, range) = text.split_once(':')?;
        let (from, to) = range.split_once("..")?;
        Some(IdlePartition {
            partition: partition.parse().ok()?,
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        })
    };
    parse().ok_or_else(|| "PARTITION:FROM..TO is expected, such as 2:1000..5000".to_owned())
}
