//! Errors as problem details (RFC 9457): `application/problem+json` with our own members beside.
//!
//! 500 and 504 are given where the outcome is `Unknown`, and nowhere else: of every other error it is
//! sure that nothing was applied. So a proxy may send a 503 on to another node, and must not do so
//! with a 504.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::OUTCOME;
use crate::core::table::RoutingTable;
use crate::front::{status, validate};
use crate::types::{Error, NodeId, Outcome, Reason, Version};

/// Given with a 503 that brings no hint of its own.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// The status of a reason.
pub fn status_of(reason: &Reason) -> StatusCode {
    match reason {
        Reason::InvalidArgument { .. } => StatusCode::BAD_REQUEST,
        Reason::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::CrossShard { .. } | Reason::ReplyTooLarge { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Reason::NotInteger
        | Reason::Overflow
        | Reason::NotFloat
        | Reason::NotFinite
        | Reason::WrongKind
        | Reason::OutdatedToken => StatusCode::CONFLICT,
        Reason::ResourceExhausted { .. } => StatusCode::TOO_MANY_REQUESTS,
        Reason::NotLeader { .. }
        | Reason::NotOwner { .. }
        | Reason::NoLeader { .. }
        | Reason::NoQuorum { .. }
        | Reason::NotReady
        | Reason::Stopping
        | Reason::StorageFailed { .. }
        | Reason::ReadFailed { .. }
        | Reason::TooStale { .. } => StatusCode::SERVICE_UNAVAILABLE,
        // No 503: another node could do no better in no time, and a proxy would count it against this.
        Reason::DeadlineBeforePropose => StatusCode::REQUEST_TIMEOUT,
        Reason::DeadlineAfterPropose | Reason::Lost { .. } => StatusCode::GATEWAY_TIMEOUT,
        Reason::SessionExpired | Reason::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The type of a problem, relative to the server: a place in the OpenAPI document that describes it.
fn kind_of(reason: &str) -> String {
    format!("/openapi.json#/x-problems/{reason}")
}

/// What a reason is called, the same at every time.
fn title_of(reason: &Reason) -> &'static str {
    match reason {
        Reason::InvalidArgument { .. } => "A part of the request is not as it must be",
        Reason::NotLeader { .. } => "The node does not lead the shard",
        Reason::NotOwner { .. } => "The slot has moved",
        Reason::NoLeader { .. } => "The shard has no leader",
        Reason::NoQuorum { .. } => "No majority of the shard's replicas can be reached",
        Reason::NotReady => "The cluster has not formed yet",
        Reason::ResourceExhausted { .. } => "A limit was met",
        Reason::Stopping => "The node is stopping",
        Reason::DeadlineBeforePropose => "The time given had passed before anything was done",
        Reason::DeadlineAfterPropose => "The time given has passed; it may have been applied",
        Reason::Lost { .. } => "The answer was lost; it may have been applied",
        Reason::ReadFailed { .. } => "The read was not served",
        Reason::TooStale { .. } => "No replica here is as fresh as asked",
        Reason::SessionExpired => "The first answer is forgotten; it may have been applied",
        Reason::TooLarge { .. } => "The value is larger than the shard can hold",
        Reason::StorageFailed { .. } => "The disks cannot be written",
        Reason::NotInteger => "The value is not a whole number",
        Reason::Overflow => "The sum does not fit 64 bits",
        Reason::NotFloat => "The value is not a number",
        Reason::NotFinite => "The sum is not finite",
        Reason::ReplyTooLarge { .. } => "The answers of the request are too large",
        Reason::CrossShard { .. } => "The keys belong to several shards",
        Reason::WrongKind => "The key is a lock, or is none",
        Reason::OutdatedToken => "Something happened to the key since the token was given",
        Reason::Internal { .. } => "A fault of the node; it may have been applied",
    }
}

/// What is wrong by the rules of HTTP, or of this door, before or after the service is asked. Nothing
/// was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// Nothing is served at the path.
    NoSuchPath,
    /// Something is, but not by this method.
    MethodNotAllowed,
    /// The key is absent.
    NotFound,
    /// `If-Match`, `If-None-Match`, or a watch of a batch does not hold.
    PreconditionFailed,
    /// The body did not come in time.
    BodyTooSlow,
    /// The body is larger than any of its kind may be.
    BodyTooLarge,
    /// The body broke off.
    BodyBroken,
    /// The body is of a type, or coded in a way, that is not understood here.
    UnsupportedMediaType,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Oddity; 8] = [
        Oddity::NoSuchPath,
        Oddity::MethodNotAllowed,
        Oddity::NotFound,
        Oddity::PreconditionFailed,
        Oddity::BodyTooSlow,
        Oddity::BodyTooLarge,
        Oddity::BodyBroken,
        Oddity::UnsupportedMediaType,
    ];

    /// Its stable name, beside those of `Reason::name`; its status; what it is called.
    pub fn facts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Oddity::NoSuchPath => ("no_such_path", StatusCode::NOT_FOUND, "No such path"),
            Oddity::MethodNotAllowed => {
                ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Oddity::NotFound => ("not_found", StatusCode::NOT_FOUND, "The key is absent"),
            Oddity::PreconditionFailed => (
                "precondition_failed",
                StatusCode::PRECONDITION_FAILED,
                "A condition does not hold",
            ),
            Oddity::BodyTooSlow => {
                ("body_too_slow", StatusCode::REQUEST_TIMEOUT, "The body did not come in time")
            }
            Oddity::BodyTooLarge => {
                ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large")
            }
            Oddity::BodyBroken => ("body_broken", StatusCode::BAD_REQUEST, "The body broke off"),
            Oddity::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is of a type that is not understood",
            ),
        }
    }

    /// The problem that says so.
    pub fn problem(self, detail: impl Into<String>) -> Problem {
        let (reason, status, title) = self.facts();
        Problem {
            kind: kind_of(reason),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            reason,
            outcome: status::outcome_name(Outcome::Rejected),
            retryable: self == Oddity::BodyTooSlow,
            field: None,
            retry_after_ms: None,
            leader: None,
            current_version: None,
        }
    }
}

