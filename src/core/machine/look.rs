//! What reads, metrics and the comparison of replicas ask of the machine. Nothing here changes it.

use std::ops::Range;

use bytes::Bytes;

use super::Machine;
use crate::core::digest::fold;
use crate::core::eviction::Eviction;
use crate::core::keyspace::{Entry, NEVER};
use crate::core::slot_set::SlotSet;
use crate::types::{Answer, Found, Meta, Query, Value, Version};

/// What a read finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The key is alive.
    Found(Found),
    /// There is no such key, or its deadline is not after log time.
    Absent,
    /// The deadline (milliseconds) lies between log time and the leader's clock: propose a `Tick`,
    /// wait until it is applied, and look again.
    DueAt(u64),
}

/// A deadline (milliseconds) between log time and the leader's clock: propose a `Tick`, wait until it
/// is applied, and read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due(pub u64);

/// Bytes from `start` to `end`, both included, of a value: `Query::GetRange`.
fn byte_range(len: usize, start: i64, end: i64) -> Range<usize> {
    let len = i64::try_from(len).expect("values are bounded");
    let from_end = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    // Two negative ends in the wrong order are nothing even where both lie before the value.
    let nothing = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if nothing || start > end {
        return 0..0;
    }
    let at = |at: i64| usize::try_from(at).expect("between 0 and the length");
    at(start)..at(end) + 1
}

/// Counters and gauges of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MachineStats {
    /// Cache entries held, those that expired and are not yet reaped included.
    pub keys: u64,
    /// Of them, entries with a deadline.
    pub keys_with_deadline: u64,
    /// Logical bytes held.
    pub bytes: u64,
    /// Limit of logical bytes.
    pub bytes_max: u64,
    /// Cache entries evicted since this replica started; not replicated.
    pub evictions: u64,
    /// Cache entries expired and reaped since this replica started; not replicated.
    pub expirations: u64,
    /// Touches that found a key since this replica started; not replicated.
    pub touches: u64,
    /// Sessions remembered.
    pub sessions: u64,
    /// Bytes that they count for, values in remembered replies included.
    pub session_bytes: u64,
    /// Locks held, those that expired and are not yet reaped included.
    pub locks: u64,
    /// Log time, milliseconds.
    pub log_time_ms: u64,
}

impl Machine {
    /// Looks a key up. A key is alive iff its deadline is after log time. `leader_now_ms` is the
    /// leader's clock; followers pass 0 and never see `DueAt`.
    pub fn get(&self, key: &[u8], leader_now_ms: u64) -> Lookup {
        match self.look(key, leader_now_ms) {
            Err(Due(deadline_ms)) => Lookup::DueAt(deadline_ms),
            Ok(None) => Lookup::Absent,
            Ok(Some(entry)) => Lookup::Found(self.show(entry, entry.value(), leader_now_ms)),
        }
    }

    /// Answers a read. `leader_now_ms` as in `get`.
    ///
    /// # Errors
    /// `Due` if a deadline that decides the answer lies between log time and the leader's clock.
    pub fn read(&self, query: &Query, leader_now_ms: u64) -> Result<Answer, Due> {
        match query {
            Query::Get { key } => {
                let entry = self.look(key, leader_now_ms)?;
                if entry.is_some_and(Entry::is_lock) {
                    return Ok(Answer::WrongKind);
                }
                Ok(Answer::Value(entry.map(|e| self.show(e, e.value(), leader_now_ms))))
            }
            Query::GetRange { key, start, end } => {
                let entry = self.look(key, leader_now_ms)?;
                if entry.is_some_and(Entry::is_lock) {
                    return Ok(Answer::WrongKind);
                }
                Ok(Answer::Value(entry.map(|entry| {
                    let range = byte_range(entry.value_len(), *start, *end);
                    self.show(entry, entry.value().slice(range), leader_now_ms)
                })))
            }
            Query::Inspect { key } => {
                let entry = self.look(key, leader_now_ms)?;
                Ok(Answer::Meta(entry.map(|entry| {
                    let ttl_ms = self.ttl_ms(entry, leader_now_ms);
                    Meta {
                        version: Version(entry.version),
                        value_bytes: entry.value_len() as u64,
                        kind: entry.kind,
                        ttl_ms,
                        deadline_ms: ttl_ms.map(|_| entry.deadline_ms),
                    }
                })))
            }
            Query::Scan(scan) => self.scan(scan, leader_now_ms).map(Answer::Keys),
            Query::Size { slot } => self.size(*slot, leader_now_ms).map(Answer::Size),
        }
    }

