//! The head of a request: who asks, until when, how fresh, under which trace.

use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::path::Parameters;
use super::seconds;
use crate::front::door::{Call, Door};
use crate::front::validate::{self, invalid};
use crate::front::visitor::Visitor;
use crate::service::Execute;
use crate::types::clock::now;
use crate::types::{Consistency, Error};

/// How long the caller waits: seconds with fractions.
const REQUEST_TIMEOUT: &str = "request-timeout";

/// Parameters of every question that reads.
pub(super) const CONSISTENCY: &str = "consistency";
/// With `consistency=bounded`.
pub(super) const MAX_STALENESS: &str = "max_staleness";

/// The head of a request.
#[derive(Debug)]
pub(super) struct Asked {
    parts: Parts,
    visitor: Option<Visitor>,
}

impl Asked {
    pub(super) fn new(parts: Parts) -> Self {
        let visitor = parts.extensions.get::<ConnectInfo<Visitor>>().map(|info| info.0.clone());
        Asked { parts, visitor }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(super) fn uri(&self) -> &axum::http::Uri {
        &self.parts.uri
    }

    /// The call of an operation whose body, if it has one, was read.
    ///
    /// # Errors
    /// If the header that gives its time is malformed.
    pub(super) fn call<S: Execute>(&self, door: &Door<S>) -> Result<Call<'_>, Error> {
        let timeout = self.timeout()?;
        Ok(self.call_within(door, timeout))
    }

    /// The same, whatever its header says.
    pub(super) fn call_by_default<S: Execute>(&self, door: &Door<S>) -> Call<'_> {
        self.call_within(door, None)
    }

    fn call_within<S: Execute>(&self, door: &Door<S>, timeout: Option<Duration>) -> Call<'_> {
        // The last byte of it has waited for its turn since it was read; a client's time to send a
        // body is its own.
        let arrived = self.visitor.as_ref().map_or_else(now, |visitor| visitor.0.read_at());
        Call {
            arrived,
            deadline: door.deadline(arrived, timeout),
            trace: self.text("traceparent"),
            activity: self.visitor.as_ref().map(|visitor| visitor.0.as_ref()),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    fn timeout(&self) -> Result<Option<Duration>, Error> {
        let Some(header) = self.parts.headers.get(REQUEST_TIMEOUT) else { return Ok(None) };
        let text = header.to_str().map_err(|_| invalid(REQUEST_TIMEOUT, "is not ASCII"))?;
        seconds::duration(REQUEST_TIMEOUT, text.trim()).map(Some)
    }
}

/// How fresh a read must be.
///
/// # Errors
/// If it is unknown, or `max_staleness` is missing or out of place.
pub(super) fn consistency(parameters: &Parameters) -> Result<Consistency, Error> {
    consistency_of(parameters.text(CONSISTENCY)?, parameters.text(MAX_STALENESS)?)
}

pub(super) fn consistency_of(
    wanted: Option<&str>,
    staleness: Option<&str>,
) -> Result<Consistency, Error> {
    let staleness = staleness.map(|text| seconds::duration(MAX_STALENESS, text)).transpose()?;
    match (wanted.unwrap_or("linearizable"), staleness) {
        ("bounded", Some(time)) => {
            Ok(Consistency::Bounded { staleness_ms_max: validate::millis_up(time) })
        }
        ("bounded", None) => Err(invalid(MAX_STALENESS, "is required for bounded")),
        (_, Some(_)) => Err(invalid(MAX_STALENESS, "is only allowed with bounded")),
        ("linearizable", None) => Ok(Consistency::Linearizable),
        ("lease", None) => Ok(Consistency::Lease),
        ("stale", None) => Ok(Consistency::Stale),
        _ => Err(invalid(
            CONSISTENCY,
            "is unknown; linearizable, lease, bounded and stale are allowed",
        )),
    }
}
