//! What reads, metrics and the comparison of replicas ask of the machine. Nothing here changes it.

use super::Machine;
use crate::core::digest::fold;
use crate::core::eviction::Eviction;
use crate::core::keyspace::NEVER;
use crate::core::slot_set::SlotSet;
use crate::types::{Found, Value, Version};

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
    /// Log time, milliseconds.
    pub log_time_ms: u64,
}

impl Machine {
    /// Looks a key up. A key is alive iff its deadline is after log time. `leader_now_ms` is the
    /// leader's clock; followers pass 0 and never see `DueAt`.
    pub fn get(&self, key: &[u8], leader_now_ms: u64) -> Lookup {
        let found = self.keyspace.find(self.keyspace.hash_of(key), key);
        let Some(entry) = found.map(|id| self.keyspace.get(id)) else { return Lookup::Absent };
        if !entry.is_alive(self.log_time_ms) {
            return Lookup::Absent;
        }
        if entry.deadline_ms <= leader_now_ms {
            return Lookup::DueAt(entry.deadline_ms);
        }
        let ends = entry.deadline_ms != NEVER;
        Lookup::Found(Found {
            value: Value { data: entry.value(), kind: entry.kind },
            version: Version(entry.version),
            // Time goes on for the leader also while nothing is written.
            ttl_ms: ends.then(|| entry.deadline_ms - self.log_time_ms.max(leader_now_ms)),
        })
    }

    /// The hash to log as a touch after a read of `key`, if the policy wants one.
    pub fn wants_touch(&self, key: &[u8]) -> Option<u32> {
        let hash = self.keyspace.hash_of(key);
        let id = self.keyspace.find(hash, key)?;
        let alive = self.keyspace.get(id).is_alive(self.log_time_ms);
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
            self.sessions.digest(),
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
            sessions: self.sessions.len() as u64,
            log_time_ms: self.log_time_ms,
        }
    }
}
