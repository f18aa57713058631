//! Time for `core::queue_delay`, which has none of its own, and the metric of what was waited.

use std::time::Duration;

use prometheus::Histogram;

use crate::core::queue_delay::{DelayLimits, QueueDelay, Verdict};
use crate::types::clock::{Instant, now};
use crate::types::{Error, Reason};

/// When a caller that was refused for delay should try again: the queue has moved on by then, and
/// those who were refused together do not come back within one target.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A queue's delay by the monotonic clock.
#[derive(Debug)]
pub struct DelayWatch {
    pure: QueueDelay,
    epoch: Instant,
    /// What the queue is called in a refusal.
    what: &'static str,
    waited_seconds: Histogram,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl DelayWatch {
    /// Watches a queue that is empty now; `what` names its delay in refusals.
    pub fn new(limits: DelayLimits, what: &'static str, waited_seconds: Histogram) -> Self {
        DelayWatch { pure: QueueDelay::new(limits), epoch: now(), what, waited_seconds }
    }

    /// `operations` that were queued at `queued` have been taken now.
    ///
    /// # Errors
    /// `ResourceExhausted` if they waited too long in a queue that stands: not to be served.
    pub fn take(&mut self, queued: Instant, operations: usize) -> Result<(), Error> {
        let at = now();
        let waited = at.saturating_duration_since(queued);
        self.waited_seconds.observe(waited.as_secs_f64());
        let at_us = self.at_us(at);
        match self.pure.take(at_us, micros(waited), operations) {
            Verdict::Serve => Ok(()),
            Verdict::Refuse => Err(self.refusal()),
        }
    }

    fn at_us(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.epoch))
    }

    /// Somebody was not let in for want of room.
    pub fn refused(&mut self) {
        self.pure.refused(self.at_us(now()));
    }

    /// Nothing is left in the queue.
    pub fn emptied(&mut self) {
        self.pure.emptied(self.at_us(now()));
    }

    /// So little is asked for that whatever waits does not wait for others.
    pub fn idle(&mut self) {
        self.pure.idle();
    }

    /// Operations that may be in the queue; `usize::MAX` unless it is overloaded.
    pub fn room(&self) -> usize {
        self.pure.room()
    }

    /// What a caller that is not let in gets.
    pub fn refusal(&self) -> Error {
        refusal(self.what, self.pure.limits())
    }
}

/// The refusal of a queue whose delay is called `what`.
pub fn refusal(what: &'static str, limits: DelayLimits) -> Error {
    let limit = limits.refused_us() / 1_000;
    Error::from(Reason::ResourceExhausted { what, limit }).retry_after(RETRY_AFTER)
}
