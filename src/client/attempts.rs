//! What one operation has gone through so far, and what follows from it. Pure: the retry rules of
//! the client stand here and nowhere else (INV-5, INV-6).

use std::time::Duration;

use super::error::{Error, Failure};
use super::options::Options;
use crate::types::Outcome;

/// Hints followed in a row without a pause: two nodes that point at each other must not make a
/// busy loop.
const HINTS_IN_A_ROW_MAX: u32 = 3;
/// Doublings of the pause.
const DOUBLINGS_MAX: u32 = 16;

/// What to do after an attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// This is the answer.
    Answer(Error),
    /// Try at this node now: its id and address.
    Follow(u64, String),
    /// Try again after this long.
    Pause(Duration),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Attempts {
    write: bool,
    attempts_max: u32,
    pause_min: Duration,
    pause_max: Duration,
    made: u32,
    hints_in_a_row: u32,
    pauses: u32,
    /// The first failure after which a write may have been applied. Once set it stays: a later
    /// attempt that is rejected says nothing of the earlier one.
    unknown: Option<Failure>,
    last: Option<Failure>,
}

impl Attempts {
    /// None made yet.
    pub fn new(write: bool, options: &Options) -> Self {
        Attempts {
            write,
            attempts_max: options.attempts_max,
            pause_min: options.pause_min,
            pause_max: options.pause_max,
            made: 0,
            hints_in_a_row: 0,
            pauses: 0,
            unknown: None,
            last: None,
        }
    }

    /// Attempts that failed so far.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// What becomes of a part of the operation that failed in this attempt for good, while the rest may
    /// go on. As for the whole: what was unknown once stays so.
    pub fn final_error(&self, failure: Failure, write: bool) -> Error {
        let lost = self.unknown.is_some() || failure.outcome == Outcome::Unknown;
        Error {
            outcome: if write && lost { Outcome::Unknown } else { Outcome::Rejected },
            reason: failure.reason,
            message: failure.message,
            field: failure.field,
            retry_after: failure.retry_after,
            attempts: self.made + 1,
        }
    }

    /// An attempt failed; `random` is of 0 to 1.
    pub fn failed(&mut self, failure: Failure, random: f64) -> Next {
        self.made += 1;
        if self.write && self.unknown.is_none() && failure.outcome == Outcome::Unknown {
            self.unknown = Some(failure.clone());
        }
        let next = match &failure.leader {
            _ if !failure.again() || self.made >= self.attempts_max => None,
            Some((node, address))
                if !address.is_empty() && self.hints_in_a_row < HINTS_IN_A_ROW_MAX =>
            {
                self.hints_in_a_row += 1;
                Some(Next::Follow(*node, address.clone()))
            }
            _ => {
                self.hints_in_a_row = 0;
                Some(Next::Pause(self.pause(failure.retry_after, random)))
            }
        };
        self.last = Some(failure);
        next.unwrap_or_else(|| Next::Answer(self.error(None)))
    }

    /// Half of it is certain, half drawn, so that callers who failed together come back apart; what
    /// the node asked for is the least, and is spread upwards.
    fn pause(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let doubled = self.pause_min.saturating_mul(1 << self.pauses.min(DOUBLINGS_MAX));
        self.pauses += 1;
        let own = doubled.min(self.pause_max).mul_f64(0.5 + random / 2.0);
        asked.map_or(own, |asked| own.max(asked.mul_f64(1.0 + random / 4.0)))
    }

    /// There is no time for another attempt.
    pub fn out_of_time(&self) -> Error {
        self.error(Some("the deadline passed"))
    }

