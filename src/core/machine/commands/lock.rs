//! `Lock`, `Renew` and `Unlock`: a lock is a key of its own kind whose version is the fencing token.
//!
//! The token grows with every new holder, because versions do, and stays while a holder renews. A lock
//! ends by log time, so no clock but the log's decides. It is never evicted: a lock that a full cache
//! forgets would have two holders. So their number and their bytes are bounded, and past the bound a
//! new one is refused.

use crate::core::keyspace::{EntryId, Parts, Shape};
use crate::core::machine::Machine;
use crate::types::limits::LOCKS_BYTES_SHARE;
use crate::types::probe::{Probe, reached};
use crate::types::{Lock, Refusal, Renew, Reply, Unlock, ValueKind, Version};

/// Entries that are due reaped before a lock is refused: bounded, so the next attempt may find more.
const LOCKS_REAPED: usize = 1024;

impl Machine {
    pub(in crate::core::machine) fn lock(&mut self, lock: &Lock, version: u64) -> Reply {
        if let Some(refusal) = self.refuse_key(&lock.key) {
            return Reply::Refused(refusal);
        }
        let Some(id) = self.find_alive(&lock.key) else { return self.lock_anew(lock, version) };
        let entry = self.keyspace.get(id);
        if !entry.is_lock() {
            return Reply::Refused(Refusal::WrongKind);
        }
        if entry.value_bytes() == lock.owner {
            return self.hold(id, lock.ttl_ms);
        }
        Reply::LockHeld {
            token: Version(entry.version),
            ttl_ms: entry.deadline_ms - self.log_time_ms,
        }
    }

    fn lock_anew(&mut self, lock: &Lock, version: u64) -> Reply {
        let deadline_ms = self.log_time_ms.saturating_add(lock.ttl_ms);
        if deadline_ms <= self.log_time_ms {
            return Reply::NotHeld { current: None };
        }
        let entry = self.keyspace.make(Parts {
            key: &lock.key,
            value: &lock.owner,
            kind: ValueKind::Bytes,
            deadline_ms,
            version,
        });
        let entry = entry.shaped(Shape::Lock);
        if self.locks_full(lock, entry.bytes()).is_some() {
            // Some of those may have ended.
            self.reap(LOCKS_REAPED);
        }
        if let Some(limit) = self.locks_full(lock, entry.bytes()) {
            return Reply::Refused(Refusal::Locks { limit });
        }
        if let Some(refusal) = self.too_large(&lock.key, lock.owner.len()) {
            return Reply::Refused(refusal);
        }
        self.insert(entry);
        Reply::Locked { token: Version(version), deadline_ms }
    }

    /// The limit that one more lock of so many bytes would be over.
    fn locks_full(&self, lock: &Lock, added: u64) -> Option<u64> {
        let (locks, bytes) = self.keyspace.locks();
        let bytes_max = self.bytes_max / LOCKS_BYTES_SHARE;
        if locks >= lock.locks_max as usize {
            return Some(lock.locks_max.into());
        }
        (bytes + added > bytes_max).then_some(bytes_max)
    }

    /// Holds a lock for longer, or shorter; at once over if no time is asked for.
    fn hold(&mut self, id: EntryId, ttl_ms: u64) -> Reply {
        let deadline_ms = self.log_time_ms.saturating_add(ttl_ms);
        let token = self.keyspace.get(id).version;
        if deadline_ms <= self.log_time_ms {
            self.remove(id);
            return Reply::NotHeld { current: None };
        }
        let entry = self.keyspace.redated(id, deadline_ms, token);
        self.replace(id, entry);
        Reply::Locked { token: Version(token), deadline_ms }
    }

    /// The lock, if this owner has it under this token; else what to answer.
    fn held(&mut self, key: &[u8], owner: &[u8], token: Version) -> Result<EntryId, Reply> {
        if let Some(refusal) = self.refuse_key(key) {
            return Err(Reply::Refused(refusal));
        }
        let Some(id) = self.find_alive(key) else { return Err(Reply::NotHeld { current: None }) };
        let entry = self.keyspace.get(id);
        if !entry.is_lock() {
            return Err(Reply::Refused(Refusal::WrongKind));
        }
        if entry.version != token.0 || entry.value_bytes() != owner {
            reached(Probe::FenceRefused);
            return Err(Reply::NotHeld { current: Some(Version(entry.version)) });
        }
        Ok(id)
    }

    pub(in crate::core::machine) fn renew(&mut self, renew: &Renew) -> Reply {
        match self.held(&renew.key, &renew.owner, renew.token) {
            Ok(id) => self.hold(id, renew.ttl_ms),
            Err(reply) => reply,
        }
    }

    pub(in crate::core::machine) fn unlock(&mut self, unlock: &Unlock) -> Reply {
        match self.held(&unlock.key, &unlock.owner, unlock.token) {
            Ok(id) => {
                self.remove(id);
                Reply::Deleted { version: unlock.token }
            }
            Err(reply) => reply,
        }
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
