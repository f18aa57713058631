//! The HTTP admin pages: `/health`, `/ready`, `/metrics`, `/status`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;
use super::problem::Problem;
use crate::core::table::RoutingTable;
use crate::front::page::{ReadyPage, StatusPage};
use crate::service::Execute;
use crate::types::Reason;

/// The process lives and answers; says nothing of the cluster.
pub(super) async fn health<S: Execute>(State(http): Shared<S>) -> Response {
    let status = http.door.service.status();
    Json(json!({ "status": "ok", "node": status.node, "version": status.version })).into_response()
}

/// 200 if the node takes requests, 503 with the reasons otherwise.
pub(super) async fn ready<S: Execute>(State(http): Shared<S>) -> Response {
    let status = http.door.service.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page = ReadyPage {
        ready: status.ready,
        not_ready_because: status.not_ready_because,
        warnings: status.warnings,
    };
    (code, Json(page)).into_response()
}

pub(super) async fn metrics_text<S: Execute>(State(http): Shared<S>) -> Response {
    match http.scrape.render(&http.door.service.status(), &http.door.table()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            let reason = Reason::Internal { detail: error.to_string() };
            Problem::of(&reason.into(), &RoutingTable::default()).into_response()
        }
    }
}

pub(super) async fn status<S: Execute>(State(http): Shared<S>) -> Response {
    Json(StatusPage::new(http.door.service.status(), &http.door.service.table())).into_response()
}
