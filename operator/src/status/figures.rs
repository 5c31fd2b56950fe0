//! The numbers of a status and the texts of its columns.

use evp_api::progress::Progress;
use evp_api::reason;
use evp_api::status::{
    CheckpointStatus, Condition, EventPipelineStatus, LedgerStatus, SinkStatus, SourceStatus,
    StepStatus, Summary, condition,
};
use jiff::Timestamp;

use super::{Facts, rfc3339};

/// The numbers of a report; without one, those of before.
pub(super) fn of(facts: &Facts<'_>, report: Option<&Progress>) -> EventPipelineStatus {
    let Some(report) = report.filter(|report| report.term > 0) else {
        return facts.previous.clone();
    };
    let now = facts.now;
    EventPipelineStatus {
        watermark: shown_watermark(report, now).or_else(|| facts.previous.watermark.clone()),
        committed_time: instant(report.decided_time, now),
        lag_records: Some(report.lag_records),
        records_per_second: Some(two_digits(report.records_per_second)),
        checkpoint: Some(CheckpointStatus {
            epoch: report.epoch,
            term: report.term,
            incarnation: report.incarnation.clone(),
            state_bytes: report.state_bytes,
            path: report.checkpoint_path.clone(),
            plan: report.plan_of_newest_epoch.clone(),
        }),
        ledger: Some(ledger(report)),
        sources: sources(report, now),
        steps: steps(report),
        sinks: sinks(report),
        ..EventPipelineStatus::default()
    }
}

/// The watermark, or for sources without one the time of the last committed record.
fn shown_watermark(report: &Progress, now: Timestamp) -> Option<String> {
    instant(report.watermark.or(report.last_record_time)?, now)
}

/// Microseconds as status holds them, never after now: `kubectl` prints their age. `None`: 0 or out of range.
fn instant(micros: i64, now: Timestamp) -> Option<String> {
    let time = Timestamp::from_microsecond(micros)
        .ok()
        .filter(|_| micros != 0)?;
    Some(rfc3339(time.min(now)))
}

fn ledger(report: &Progress) -> LedgerStatus {
    let ledger = &report.ledger;
    LedgerStatus {
        read: ledger.read,
        filtered: ledger.filtered,
        late: ledger.late,
        duplicate: ledger.duplicate,
        dead_lettered: ledger.dead_lettered,
        balanced: ledger.balanced,
    }
}

fn sources(report: &Progress, now: Timestamp) -> Vec<SourceStatus> {
    let of = |source: &evp_api::progress::SourceProgress| SourceStatus {
        name: source.name.clone(),
        lag_records: source.lag_records,
        watermark: source.watermark.and_then(|micros| instant(micros, now)),
        held_by: source.held_by.clone(),
        splits: source.splits,
        idle: source.idle,
    };
    report.sources.iter().map(of).collect()
}

fn steps(report: &Progress) -> Vec<StepStatus> {
    let of = |step: &evp_api::progress::StepProgress| StepStatus {
        name: step.name.clone(),
        open_windows: step.open_windows,
        state_bytes: step.state_bytes,
        keys: step.keys,
        late: step.late,
        duplicate: step.duplicate,
        conflict: step.conflict,
    };
    report.steps.iter().map(of).collect()
}

fn sinks(report: &Progress) -> Vec<SinkStatus> {
    let of = |sink: &evp_api::progress::SinkProgress| SinkStatus {
        name: sink.name.clone(),
        delivery: sink.delivery.clone(),
        version: sink.version,
        rows: sink.rows,
    };
    report.sinks.iter().map(of).collect()
}

/// What `-o wide` prints.
pub(super) fn summary(
    facts: &Facts<'_>,
    report: Option<&Progress>,
    conditions: &[Condition],
) -> Summary {
    let before = facts.previous.summary.as_ref();
    let state = match report.filter(|report| report.term > 0) {
        Some(report) => quantity(report.state_bytes),
        None => before.map_or_else(|| quantity(0), |before| before.state.clone()),
    };
    let message = worst(conditions).unwrap_or_else(|| at_work(report));
    Summary {
        sources: i32::try_from(facts.spec.sources.len()).unwrap_or(i32::MAX),
        sinks: i32::try_from(facts.spec.sinks.len()).unwrap_or(i32::MAX),
        state,
        message,
    }
}

