//! The HTTP admin pages: `/health`, `/ready`, `/metrics`, `/status`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::page::{ReadyPage, StatusPage};
use super::scrape::Scrape;
use crate::service::Execute;
use crate::types::metrics::Metrics;

struct Admin<S> {
    service: Arc<S>,
    scrape: Scrape,
}

/// The pages of the node behind `service`.
pub fn router<S: Execute>(service: Arc<S>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/health", get(health::<S>))
        .route("/ready", get(ready::<S>))
        .route("/metrics", get(metrics_text::<S>))
        .route("/status", get(status::<S>))
        .with_state(Arc::new(Admin { service, scrape: Scrape::new(metrics) }))
}

/// The process lives and answers; says nothing of the cluster.
async fn health<S: Execute>(State(admin): State<Arc<Admin<S>>>) -> Response {
    let status = admin.service.status();
    Json(json!({ "status": "ok", "node": status.node, "version": status.version })).into_response()
}

/// 200 if the node takes requests, 503 with the reasons otherwise.
async fn ready<S: Execute>(State(admin): State<Arc<Admin<S>>>) -> Response {
    let status = admin.service.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page = ReadyPage {
        ready: status.ready,
        not_ready_because: status.not_ready_because,
        warnings: status.warnings,
    };
    (code, Json(page)).into_response()
}

async fn metrics_text<S: Execute>(State(admin): State<Arc<Admin<S>>>) -> Response {
    match admin.scrape.render(&admin.service.status()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn status<S: Execute>(State(admin): State<Arc<Admin<S>>>) -> Response {
    Json(StatusPage::new(admin.service.status(), &admin.service.table())).into_response()
}
