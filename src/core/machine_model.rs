//! What the machine should do, as simply as it can be said: a map, a list in order of recency, and
//! no index, slab, hint or shortcut. The oracle of the property tests. What each command does is in
//! `machine_model_words`.

use std::collections::BTreeMap;

use crate::core::keyspace::{Keyspace, logical_bytes};
use crate::core::slot_set::SlotSet;
use crate::types::{Batch, Command, Reply, RequestId, Value, Write};

/// A cache entry of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelEntry {
    pub value: Value,
    pub deadline_ms: u64,
    pub version: u64,
    pub lock: bool,
    pub filled: bool,
}

impl ModelEntry {
    pub(super) fn bytes(&self, key: &[u8]) -> u64 {
        let refill = if self.filled { 12 } else { 0 };
        logical_bytes(key.len() + self.value.data.len() + refill)
    }
}

/// The model.
pub struct Model {
    pub log_time_ms: u64,
    pub bytes_max: u64,
    pub(super) owned: SlotSet,
    hashes: Keyspace,
    pub entries: BTreeMap<Vec<u8>, ModelEntry>,
    /// The last version that removed a key of this part of the hashes.
    removed: BTreeMap<u32, u64>,
    /// The last flush.
    flushed: u64,
    /// Keys that may be evicted, least recent first.
    pub order: Vec<Vec<u8>>,
    replies: BTreeMap<RequestId2, Reply>,
}

type RequestId2 = (u128, u64);

fn name(id: RequestId) -> RequestId2 {
    (id.session, id.sequence)
}

impl Model {
    pub fn new(bytes_max: u64, hash_seed: u64, owned: SlotSet) -> Self {
        Model {
            log_time_ms: 0,
            bytes_max,
            owned,
            hashes: Keyspace::new(hash_seed),
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
            flushed: 0,
            order: Vec::new(),
            replies: BTreeMap::new(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|(k, e)| e.bytes(k)).sum()
    }

    pub(super) fn lock_bytes(&self) -> u64 {
        self.entries.iter().filter(|(_, e)| e.lock).map(|(k, e)| e.bytes(k)).sum()
    }

    pub(super) fn note(&mut self, key: &[u8], version: u64) {
        let last = self.removed.entry(self.hashes.hash_of(key) % 1024).or_default();
        *last = version.max(*last);
    }

    /// The last change of a key that a fill must not undo, or a later one.
    pub(super) fn last_change(&self, key: &[u8]) -> u64 {
        let removed = self.removed.get(&(self.hashes.hash_of(key) % 1024)).copied();
        let written = self.entries.get(key).map_or(0, |e| e.version);
        written.max(removed.unwrap_or(0)).max(self.flushed)
    }

    pub(super) fn flush(&mut self, version: u64) -> Reply {
        self.entries.clear();
        self.order.clear();
        self.flushed = version;
        Reply::Done
    }

    pub fn alive(&self, key: &[u8]) -> Option<&ModelEntry> {
        self.entries.get(key).filter(|e| e.deadline_ms > self.log_time_ms)
    }

    /// Takes out what is due, at most so many.
    pub(super) fn reap_due(&mut self, keys_max: u64) {
        for _ in 0..keys_max {
            match self.first_due() {
                Some(key) => self.forget(&key),
                None => break,
            }
        }
    }

    pub fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Reply> {
        self.log_time_ms = self.log_time_ms.max(batch.stamp_ms);
        let positions = |write: &Write| match &write.command {
            Command::Transaction(transaction) => transaction.steps.len().max(1) as u64,
            _ => 1,
        };
        self.reap_due(32 + 2 * batch.writes.iter().map(positions).sum::<u64>());
        for touch in &batch.touches {
            let has = |key: &&Vec<u8>| self.hashes.hash_of(key) == *touch;
            let mut keys: Vec<_> = self.entries.keys().filter(has).cloned().collect();
            keys.retain(|key| self.alive(key).is_some_and(|e| !e.lock));
            keys.sort_by_key(|key| self.entries[key].version);
            keys.iter().for_each(|key| self.promote(key));
        }
        let mut version = index * 1024;
        let mut replies = Vec::new();
        for write in &batch.writes {
            replies.push(self.write(write, version));
            version += positions(write);
        }
        replies
    }

    fn write(&mut self, write: &Write, version: u64) -> Reply {
        if let Some(reply) = write.request_id.and_then(|id| self.replies.get(&name(id))) {
            return reply.clone();
        }
        let reply = self.execute(&write.command, version);
        if let (Some(id), false) = (
            write.request_id,
            matches!(&reply, Reply::Refused(refusal) if refusal.may_pass_later()),
        ) {
            self.replies.insert(name(id), reply.clone());
        }
        reply
    }

    pub(super) fn make_room(&mut self, added: u64) {
        if self.bytes() + added <= self.bytes_max {
            return;
        }
        while self.bytes() + added > self.bytes_max && self.evict_one() {}
        for _ in 0..16 {
            if self.bytes() + added > self.bytes_max - self.bytes_max / 200 {
                self.evict_one();
            }
        }
    }

    /// False if only locks are left.
    pub(super) fn evict_one(&mut self) -> bool {
        let key = self.first_due().or_else(|| self.order.first().cloned());
        key.inspect(|key| self.forget(key)).is_some()
    }

    fn first_due(&self) -> Option<Vec<u8>> {
        let due = self.entries.iter().filter(|(_, e)| e.deadline_ms <= self.log_time_ms);
        due.min_by_key(|(_, e)| (e.deadline_ms, e.version)).map(|(key, _)| key.clone())
    }

    pub(super) fn promote(&mut self, key: &[u8]) {
        self.order.retain(|other| other != key);
        self.order.push(key.to_vec());
    }

    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.note(key, entry.version);
        }
        self.order.retain(|other| other != key);
    }
}