/// First line of the message of the worst condition; `None`: all is as it should be.
fn worst(conditions: &[Condition]) -> Option<String> {
    const ORDER: [(&str, &str); 5] = [
        (condition::STALLED, "True"),
        (condition::ACCEPTED, "False"),
        (condition::READY, "False"),
        (condition::CLEAN, "False"),
        (condition::ON_TIME, "False"),
    ];
    let bad = |(kind, status): &(&str, &str)| {
        conditions
            .iter()
            .find(|c| c.kind == *kind && c.status == *status)
    };
    let worst = ORDER.iter().find_map(bad)?;
    Some(worst.message.lines().next().unwrap_or_default().to_owned())
}

fn at_work(report: Option<&Progress>) -> String {
    let Some(report) = report else {
        return String::new();
    };
    let rate = format!(
        "{} records/s",
        thousands(two_digits(report.records_per_second))
    );
    let windows: i64 = report.steps.iter().map(|step| step.open_windows).sum();
    match windows {
        0 => rate,
        1 => format!("{rate}, 1 window open"),
        n => format!("{rate}, {n} windows open"),
    }
}

/// Clean's message: `7.1% dead-lettered: known-event-type failed for 212 records`.
pub(super) fn dead_letter_text(report: &Progress) -> String {
    let recent = &report.recent;
    let permille = recent.dead_lettered.saturating_mul(1000) / recent.read.max(1);
    let what = match (&recent.top_code, &recent.top_step) {
        (Some(code), Some(step)) => format!("{code} at {step}"),
        (Some(code), None) => code.clone(),
        (None, Some(step)) => step.clone(),
        (None, None) => "processing".to_owned(),
    };
    format!(
        "{}.{}% dead-lettered: {what} failed for {} records",
        permille / 10,
        permille % 10,
        recent.dead_lettered
    )
}

/// Names of the sinks for which decided epochs wait, and how many.
pub(super) fn pending(report: &Progress) -> Option<String> {
    let waiting: Vec<_> = report
        .sinks
        .iter()
        .filter(|sink| sink.pending > 0)
        .collect();
    let commits: i64 = waiting.iter().map(|sink| sink.pending).sum();
    let names: Vec<_> = waiting.iter().map(|sink| sink.name.as_str()).collect();
    let plural = if commits == 1 { "" } else { "s" };
    (commits > 0).then(|| format!("{commits} commit{plural} pending: {}", names.join(", ")))
}

/// A rate that wobbles in its third digit has not changed.
fn two_digits(number: i64) -> i64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    (number + unit / 2) / unit * unit
}

/// `1.3k`, `940`, `2M`.
fn thousands(number: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        None => number.to_string(),
        Some((unit, name)) if number % unit * 10 / unit == 0 => format!("{}{name}", number / unit),
        Some((unit, name)) => format!("{}.{}{name}", number / unit, number % unit * 10 / unit),
    }
}

/// Bytes as a quantity, to the nearest whole unit: `18Mi`.
fn quantity(bytes: i64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = UNITS.iter().find(|(shift, _)| bytes >= 1 << shift);
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, name)| format!("{}{name}", (bytes + (1 << (shift - 1))) >> shift),
    )
}

/// Whether a reason means that a person should look, and not that something is on its way.
pub(crate) fn is_fault(reason: &str) -> bool {
    !matches!(
        reason,
        reason::AS_EXPECTED
            | reason::SPEC_ACCEPTED
            | reason::COMMITTING
            | reason::CAUGHT_UP
            | reason::WITHIN_OBJECTIVE
            | reason::PENDING
            | reason::OLD_CHILDREN_LEAVING
            | reason::ROLLING_OUT
            | reason::WORKERS_STARTING
            | reason::STARTING
            | reason::FIRST_EPOCH_PENDING
            | reason::SUSPENDED
            | reason::NOTHING_READ
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_for_people() {
        assert_eq!(thousands(two_digits(1_340)), "1.3k");
        assert_eq!(thousands(two_digits(2_000_000)), "2M");
        assert_eq!(thousands(two_digits(42)), "42");
        assert_eq!(thousands(two_digits(0)), "0");
        assert_eq!(two_digits(1_349), two_digits(1_301));
    }

    #[test]
    fn bytes_are_printed_as_quantities() {
        assert_eq!(quantity(0), "0");
        assert_eq!(quantity(18 << 20), "18Mi");
        assert_eq!(quantity(1600), "2Ki");
        assert_eq!(quantity(900), "900");
    }
}
