//! Locks: one owner at a time by log time, a time that is not cut short, and tokens that grow.

use std::collections::BTreeMap;

use crate::book::{Counts, Span};
use crate::lifetimes::earliest_end;
use crate::plan::{Bug, Plan};

/// What became of a command about a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Taken or held for longer: the token, and when it ends by log time.
    Held { token: u64, deadline_ms: u64, ttl_ms: u64 },
    /// Given back.
    Freed { token: u64 },
    /// It may have been held for longer, shorter, or given back.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    owner: u32,
    span: Span,
    done: Done,
}

/// One holder of a lock, by its token.
#[derive(Debug)]
struct Holder {
    owner: u32,
    token: u64,
    /// Log time of its first known and its last known entry, and when the lock ends by the last.
    first_ms: u64,
    last_ms: u64,
    deadline_ms: u64,
    /// Of the same: call, and for how long it was asked for.
    last_call_ms: u64,
    ttl_ms: u64,
    /// First return of a command that was granted, and first call of any.
    granted: i64,
    granted_ms: u64,
    called: i64,
}

/// What was done to the locks of a run.
#[derive(Default)]
pub struct Locks {
    keys: BTreeMap<String, Vec<Event>>,
    /// Newest token of each lock from before the groups last began empty.
    tokens_before: BTreeMap<String, u64>,
}

impl Locks {
    pub fn push(&mut self, key: &str, owner: u32, span: Span, done: Done) {
        self.keys.entry(key.to_owned()).or_default().push(Event { owner, span, done });
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Tokens go on growing in a new generation.
    pub fn tokens_of_before(&mut self, before: &Locks) {
        self.tokens_before = before.tokens_before.clone();
        for (key, events) in &before.keys {
            let newest = self.tokens_before.entry(key.clone()).or_default();
            for holder in holders(events) {
                *newest = holder.token.max(*newest);
            }
        }
    }

    pub fn check(&self, plan: &Plan, counts: &mut Counts) -> Vec<String> {
        let real_time = plan.looks_for(Bug::MajorityClock);
        let mut violations = Vec::new();
        for (key, events) in &self.keys {
            let before = self.tokens_before.get(key).copied().unwrap_or(0);
            match check(events, before, real_time) {
                Ok(ended) => counts.locks_ended += ended,
                Err(problem) => violations.push(format!("lock {key}: {problem}")),
            }
        }
        violations
    }
}

/// The holders that are known, by their tokens.
fn holders(events: &[Event]) -> Vec<Holder> {
    let mut holders: BTreeMap<u64, Holder> = BTreeMap::new();
    for event in events {
        let Done::Held { token, deadline_ms, ttl_ms } = event.done else { continue };
        let (span, at_ms) = (event.span, deadline_ms - ttl_ms);
        let holder = holders.entry(token).or_insert(Holder {
            owner: event.owner,
            token,
            first_ms: at_ms,
            last_ms: at_ms,
            deadline_ms,
            last_call_ms: span.call_ms,
            ttl_ms,
            granted: span.returned,
            granted_ms: span.returned_ms,
            called: span.call,
        });
        holder.first_ms = holder.first_ms.min(at_ms);
        holder.called = holder.called.min(span.call);
        if span.returned < holder.granted {
            (holder.granted, holder.granted_ms) = (span.returned, span.returned_ms);
        }
        // One client does one thing after another, so calls are in the order of the log.
        if span.call_ms >= holder.last_call_ms {
            holder.last_ms = at_ms;
            holder.deadline_ms = deadline_ms;
            (holder.last_call_ms, holder.ttl_ms) = (span.call_ms, ttl_ms);
        }
    }
    holders.into_values().collect()
}

/// How many locks went to another owner because their time was over.
fn check(events: &[Event], token_before: u64, real_time: bool) -> Result<u64, String> {
    let holders = holders(events);
    for event in events {
        if let Done::Held { token, .. } = event.done
            && let Some(holder) = holders.iter().find(|holder| holder.token == token)
            && holder.owner != event.owner
        {
            return Err(format!("one token for two owners: {holder:?} and {event:?}"));
        }
    }
    if let Some(holder) = holders.iter().find(|holder| holder.token <= token_before) {
        return Err(format!("a token no newer than {token_before} of before: {holder:?}"));
    }
    let mut ended = 0;
    for (i, later) in holders.iter().enumerate() {
        for earlier in &holders[..i] {
            if later.granted < earlier.called {
                return Err(format!("tokens go back: {later:?} came before {earlier:?}"));
            }
            if earlier.last_ms > later.first_ms {
                return Err(format!("held for longer after it was lost: {earlier:?}, {later:?}"));
            }
            if let_go(events, earlier) {
                continue;
            }
            if earlier.deadline_ms > later.first_ms {
                return Err(format!("two owners at a time: {earlier:?} and {later:?}"));
            }
            let earliest = earliest_end(earlier.last_call_ms, earlier.ttl_ms);
            if real_time && later.granted_ms < earliest {
                return Err(format!(
                    "another owner before its time was over, which is not before {earliest} ms: \
                     {earlier:?} and {later:?}"
                ));
            }
            ended += 1;
        }
    }
    Ok(ended)
}

/// Whether its owner may have given it back, or have asked for another end.
fn let_go(events: &[Event], holder: &Holder) -> bool {
    events.iter().any(|event| match event.done {
        Done::Freed { token } => token == holder.token,
        // It may take effect long after its caller gave it up.
        Done::Unknown => event.owner == holder.owner,
        Done::Held { .. } => false,
    })
}
