//! The worker's endpoints on one port: `/healthz`, `/readyz`, `/metrics`, `/progress` (cli.md).

use std::io;
use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use evp_api::progress::Progress;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// What the endpoints show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The newest report.
    pub progress: watch::Receiver<Progress>,
}

/// Binds the port; serving starts with [`serve`].
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until told to stop.
pub async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .route("/progress", get(progress))
        .with_state(shown);
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the endpoints stopped");
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let progress = shown.progress.borrow();
    match &progress.reason {
        None if progress.ready => (StatusCode::OK, "ok\n".to_owned()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        Some(halt) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}: {}\n", halt.reason, halt.message),
        ),
    }
}

async fn exposition(State(shown): State<Shown>) -> impl IntoResponse {
    let kind = [(
        "content-type",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    let text = metrics::render(&shown.progress.borrow());
    (kind, text)
}

async fn progress(State(shown): State<Shown>) -> Json<Progress> {
    Json(shown.progress.borrow().clone())
}
