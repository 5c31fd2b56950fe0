//! `/healthz`, `/readyz` and `/metrics`.
//!
//! `/healthz` is a canary against a stuck controller: while this replica leads, status must have been looked through, and a
//! reconcile must have ended, within their deadlines. A replica that waits for the lead is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// Status is looked through every 5 s; a round may have to wait for a slow API server.
const PUBLISH_DEADLINE: Duration = Duration::from_mins(2);
/// Every pipeline is reconciled every 10 minutes; missing that twice is a stop.
const RECONCILE_DEADLINE: Duration = Duration::from_mins(25);

/// When what last ended. Clones share it.
#[derive(Clone)]
pub struct Health {
    clock: SharedClock,
    marks: Arc<Marks>,
}

#[derive(Default)]
struct Marks {
    leading: AtomicBool,
    /// Milliseconds of the clock's elapsed time.
    published: AtomicU64,
    reconciled: AtomicU64,
    pipelines: AtomicU64,
}

impl Health {
    /// Well, and not leading.
    pub fn new(clock: SharedClock) -> Self {
        let marks = Arc::default();
        Self { clock, marks }
    }

    /// This replica leads from now on.
    pub fn leads(&self) {
        self.published(0);
        self.reconciled();
        self.marks.leading.store(true, Ordering::Relaxed);
    }

    /// A round of status ended, over so many pipelines.
    pub fn published(&self, pipelines: usize) {
        let count = u64::try_from(pipelines).unwrap_or(u64::MAX);
        self.marks.pipelines.store(count, Ordering::Relaxed);
        self.marks.published.store(self.now(), Ordering::Relaxed);
    }

    /// A reconcile ended, well or not.
    pub fn reconciled(&self) {
        self.marks.reconciled.store(self.now(), Ordering::Relaxed);
    }

    /// What is stuck; `None`: nothing.
    pub fn stuck(&self) -> Option<&'static str> {
        let since = |mark: &AtomicU64| {
            Duration::from_millis(self.now().saturating_sub(mark.load(Ordering::Relaxed)))
        };
        if !self.marks.leading.load(Ordering::Relaxed) {
            return None;
        }
        if since(&self.marks.published) > PUBLISH_DEADLINE {
            return Some("no status was looked through for 2 minutes");
        }
        let idle = self.marks.pipelines.load(Ordering::Relaxed) == 0;
        if !idle && since(&self.marks.reconciled) > RECONCILE_DEADLINE {
            return Some("no reconcile ended for 25 minutes");
        }
        None
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Binds the port; serving starts with [`serve`].
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until told to stop.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .with_state(health)
        .route("/readyz", get(async || "ok\n"))
        .route(
            "/metrics",
            get(async move || {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([("content-type", kind)], metrics.render())
            }),
        );
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the endpoints stopped");
    }
}

async fn healthz(State(health): State<Health>) -> impl IntoResponse {
    match health.stuck() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}
