//! What a worker answers at `GET /progress`: how far it is, and what keeps it from being further.
//!
//! Owns the shape alone. The worker fills it, the operator turns it into status, people read it with `evp progress`. It is
//! bounded by the manifest's bounds, and holds no secret and no record content. Fields are only ever added; a reader
//! ignores those it does not know, so that operator and worker of neighbouring versions understand each other.
//!
//! Instants are microseconds since the Unix epoch, UTC; counts fit in 2^53.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A worker's report.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Digest of the plan this worker runs; it decides epochs under no other.
    pub plan_digest: String,
    /// The lane is owned and every source and sink was reached: what `/readyz` answers.
    pub ready: bool,
    /// What keeps it from working; `None`: nothing.
    pub reason: Option<Halt>,
    /// Newest decided epoch.
    pub epoch: i64,
    /// Term under which this worker owns the lane; 0: it does not yet.
    pub term: i64,
    /// Which start or reset the epochs belong to; empty: not yet known.
    pub incarnation: String,
    /// When the newest epoch was decided; 0: none is known.
    pub decided_time: i64,
    /// Digest of the plan the newest epoch was decided under; empty: none is known.
    pub plan_of_newest_epoch: String,
    /// Records in the sources that no epoch has yet taken in.
    pub lag_records: i64,
    /// Records read a second, over the last minute.
    pub records_per_second: i64,
    /// Lowest committed watermark of the sources; `None`: no source has one, or none has advanced.
    pub watermark: Option<i64>,
    /// Newest `_meta.timestamp` of the committed records; `None`: nothing was read.
    pub last_record_time: Option<i64>,
    /// Every split is committed up to its end.
    pub caught_up: bool,
    /// Bytes of state the head names.
    pub state_bytes: i64,
    /// Totals since the pipeline's first epoch.
    pub ledger: LedgerProgress,
    /// Counts of the last 15 minutes, or of the last 100 records if those reach further back.
    pub recent: Recent,
    /// One entry a source, in the order of the manifest.
    pub sources: Vec<SourceProgress>,
    /// One entry a step, in the order of the manifest.
    pub steps: Vec<StepProgress>,
    /// One entry a sink, in the order of the manifest.
    pub sinks: Vec<SinkProgress>,
    /// Where the checkpoint is.
    pub checkpoint_path: String,
    /// When this report was made, by the worker's clock.
    pub report_time: i64,
    /// Fingerprint in hex of what each step's state depends on, by step.
    pub fingerprints: BTreeMap<String, String>,
}

/// What keeps a worker from working.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Halt {
    /// Word from the catalogue of reasons.
    pub reason: String,
    /// What, where and what to do, for a person.
    pub message: String,
    /// A person must act; otherwise the worker tries again by itself.
    pub stalled: bool,
}

/// Totals since the pipeline's first epoch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LedgerProgress {
    /// Records read from the sources.
    pub read: i64,
    /// Rows a query's `where` refused.
    pub filtered: i64,
    /// Rows that came after their windows had closed.
    pub late: i64,
    /// Rows that repeated one that had come.
    pub duplicate: i64,
    /// Records that were dead-lettered.
    pub dead_lettered: i64,
    /// Every epoch's counts balance.
    pub balanced: bool,
}

/// What `Clean` is judged by.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recent {
    /// Records read.
    pub read: i64,
    /// Of these dead-lettered.
    pub dead_lettered: i64,
    /// The most frequent code among them.
    pub top_code: Option<String>,
    /// The source or step that gave it most often.
    pub top_step: Option<String>,
}

/// One source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceProgress {
    /// Its name.
    pub name: String,
    /// Records not yet committed.
    pub lag_records: i64,
    /// Its committed watermark; `None`: it has none, or it has not advanced.
    pub watermark: Option<i64>,
    /// The split that holds the watermark back, such as `partition 1`; `None`: every split is idle, or there is no watermark.
    pub held_by: Option<String>,
    /// Why it stands where it stands; `None`: the source has no watermark.
    pub hold: Option<WatermarkHold>,
    /// Splits known.
    pub splits: i32,
    /// Of these idle.
    pub idle: i32,
}

/// Why a watermark stands where it stands.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatermarkHold {
    /// Since when: the time at which the epoch opened that moved it last. `None`: it never moved.
    pub since: Option<i64>,
    /// What lets it go on.
    pub release: Release,
    /// A record must be of a later event time than this to do so; `None`: any record does.
    pub newer_than: Option<i64>,
    /// Microseconds without a record after which the holding split is idle, counted while it can be polled; only if it is at
    /// its end.
    pub idle_in: Option<i64>,
}

