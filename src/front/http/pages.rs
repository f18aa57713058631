//! The HTTP admin pages: `/health` and its alias `/live`, `/ready`, `/metrics`, `/status`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::core::table::RoutingTable;
use crate::front::page::{ReadyPage, StatusPage};
use crate::service::{Execute, NodeStatus};
use crate::types::{Reason, watchdog};

/// The process lives: its runtime makes progress. Says nothing of the cluster.
pub(super) async fn health<S: Execute>(State(http): Shared<S>) -> Response {
    let status = http.door.service.status();
    let (code, page) = liveness(&status, watchdog::standstill());
    (code, Json(page)).into_response()
}

/// A runtime that stands still answers nothing at all; one that does so in part may still bring this.
fn liveness(status: &NodeStatus, standstill: Option<Duration>) -> (StatusCode, Value) {
    let (node, version) = (status.node, &status.version);
    match standstill {
        None => (StatusCode::OK, json!({ "status": "ok", "node": node, "version": version })),
        Some(still) => {
            let still_ms = u64::try_from(still.as_millis()).unwrap_or(u64::MAX);
            let page = json!({
                "status": "stalled", "node": node, "version": version, "stalled_ms": still_ms
            });
            (StatusCode::SERVICE_UNAVAILABLE, page)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn a_runtime_that_stands_still_is_not_alive() {
        let status = NodeStatus { node: NodeId(3), ..NodeStatus::default() };
        let (code, page) = liveness(&status, None);
        assert_eq!((code, &page["status"]), (StatusCode::OK, &json!("ok")));
        let (code, page) = liveness(&status, Some(Duration::from_millis(5_250)));
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((&page["status"], &page["stalled_ms"]), (&json!("stalled"), &json!(5_250)));
    }
}
