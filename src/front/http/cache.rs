//! `GET` and `DELETE /cache/{key}`, and `POST /cache/{key}/increment`.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::asked::{Asked, CONSISTENCY, MAX_STALENESS, consistency};
use super::body::is_json;
use super::path::{self, Parameters};
use super::precondition::{self, OfGet, etag, etag_as};
use super::problem::{Oddity, Problem};
use super::put::parsed;
use super::value::Entry;
use super::{Http, Shared, batch_operation, batch_results, once, plain};
use crate::front::FrontLimits;
use crate::front::convert::Checked;
use crate::front::door::Kind;
use crate::front::validate::invalid;
use crate::service::{self, Execute, Operation};
use crate::types::{Command, Delete, Error, Found, Freshness, Query, Reply, ValueKind};

const RAW: &str = "raw";

pub(super) async fn get<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.get(Asked::new(request.into_parts().0)).await)
}

pub(super) async fn delete<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.delete(Asked::new(request.into_parts().0)).await)
}

pub(super) async fn increment<S: Execute>(State(http): Shared<S>, request: Request) -> Response {
    answered(http.increment(request).await)
}

/// Either way it is an answer.
pub(super) fn answered(result: Result<Response, Problem>) -> Response {
    plain(result.unwrap_or_else(IntoResponse::into_response))
}

impl<S: Execute> Http<S> {
    async fn get(&self, asked: Asked) -> Result<Response, Problem> {
        let head = GetHead::of(self.limits(), &asked);
        let (checked, head) = match head {
            Ok((operation, head)) => (Ok((operation, None)), Some(head)),
            Err(error) => (Err(error), None),
        };
        let response = self.run(&asked, Kind::Get, checked).await?;
        let service::Response::Read { answer, freshness } = response else {
            return Err(self.problem(&batch_results::mismatch(&response)));
        };
        let head = head.expect("what was not understood was refused");
        let found = answer.into_found();
        let current = found.as_ref().map(|found| found.version);
        let not_modified = head.conditions.not_modified(current, head.raw)?;
        let mut response = match &found {
            None => Problem::absent().into_response(),
            Some(_) if not_modified => StatusCode::NOT_MODIFIED.into_response(),
            Some(found) if head.raw => raw(found),
            Some(found) => axum::Json(Entry::of(found)).into_response(),
        };
        describe(response.headers_mut(), found.as_ref(), head.raw, freshness);
        Ok(response)
    }

