//! Every metric's name, in one place. Values come from the newest report, so that metrics and `/progress` never disagree.

use std::sync::atomic::{AtomicI64, AtomicU64};

use evp_api::progress::{Progress, StepProgress};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<i64, AtomicI64>>;

/// The exposition text of one report.
pub fn render(progress: &Progress) -> String {
    let mut registry = Registry::with_prefix("eventpipeline");
    let pipeline = || ("pipeline", progress.pipeline.clone());
    totals(&mut registry, progress);
    let lag = gauges(
        &mut registry,
        "source_lag_records",
        "Records not yet committed, by source",
    );
    let watermark = gauges(
        &mut registry,
        "source_watermark_timestamp",
        "Watermark of a source, milliseconds since the epoch",
    );
    for source in &progress.sources {
        let labels = vec![pipeline(), ("source", source.name.clone())];
        lag.get_or_create(&labels).set(source.lag_records);
        if let Some(micros) = source.watermark {
            watermark.get_or_create(&labels).set(micros / 1_000);
        }
    }
    steps(&mut registry, progress);
    let rows = gauges(
        &mut registry,
        "sink_rows",
        "Rows or changes handed to a sink since the first epoch",
    );
    let pending = gauges(
        &mut registry,
        "sink_pending_epochs",
        "Decided epochs not yet applied, by sink",
    );
    for sink in &progress.sinks {
        let labels = vec![pipeline(), ("sink", sink.name.clone())];
        rows.get_or_create(&labels).set(sink.rows);
        pending.get_or_create(&labels).set(sink.pending);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn steps(registry: &mut Registry, progress: &Progress) {
    type Count = fn(&StepProgress) -> i64;
    let counts: [(&str, &str, Count); 6] = [
        (
            "step_open_windows",
            "Windows not yet closed, by step",
            |step| step.open_windows,
        ),
        (
            "step_keys",
            "Keys that a step remembers to find duplicates",
            |step| step.keys,
        ),
        ("step_state_bytes", "Bytes of state, by step", |step| {
            step.state_bytes
        }),
        (
            "step_late_rows",
            "Rows that came after their windows had closed, by step",
            |step| step.late,
        ),
        (
            "step_duplicate_rows",
            "Rows that repeated one that had come, by step",
            |step| step.duplicate,
        ),
        (
            "step_conflicting_rows",
            "Of the duplicates those that were not the same in every column, by step",
            |step| step.conflict,
        ),
    ];
    for (name, help, count) in counts {
        let family = gauges(registry, name, help);
        for step in &progress.steps {
            let labels = vec![
                ("pipeline", progress.pipeline.clone()),
                ("step", step.name.clone()),
            ];
            family.get_or_create(&labels).set(count(step));
        }
    }
}

fn totals(registry: &mut Registry, progress: &Progress) {
    let labels = || std::iter::once(("pipeline".into(), progress.pipeline.clone().into()));
    let registry = registry.sub_registry_with_labels(labels());
    let ledger = &progress.ledger;
    let counters = [
        ("records_read", "Records read from the sources", ledger.read),
        (
            "rows_filtered",
            "Rows that a query refused",
            ledger.filtered,
        ),
        (
            "rows_late",
            "Rows that came after their windows had closed",
            ledger.late,
        ),
        (
            "rows_duplicate",
            "Rows that repeated one that had come",
            ledger.duplicate,
        ),
        (
            "records_dead_lettered",
            "Records that were dead-lettered",
            ledger.dead_lettered,
        ),
    ];
    for (name, help, value) in counters {
        let counter = ConstCounter::<u64>::new(u64::try_from(value).unwrap_or(0));
        registry.register(name, help, counter);
    }
    let gauges = [
        (
            "ready",
            "1: data is moving and being committed",
            i64::from(progress.ready),
        ),
        ("epoch", "Newest decided epoch", progress.epoch),
        ("term", "Term of the lane's owner", progress.term),
        (
            "lag_records",
            "Records not yet committed, all sources",
            progress.lag_records,
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64, AtomicI64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let state = Gauge::<u64, AtomicU64>::default();
    state.set(u64::try_from(progress.state_bytes).unwrap_or(0));
    registry.register_with_unit("state", "State that the head names", Unit::Bytes, state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_metrics_with_the_pipeline_as_label() {
        let progress = Progress {
            pipeline: "orders".into(),
            epoch: 7,
            ..Progress::default()
        };
        let text = render(&progress);
        assert!(
            text.contains(r#"eventpipeline_epoch{pipeline="orders"} 7"#),
            "{text}"
        );
        assert!(text.contains("eventpipeline_records_read_total"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
