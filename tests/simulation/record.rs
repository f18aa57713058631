//! What an operation and its answer say about the history.

use raftcache::service::Response;
use raftcache::types::{Answer, Consistency, Error, Found, Leased, Outcome, Reply};

use crate::book::Span;
use crate::client::{Client, Ended, Held};
use crate::counters::Seen;
use crate::fills::Leading;
use crate::history::Event;
use crate::intent::Intent;
use crate::locks::Done;
use crate::model::{If, Step, Wrote};

/// Locks that a client remembers.
const LOCKS_KNOWN_MAX: usize = 4;

fn number(found: &Found) -> u64 {
    let bytes: [u8; 8] = found.value.data[..].try_into().expect("values are numbers");
    u64::from_be_bytes(bytes)
}

fn shown(found: Option<&Found>) -> Step {
    Step::Get(found.map(|found| (number(found), found.version.0)))
}

fn wrote(response: &Response) -> Wrote {
    match response {
        Response::Written(Reply::Set { version } | Reply::Deleted { version }) => {
            Wrote::Done(version.0)
        }
        Response::Written(Reply::NotFound) => Wrote::NotFound,
        Response::Written(Reply::ConditionFailed { current } | Reply::Aborted { current, .. }) => {
            Wrote::Failed(current.map(|version| version.0))
        }
        other => panic!("no answer to a write: {other:?}"),
    }
}

fn found(response: &Response) -> Option<&Found> {
    match response {
        Response::Read { answer: Answer::Value(found), .. } => found.as_ref(),
        other => panic!("no answer to a read: {other:?}"),
    }
}

fn set(value: u64, ttl_ms: Option<u64>, condition: If, wrote: Wrote) -> Step {
    Step::Set { value, mortal: ttl_ms.is_some(), condition, wrote }
}

/// What is known of a part of a batch.
fn part(result: Result<Response, Error>, node: u64) -> Ended {
    match result {
        Ok(response) => Ended::Answered(node, response),
        Err(error) if error.outcome() == Outcome::Rejected => Ended::Rejected,
        Err(_) => Ended::Unknown,
    }
}

impl Client {
    pub(crate) fn record(
        &mut self,
        key: &str,
        intent: &Intent,
        span: Span,
        ended: &Ended,
        leading: (Leading, Leading),
    ) {
        match (intent, ended) {
            (Intent::Batch(parts), _) => self.record_batch(parts, span, ended),
            (_, Ended::Rejected) => {}
            (Intent::Get { .. }, _) => self.record_get(key, intent, span, ended),
            (Intent::SetPair { .. } | Intent::GetPair, _) => {
                self.record_pair(key, intent, span, ended);
            }
            (Intent::Add | Intent::Sum, _) => self.record_counter(key, intent, span, ended),
            (Intent::Lock { .. } | Intent::Renew { .. } | Intent::Unlock { .. }, _) => {
                self.record_lock(key, intent, span, ended);
            }
            (Intent::GetOrLease { .. } | Intent::Fill { .. }, _) => {
                self.record_fill(key, intent, span, ended, leading);
            }
            (Intent::SetLong { .. } | Intent::GetLong, _) => {
                self.record_long(key, intent, span, ended);
            }
            (&Intent::Set { value, ttl_ms, condition }, _) => {
                self.push(key, set(value, ttl_ms, condition, outcome(ended)), span);
            }
            (&Intent::Delete { condition }, _) => {
                self.push(key, Step::Delete { condition, wrote: outcome(ended) }, span);
            }
        }
    }

    /// Adds a step to the history of a key that is a register.
    fn push(&mut self, key: &str, step: Step, span: Span) {
        let slot = match key.strip_prefix("key-") {
            Some(slot) => slot.parse().ok(),
            None => (key == "pair").then_some(self.cluster.plan.keys as usize),
        };
        if let (Some(slot), Some(version)) = (slot, version_seen(&step)) {
            self.seen[slot] = version;
        }
        self.book.era.lock().history.push(key, Event { client: self.id, step, span });
    }

    fn record_get(&mut self, key: &str, intent: &Intent, span: Span, ended: &Ended) {
        let Ended::Answered(node, response) = ended else { return };
        let shown_now = shown(found(response));
        let Intent::Get { consistency: Consistency::Bounded { .. } } = intent else {
            return self.push(key, shown_now, span);
        };
        let Response::Read { freshness, .. } = response else { return };
        let version = version_seen(&shown_now);
        self.book.era.lock().bounded.push(key, *node, span, freshness.age_ms, version);
    }

    fn record_batch(&mut self, parts: &[(String, Intent)], span: Span, ended: &Ended) {
        let none = (None, None);
        let Ended::Answered(node, Response::Multi(results)) = ended else {
            for (key, intent) in parts.iter().filter(|(_, intent)| intent.writes()) {
                self.record(key, intent, span, ended, none);
            }
            return;
        };
        for ((key, intent), result) in parts.iter().zip(results) {
            let ended = part(result.clone(), *node);
            if intent.writes() || !matches!(ended, Ended::Unknown) {
                self.record(key, intent, span, &ended, none);
            }
        }
    }

