//! The admin port: `GET /healthz`, `GET /metrics`, `POST /drain`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::drain::Shutdown;
use crate::health::Health;
use crate::signaling::ListenError;

#[derive(Clone)]
pub struct Admin {
    pub health: Health,
    pub metrics: PrometheusHandle,
    pub shutdown: Shutdown,
    pub drain_deadline: Duration,
}

pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::new(address, "HTTP", "admin.listen", source))
}

/// For as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Admin) {
    if let Err(error) = axum::serve(listener, router(admin)).await {
        tracing::error!(%error, "the admin port is gone");
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/drain", post(drain))
        .with_state(admin)
}

/// 200 while calls can be recorded.
async fn healthz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.health.unable() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(unable) => (StatusCode::SERVICE_UNAVAILABLE, format!("{unable}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}

async fn drain(State(admin): State<Admin>) -> impl IntoResponse {
    admin.shutdown.drain(admin.drain_deadline);
    (StatusCode::ACCEPTED, "draining\n")
}
