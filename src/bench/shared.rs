//! What the callers share, and what each counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::drive::Outcome;
use super::options::Options;
use crate::types::clock::{Instant, now};

/// In a closed loop: who has waited so long for an answer when the run ends has got none. A hang would
/// not be seen at all otherwise, because what is never answered is never measured.
const HUNG: Duration = Duration::from_secs(1);

/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Counted by one caller.
#[derive(Debug)]
pub struct Tally {
    /// Latencies of successful operations, microseconds.
    pub latencies: Histogram<u64>,
    /// Of these, reads that found nothing.
    pub missed: u64,
    /// Failed operations while measuring.
    pub errors: u64,
    /// One of the failures.
    pub example: Option<String>,
}

impl Default for Tally {
    /// Nothing counted.
    fn default() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("the bounds are constants that fit");
        Tally { latencies, missed: 0, errors: 0, example: None }
    }
}

/// When operations fall due: at even distances, whatever became of earlier ones. Without it a
/// system that stalls would be asked less while it stalls, and most of what its users would have
/// waited for would never be measured ("coordinated omission", Gil Tene).
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    nanos_apart: f64,
    taken: AtomicU64,
    /// How many fall due in all.
    count: u64,
}

impl Pace {
    /// `rate` a second for `length`.
    pub fn new(start: Instant, rate: f64, length: Duration) -> Self {
        let count = (length.as_secs_f64() * rate).round() as u64;
        Pace { start, nanos_apart: 1e9 / rate, taken: AtomicU64::new(0), count }
    }

    /// When the next one is due; `None` if none is any more.
    pub fn take(&self) -> Option<Instant> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let after = Duration::from_nanos((number as f64 * self.nanos_apart) as u64);
        (number < self.count).then(|| self.start + after)
    }

    /// Those that nobody took.
    pub fn left(&self) -> u64 {
        self.count.saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

/// Shared by all callers of a run.
#[derive(Debug)]
pub struct Shared {
    /// If at a rate.
    pub pace: Option<Pace>,
    /// What is due, or answered in a closed loop, before this is not measured.
    pub measure_from: Instant,
    /// What is answered after this in a closed loop is not measured; at a rate nothing is due.
    pub measure_until: Instant,
    /// Nobody waits for an answer longer.
    pub give_up_at: Instant,
    stop: AtomicBool,
    pub(super) done: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Shared {
    /// A run that begins now. At a rate, answers are waited for after its end, for `drain` at most.
    pub fn new(options: &Options, drain: Duration) -> Self {
        let start = now();
        let (from, length) = (start + options.warmup, options.warmup + options.duration);
        let until = start + length;
        Shared {
            pace: options.rate.map(|rate| Pace::new(start, rate, length)),
            measure_from: from,
            measure_until: until,
            give_up_at: if options.rate.is_some() { until + drain } else { until },
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Everyone stops.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether nobody waits for anything any more.
    pub fn is_over(&self) -> bool {
        self.stopped() || now() >= self.give_up_at
    }

    /// Whether an operation that began, or was due, at `began` and ended at `ended` counts.
    fn counts(&self, began: Instant, ended: Instant) -> bool {
        let measured = if self.pace.is_some() { began } else { ended };
        self.measure_from <= measured && measured < self.measure_until
    }

    /// Counts an operation that ended now.
    pub fn count(&self, tally: &mut Tally, began: Instant, outcome: Outcome) {
        let ended = now();
        if !self.counts(began, ended) {
            return;
        }
        match outcome {
            Outcome::Failed(failure) => return self.failed(tally, failure),
            Outcome::Missed => tally.missed += 1,
            Outcome::Done => {}
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from((ended - began).as_micros()).unwrap_or(LATENCY_US_MAX);
        tally.latencies.saturating_record(micros.max(1));
    }

    fn failed(&self, tally: &mut Tally, failure: String) {
        tally.errors += 1;
        self.errors.fetch_add(1, Ordering::Relaxed);
        tally.example.get_or_insert(failure);
    }

    /// Counts an operation that began, or was due, and got no answer as long as anyone waited.
    pub fn unanswered(&self, tally: &mut Tally, began: Instant) {
        let waited = now() - began;
        if self.pace.is_some() {
            let text = "no answer before the end of the run".to_owned();
            self.count(tally, began, Outcome::Failed(text));
        } else if waited >= HUNG {
            self.failed(
                tally,
                format!("no answer for {:.1} s at the end of the run", waited.as_secs_f64()),
            );
        }
    }
}
