//! What a group remembers of requests that may come again (INV-6): two memories, so that callers who
//! choose request ids cannot push out what the nodes need for their own retries.
//!
//! Both age by the **age** of the group and not by log time, which a leader's clock can make leap:
//! each log entry adds the growth of log time, but at most `AGE_STEP_MS_MAX`.

use std::sync::Arc;

use super::digest::fold;
use super::session::{Seen, Session, Slots};
use super::sessions::{Moment, SessionPart, Sessions};
use super::slot_set::SlotSet;
use crate::types::countermeasure::{Countermeasure, taken_out};
use crate::types::limits::AGE_STEP_MS_MAX;
use crate::types::{Asker, Once, Reply};

/// See the module's text.
#[derive(Debug)]
pub struct RetryMemory {
    /// Milliseconds. Invariant: only grows, by at most `AGE_STEP_MS_MAX` an entry.
    age_ms: u64,
    nodes: Sessions,
    callers: Sessions,
}

/// What a snapshot says of both memories, besides their sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ages {
    /// Age of the group, milliseconds.
    pub age_ms: u64,
    /// What was forgotten of nodes (`Sessions::forgotten_ms`).
    pub nodes_forgotten_ms: u64,
    /// What was forgotten of callers.
    pub callers_forgotten_ms: u64,
}

impl RetryMemory {
    /// Nothing; `seed` is that of the group's key hash.
    pub fn new(seed: u64) -> Self {
        RetryMemory { age_ms: 0, nodes: Sessions::new(seed), callers: Sessions::new(seed) }
    }

    /// A log entry made log time grow by so much.
    pub fn pass(&mut self, log_time_grew_ms: u64) {
        if taken_out(Countermeasure::RetryBeforeExpiry) {
            self.age_ms = self.age_ms.saturating_add(log_time_grew_ms);
            return self.settle();
        }
        self.age_ms = self.age_ms.saturating_add(log_time_grew_ms.min(AGE_STEP_MS_MAX));
    }

    /// What is known of a write, of which `version` is the first version.
    pub fn look(&mut self, once: &Once, slots: &Slots, version: u64) -> Seen {
        let now = Moment { version, age_ms: self.age_ms };
        self.of_mut(once.asker).look(once, slots, now)
    }

    /// Remembers the first reply to a write that `look` called new.
    pub fn remember(&mut self, once: &Once, slots: Slots, reply: &Reply, version: u64) {
        let now = Moment { version, age_ms: self.age_ms };
        self.of_mut(once.asker).remember(once, slots, reply, now);
    }

    /// All writes of an entry were looked up: what is too old or too much goes.
    pub fn settle(&mut self) {
        self.nodes.settle(self.age_ms);
        self.callers.settle(self.age_ms);
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.nodes.len() + self.callers.len()
    }

    /// Whether no session is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they count for.
    pub fn bytes(&self) -> usize {
        self.nodes.bytes() + self.callers.bytes()
    }

    /// Hash of all that decides a later answer.
    pub fn digest(&self) -> u64 {
        fold(&[self.age_ms, self.nodes.digest(), self.callers.digest()])
    }

    /// What a group that takes these slots over must know.
    pub fn of_slots(&self, slots: &SlotSet) -> Vec<(Asker, SessionPart<'_>)> {
        let of = |asker: Asker| {
            let parts = self.of(asker).of_slots(slots);
            parts.into_iter().map(move |part| (asker, part))
        };
        of(Asker::Node).chain(of(Asker::Caller)).collect()
    }

    /// Age and what was forgotten.
    pub fn ages(&self) -> Ages {
        Ages {
            age_ms: self.age_ms,
            nodes_forgotten_ms: self.nodes.forgotten_ms(),
            callers_forgotten_ms: self.callers.forgotten_ms(),
        }
    }

    /// A memory without sessions yet, of a snapshot.
    pub fn of_ages(seed: u64, ages: Ages) -> Self {
        let mut memory = RetryMemory { age_ms: ages.age_ms, ..RetryMemory::new(seed) };
        memory.nodes.import_forgotten_ms(ages.nodes_forgotten_ms);
        memory.callers.import_forgotten_ms(ages.callers_forgotten_ms);
        memory
    }

    /// The sessions as they are now, in the order in which `import` takes them.
    pub fn export(&self) -> Vec<(Asker, u128, Arc<Session>)> {
        let of = |asker: Asker| {
            self.of(asker).export().into_iter().map(move |(id, session)| (asker, id, session))
        };
        of(Asker::Node).chain(of(Asker::Caller)).collect()
    }

    /// Takes in a session of a snapshot; false if it breaks a bound.
    pub fn import(&mut self, asker: Asker, id: u128, session: Session) -> bool {
        let used_before = session.used_age_ms <= self.age_ms;
        used_before && self.of_mut(asker).import(id, session)
    }

    fn of(&self, asker: Asker) -> &Sessions {
        match asker {
            Asker::Node => &self.nodes,
            Asker::Caller => &self.callers,
        }
    }

    fn of_mut(&mut self, asker: Asker) -> &mut Sessions {
        match asker {
            Asker::Node => &mut self.nodes,
            Asker::Caller => &mut self.callers,
        }
    }
}
