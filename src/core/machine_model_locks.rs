//! What locks and fills do to the model.

use super::keyspace::NEVER;
use super::machine_model::{Model, ModelEntry};
use crate::types::{Command, Fill, Lock, Refusal, Renew, Reply, Value, ValueKind, Version};

impl Model {
    /// What locks and fills are answered.
    pub(super) fn of_locks(&mut self, command: &Command, version: u64) -> Reply {
        match command {
            Command::Lock(lock) => self.lock(lock, version),
            Command::Renew(renew) => self.renew(renew),
            Command::Unlock(unlock) => match self.held(&unlock.key, &unlock.owner, unlock.token) {
                Some(reply) => reply,
                None => {
                    self.forget(&unlock.key);
                    Reply::Deleted { version: unlock.token }
                }
            },
            Command::Fill(fill) => self.fill(fill, version),
            other => unreachable!("{} is none of them", other.name()),
        }
    }

    /// Whether a command about values is about a key that is a lock, and is not refused for its size
    /// before that is seen.
    pub(super) fn meets_a_lock(&mut self, command: &Command) -> bool {
        let Some(key) = command.key() else { return false };
        if let Command::Lock(_) | Command::Renew(_) | Command::Unlock(_) | Command::Fill(_) =
            command
        {
            return false;
        }
        if let Command::Copy(copy) | Command::Rename(copy) = command {
            self.reap(&copy.key);
            if !self.entries.contains_key(&copy.key[..]) {
                return false;
            }
            self.reap(&copy.to);
            let is_lock = |key: &[u8]| self.entries.get(key).is_some_and(|e| e.lock);
            return is_lock(&copy.key) || is_lock(&copy.to);
        }
        let first_measured = match command {
            Command::Set(set) | Command::GetSet(set) => Some(set.value.data.len()),
            _ => None,
        };
        if first_measured.is_some_and(|len| self.too_large(key, len).is_some()) {
            return false;
        }
        self.reap(key);
        self.entries.get(&key[..]).is_some_and(|e| e.lock)
    }

    pub(super) fn lock(&mut self, lock: &Lock, version: u64) -> Reply {
        self.reap(&lock.key);
        if let Some(entry) = self.entries.get(&lock.key[..]) {
            let (token, ttl_ms) = (Version(entry.version), entry.deadline_ms - self.log_time_ms);
            return match (entry.lock, entry.value.data == lock.owner) {
                (false, _) => Reply::Refused(Refusal::WrongKind),
                (true, true) => self.hold(&lock.key, lock.ttl_ms),
                (true, false) => Reply::LockHeld { token, ttl_ms },
            };
        }
        let deadline_ms = self.log_time_ms + lock.ttl_ms;
        if lock.ttl_ms == 0 {
            return Reply::NotHeld { current: None };
        }
        let value = Value { data: lock.owner.clone(), kind: ValueKind::Bytes };
        let entry = ModelEntry { value, deadline_ms, version, lock: true, filled: false };
        let locks = |model: &Self| model.entries.values().filter(|e| e.lock).count() as u64;
        let limit = self.bytes_max / 4;
        if locks(self) >= u64::from(lock.locks_max)
            || self.lock_bytes() + entry.bytes(&lock.key) > limit
        {
            self.reap_due(1024);
        }
        if locks(self) >= u64::from(lock.locks_max) {
            return Reply::Refused(Refusal::Locks { limit: lock.locks_max.into() });
        }
        if self.lock_bytes() + entry.bytes(&lock.key) > limit {
            return Reply::Refused(Refusal::Locks { limit });
        }
        if let Some(reply) = self.too_large(&lock.key, lock.owner.len()) {
            return reply;
        }
        self.make_room(entry.bytes(&lock.key));
        self.entries.insert(lock.key.to_vec(), entry);
        Reply::Locked { token: Version(version), deadline_ms }
    }

    fn hold(&mut self, key: &[u8], ttl_ms: u64) -> Reply {
        if ttl_ms == 0 {
            self.forget(key);
            return Reply::NotHeld { current: None };
        }
        let deadline_ms = self.log_time_ms + ttl_ms;
        let entry = self.entries.get_mut(key).expect("it was looked at");
        entry.deadline_ms = deadline_ms;
        Reply::Locked { token: Version(entry.version), deadline_ms }
    }

    /// What to answer to who does not hold the lock; `None` if it is held so.
    pub(super) fn held(&mut self, key: &[u8], owner: &[u8], token: Version) -> Option<Reply> {
        self.reap(key);
        match self.entries.get(key) {
            None => Some(Reply::NotHeld { current: None }),
            Some(e) if !e.lock => Some(Reply::Refused(Refusal::WrongKind)),
            Some(e) if e.version != token.0 || e.value.data != owner => {
                Some(Reply::NotHeld { current: Some(Version(e.version)) })
            }
            Some(_) => None,
        }
    }

    pub(super) fn renew(&mut self, renew: &Renew) -> Reply {
        match self.held(&renew.key, &renew.owner, renew.token) {
            Some(reply) => reply,
            None => self.hold(&renew.key, renew.ttl_ms),
        }
    }

    pub(super) fn fill(&mut self, fill: &Fill, version: u64) -> Reply {
        if let Some(reply) = self.too_large(&fill.key, fill.value.data.len() + 12) {
            return reply;
        }
        self.reap(&fill.key);
        if self.entries.get(&fill.key[..]).is_some_and(|e| e.lock) {
            return Reply::Refused(Refusal::WrongKind);
        }
        let last = self.last_change(&fill.key);
        if fill.since.is_none_or(|since| since.0 < last) {
            return Reply::Refused(Refusal::OutdatedToken);
        }
        let deadline_ms = self.deadline(fill.expiry, NEVER);
        if deadline_ms > self.log_time_ms {
            let value = fill.value.clone();
            let entry = ModelEntry { value, deadline_ms, version, lock: false, filled: true };
            self.put(&fill.key, entry);
        } else {
            self.forget(&fill.key);
            self.note(&fill.key, version);
        }
        Reply::Set { version: Version(version) }
    }
}