/// Where the leader of a shard is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Its HTTP address, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
}

/// An error as it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// Relative to the server; what it says there is the same every time.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of the type.
    pub title: &'static str,
    /// The status code.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// Name of the reason, as in docs/errors.md.
    pub reason: &'static str,
    /// "rejected" or "unknown".
    pub outcome: &'static str,
    /// Whether the same request can succeed later, or elsewhere. If the outcome is unknown, only under
    /// the same `Idempotency-Key`.
    pub retryable: bool,
    /// Which part of the request is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// When it makes sense to try again, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Who leads the shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    /// Version that the key has, where a condition did not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<Version>,
}

impl Problem {
    /// An error of the service.
    pub fn of(error: &Error, table: &RoutingTable) -> Self {
        let reason = &error.reason;
        let (field, leader) = match reason {
            Reason::InvalidArgument { field, .. } => (Some(*field), None),
            Reason::TooLarge { .. } => (Some("value"), None),
            Reason::NotLeader { leader: Some(node), .. } => {
                let http_address = table.nodes.get(node).map(|info| info.http_addr.clone());
                (None, Some(Leader { node: *node, http_address }))
            }
            _ => (None, None),
        };
        Problem {
            kind: kind_of(reason.name()),
            title: title_of(reason),
            status: status_of(reason).as_u16(),
            detail: error.to_string(),
            reason: reason.name(),
            outcome: status::outcome_name(error.outcome()),
            retryable: error.retryable(),
            field,
            retry_after_ms: error.retry_after.map(validate::millis_up),
            leader,
            current_version: None,
        }
    }

    /// A condition that does not hold, of a key that is at `current`.
    pub fn condition(what: &str, current: Option<Version>) -> Self {
        let now = match current {
            Some(version) => format!("the key has version {}", version.0),
            None => "the key is absent".to_owned(),
        };
        let problem = Oddity::PreconditionFailed.problem(format!("{what}: {now}"));
        Problem { current_version: current, ..problem }
    }

    /// The key is absent.
    pub fn absent() -> Self {
        Oddity::NotFound.problem("there is no such key")
    }

    /// Whole seconds for `Retry-After`, rounded up.
    fn retry_after_seconds(&self) -> Option<u64> {
        let default = (self.status == 503 && self.retryable).then_some(RETRY_AFTER_DEFAULT);
        let asked = self.retry_after_ms.map(Duration::from_millis);
        asked.or(default).map(|after| after.as_millis().div_ceil(1_000).max(1) as u64)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("made from a status");
        let text = serde_json::to_vec(&self).expect("strings and numbers are JSON");
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(OUTCOME, HeaderValue::from_static(self.outcome));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.reason == Oddity::BodyTooSlow.facts().0 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        super::plain(response)
    }
}
