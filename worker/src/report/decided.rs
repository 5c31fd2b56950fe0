//! What a decided epoch tells: totals, watermarks, state, sinks.

use std::collections::BTreeMap;

use evp_api::plan::NodeName;
use evp_api::progress::{
    LedgerProgress, Progress, SinkProgress, SourceProgress, StepProgress, WindowProgress,
};
use evp_core::dataflow::StateFacts;
use evp_core::ledger::Ledger;
use evp_core::position::Micros;
use evp_core::protocol::head::Body;
use evp_core::window::OpenWindow;

use super::{Decided, count};

pub(super) fn fill(progress: &mut Progress, decided: &Decided<'_>) {
    let Decided {
        checked,
        body,
        term,
        state,
        versions,
        ..
    } = decided;
    progress.plan_digest.clone_from(&checked.digest.0);
    progress.plan_of_newest_epoch.clone_from(&body.plan.0);
    progress.epoch = signed(body.epoch.0);
    progress.term = signed(term.0);
    progress.incarnation.clone_from(&body.incarnation);
    progress.decided_time = body.decided_time.0;
    progress.state_bytes = signed(body.state_files().map(|f| f.length).sum());
    progress.ledger = ledger(&body.totals);
    progress.watermark = watermark(body);
    let mut sources = std::mem::take(&mut progress.sources).into_iter();
    progress.sources = checked
        .plan
        .sources
        .iter()
        .map(|source| source_decided(sources.next().unwrap_or_default(), &source.name, body))
        .collect();
    progress.steps = state
        .iter()
        .map(|(name, facts)| step_progress(name, facts, body))
        .collect();
    progress.sinks = checked
        .plan
        .sinks
        .iter()
        .map(|sink| SinkProgress {
            name: sink.name.to_string(),
            delivery: format!("{:?}", sink.kind.delivery()),
            version: versions.get(&sink.name).map(|v| signed(*v)),
            rows: signed(body.totals.sinks.get(&sink.name).copied().unwrap_or(0)),
            pending: 0,
        })
        .collect();
    progress.fingerprints = body
        .state
        .iter()
        .map(|(name, s)| (name.to_string(), s.fingerprint.clone()))
        .collect();
}

/// Totals as reports have them.
pub fn ledger(totals: &Ledger) -> LedgerProgress {
    LedgerProgress {
        read: signed(totals.sources.values().map(|c| c.read).sum()),
        filtered: signed(totals.steps.values().map(|c| c.filtered).sum()),
        late: signed(totals.steps.values().map(|c| c.late).sum()),
        duplicate: signed(totals.steps.values().map(|c| c.duplicates).sum()),
        dead_lettered: signed(dead_lettered(totals)),
        balanced: totals.balance().is_ok(),
    }
}

/// The lowest of the sources' watermarks; `None` while one of them has none.
fn watermark(body: &Body) -> Option<i64> {
    let all: Option<Vec<Micros>> = body.watermarks.values().map(|w| w.watermark).collect();
    all?.into_iter().min().map(|w| w.0)
}

/// What moves between epochs stays as it was told last.
fn source_decided(told: SourceProgress, name: &NodeName, body: &Body) -> SourceProgress {
    let watermark = body.watermarks.get(name).and_then(|w| w.watermark);
    let splits = body.positions.get(name).map_or(0, BTreeMap::len);
    SourceProgress {
        name: name.to_string(),
        watermark: watermark.map(|w| w.0),
        splits: count(splits),
        ..told
    }
}

fn step_progress(name: &NodeName, facts: &StateFacts, body: &Body) -> StepProgress {
    let counts = body.totals.steps.get(name).copied().unwrap_or_default();
    StepProgress {
        name: name.to_string(),
        open_windows: i64::try_from(facts.open_windows).unwrap_or(i64::MAX),
        windows: facts.windows.iter().map(window_progress).collect(),
        keys: i64::try_from(facts.keys).unwrap_or(i64::MAX),
        state_bytes: i64::try_from(facts.bytes).unwrap_or(i64::MAX),
        late: signed(counts.late),
        duplicate: signed(counts.duplicates),
        conflict: signed(counts.conflicts),
    }
}

fn window_progress(window: &OpenWindow) -> WindowProgress {
    WindowProgress {
        start: window.start.0,
        end: window.end.0,
        closes_at: window.closes_at.0,
    }
}

/// Records that became dead letters.
pub(crate) fn dead_lettered(ledger: &Ledger) -> u64 {
    let sources: u64 = ledger.sources.values().map(|c| c.dead_lettered).sum();
    sources + ledger.steps.values().map(|c| c.rejected).sum::<u64>()
}

pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
