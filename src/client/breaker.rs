//! Leaves a node alone for a while that does not answer (the circuit breaker of Nygard, "Release
//! It!", 2007). Pure: time is an argument.

use std::time::Duration;

use crate::types::clock::Instant;

/// The open time doubles so many times.
const DOUBLINGS_MAX: u32 = 4;

/// State of one node.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    open: Duration,
    /// In a row.
    failures: u32,
    /// Times it opened since the last success.
    opened: u32,
    /// Nobody may try before.
    until: Option<Instant>,
    /// A single attempt is under way, the first after the breaker was open.
    probing: bool,
}

impl Breaker {
    /// Closed; opens after so many failures in a row, for so long at first.
    pub fn new(failures_max: u32, open: Duration) -> Self {
        Breaker { failures_max, open, failures: 0, opened: 0, until: None, probing: false }
    }

    /// Whether an attempt may be made now. Once the time is over a single one may, and the next only
    /// after as long again, unless it succeeded.
    pub fn allows(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.probing = true;
                self.until = Some(now + self.open_time());
                true
            }
        }
    }

    /// Whether every attempt may be made: it is neither open nor waits for a single one.
    pub fn is_closed(&self) -> bool {
        self.until.is_none()
    }

    /// The node answered, whatever it said.
    pub fn answered(&mut self) {
        (self.failures, self.opened, self.until) = (0, 0, None);
        self.probing = false;
    }

    /// It did not. True if that opened the breaker.
    pub fn silent(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let over = self.probing || self.until.is_none_or(|at| at <= now);
        self.probing = false;
        let opens = self.failures >= self.failures_max && over;
        if opens {
            self.until = Some(now + self.open_time());
            self.opened = (self.opened + 1).min(DOUBLINGS_MAX);
        }
        opens
    }

    /// Nobody listens there: there is no point in finding out again and again.
    pub fn unreachable(&mut self, now: Instant) -> bool {
        self.failures = self.failures.max(self.failures_max - 1);
        self.silent(now)
    }

    fn open_time(&self) -> Duration {
        self.open * 2u32.pow(self.opened)
    }

    /// When the next attempt may be made; `None` if now.
    #[cfg(test)]
    fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::clock::now;

    const OPEN: Duration = Duration::from_millis(100);

    #[test]
    fn opens_after_failures_in_a_row_and_lets_one_try() {
        let start = now();
        let mut breaker = Breaker::new(3, OPEN);
        assert!(!breaker.silent(start) && !breaker.silent(start));
        breaker.answered();
        assert!(!breaker.silent(start) && !breaker.silent(start), "only those in a row count");
        assert!(breaker.allows(start));
        assert!(breaker.silent(start));
        assert!(!breaker.allows(start));
        assert!(!breaker.allows(start + OPEN - Duration::from_millis(1)));
        assert!(!breaker.is_closed());
        assert!(breaker.allows(start + OPEN), "one may try");
        assert!(!breaker.allows(start + OPEN), "and only one");
        assert!(!breaker.is_closed(), "while it is under way");
        breaker.answered();
        assert!(breaker.is_closed());
        assert!(breaker.allows(start + OPEN));
    }

    #[test]
    fn opens_at_once_where_nobody_listens() {
        let mut breaker = Breaker::new(3, OPEN);
        assert!(breaker.unreachable(now()));
        assert!(!breaker.allows(now()));
    }

    #[test]
    fn stays_open_longer_each_time_up_to_a_bound() {
        let mut at = now();
        let mut breaker = Breaker::new(1, OPEN);
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.silent(at);
            let until = breaker.until().unwrap();
            waits.push(until - at);
            at = until;
        }
        assert_eq!(waits[0], OPEN);
        assert!(waits.is_sorted());
        assert_eq!(*waits.last().unwrap(), OPEN * 16);
    }

    #[test]
    fn a_single_attempt_that_fails_at_once_opens_it_for_longer() {
        let start = now();
        let mut breaker = Breaker::new(1, OPEN);
        assert!(breaker.silent(start));
        assert!(breaker.allows(start + OPEN));
        assert!(breaker.silent(start + OPEN));
        assert_eq!(breaker.until(), Some(start + OPEN + 2 * OPEN));
    }
}
