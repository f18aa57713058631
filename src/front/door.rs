//! What every door does around a call: deadline, count, time, trace, and an answer even if it panics.
//! No semantics.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};
use tracing::{Instrument as _, Span};

use super::activity::Activity;
use super::convert::Checked;
use super::replies::Reserved;
use super::{FrontLimits, status};
use crate::core::table::RoutingTable;
use crate::service::{Execute, Operation, Request, Response};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason, task};

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
    /// Histograms by operation and outcome, resolved when first needed.
    seconds: Vec<[OnceLock<Histogram>; 4]>,
    all_seconds: HistogramVec,
    in_flight: IntGauge,
    refused_on_connection: IntCounter,
}

/// What is known of a call beside what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// When it came in.
    pub arrived: Instant,
    /// When it must be answered.
    pub deadline: Instant,
    /// The caller's W3C `traceparent`, if it sent one.
    pub trace: Option<&'a str>,
    /// The connection it came on, if that is known.
    pub activity: Option<&'a Activity>,
}

macro_rules! kinds {
    ($($kind:ident = $name:literal),+ $(,)?) => {
        /// Operations as metrics and spans name them; as `Operation::name`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind { $(#[doc = concat!("`", $name, "`.")] $kind),+ }

        const KINDS: &[(Kind, &str)] = &[$((Kind::$kind, $name)),+];
    };
}

kinds! {
    Get = "get",
    Set = "set",
    Delete = "delete",
    Inspect = "inspect",
    GetRange = "get_range",
    GetSet = "get_set",
    GetDelete = "get_delete",
    Expire = "expire",
    GetExpire = "get_expire",
    Increment = "increment",
    IncrementFloat = "increment_float",
    Append = "append",
    SetRange = "set_range",
    Multi = "multi",
    Transaction = "transaction",
    Scan = "scan",
    Size = "size",
    Flush = "flush",
    Copy = "copy",
    Rename = "rename",
    Lock = "lock",
    Renew = "renew",
    Unlock = "unlock",
    GetOrLease = "get_or_lease",
    Fill = "fill",
}

impl Kind {
    /// The kind of an operation that was understood.
    ///
    /// # Panics
    /// On an operation that no door can ask for.
    pub fn of(operation: &Operation) -> Self {
        let name = operation.name();
        let found = KINDS.iter().find(|(_, kind)| *kind == name);
        found.expect("every operation that a door can ask for is listed").0
    }

    fn name(self) -> &'static str {
        KINDS[self as usize].1
    }
}

const OUTCOMES: [&str; 4] = ["ok", "rejected", "unknown", "cancelled"];
const OK: usize = 0;
const CANCELLED: usize = 3;

/// One call while it runs; counts it when dropped, also when the caller went away.
struct Running<'a> {
    seconds: &'a [OnceLock<Histogram>; 4],
    all_seconds: &'a HistogramVec,
    kind: Kind,
    in_flight: &'a IntGauge,
    started: Instant,
    outcome: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
        let seconds = self.seconds[self.outcome].get_or_init(|| {
            self.all_seconds.with_label_values(&[self.kind.name(), OUTCOMES[self.outcome]])
        });
        seconds.observe((now() - self.started).as_secs_f64());
    }
}

