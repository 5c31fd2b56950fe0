//! The line that `kubectl get evp -o wide` must print of a pipeline at rest, computed from topic, tables and checkpoint.

use evp_tests::oracle;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::readings::{DELAY, Readings};
use super::world::World;

/// Ages may differ by this: a line is printed a little after or before it is compared.
const LEEWAY: i64 = 2;

/// A cell of the line.
pub(crate) enum Cell {
    /// This text.
    Text(String),
    /// The age of something that was at this time.
    Age(Timestamp),
}

/// What the line is computed from.
pub(crate) struct Facts {
    /// Records in the topic.
    pub(crate) sent: i64,
    /// Rows of bronze and dead letters: what is through.
    pub(crate) kept: i64,
    /// Of them dead letters.
    pub(crate) dead: i64,
    /// By the evaluation of what was sent.
    pub(crate) watermark: Timestamp,
    /// Rows of gold, by a foreign reader.
    pub(crate) gold: Vec<Value>,
}

impl Facts {
    /// Headings and cells.
    pub(crate) async fn line(
        &self,
        world: &World,
        readings: &Readings,
    ) -> Vec<(&'static str, Cell)> {
        let text = |text: &str| Cell::Text(text.to_owned());
        let head = readings.head().await;
        let decided = Timestamp::from_microsecond(head["decidedTime"].as_i64().unwrap()).unwrap();
        let pipeline = world.pipeline("orders");
        let created: Timestamp = pipeline["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let spec = |list: &str| pipeline["spec"][list].as_array().unwrap().len();
        let behind = self.sent - self.kept;
        // `objectives.maxDeadLetterPercent` is 1 where the manifest does not say.
        let clean = self.dead * 100 <= self.sent;
        vec![
            ("NAME", text("orders")),
            ("READY", text("True")),
            ("ONTIME", text(if behind == 0 { "True" } else { "False" })),
            ("CLEAN", text(if clean { "True" } else { "False" })),
            ("LAG", text(&behind.to_string())),
            ("WATERMARK", Cell::Age(self.watermark)),
            ("COMMITTED", Cell::Age(decided)),
            ("WORKERS", text("1")),
            ("AGE", Cell::Age(created)),
            ("SOURCES", text(&spec("sources").to_string())),
            ("SINKS", text(&spec("sinks").to_string())),
            ("STATE", text(&quantity(state_bytes(&head)))),
            (
                "MESSAGE",
                text(&format!("0 records/s{}", self.open_windows())),
            ),
        ]
    }

    fn open_windows(&self) -> String {
        let end = |row: &Value| {
            row["window_end"]
                .as_str()
                .unwrap()
                .parse::<Timestamp>()
                .unwrap()
        };
        let mut open: Vec<_> = self
            .gold
            .iter()
            .map(end)
            .filter(|&end| end > self.watermark)
            .collect();
        open.sort_unstable();
        open.dedup();
        match open.len() {
            0 => String::new(),
            1 => ", 1 window open".to_owned(),
            n => format!(", {n} windows open"),
        }
    }
}

/// Event time before which nothing counts as on time any more, from the producer's ledgers.
pub(crate) fn watermark(ledgers: &[&std::path::Path]) -> Timestamp {
    let newest = oracle::newest_event_times(ledgers);
    newest.into_iter().min().unwrap() - DELAY
}

/// Bytes of the files that a head names: each step has buckets, each of these runs of files.
fn state_bytes(head: &Value) -> i64 {
    let steps = head["state"].as_object().unwrap().values();
    let buckets = steps.flat_map(|step| step["buckets"].as_object().unwrap().values());
    let runs = buckets.flat_map(|runs| runs.as_array().unwrap());
    let files = runs.flat_map(|run| run["files"].as_array().unwrap());
    files.map(|file| file["length"].as_i64().unwrap()).sum()
}

/// A quantity of whole units, as Kubernetes writes them.
fn quantity(bytes: i64) -> String {
    let rounded = |unit: i64| (bytes + unit / 2) / unit;
    match bytes {
        0..1024 => bytes.to_string(),
        1024..1_048_576 => format!("{}Ki", rounded(1024)),
        _ => format!("{}Mi", rounded(1_048_576)),
    }
}

/// Compares what was printed with the line, cell by cell.
pub(crate) fn check(printed: &str, line: &[(&str, Cell)], now: Timestamp) {
    let cells = |row: &str| -> Vec<String> {
        let cells = row
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    let rows: Vec<_> = printed.lines().map(cells).collect();
    assert_eq!(rows.len(), 2, "{printed}");
    let headings: Vec<_> = line.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(rows[0], headings, "{printed}");
    assert_eq!(rows[1].len(), line.len(), "{printed}");
    for ((heading, wanted), found) in line.iter().zip(&rows[1]) {
        let allowed = match wanted {
            Cell::Text(text) => vec![text.clone()],
            Cell::Age(time) => ages(now.duration_since(*time)),
        };
        assert!(
            allowed.contains(found),
            "{heading}: one of {allowed:?} is expected\n{printed}"
        );
    }
}

fn ages(age: SignedDuration) -> Vec<String> {
    let seconds = age.as_secs();
    (seconds - LEEWAY..=seconds + LEEWAY)
        .map(|s| human(s.max(0)))
        .collect()
}

/// An age as kubectl prints it (`HumanDuration` of apimachinery), up to three hours.
fn human(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0..2, _) => format!("{seconds}s"),
        (minutes @ 2..10, 0) => format!("{minutes}m"),
        (minutes @ 2..10, seconds) => format!("{minutes}m{seconds}s"),
        (minutes, _) => format!("{minutes}m"),
    }
}
