//! How many requests a node works on at once (INV-8), and the way to none of them (graceful stop).
//!
//! Beside number and bytes there is time: when a node has more to do than its processors can, the
//! requests wait for a turn before anything here sees them. Doors say when a request came in; what
//! passed until it is admitted is a queue like any other (`core::queue_delay`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::Notify;

use crate::core::queue_delay::DelayLimits;
use crate::raft::delay::{DelayWatch, RETRY_AFTER};
use crate::types::clock::Instant;
use crate::types::limits::{
    BYTES_IN_FLIGHT_MAX, DOOR_DELAY_IN_FLIGHT_MIN, DOOR_DELAY_TARGET_MS, QUEUE_DELAY_INTERVAL_MS,
    REQUESTS_IN_FLIGHT_MAX,
};
use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

/// What a node takes on at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdmissionLimits {
    /// Requests, those forwarded by peers included.
    pub in_flight_max: usize,
    /// Bytes of their keys and values, not counting the request that crosses the line.
    pub bytes_max: usize,
    /// How long requests may wait for a turn before some are refused.
    pub delay: DelayLimits,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        AdmissionLimits {
            in_flight_max: REQUESTS_IN_FLIGHT_MAX,
            bytes_max: BYTES_IN_FLIGHT_MAX,
            delay: DelayLimits::from_ms(DOOR_DELAY_TARGET_MS, QUEUE_DELAY_INTERVAL_MS),
        }
    }
}

/// Counts the requests in flight and refuses those past a limit, at once.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    /// Invariant: the sum of the weights of the living permits (and of refusals in the making).
    in_flight: AtomicUsize,
    /// Invariant: the same of their bytes.
    bytes: AtomicUsize,
    /// parking_lot: held for a few instructions, never across an await.
    delay: Mutex<DelayWatch>,
    stopping: AtomicBool,
    idle: Notify,
    refused: IntCounter,
    refused_bytes: IntCounter,
    refused_delay: IntCounter,
    refused_stopping: IntCounter,
}

/// Leave to work on some requests; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    admission: &'a Admission,
    weight: usize,
    bytes: usize,
}

impl Admission {
    /// Nothing in flight.
    pub fn new(limits: AdmissionLimits, metrics: &Metrics) -> Self {
        assert!(limits.in_flight_max > 0, "a node that admits nothing serves nobody");
        let refused = |limit| metrics.refused.with_label_values(&[limit]);
        let waited = metrics.queue_delay.with_label_values(&["door"]);
        let what = "milliseconds of waiting at the door";
        Admission {
            limits,
            in_flight: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            delay: Mutex::new(DelayWatch::new(limits.delay, what, waited)),
            stopping: AtomicBool::new(false),
            idle: Notify::new(),
            refused: refused("requests_in_flight"),
            refused_bytes: refused("bytes_in_flight"),
            refused_delay: refused("milliseconds_of_waiting_at_the_door"),
            refused_stopping: refused("stopping"),
        }
    }