impl<S: Execute> Door<S> {
    /// A door to `service`.
    pub fn new(service: Arc<S>, limits: FrontLimits, metrics: &Metrics) -> Self {
        let seconds = KINDS.iter().map(|_| std::array::from_fn(|_| OnceLock::new())).collect();
        let all_seconds = metrics.request_seconds.clone();
        let refused = "requests_in_flight_on_the_connection";
        let refused_on_connection = metrics.refused.with_label_values(&[refused]);
        let in_flight = metrics.in_flight.clone();
        Door { service, limits, seconds, all_seconds, in_flight, refused_on_connection }
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

    /// Runs a checked operation, with room for its reply. What was reserved for it is kept until the
    /// reply is on its way; what was reserved `ahead`, before its length was known, until it is known.
    ///
    /// # Errors
    /// As `run`; `ResourceExhausted` if the connection, or all together, hold too many bytes of replies
    /// that were not taken. What changes something is refused before it is begun, never after.
    pub async fn run_reserved(
        &self,
        kind: Kind,
        checked: Result<Checked, Error>,
        call: Call<'_>,
        ahead: Option<Reserved>,
    ) -> Result<(Response, Option<Arc<Reserved>>), Error> {
        let replies = call.activity.map(Activity::replies);
        let admitted = match (replies, &ahead) {
            (Some(replies), None) => replies.admit(),
            _ => Ok(()),
        };
        let checked = checked.and_then(|checked| admitted.map(|()| checked));
        let only_reads = checked.as_ref().is_ok_and(|(operation, _)| operation.only_reads());
        let response = self.run(kind, checked, call).await?;
        let Some(replies) = replies else { return Ok((response, None)) };
        let bytes = response.payload_bytes();
        drop(ahead);
        let reserved = if only_reads { replies.reserve(bytes)? } else { replies.hold(bytes) };
        Ok((response, Some(Arc::new(reserved))))
    }

    /// Runs a checked operation.
    ///
    /// # Errors
    /// What the check or the service says; `DeadlineBeforePropose` if the deadline has passed;
    /// `ResourceExhausted` if the connection has too many under way.
    pub async fn run(
        &self,
        kind: Kind,
        checked: Result<Checked, Error>,
        call: Call<'_>,
    ) -> Result<Response, Error> {
        self.in_flight.inc();
        let mut running = Running {
            seconds: &self.seconds[kind as usize],
            all_seconds: &self.all_seconds,
            kind,
            in_flight: &self.in_flight,
            started: now(),
            outcome: CANCELLED,
        };
        // A panic must cost neither the other streams of the connection nor the caller its answer.
        let guarded = task::guarded("request", self.execute(kind, checked, call));
        let result = guarded.await.unwrap_or_else(|| {
            Err(Reason::Internal { detail: "the request's task panicked".to_owned() }.into())
        });
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
        call: Call<'_>,
    ) -> Result<Response, Error> {
        let Call { arrived, deadline, trace, activity } = call;
        let held = activity.map(Activity::operation).transpose();
        let _held = held.inspect_err(|_| self.refused_on_connection.inc())?;
        let (operation, request_id) = checked?;
        if deadline <= now() {
            return Err(Reason::DeadlineBeforePropose.into());
        }
        let (span, trace) = span(kind, trace);
        let request = Request { operation, request_id, arrived, deadline, trace };
        let execute = async {
            let result = self.service.execute(request).await;
            tracing::debug!(error = result.as_ref().err().map(tracing::field::display), "answered");
            result
        };
        execute.instrument(span).await
    }
}

/// A span with the caller's trace id, or one drawn here, and that id. Costs one branch while debug is off:
/// then the id is 0, and no node follows the request.
fn span(kind: Kind, trace: Option<&str>) -> (Span, u128) {
    let span =
        tracing::debug_span!("request", operation = kind.name(), trace = tracing::field::Empty);
    if span.is_disabled() {
        return (span, 0);
    }
    let id = trace.and_then(trace_id).unwrap_or_else(|| rand::random::<u128>().max(1));
    span.record("trace", format!("{id:032x}"));
    (span, id)
}

/// The trace id of a `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>):
/// version, 32 hex digits of trace id (not all zero), 16 of parent id, flags.
fn trace_id(traceparent: &str) -> Option<u128> {
    let mut parts = traceparent.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    let wellformed = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let id = wellformed.then(|| u128::from_str_radix(id, 16).ok()).flatten()?;
    (id != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_id_is_taken_only_from_a_wellformed_header() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(
            trace_id(&format!("00-{id}-00f067aa0ba902b7-01")),
            u128::from_str_radix(id, 16).ok()
        );
        assert_eq!(trace_id(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32))), None);
        assert_eq!(trace_id("00-4bf92f-00f067aa0ba902b7-01"), None);
        assert_eq!(trace_id("00"), None);
        assert_eq!(trace_id(&format!("00-{}-x", "z".repeat(32))), None);
    }
}