    fn error(&self, because: Option<&str>) -> Error {
        let reason = match (&self.unknown, &self.last) {
            // Reads change nothing.
            (Some(unknown), _) => unknown,
            (None, Some(last)) => last,
            (None, None) => return Error::rejected("deadline", because.unwrap_or("no attempt")),
        };
        let mut message = reason.message.clone();
        if let (Some(_), Some(last)) = (&self.unknown, &self.last)
            && last.message != reason.message
        {
            message = format!("{message}; then {}: {}", last.reason, last.message);
        }
        if let Some(because) = because {
            message = format!("{because}; {message}");
        }
        let outcome = if self.unknown.is_some() { Outcome::Unknown } else { Outcome::Rejected };
        Error {
            outcome,
            reason: reason.reason.clone(),
            message,
            field: reason.field.clone(),
            retry_after: self.last.as_ref().and_then(|last| last.retry_after),
            attempts: self.made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(write: bool) -> Attempts {
        Attempts::new(write, &Options { attempts_max: 5, ..Options::new(["a:1"]) })
    }

    fn told(reason: &str, outcome: Outcome, retryable: bool) -> Failure {
        Failure {
            outcome,
            reason: reason.to_owned(),
            message: reason.to_owned(),
            field: String::new(),
            retry_after: None,
            retryable,
            leader: None,
            silent: false,
            unasked: false,
        }
    }

    fn answer(next: Next) -> Error {
        match next {
            Next::Answer(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn once_unknown_a_write_stays_unknown() {
        let mut write = attempts(true);
        let lost = Failure::silent(true, "connection reset");
        assert!(matches!(write.failed(lost, 0.5), Next::Pause(_)));
        let error = answer(write.failed(told("too_large", Outcome::Rejected, false), 0.5));
        assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Unknown, "lost"));
        assert!(error.message.contains("then too_large"), "{error}");
        assert_eq!(error.attempts, 2);

        let mut read = attempts(false);
        read.failed(Failure::silent(true, "connection reset"), 0.5);
        assert_eq!(read.out_of_time().outcome, Outcome::Rejected, "a read changes nothing");
    }

    #[test]
    fn what_was_never_sent_is_rejected() {
        let mut write = attempts(true);
        for _ in 0..4 {
            let refused = Failure::silent(false, "connection refused");
            assert!(matches!(write.failed(refused, 0.5), Next::Pause(_)));
        }
        let error = answer(write.failed(Failure::silent(false, "connection refused"), 0.5));
        assert_eq!((error.outcome, error.attempts), (Outcome::Rejected, 5), "bounded");
        assert_eq!(attempts(true).out_of_time().outcome, Outcome::Rejected);
    }

    #[test]
    fn hints_are_followed_a_few_times_and_then_with_a_pause() {
        let mut write = Attempts::new(true, &Options::new(["a:1"]));
        let hint = || Failure {
            leader: Some((2, "b:2".to_owned())),
            ..told("not_leader", Outcome::Rejected, true)
        };
        for _ in 0..HINTS_IN_A_ROW_MAX {
            assert_eq!(write.failed(hint(), 0.5), Next::Follow(2, "b:2".to_owned()));
        }
        assert!(matches!(write.failed(hint(), 0.5), Next::Pause(_)));
        let nowhere = Failure { leader: Some((2, String::new())), ..hint() };
        assert!(matches!(write.failed(nowhere, 0.5), Next::Pause(_)));
    }

    #[test]
    fn pauses_grow_are_drawn_and_honour_what_a_node_asks_for() {
        let options = Options { attempts_max: 100, ..Options::new(["a:1"]) };
        let mut pauses = Vec::new();
        let mut write = Attempts::new(true, &options);
        for _ in 0..40 {
            match write.failed(told("no_leader", Outcome::Rejected, true), 0.0) {
                Next::Pause(pause) => pauses.push(pause),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses[0], options.pause_min / 2);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[39], options.pause_max / 2);
        let asked = Duration::from_secs(2);
        let full = Failure {
            retry_after: Some(asked),
            ..told("resource_exhausted", Outcome::Rejected, true)
        };
        assert_eq!(write.failed(full.clone(), 0.0), Next::Pause(asked));
        assert_eq!(write.failed(full, 1.0), Next::Pause(asked.mul_f64(1.25)));
    }

    #[test]
    fn a_wrong_request_is_told_at_once() {
        let mut write = attempts(true);
        let error = answer(write.failed(told("invalid_argument", Outcome::Rejected, false), 0.5));
        assert_eq!((error.attempts, error.outcome), (1, Outcome::Rejected));
        let expired = told("session_expired", Outcome::Unknown, false);
        assert_eq!(answer(attempts(true).failed(expired, 0.5)).outcome, Outcome::Unknown);
    }
}
