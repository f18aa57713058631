//! Bounded reads: what a replica showed, under the age that it claimed, against what had been
//! acknowledged that long before the call.

use crate::book::{Counts, Span};
use crate::history::{Event, History};
use crate::model::{Step, Wrote};
use crate::plan::{Bug, Plan};

/// Ages and times are in whole milliseconds.
const ROUNDING_MS: u64 = 2;

/// One such read.
#[derive(Clone, Debug)]
struct Read {
    key: String,
    node: u64,
    span: Span,
    age_ms: u64,
    /// Version that was shown.
    shown: Option<u64>,
}

/// Those of a run.
#[derive(Default)]
pub struct BoundedReads {
    reads: Vec<Read>,
}

impl BoundedReads {
    pub fn push(&mut self, key: &str, node: u64, span: Span, age_ms: u64, shown: Option<u64>) {
        self.reads.push(Read { key: key.to_owned(), node, span, age_ms, shown });
    }

    pub fn len(&self) -> usize {
        self.reads.len()
    }

    pub fn check(&self, history: &History, plan: &Plan, counts: &mut Counts) -> Vec<String> {
        counts.bounded += self.reads.iter().filter(|read| read.age_ms > 0).count() as u64;
        if !plan.looks_for(Bug::EchoLife) {
            return Vec::new();
        }
        self.reads.iter().filter_map(|read| read.check(history.events(&read.key)).err()).collect()
    }
}

impl Read {
    fn check(&self, events: &[Event]) -> Result<(), String> {
        let Some(as_of) = self.span.call_ms.checked_sub(self.age_ms + ROUNDING_MS) else {
            return Ok(());
        };
        let before = events
            .iter()
            .filter(|event| event.span.returned != i64::MAX && event.span.returned_ms < as_of);
        for event in before {
            let missed = match event.step {
                Step::Set { wrote: Wrote::Done(version), .. } => self.misses_set(version, events),
                Step::Delete { wrote: Wrote::Done(version), .. } => {
                    self.shown.is_some_and(|shown| shown <= version)
                }
                _ => false,
            };
            if missed {
                return Err(format!(
                    "bounded read of {} at n{}, {}..{} ms, claims an age of {} ms and shows version \
                     {:?}, without what was acknowledged {} ms before it: {:?}",
                    self.key,
                    self.node,
                    self.span.call_ms,
                    self.span.returned_ms,
                    self.age_ms,
                    self.shown,
                    self.span.call_ms - event.span.returned_ms,
                    event.step,
                ));
            }
        }
        Ok(())
    }

    /// What is shown is older than this set, or is its absence without anybody who took it away.
    fn misses_set(&self, version: u64, events: &[Event]) -> bool {
        if let Some(shown) = self.shown {
            return shown < version;
        }
        let may_have_removed = |event: &Event| {
            let removes = match event.step {
                Step::Delete { wrote: Wrote::Done(removed), .. } => removed >= version,
                Step::Delete { wrote: Wrote::Unknown, .. } => true,
                _ => false,
            };
            removes && event.span.call < self.span.returned
        };
        !events.iter().any(may_have_removed)
    }
}