    async fn delete(&self, asked: Asked) -> Result<Response, Problem> {
        let checked = delete_of(self.limits(), &asked);
        if let Ok(None) = checked {
            return Err(never());
        }
        let checked = checked
            .and_then(|operation| with_id(&asked, operation.expect("the other case has returned")));
        match self.run(&asked, Kind::Delete, checked).await? {
            service::Response::Written(Reply::Deleted { .. }) => {
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            service::Response::Written(Reply::NotFound) => Err(Problem::absent()),
            service::Response::Written(Reply::ConditionFailed { current }) => {
                Err(Problem::condition("If-Match", current))
            }
            other => Err(self.problem(&batch_results::mismatch(&other))),
        }
    }

    async fn increment(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let asked = Asked::new(parts);
        let key =
            Parameters::of(asked.uri(), &[]).and_then(|_| path::key(self.limits(), asked.uri()));
        let key = match key {
            Ok(key) => key,
            Err(error) => return Err(self.refused(&asked, Kind::Increment, error).await),
        };
        let body = self.bodies.read(asked.headers(), body, self.limits().message_bytes_max).await?;
        if !body.is_empty() && !is_json(asked.headers()) {
            return Err(not_json());
        }
        let command = increment_of(key, &body);
        let kind = command.as_ref().map_or(Kind::Increment, |command| match command {
            Command::IncrementFloat(_) => Kind::IncrementFloat,
            _ => Kind::Increment,
        });
        let checked = command.and_then(|command| with_id(&asked, Operation::Write(command)));
        let response = self.run(&asked, kind, checked).await?;
        let sum = batch_results::sum(response).map_err(|error| self.problem(&error))?;
        Ok(([(header::ETAG, etag(sum.version))], axum::Json(sum)).into_response())
    }

    /// The answer to what was not understood; counted as a call.
    pub(super) async fn refused(&self, asked: &Asked, kind: Kind, error: Error) -> Problem {
        match self.run(asked, kind, Err(error)).await {
            Err(problem) => problem,
            Ok(other) => self.problem(&batch_results::mismatch(&other)),
        }
    }
}

/// A condition that no key can meet.
pub(super) fn never() -> Problem {
    Oddity::PreconditionFailed.problem("If-Match: no version has such a tag")
}

/// A body that must be JSON.
pub(super) fn not_json() -> Problem {
    Oddity::UnsupportedMediaType.problem("Content-Type must be application/json")
}

/// With the request id that its caller wants it to have.
pub(super) fn with_id(asked: &Asked, operation: Operation) -> Result<Checked, Error> {
    let id = once::request_id(asked.headers(), &operation)?;
    Ok((operation, id))
}

/// What a GET says.
struct GetHead {
    conditions: OfGet,
    raw: bool,
}

impl GetHead {
    fn of(limits: &FrontLimits, asked: &Asked) -> Result<(Operation, Self), Error> {
        let key = path::key(limits, asked.uri())?;
        let parameters = Parameters::of(asked.uri(), &[CONSISTENCY, MAX_STALENESS, RAW])?;
        let consistency = consistency(&parameters)?;
        let raw = match parameters.text(RAW)? {
            None => !accepts_json(asked.headers()),
            Some("" | "1" | "true") => true,
            Some(_) => return Err(invalid(RAW, "is neither empty, 1 nor true")),
        };
        let conditions = OfGet::of(asked.headers())?;
        Ok((
            Operation::Read { query: Query::Get { key }, consistency },
            GetHead { conditions, raw },
        ))
    }
}

/// JSON, unless the caller names only other types.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::ACCEPT).iter().peekable();
    if given.peek().is_none() {
        return true;
    }
    given.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let json = ["*/*", "application/*", "application/json"];
        json.iter().any(|json| kind.eq_ignore_ascii_case(json)) && !parts.any(is_refusal)
    })
}

/// `q=0`: what is not acceptable (RFC 9110, section 12.4.2).
fn is_refusal(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0_f32)
}

/// The bytes themselves.
fn raw(found: &Found) -> Response {
    let kind = match found.value.kind {
        ValueKind::Text => "text/plain; charset=utf-8",
        ValueKind::Bytes => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, kind)], found.value.data.clone()).into_response()
}

/// Version, time to live and freshness, in headers. Whoever keeps an answer asks again before it serves
/// it, with the tag: one served for as long as the key lives would be a stale read once it is overwritten.
fn describe(headers: &mut HeaderMap, found: Option<&Found>, raw: bool, freshness: Freshness) {
    let Freshness { term, index, age_ms, version } = freshness;
    let log_id = HeaderValue::try_from(format!("{term}.{index}")).expect("digits and a point");
    headers.insert("raftcache-log-id", log_id);
    headers.insert("raftcache-age-ms", HeaderValue::from(age_ms));
    headers.insert("raftcache-state-version", HeaderValue::from(version.0));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    let cache = match found.and_then(|found| found.ttl_ms) {
        // Rounded down: nobody keeps it for longer than it lives.
        Some(ttl_ms) => HeaderValue::try_from(format!("no-cache, max-age={}", ttl_ms / 1_000)),
        None => HeaderValue::try_from("no-cache"),
    };
    headers.insert(header::CACHE_CONTROL, cache.expect("ASCII"));
    let Some(found) = found else { return };
    headers.insert(header::ETAG, etag_as(found.version, raw));
}

/// `None`: no version has such a tag.
fn delete_of(limits: &FrontLimits, asked: &Asked) -> Result<Option<Operation>, Error> {
    Parameters::of(asked.uri(), &[])?;
    let key = path::key(limits, asked.uri())?;
    Ok(match precondition::of_delete(asked.headers())? {
        precondition::Asked::Never => None,
        precondition::Asked::If(condition) => {
            Some(Operation::Write(Command::Delete(Delete { key, condition })))
        }
    })
}

/// The body of an increment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncrementBody<'a> {
    #[serde(borrow, default)]
    by: Option<&'a RawValue>,
}

fn increment_of(key: Bytes, body: &[u8]) -> Result<Command, Error> {
    let body = if body.is_empty() { IncrementBody { by: None } } else { parsed(body)? };
    batch_operation::increment_by(key, body.by)
}