/// What lets a watermark go on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Release {
    /// Records of the holding split that are not committed yet.
    Backlog,
    /// A record of the holding split, which is at its end; or a time without one, after which it is idle.
    Record,
    /// A record of any split: all are idle.
    AnyRecord,
    /// A word of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// An open window.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WindowProgress {
    /// Its start.
    pub start: i64,
    /// Its end; a session's moves with its last row.
    pub end: i64,
    /// The watermark that closes it.
    pub closes_at: i64,
}

impl SourceProgress {
    /// Why the watermark stands where it stands, in words that do not change while it does. `None`: there is none.
    pub fn explained(&self) -> Option<String> {
        let hold = self.hold.as_ref()?;
        let since = match hold.since.and_then(instant) {
            Some(since) => format!("the watermark of {} stands since {since}", self.name),
            None => format!("{} has no watermark yet", self.name),
        };
        let record = match hold.newer_than.and_then(instant) {
            Some(time) => format!("record newer than {time}"),
            None => "record".to_owned(),
        };
        let holder = self.held_by.as_deref().unwrap_or("a split");
        let why = match hold.release {
            Release::Backlog => format!("{holder} holds it and has records to be committed"),
            Release::Record => format!(
                "{holder} holds it and has nothing to read: a {record} lets it go on, or `idleTimeout` without any"
            ),
            Release::AnyRecord => format!("all its splits are idle: a {record} lets it go on"),
            Release::Unknown => format!("{holder} holds it"),
        };
        Some(format!("{since}; {why}"))
    }
}

/// Microseconds as people read them, to the second; `None`: out of range.
pub fn instant(micros: i64) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(format!("{time:.0}"))
}

/// One step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepProgress {
    /// Its name.
    pub name: String,
    /// Windows not yet closed.
    pub open_windows: i64,
    /// The first of them, by start; at most ten.
    pub windows: Vec<WindowProgress>,
    /// Bytes of its state.
    pub state_bytes: i64,
    /// Keys that a `dedupe` remembers.
    pub keys: i64,
    /// Late rows since the first epoch.
    pub late: i64,
    /// Rows that repeated one that had come, since the first epoch.
    pub duplicate: i64,
    /// Of these not the same in every column.
    pub conflict: i64,
}

/// One sink.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkProgress {
    /// Its name.
    pub name: String,
    /// `ExactlyOnce` or `AtLeastOnce`.
    pub delivery: String,
    /// Version of the table it last committed; `None`: it has none.
    pub version: Option<i64>,
    /// Rows or changes handed to it since the first epoch.
    pub rows: i64,
    /// Epochs decided and not yet applied to it.
    pub pending: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_is_known() {
        let text = r#"{"pipeline":"orders","ready":true,"lagRecords":7,"watermark":null,"someday":{"a":1}}"#;
        let read: Progress = serde_json::from_str(text).unwrap();
        let known = Progress {
            pipeline: "orders".into(),
            ready: true,
            lag_records: 7,
            ..Progress::default()
        };
        assert_eq!(read, known);
    }

    #[test]
    fn a_watermark_that_stands_is_explained() {
        let check = |held_by: Option<&str>, hold: WatermarkHold, expected: &str| {
            let source = SourceProgress {
                name: "orders".into(),
                held_by: held_by.map(Into::into),
                hold: Some(hold),
                ..SourceProgress::default()
            };
            assert_eq!(source.explained().unwrap(), expected);
        };
        let hold = |since, release, newer_than| WatermarkHold {
            since,
            release,
            newer_than,
            idle_in: Some(7),
        };
        check(
            Some("partition 1"),
            hold(Some(60_000_000), Release::Backlog, None),
            "the watermark of orders stands since 1970-01-01T00:01:00Z; partition 1 holds it and has records to be committed",
        );
        check(
            Some("partition 1"),
            hold(None, Release::Record, None),
            "orders has no watermark yet; partition 1 holds it and has nothing to read: a record lets it go on, or `idleTimeout` without any",
        );
        check(
            None,
            hold(Some(0), Release::AnyRecord, Some(1_000_000)),
            "the watermark of orders stands since 1970-01-01T00:00:00Z; all its splits are idle: a record newer than 1970-01-01T00:00:01Z lets it go on",
        );
        let newer: Release = serde_json::from_str("\"Someday\"").unwrap();
        assert_eq!(newer, Release::Unknown);
        assert_eq!(SourceProgress::default().explained(), None);
    }

    #[test]
    fn a_report_survives_its_own_text() {
        let report = Progress {
            pipeline: "orders".into(),
            reason: Some(Halt {
                reason: "SecretMissing".into(),
                message: "Secret shop/kafka has no key 'password'".into(),
                stalled: false,
            }),
            sinks: vec![SinkProgress {
                name: "gold".into(),
                version: Some(3),
                ..SinkProgress::default()
            }],
            fingerprints: BTreeMap::from([("revenue".into(), "00ff".into())]),
            ..Progress::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), report);
    }
}
