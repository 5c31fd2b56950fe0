//! What a checkpoint's head says of a pipeline's progress: everything but what only a running worker knows.

use std::io::Write;

use evp_api::plan::NodeName;
use evp_api::progress::{self, LedgerProgress};
use evp_core::position::{Epoch, Micros, Position, SplitPositions, Term};
use evp_core::protocol::digest::Digest;
use evp_core::protocol::head::{Body, Head, SinkEntry, WatermarkSnapshots};
use evp_core::watermark::Snapshot;
use serde::Serialize;

use crate::cli::table;
use crate::{job, report};

/// Splits of a source that are listed, those that hold the watermark back first; a topic may have thousands.
const MOST_SPLITS: usize = 100;

/// The answer. Part of the command line's promise: fields are only ever added. Instants are microseconds since the Unix
/// epoch, UTC.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided {
    pipeline: String,
    checkpoint: String,
    epoch: Epoch,
    term: Term,
    /// UID of the pod that owns the lane, or owned it last.
    owner: String,
    decided_time: Micros,
    plan: Digest,
    incarnation: String,
    state_bytes: u64,
    ledger: LedgerProgress,
    sources: Vec<SourceAt>,
    sinks: Vec<SinkAt>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceAt {
    name: NodeName,
    watermark: Option<Micros>,
    /// The split that holds the watermark back; which were idle, only the worker knows.
    held_by: Option<String>,
    /// When the epoch was that moved the watermark last.
    since: Option<Micros>,
    /// Splits there are; at most [`MOST_SPLITS`] of them are listed.
    split_count: usize,
    splits: Vec<SplitAt>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SplitAt {
    split: String,
    /// The next record to be read.
    position: Position,
    watermark: Option<Micros>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SinkAt {
    name: NodeName,
    /// The newest epoch recorded as applied; `None`: it has got nothing yet.
    applied_epoch: Option<Epoch>,
    /// Decided epochs that are not recorded as applied to it.
    pending: usize,
    /// Rows or changes handed to it since epoch 0.
    rows: u64,
}

impl Decided {
    pub(super) fn of(pipeline: &str, checkpoint: &str, head: &Head) -> Self {
        let (body, owner) = (&head.body, &head.owner);
        let source = |(name, splits)| source_at(name, splits, &body.watermarks);
        Self {
            pipeline: pipeline.to_owned(),
            checkpoint: checkpoint.to_owned(),
            epoch: body.epoch,
            term: owner.term,
            owner: owner.pod.clone(),
            decided_time: body.decided_time,
            plan: body.plan.clone(),
            incarnation: body.incarnation.clone(),
            state_bytes: body.state_files().map(|file| file.length).sum(),
            ledger: report::ledger(&body.totals),
            sources: body.positions.iter().map(source).collect(),
            sinks: sinks_at(head, body),
        }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{}: epoch {}, term {}, owner {}, decided {}\n{} bytes of state, checkpoint {}\n{}\n",
            self.pipeline,
            self.epoch,
            self.term,
            self.owner,
            instant(Some(self.decided_time.0)),
            self.state_bytes,
            self.checkpoint,
            super::totals(&self.ledger),
        )?;
        let rows = self.sources.iter().flat_map(SourceAt::rows);
        let columns = ["source", "split", "position", "watermark", ""];
        table::print(out, &columns, rows)?;
        writeln!(out)?;
        let sinks = self.sinks.iter().map(|sink| {
            let applied = sink
                .applied_epoch
                .map_or_else(|| "-".to_owned(), |e| e.to_string());
            let (rows, pending) = (sink.rows.to_string(), sink.pending.to_string());
            vec![sink.name.to_string(), applied, pending, rows]
        });
        table::print(out, &["sink", "applied epoch", "pending", "rows"], sinks)
    }
}

impl SourceAt {
    /// A line for each split that is listed, then one for the source.
    fn rows(&self) -> Vec<Vec<String>> {
        let line = |split: &str, position: String, watermark: Option<Micros>, note: &str| {
            let watermark = instant(watermark.map(|w| w.0));
            vec![
                self.name.to_string(),
                split.to_owned(),
                position,
                watermark,
                note.to_owned(),
            ]
        };
        let mut rows: Vec<_> = self
            .splits
            .iter()
            .map(|split| {
                let holds = self.held_by.as_deref() == Some(&split.split);
                let note = if holds { "holds the watermark" } else { "" };
                line(
                    &split.split,
                    split.position.to_string(),
                    split.watermark,
                    note,
                )
            })
            .collect();
        let more = self.split_count - self.splits.len();
        let all = match more {
            0 => format!("all {}", self.split_count),
            more => format!("all {}, {more} not listed", self.split_count),
        };
        let since = self.since.map_or_else(String::new, |since| {
            format!("since {}", instant(Some(since.0)))
        });
        rows.push(line(&all, "-".to_owned(), self.watermark, &since));
        rows
    }
}

fn source_at(
    name: &NodeName,
    splits: &SplitPositions,
    watermarks: &WatermarkSnapshots,
) -> SourceAt {
    let snapshot = watermarks.get(name);
    let mut listed: Vec<_> = splits
        .iter()
        .map(|(split, at)| SplitAt {
            split: split.to_string(),
            position: at.next,
            watermark: snapshot.and_then(|s| s.splits.get(split).copied().flatten()),
        })
        .collect();
    // Stable: splits of one watermark keep their order.
    if listed.len() > MOST_SPLITS {
        listed.sort_by_key(|split| split.watermark);
        listed.truncate(MOST_SPLITS);
    }
    SourceAt {
        name: name.clone(),
        watermark: snapshot.and_then(|s| s.watermark),
        held_by: snapshot
            .and_then(Snapshot::likely_holder)
            .map(ToString::to_string),
        since: snapshot.and_then(|s| s.since),
        split_count: splits.len(),
        splits: listed,
    }
}

fn sinks_at(head: &Head, body: &Body) -> Vec<SinkAt> {
    let pending = |entry: &SinkEntry| {
        let intents = head.rolling.undone.iter().flat_map(|u| &u.intents);
        let of_sink = intents.filter(|i| i.sink == entry.identity);
        of_sink.filter(|i| !head.rolling.holds(i)).count()
    };
    let sink = |(name, entry): (&NodeName, &SinkEntry)| SinkAt {
        name: name.clone(),
        applied_epoch: head.rolling.applied.get(&entry.identity).copied(),
        pending: pending(entry),
        rows: match name.as_str() {
            job::DEAD_LETTERS => report::dead_lettered(&body.totals),
            _ => body.totals.sinks.get(name).copied().unwrap_or(0),
        },
    };
    body.sinks.iter().map(sink).collect()
}

/// An instant for people, to the second; `None`: there is none yet.
pub(super) fn instant(micros: Option<i64>) -> String {
    micros
        .and_then(progress::instant)
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {

    use evp_core::position::{SplitId, SplitPosition};
    use evp_core::protocol::head::{Owner, Rolling};
    use evp_core::protocol::identity::Namespace;
    use evp_core::protocol::paths::Lane;

    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    /// A head of epoch 3 with gold's intent still to be done, over splits with these watermarks.
    fn head(watermarks: &[Option<i64>]) -> Head {
        let splits = || (0..).map(SplitId::partition);
        let position = |next| SplitPosition {
            next: Position(next),
            ..SplitPosition::default()
        };
        let positions = splits().zip((0..).map(position)).take(watermarks.len());
        let reached = watermarks.iter().map(|w| w.map(Micros));
        let snapshot = Snapshot {
            watermark: watermarks.iter().flatten().max().copied().map(Micros),
            splits: splits().zip(reached).collect(),
            newest: None,
            since: Some(Micros(5)),
        };
        let of = Namespace {
            checkpoint: "c",
            incarnation: "i",
            lane: &Lane::default(),
        };
        let mut body = Body {
            epoch: Epoch(3),
            parent: Some(Digest("p".into())),
            decided_time: Micros(2_000_000),
            positions: [(node("orders"), positions.collect())].into(),
            watermarks: [(node("orders"), snapshot)].into(),
            ..Body::first(&of, Digest("q".into()), Micros(1))
        };
        body.set_sinks(&[(node("gold"), "t".to_owned())].into());
        assert!(body.add_intent(&node("gold"), serde_json::json!(1)));
        let rolling = Rolling::default().with(&body);
        Head::seal("n".into(), Owner::first("pod"), body, rolling).unwrap()
    }

    #[test]
    fn a_head_tells_positions_watermarks_and_what_sinks_still_wait_for() {
        let told = Decided::of("orders", "s3://c", &head(&[Some(9), Some(4)]));
        let split = |split: &str, position, watermark| SplitAt {
            split: split.to_owned(),
            position: Position(position),
            watermark: Some(Micros(watermark)),
        };
        let source = SourceAt {
            name: node("orders"),
            watermark: Some(Micros(9)),
            held_by: Some("0".to_owned()),
            since: Some(Micros(5)),
            split_count: 2,
            splits: vec![split("0", 0, 9), split("1", 1, 4)],
        };
        let sink = SinkAt {
            name: node("gold"),
            applied_epoch: None,
            pending: 1,
            rows: 0,
        };
        assert_eq!((told.sources, told.sinks), (vec![source], vec![sink]));
        assert_eq!((told.term, told.owner.as_str()), (Term(1), "pod"));
    }

    #[test]
    fn of_many_splits_those_are_listed_that_hold_the_watermark_back() {
        let mut watermarks = vec![Some(9); MOST_SPLITS + 10];
        watermarks[105] = None;
        let told = Decided::of("orders", "s3://c", &head(&watermarks));
        let source = &told.sources[0];
        assert_eq!(
            (source.split_count, source.splits.len()),
            (110, MOST_SPLITS)
        );
        assert_eq!(source.splits[0].split, "105");
        let mut text = Vec::new();
        told.print(&mut text).unwrap();
        assert!(
            String::from_utf8(text)
                .unwrap()
                .contains("all 110, 10 not listed")
        );
    }
}