    fn record_pair(&mut self, key: &str, intent: &Intent, span: Span, ended: &Ended) {
        let Intent::SetPair { value, condition } = *intent else {
            let Ended::Answered(_, Response::Multi(results)) = ended else { return };
            let seen: Vec<_> = results.iter().flatten().map(|read| shown(found(read))).collect();
            let [Step::Get(one), Step::Get(other)] = seen[..] else {
                return self.book.violated(format!("a transaction of two reads gave {results:?}"));
            };
            if one.map(|(value, _)| value) != other.map(|(value, _)| value) {
                self.book.violated(format!(
                    "INV-1: half of a transaction was seen at {} ms: {one:?} and {other:?}",
                    span.returned_ms
                ));
            }
            return self.push(key, Step::Get(one), span);
        };
        let wrote = match ended {
            Ended::Answered(_, Response::Multi(results)) => match results.first() {
                Some(Ok(first)) => wrote(first),
                other => panic!("no answer to a transaction: {other:?}"),
            },
            other => outcome(other),
        };
        self.push(key, set(value, None, condition, wrote), span);
    }

    fn record_counter(&mut self, key: &str, intent: &Intent, span: Span, ended: &Ended) {
        let seen = match (intent, ended) {
            (Intent::Add, Ended::Answered(_, Response::Written(Reply::Integer { value, .. }))) => {
                Seen::Added(*value)
            }
            (Intent::Add, Ended::Unknown) => Seen::Unknown,
            (Intent::Sum, Ended::Answered(_, response)) => {
                let text = found(response).map(|found| found.value.data.clone());
                let text = text
                    .as_deref()
                    .map_or("0", |text| std::str::from_utf8(text).expect("a counter is text"));
                Seen::Read(text.parse().expect("a counter is a number"))
            }
            (Intent::Sum, Ended::Unknown) => return,
            other => panic!("no answer to an increment: {other:?}"),
        };
        let returned = if seen == Seen::Unknown { i64::MAX } else { span.returned };
        self.book.era.lock().counters.push(key, Span { returned, ..span }, seen);
    }

    fn record_lock(&mut self, key: &str, intent: &Intent, span: Span, ended: &Ended) {
        let done = match (intent, ended) {
            (_, Ended::Unknown) => Done::Unknown,
            (
                &Intent::Lock { ttl_ms } | &Intent::Renew { ttl_ms, .. },
                Ended::Answered(_, Response::Written(Reply::Locked { token, deadline_ms })),
            ) => {
                let held = Held { key: key.to_owned(), token: token.0 };
                self.locks.retain(|known| known.key != held.key || known.token != held.token);
                self.locks.push_back(held);
                if self.locks.len() > LOCKS_KNOWN_MAX {
                    self.locks.pop_front();
                }
                Done::Held { token: token.0, deadline_ms: *deadline_ms, ttl_ms }
            }
            (
                Intent::Unlock { token },
                Ended::Answered(_, Response::Written(Reply::Deleted { version })),
            ) => {
                assert_eq!(version.0, *token, "what is given back is what was held");
                Done::Freed { token: version.0 }
            }
            (
                _,
                Ended::Answered(
                    _,
                    Response::Written(Reply::LockHeld { .. } | Reply::NotHeld { .. }),
                ),
            ) => return,
            other => panic!("no answer about a lock: {other:?}"),
        };
        let returned = if done == Done::Unknown { i64::MAX } else { span.returned };
        self.book.era.lock().locks.push(key, self.id, Span { returned, ..span }, done);
    }

    fn record_fill(
        &mut self,
        key: &str,
        intent: &Intent,
        span: Span,
        ended: &Ended,
        leading: (Leading, Leading),
    ) {
        if let Intent::Fill { value, token, .. } = *intent {
            let wrote = outcome(ended);
            if matches!(wrote, Wrote::Done(_)) {
                self.book.era.lock().fills.stored(key, token, span);
            }
            return self.push(key, set(value, None, If::Always, wrote), span);
        }
        let Ended::Answered(_, Response::Leased(leased)) = ended else { return };
        let seen = match leased.as_ref() {
            Leased::Hit(found) | Leased::Stale { found, .. } => Some(found),
            Leased::Fill { token, token_ms, found } => {
                self.fill = Some(Held { key: key.to_owned(), token: *token });
                self.book.era.lock().fills.given(key, (*token, *token_ms), span, leading);
                found.as_ref()
            }
            Leased::Busy => {
                self.book.counts.lock().busy += 1;
                return;
            }
        };
        self.push(key, shown(seen), span);
    }

    fn record_long(&mut self, key: &str, intent: &Intent, span: Span, ended: &Ended) {
        let Ended::Answered(_, response) = ended else { return };
        let lifetimes = &mut self.book.era.lock().lifetimes;
        match intent {
            Intent::SetLong { .. } => lifetimes.set(key, span),
            _ if found(response).is_none() => lifetimes.missed(key, span),
            _ => {}
        }
    }
}

/// What became of a write of one key that was not rejected.
fn outcome(ended: &Ended) -> Wrote {
    match ended {
        Ended::Answered(_, response) => wrote(response),
        Ended::Unknown | Ended::Rejected => Wrote::Unknown,
    }
}

fn version_seen(step: &Step) -> Option<u64> {
    match step {
        Step::Get(found) => found.map(|(_, version)| version),
        Step::Set { wrote, .. } | Step::Delete { wrote, .. } => match wrote {
            Wrote::Done(version) => Some(*version),
            Wrote::Failed(current) => *current,
            Wrote::NotFound | Wrote::Unknown => None,
        },
    }
}
