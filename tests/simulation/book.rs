//! What all clients of a run share: the order of things, what they did and saw, what was violated.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use raftcache::types::clock::{Instant, now};

use crate::bounded::BoundedReads;
use crate::counters::Counters;
use crate::fills::Fills;
use crate::history::History;
use crate::lifetimes::Lifetimes;
use crate::locks::Locks;
use crate::plan::Plan;
use crate::trace::Trace;

/// How operations ended.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub ok: u64,
    pub rejected: u64,
    pub unknown: u64,
    /// Tries again under the same request id.
    pub retries: u64,
    /// Operations sent again long after they had been answered.
    pub late_retries: u64,
    /// Bounded reads whose age was held against the history, with an age above 0.
    pub bounded: u64,
    /// Locks that went to a new owner because their time was over.
    pub locks_ended: u64,
    /// Callers that were told that another one fills the key.
    pub busy: u64,
}

/// All that is known of the time since the groups last began empty.
#[derive(Default)]
pub struct Era {
    pub history: History,
    pub counters: Counters,
    pub bounded: BoundedReads,
    pub locks: Locks,
    pub fills: Fills,
    pub lifetimes: Lifetimes,
}

impl Era {
    fn check(&self, plan: &Plan, counts: &mut Counts) -> Vec<String> {
        let mut violations = Vec::new();
        violations.extend(self.history.check().err());
        violations.extend(self.counters.check());
        violations.extend(self.bounded.check(&self.history, plan, counts));
        violations.extend(self.locks.check(plan, counts));
        violations.extend(self.fills.check(&self.history));
        violations.extend(self.lifetimes.check(plan));
        violations
    }

    fn operations(&self) -> usize {
        self.history.len() + self.counters.len() + self.bounded.len() + self.locks.len()
    }
}

/// Position and time of a call and of its return.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Position of the call among all calls and returns of the run.
    pub call: i64,
    /// Position of the return; `i64::MAX` if it never surely ended.
    pub returned: i64,
    /// Virtual time of the call, milliseconds.
    pub call_ms: u64,
    /// Virtual time of the return, milliseconds.
    pub returned_ms: u64,
}

/// What all clients of a run share.
pub struct Book {
    pub trace: Trace,
    /// All of these are held for moments.
    pub era: Mutex<Era>,
    pub counts: Mutex<Counts>,
    violations: Mutex<Vec<String>>,
    checked: Mutex<usize>,
    /// Clients hold it for reading while they do one operation: who holds it for writing has them
    /// all at rest. A tokio lock: held across awaits.
    pub rest: tokio::sync::RwLock<()>,
    started: Instant,
    position: AtomicI64,
    era_number: AtomicU64,
}

impl Book {
    pub fn new() -> Arc<Self> {
        Arc::new(Book {
            trace: Trace::default(),
            era: Mutex::default(),
            counts: Mutex::default(),
            violations: Mutex::default(),
            checked: Mutex::default(),
            rest: tokio::sync::RwLock::default(),
            started: now(),
            position: AtomicI64::new(0),
            era_number: AtomicU64::new(0),
        })
    }

    /// A call begins.
    pub fn begin(&self) -> Span {
        let (call, call_ms) = (self.next_position(), self.now_ms());
        Span { call, returned: i64::MAX, call_ms, returned_ms: call_ms }
    }

    /// It has ended.
    pub fn end(&self, span: Span) -> Span {
        Span { returned: self.next_position(), returned_ms: self.now_ms(), ..span }
    }

    fn next_position(&self) -> i64 {
        self.position.fetch_add(1, Ordering::SeqCst)
    }

    pub fn now_ms(&self) -> u64 {
        (now() - self.started).as_millis() as u64
    }

    /// Notes something that happened.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note((now() - self.started).as_nanos(), what);
    }

    pub fn violated(&self, what: String) {
        self.note(format_args!("violated: {what}"));
        self.violations.lock().push(what);
    }

    /// Grows whenever the groups begin again empty: what clients remember is worth nothing then.
    pub fn era_number(&self) -> u64 {
        self.era_number.load(Ordering::SeqCst)
    }

    /// The groups have begun again empty while all clients were at rest: checks what was, and begins
    /// anew.
    pub fn begin_era(&self, plan: &Plan) {
        self.check(plan);
        let before = std::mem::take(&mut *self.era.lock());
        self.era.lock().locks.tokens_of_before(&before.locks);
        self.era_number.fetch_add(1, Ordering::SeqCst);
    }

    fn check(&self, plan: &Plan) {
        let era = self.era.lock();
        *self.checked.lock() += era.operations();
        let found = era.check(plan, &mut self.counts.lock());
        drop(era);
        for violation in found {
            self.violated(violation);
        }
    }

    /// Checks what has not been yet; everything that was violated, and how many operations were
    /// checked.
    pub fn close(&self, plan: &Plan) -> (Vec<String>, usize) {
        self.check(plan);
        (std::mem::take(&mut *self.violations.lock()), *self.checked.lock())
    }
}
