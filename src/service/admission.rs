//! How many requests a node works on at once (INV-8), and the way to none of them (graceful stop).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::Notify;

use crate::types::metrics::Metrics;
use crate::types::{Error, Reason};

/// When a refused caller should try again: long enough for the queue to move, short for a human.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Counts the requests in flight and refuses those past the limit, at once.
#[derive(Debug)]
pub struct Admission {
    in_flight_max: usize,
    /// Invariant: the sum of the weights of the living permits (and of refusals in the making).
    in_flight: AtomicUsize,
    stopping: AtomicBool,
    idle: Notify,
    refused: IntCounter,
    refused_stopping: IntCounter,
}

/// Leave to work on some requests; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    admission: &'a Admission,
    weight: usize,
}

impl Admission {
    /// At most `in_flight_max` requests at once.
    pub fn new(in_flight_max: usize, metrics: &Metrics) -> Self {
        assert!(in_flight_max > 0, "a node that admits nothing serves nobody");
        Admission {
            in_flight_max,
            in_flight: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            idle: Notify::new(),
            refused: metrics.refused.with_label_values(&["requests_in_flight"]),
            refused_stopping: metrics.refused.with_label_values(&["stopping"]),
        }
    }

    /// Leave to work on `weight` requests, or `ResourceExhausted` or `Stopping` at once.
    pub fn admit(&self, weight: usize) -> Result<Permit<'_>, Error> {
        // Count first, look at the flag after: `stop` sets the flag first and counts after, so
        // one of the two sees the other and `drain` misses nobody.
        let before = self.in_flight.fetch_add(weight, Ordering::SeqCst);
        let permit = Permit { admission: self, weight };
        if self.stopping.load(Ordering::SeqCst) {
            self.refused_stopping.inc();
            return Err(Error::from(Reason::Stopping).retry_after(RETRY_AFTER));
        }
        if before.saturating_add(weight) > self.in_flight_max {
            self.refused.inc();
            let limit = self.in_flight_max as u64;
            let reason = Reason::ResourceExhausted { what: "requests in flight", limit };
            return Err(Error::from(reason).retry_after(RETRY_AFTER));
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

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let admission = self.admission;
        let before = admission.in_flight.fetch_sub(self.weight, Ordering::SeqCst);
        assert!(before >= self.weight, "a permit was given back twice");
        if before == self.weight && admission.is_stopping() {
            admission.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_limit_a_caller_is_refused_at_once_and_told_when_to_retry() {
        let metrics = Metrics::new();
        let admission = Admission::new(3, &metrics);
        let held = admission.admit(2).unwrap();
        let error = admission.admit(2).unwrap_err();
        assert_eq!(
            error.reason,
            Reason::ResourceExhausted { what: "requests in flight", limit: 3 }
        );
        assert!(error.retry_after.is_some());
        assert_eq!(admission.in_flight(), 2, "a refusal holds nothing");
        let last = admission.admit(1).unwrap();
        drop((held, last));
        assert_eq!(admission.in_flight(), 0);
        assert_eq!(metrics.refused.with_label_values(&["requests_in_flight"]).get(), 1);
    }

    #[tokio::test]
    async fn drain_ends_with_the_last_permit_and_nothing_new_comes_in() {
        let admission = Admission::new(8, &Metrics::new());
        let (first, second) = (admission.admit(1).unwrap(), admission.admit(1).unwrap());
        admission.stop();
        assert_eq!(admission.admit(1).unwrap_err().reason, Reason::Stopping);
        let mut drained = Box::pin(admission.drain());
        assert!(futures_util::poll!(drained.as_mut()).is_pending());
        drop(first);
        assert!(futures_util::poll!(drained.as_mut()).is_pending());
        drop(second);
        drained.await;
    }
}
