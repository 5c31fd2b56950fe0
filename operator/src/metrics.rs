//! Every metric of the operator, `eventpipeline_operator_*`.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Result {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Write {
    verb: &'static str,
    kind: String,
}

/// Bounds of the buckets of all durations.
const SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The counters; a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Result, Counter>,
    reconcile_seconds: Histogram,
    spec_to_children_seconds: Histogram,
    writes: Family<Write, Counter>,
    progress_requests: Family<Result, Counter>,
    pipelines: Gauge<i64, AtomicI64>,
    leader: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("eventpipeline_operator");
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by result", reconciles.clone());
        let reconcile_seconds = Histogram::new(SECONDS);
        registry.register(
            "reconcile_duration_seconds",
            "Time one reconcile took",
            reconcile_seconds.clone(),
        );
        let spec_to_children_seconds = Histogram::new(SECONDS);
        registry.register(
            "spec_to_children_seconds",
            "Time from a seen change of spec to its children applied",
            spec_to_children_seconds.clone(),
        );
        let writes = Family::default();
        registry.register("api_writes", "Writes to the API server", writes.clone());
        let progress_requests = Family::default();
        registry.register(
            "progress_requests",
            "Questions to workers by result",
            progress_requests.clone(),
        );
        let pipelines = Gauge::default();
        registry.register("pipelines", "Pipelines known", pipelines.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this replica leads", leader.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            reconcile_seconds,
            spec_to_children_seconds,
            writes,
            progress_requests,
            pipelines,
            leader,
        }
    }

    /// A reconcile ended: `done`, or the word for what failed.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Result { result }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// The children of a changed spec are applied.
    pub fn applied(&self, after: Duration) {
        self.spec_to_children_seconds.observe(after.as_secs_f64());
    }

    /// A write is sent to the API server.
    pub fn wrote(&self, verb: &'static str, kind: &str) {
        let kind = kind.to_owned();
        self.writes.get_or_create(&Write { verb, kind }).inc();
    }

    /// Writes sent so far.
    pub fn writes(&self, verb: &'static str, kind: &str) -> u64 {
        let kind = kind.to_owned();
        self.writes.get_or_create(&Write { verb, kind }).get()
    }

    /// A worker was asked: `answered`, `silent` or `unreadable`.
    pub fn asked(&self, result: &'static str) {
        self.progress_requests
            .get_or_create(&Result { result })
            .inc();
    }

    /// So many pipelines are known.
    pub fn knows(&self, pipelines: usize) {
        self.pipelines
            .set(i64::try_from(pipelines).unwrap_or(i64::MAX));
    }

    /// This replica leads, or it does not.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// As `OpenMetrics` text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_under_one_prefix() {
        let metrics = Metrics::new();
        metrics.wrote("apply", "Deployment");
        metrics.reconciled("done", Duration::from_millis(3));
        let text = metrics.render();
        assert!(
            text.contains(
                r#"eventpipeline_operator_api_writes_total{verb="apply",kind="Deployment"} 1"#
            ),
            "{text}"
        );
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        assert!(
            names.clone().count() > 0
                && names
                    .clone()
                    .all(|name| name.starts_with("eventpipeline_operator_"))
        );
    }
}