    pub(super) fn look(&self, key: &[u8], leader_now_ms: u64) -> Result<Option<&Entry>, Due> {
        let found = self.keyspace.find(self.keyspace.hash_of(key), key);
        let Some(entry) = found.map(|id| self.keyspace.get(id)) else { return Ok(None) };
        self.alive(entry, leader_now_ms).map(|alive| alive.then_some(entry))
    }

    pub(super) fn alive(&self, entry: &Entry, leader_now_ms: u64) -> Result<bool, Due> {
        if !entry.is_alive(self.log_time_ms) {
            return Ok(false);
        }
        if entry.deadline_ms <= leader_now_ms {
            return Err(Due(entry.deadline_ms));
        }
        Ok(true)
    }

    pub(super) fn show(&self, entry: &Entry, data: Bytes, leader_now_ms: u64) -> Found {
        Found {
            value: Value { data, kind: entry.kind },
            version: Version(entry.version),
            ttl_ms: self.ttl_ms(entry, leader_now_ms),
        }
    }

    /// Time goes on for the leader also while nothing is written.
    fn ttl_ms(&self, entry: &Entry, leader_now_ms: u64) -> Option<u64> {
        let ends = entry.deadline_ms != NEVER;
        ends.then(|| entry.deadline_ms - self.log_time_ms.max(leader_now_ms))
    }

    /// The hash to log as a touch after a read of `key`, if the policy wants one.
    pub fn wants_touch(&self, key: &[u8]) -> Option<u32> {
        let hash = self.keyspace.hash_of(key);
        let id = self.keyspace.find(hash, key)?;
        let entry = self.keyspace.get(id);
        let alive = entry.is_alive(self.log_time_ms) && !entry.is_lock();
        (alive && self.order.wants_touch(id)).then_some(hash)
    }

    /// Log time, milliseconds since the Unix epoch.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// Limit of logical bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Slots owned.
    pub fn owned(&self) -> &SlotSet {
        &self.owned
    }

    /// Hash of the whole replicated state, recency order and sessions included (INV-3).
    pub fn digest(&self) -> u64 {
        fold(&[
            self.content_digest,
            self.order_digest,
            self.retries.digest(),
            self.removals.digest(),
            self.log_time_ms,
            self.bytes_max,
            self.keyspace.seed(),
            self.keyspace.bytes(),
            self.order.tick(),
            xxhash_rust::xxh3::xxh3_64(&self.owned.to_bytes()),
        ])
    }

    /// Hash of the recency order alone.
    pub fn recency_digest(&self) -> u64 {
        self.order_digest
    }

    /// Keys from the most to the least recent, those not yet reaped included.
    pub fn keys_by_recency(&self) -> impl Iterator<Item = &[u8]> {
        self.order.by_recency().map(|(id, _)| self.keyspace.get(id).key())
    }

    /// Counters and gauges.
    pub fn stats(&self) -> MachineStats {
        MachineStats {
            keys: self.keyspace.len() as u64,
            keys_with_deadline: self.deadlines.len() as u64,
            bytes: self.keyspace.bytes(),
            bytes_max: self.bytes_max,
            evictions: self.evictions,
            expirations: self.expirations,
            touches: self.touches,
            sessions: self.retries.len() as u64,
            session_bytes: self.retries.bytes() as u64,
            locks: self.keyspace.locks().0 as u64,
            log_time_ms: self.log_time_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::byte_range;

    /// Of the documentation of `GETRANGE`, and what lies outside.
    #[test]
    fn ranges_are_those_of_redis() {
        let text = "This is a string";
        let part = |start, end| &text[byte_range(text.len(), start, end)];
        assert_eq!(part(0, 3), "This");
        assert_eq!(part(-3, -1), "ing");
        assert_eq!(part(0, -1), text);
        assert_eq!(part(10, 100), "string");
        assert_eq!(part(100, 200), "");
        assert_eq!(part(5, 3), "");
        assert_eq!(part(-1, -3), "");
        assert_eq!(part(-100, 3), "This");
        assert_eq!(part(-200, -100), "T");
        assert_eq!(part(-100, -200), "");
        assert_eq!(part(i64::MIN, i64::MAX), text);
        assert_eq!(byte_range(0, 0, -1), 0..0);
    }
}