    /// Leave to work on a client's request that came in at `arrived`; otherwise as `admit`.
    pub fn admit_arrived(
        &self,
        weight: usize,
        bytes: usize,
        arrived: Instant,
    ) -> Result<Permit<'_>, Error> {
        let permit = self.admit(weight, bytes)?;
        let mut delay = self.delay.lock();
        if self.in_flight() < DOOR_DELAY_IN_FLIGHT_MIN {
            delay.idle();
        }
        delay.take(arrived, 1).inspect_err(|_| self.refused_delay.inc())?;
        Ok(permit)
    }

    /// Leave to work on `weight` requests of so many bytes, or `ResourceExhausted` or `Stopping` at
    /// once.
    pub fn admit(&self, weight: usize, bytes: usize) -> Result<Permit<'_>, Error> {
        // Count first, look at the flag after: `stop` sets the flag first and counts after, so
        // one of the two sees the other and `drain` misses nobody.
        let before = self.in_flight.fetch_add(weight, Ordering::SeqCst);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { admission: self, weight, bytes };
        if self.stopping.load(Ordering::SeqCst) {
            self.refused_stopping.inc();
            return Err(Error::from(Reason::Stopping).retry_after(RETRY_AFTER));
        }
        if before.saturating_add(weight) > self.limits.in_flight_max {
            self.refused.inc();
            return Err(exhausted("requests in flight", self.limits.in_flight_max));
        }
        if bytes_before > self.limits.bytes_max {
            self.refused_bytes.inc();
            return Err(exhausted("bytes in flight", self.limits.bytes_max));
        }
        Ok(permit)
    }

    /// Refuses everything new with `Stopping` from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// True after `stop`.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Requests being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until no request is in flight. Call `stop` first, or it may never be so.
    pub async fn drain(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

fn exhausted(what: &'static str, limit: usize) -> Error {
    let limit = limit as u64;
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let admission = self.admission;
        admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let before = admission.in_flight.fetch_sub(self.weight, Ordering::SeqCst);
        assert!(before >= self.weight, "a permit was given back twice");
        if before == self.weight && admission.is_stopping() {
            admission.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::clock::now;

    fn limits(in_flight_max: usize) -> AdmissionLimits {
        AdmissionLimits { in_flight_max, ..AdmissionLimits::default() }
    }

    #[test]
    fn past_so_many_bytes_a_caller_is_refused_whatever_its_number() {
        let metrics = Metrics::new();
        let limits = AdmissionLimits { bytes_max: 1_000, ..AdmissionLimits::default() };
        let admission = Admission::new(limits, &metrics);
        let first = admission.admit(1, 800).unwrap();
        let crossing = admission.admit(1, 800).unwrap();
        let error = admission.admit(1, 1).unwrap_err();
        let reason = Reason::ResourceExhausted { what: "bytes in flight", limit: 1_000 };
        assert_eq!(error.reason, reason);
        assert!(error.retry_after.is_some());
        drop(first);
        let _fits = admission.admit(1, 1).unwrap();
        drop(crossing);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 1, "a refusal holds nothing");
        assert_eq!(metrics.refused.with_label_values(&["bytes_in_flight"]).get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_all_wait_for_a_turn_are_refused_until_they_do_not() {
        let metrics = Metrics::new();
        let admission = Admission::new(AdmissionLimits::default(), &metrics);
        let busy: Vec<_> =
            (0..DOOR_DELAY_IN_FLIGHT_MIN).map(|_| admission.admit(1, 1).unwrap()).collect();
        let late = Duration::from_millis(3 * DOOR_DELAY_TARGET_MS);
        let refused = async |admission: &Admission| {
            let arrived = now();
            tokio::time::sleep(late).await;
            admission.admit_arrived(1, 1, arrived).is_err()
        };
        assert!(!refused(&admission).await, "one late request is no overload");
        assert!(!refused(&admission).await);
        assert!(refused(&admission).await, "late for an interval");
        let error = {
            let arrived = now();
            tokio::time::sleep(late).await;
            admission.admit_arrived(1, 1, arrived).unwrap_err()
        };
        assert!(error.retry_after.is_some());
        assert_eq!(error.outcome(), crate::types::Outcome::Rejected);
        drop(admission.admit_arrived(1, 1, now()).unwrap());
        tokio::time::sleep(Duration::from_millis(QUEUE_DELAY_INTERVAL_MS)).await;
        drop(admission.admit_arrived(1, 1, now()).unwrap());
        assert!(!refused(&admission).await, "one at once, and nobody refused meanwhile, end it");
        drop(busy);
        for _ in 0..10 {
            assert!(!refused(&admission).await, "few requests are no overload");
        }
        let label = ["milliseconds_of_waiting_at_the_door"];
        assert_eq!(metrics.refused.with_label_values(&label).get(), 2);
    }

    #[test]
    fn past_the_limit_a_caller_is_refused_at_once_and_told_when_to_retry() {
        let metrics = Metrics::new();
        let admission = Admission::new(limits(3), &metrics);
        let held = admission.admit(2, 0).unwrap();
        let error = admission.admit(2, 0).unwrap_err();
        assert_eq!(
            error.reason,
            Reason::ResourceExhausted { what: "requests in flight", limit: 3 }
        );
        assert!(error.retry_after.is_some());
        assert_eq!(admission.in_flight(), 2, "a refusal holds nothing");
        let last = admission.admit(1, 0).unwrap();
        drop((held, last));
        assert_eq!(admission.in_flight(), 0);
        assert_eq!(metrics.refused.with_label_values(&["requests_in_flight"]).get(), 1);
    }

    #[tokio::test]
    async fn drain_ends_with_the_last_permit_and_nothing_new_comes_in() {
        let admission = Admission::new(limits(8), &Metrics::new());
        let (first, second) = (admission.admit(1, 0).unwrap(), admission.admit(1, 0).unwrap());
        admission.stop();
        assert_eq!(admission.admit(1, 0).unwrap_err().reason, Reason::Stopping);
        let mut drained = Box::pin(admission.drain());
        assert!(futures_util::poll!(drained.as_mut()).is_pending());
        drop(first);
        assert!(futures_util::poll!(drained.as_mut()).is_pending());
        drop(second);
        drained.await;
    }
}
