//! What every door does around a call: deadline, count, time, trace. No semantics.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntGauge};
use tracing::{Instrument as _, Span};

use super::convert::Checked;
use super::{FrontLimits, status};
use crate::core::table::RoutingTable;
use crate::service::{Execute, Request, Response};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

/// An answer leaves this much before the caller stops waiting (or an eighth of its time, if that
/// is less), so that it hears the true outcome and not only its own time-out.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(20);

/// The service behind a door, with the door's limits and measurements.
#[derive(Debug)]
pub struct Door<S> {
    /// What decides.
    pub service: Arc<S>,
    /// What is accepted.
    pub limits: FrontLimits,
    /// Histograms by operation and outcome, resolved once.
    seconds: [[Histogram; 4]; 3],
    in_flight: IntGauge,
}

/// Operations as metrics and spans name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A read.
    Get = 0,
    /// A set.
    Set = 1,
    /// A delete.
    Delete = 2,
}

const KINDS: [&str; 3] = ["get", "set", "delete"];
const OUTCOMES: [&str; 4] = ["ok", "rejected", "unknown", "cancelled"];
const OK: usize = 0;
const CANCELLED: usize = 3;

/// One call while it runs; counts it when dropped, also when the caller went away.
struct Running<'a> {
    seconds: &'a [Histogram; 4],
    in_flight: &'a IntGauge,
    started: Instant,
    outcome: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.seconds[self.outcome].observe((now() - self.started).as_secs_f64());
    }
}

impl<S: Execute> Door<S> {
    /// A door to `service`.
    pub fn new(service: Arc<S>, limits: FrontLimits, metrics: &Metrics) -> Self {
        let seconds = KINDS.map(|kind| {
            OUTCOMES.map(|outcome| metrics.request_seconds.with_label_values(&[kind, outcome]))
        });
        Door { service, limits, seconds, in_flight: metrics.in_flight.clone() }
    }

    /// When an operation must be answered that arrived then and whose caller waits for `asked`.
    pub fn deadline(&self, arrived: Instant, asked: Option<Duration>) -> Instant {
        let timeout = self.limits.timeout(asked);
        arrived + timeout.saturating_sub((timeout / 8).min(ANSWER_MARGIN_MAX))
    }

    /// The routing table, for hints in errors.
    pub fn table(&self) -> Arc<RoutingTable> {
        self.service.table()
    }

    /// Runs a checked operation; `trace` is the caller's W3C `traceparent`, if it sent one.
    ///
    /// # Errors
    /// What the check or the service says; `DeadlineBeforePropose` if `deadline` has passed.
    pub async fn run(
        &self,
        kind: Kind,
        checked: Result<Checked, Error>,
        deadline: Instant,
        trace: Option<&str>,
    ) -> Result<Response, Error> {
        self.in_flight.inc();
        let mut running = Running {
            seconds: &self.seconds[kind as usize],
            in_flight: &self.in_flight,
            started: now(),
            outcome: CANCELLED,
        };
        let result = self.execute(kind, checked, deadline, trace).await;
        running.outcome = match &result {
            Ok(_) => OK,
            Err(error) => {
                let name = status::outcome_name(error.outcome());
                OUTCOMES.iter().position(|o| *o == name).expect("every outcome is listed")
            }
        };
        result
    }

    async fn execute(
        &self,
        kind: Kind,
        checked: Result<Checked, Error>,
        deadline: Instant,
        trace: Option<&str>,
    ) -> Result<Response, Error> {
        let (operation, request_id) = checked?;
        if deadline <= now() {
            return Err(Reason::DeadlineBeforePropose.into());
        }
        let request = Request { operation, request_id, deadline };
        self.service.execute(request).instrument(span(kind, trace)).await
    }
}

/// A span with the caller's trace id, or one drawn here. Costs one branch while debug is off.
fn span(kind: Kind, trace: Option<&str>) -> Span {
    let span = tracing::debug_span!(
        "request",
        operation = KINDS[kind as usize],
        trace = tracing::field::Empty
    );
    if !span.is_disabled() {
        match trace.and_then(trace_id) {
            Some(id) => span.record("trace", id),
            None => span.record("trace", format!("{:032x}", rand::random::<u128>())),
        };
    }
    span
}

/// The trace id of a `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>):
/// version, 32 hex digits of trace id, 16 of parent id, flags.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_id_is_taken_only_from_a_wellformed_header() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        assert_eq!(trace_id("00-4bf92f-00f067aa0ba902b7-01"), None);
        assert_eq!(trace_id("00"), None);
        assert_eq!(trace_id(&format!("00-{}-x", "z".repeat(32))), None);
    }
}
