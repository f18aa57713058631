//! What clients did and saw, and whether that is linearizable key by key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use porcupine_rs::{CheckResult, Operation, check_operations_timeout};

use crate::book::Span;
use crate::model::{Register, Step};

/// How long the search for an order may take, wall clock.
const SEARCH_MAX: Duration = Duration::from_secs(30);

/// One operation of one client.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub client: u32,
    pub step: Step,
    pub span: Span,
}

/// Everything clients saw in one run, by key.
#[derive(Default)]
pub struct History {
    keys: BTreeMap<String, Vec<Event>>,
}

impl History {
    pub fn push(&mut self, key: &str, mut event: Event) {
        if event.step.is_unknown() {
            event.span.returned = i64::MAX;
        }
        self.keys.entry(key.to_owned()).or_default().push(event);
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// What was done to a key.
    pub fn events(&self, key: &str) -> &[Event] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// Checks every key.
    pub fn check(&self) -> Result<(), String> {
        for (key, events) in &self.keys {
            match search(events) {
                CheckResult::Ok => {}
                CheckResult::Unknown => {
                    return Err(format!(
                        "key {key}: no answer within {SEARCH_MAX:?} for {} operations",
                        events.len()
                    ));
                }
                CheckResult::Illegal => return Err(explain(key, events)),
            }
        }
        Ok(())
    }
}

fn search(events: &[Event]) -> CheckResult {
    let operation = |event: &Event| Operation::<Register> {
        client_id: Some(event.client),
        call_time: event.span.call,
        return_time: event.span.returned,
        op: event.step,
        metadata: None,
    };
    let operations: Vec<_> = events.iter().map(operation).collect();
    check_operations_timeout(&operations, SEARCH_MAX)
}

/// The shortest beginning that has no order, without the reads it does not need.
fn explain(key: &str, events: &[Event]) -> String {
    let mut ends: Vec<i64> =
        events.iter().map(|e| e.span.returned).filter(|t| *t != i64::MAX).collect();
    ends.sort_unstable();
    // A beginning without an order stays without one when it gets longer.
    let first_bad =
        ends.partition_point(|end| search(&until(events, *end)) != CheckResult::Illegal);
    let mut shown = match ends.get(first_bad) {
        Some(end) => until(events, *end),
        None => events.to_vec(),
    };
    let mut at = shown.len();
    while at > 0 {
        at -= 1;
        if !shown[at].step.is_read() {
            continue;
        }
        let mut fewer = shown.clone();
        fewer.remove(at);
        if search(&fewer) == CheckResult::Illegal {
            shown = fewer;
        }
    }
    let mut text = format!("key {key} is not linearizable; {} operations show it:", shown.len());
    for event in &shown {
        let end = match event.span.returned {
            i64::MAX => "       ?".to_owned(),
            _ => format!("{:>8}", event.span.returned_ms),
        };
        let _ = write!(
            text,
            "\n  {:>8} ms ..{end} ms  client {:>2}  {:?}",
            event.span.call_ms, event.client, event.step
        );
    }
    text
}

/// What had been answered at `end`. A write that was under way may have taken effect.
fn until(events: &[Event], end: i64) -> Vec<Event> {
    let begun = events.iter().filter(|event| event.span.call < end);
    let mut kept: Vec<Event> = begun
        .filter(|event| event.span.returned <= end || !event.step.is_read())
        .copied()
        .collect();
    for event in &mut kept {
        if event.span.returned > end {
            event.span.returned = i64::MAX;
        }
    }
    kept.sort_by_key(|event| event.span.call);
    kept
}
