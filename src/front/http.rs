//! The HTTP door: `/cache`, for programs and curl, and the pages for operators. See docs/http.md.
//!
//! A call comes in through [`cache`], [`put`], [`batch`] or [`keys`]; [`asked`] reads its head and [`body`] what
//! it brings; [`value`] and [`precondition`] translate; [`once`] makes a request id of its
//! `Idempotency-Key`. What fails goes back as a [`problem`].

mod alarms;
mod asked;
mod batch;
mod batch_operation;
mod batch_results;
mod body;
mod cache;
mod cluster_status;
mod keys;
mod once;
mod pages;
mod path;
mod precondition;
pub mod problem;
mod put;
mod seconds;
pub mod value;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use prometheus::IntCounter;
use tokio::sync::Semaphore;

use self::asked::Asked;
use self::body::Bodies;
use self::problem::{Oddity, Problem};
use super::FrontLimits;
use super::convert::Checked;
use super::door::{Door, Kind};
use super::scrape::Scrape;
use crate::service::{self, Execute};
use crate::types::Error;
use crate::types::metrics::Metrics;

/// The OpenAPI 3.1 document, as it is served. Written by hand: it is read more often than the door
/// changes, and `tests/http` holds it to what is served.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// Whether the operation was surely not applied; on every answer that is an error.
const OUTCOME: HeaderName = HeaderName::from_static("raftcache-outcome");

/// What the handlers share.
struct Http<S> {
    door: Door<S>,
    scrape: Scrape,
    bodies: Bodies,
    /// How many may ask the whole cluster at the same time.
    gathers: Semaphore,
    refused_gathers: IntCounter,
}

type Shared<S> = axum::extract::State<Arc<Http<S>>>;

/// The door to `service`, and its pages.
pub fn router<S: Execute>(service: Arc<S>, limits: FrontLimits, metrics: &Arc<Metrics>) -> Router {
    let http = Http {
        door: Door::new(service, limits, metrics),
        scrape: Scrape::new(Arc::clone(metrics)),
        bodies: Bodies::new(&limits, metrics),
        gathers: Semaphore::new(cluster_status::GATHERS_MAX),
        refused_gathers: metrics.refused.with_label_values(&["cluster_status"]),
    };
    let entry = || -> MethodRouter<Arc<Http<S>>> {
        get(cache::get::<S>).put(put::put::<S>).delete(cache::delete::<S>)
    };
    Router::new()
        .route("/cache", get(keys::scan::<S>).delete(keys::flush::<S>))
        // A key may have this name as well.
        .route("/cache/batch", entry().post(batch::batch::<S>))
        .route("/cache/{key}", entry())
        .route("/cache/{key}/increment", post(cache::increment::<S>))
        .route("/admin/alarms", get(alarms::list::<S>))
        .route("/admin/alarms/ack", post(alarms::ack::<S>))
        .route("/admin/cluster/status", get(cluster_status::page::<S>))
        .route("/health", get(pages::health::<S>))
        .route("/live", get(pages::health::<S>))
        .route("/ready", get(pages::ready::<S>))
        .route("/metrics", get(pages::metrics_text::<S>))
        .route("/status", get(pages::status::<S>))
        .route("/openapi.json", get(openapi))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(http))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Oddity::NoSuchPath.problem(format!("{path} is no path of this server; see /openapi.json"))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Oddity::MethodNotAllowed.problem(format!("{method} is not allowed for {path}"))
}

impl<S: Execute> Http<S> {
    /// Runs one operation that was asked for.
    async fn run(
        &self,
        asked: &Asked,
        kind: Kind,
        checked: Result<Checked, Error>,
    ) -> Result<service::Response, Problem> {
        let result = match asked.call(&self.door) {
            // What was reserved is counted again, byte by byte, when it is on its way.
            Ok(call) => {
                let answered = self.door.run_reserved(kind, checked, call, None).await;
                answered.map(|(response, _)| response)
            }
            // Counted as any bad input is.
            Err(error) => {
                let call = asked.call_by_default(&self.door);
                self.door.run(kind, Err(error), call).await
            }
        };
        result.map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &Error) -> Problem {
        Problem::of(error, &self.door.table())
    }

    fn limits(&self) -> &FrontLimits {
        &self.door.limits
    }
}

/// What every answer to a question about a key carries beside its own headers.
fn plain(mut response: Response) -> Response {
    let nosniff = axum::http::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
