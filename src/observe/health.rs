use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Whether the server should be sent clients. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<AtomicU8>);

/// How far the server's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    Draining,
}

impl Health {
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        [Phase::Starting, Phase::Ready, Phase::Draining][usize::from(self.0.load(Relaxed)) % 3]
    }

    /// `/healthz` and `/api/health`, where Azure's is: the process answers. `/readyz`: it wants clients.
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = self.clone();
        let alive = get(|| async { StatusCode::OK });
        let ready = get(move || async move { health.readiness() });
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/api/health", alive).route("/readyz", ready)
    }

    /// What the REST API has at `/api/health`, for where there is no such API: whether it wants clients.
    pub(crate) fn api_routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let health = self.clone();
        Router::new().route("/api/health", get(move || async move { health.readiness().0 }))
    }

    fn readiness(&self) -> (StatusCode, &'static str) {
        match self.phase() {
            Phase::Ready => (StatusCode::OK, "ready\n"),
            Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }
}
