//! Keys that live for half an hour: none ends early, whoever leads and whatever its clock says.

use crate::book::Span;
use crate::plan::{Bug, Plan};

/// How long such a key lives.
pub const LONG_MS: u64 = 30 * 60 * 1_000;

/// A time to live may end this much early, and by this share of it, on slow links.
const EARLY_MS_MAX: u64 = 1_250;
const EARLY_PER_MILLE_MAX: u64 = 2;

/// The earliest moment at which what was given this long at `call_ms` may end.
pub fn earliest_end(call_ms: u64, ttl_ms: u64) -> u64 {
    let early = EARLY_MS_MAX + ttl_ms * EARLY_PER_MILLE_MAX / 1_000;
    (call_ms + ttl_ms).saturating_sub(early)
}

/// What was done to such keys. Nobody deletes them.
#[derive(Default)]
pub struct Lifetimes {
    sets: Vec<(String, Span)>,
    misses: Vec<(String, Span)>,
}

impl Lifetimes {
    /// A set was acknowledged.
    pub fn set(&mut self, key: &str, span: Span) {
        self.sets.push((key.to_owned(), span));
    }

    /// A read found nothing.
    pub fn missed(&mut self, key: &str, span: Span) {
        self.misses.push((key.to_owned(), span));
    }

    pub fn check(&self, plan: &Plan) -> Vec<String> {
        if !plan.looks_for(Bug::MajorityClock) {
            return Vec::new();
        }
        let early = |(key, miss): &(String, Span)| {
            let set = self.sets.iter().find(|(other, set)| {
                other == key
                    && set.returned < miss.call
                    && miss.returned_ms < earliest_end(set.call_ms, LONG_MS)
            })?;
            Some(format!(
                "{key} ended too early: set at {}..{} ms for {LONG_MS} ms, absent at {}..{} ms",
                set.1.call_ms, set.1.returned_ms, miss.call_ms, miss.returned_ms
            ))
        };
        self.misses.iter().filter_map(early).collect()
    }
}
