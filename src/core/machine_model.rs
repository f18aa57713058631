//! What the machine should do, as simply as it can be said: a map, a list in order of recency, and
//! no index, slab, hint or shortcut. The oracle of the property tests. What each command does is in
//! `machine_model_words`.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::keyspace::{Keyspace, logical_bytes};
use crate::core::removals;
use crate::core::slot::slot_of;
use crate::core::slot_set::SlotSet;
use crate::types::{Asker, Batch, Command, Once, Refusal, Reply, Step, Value, Watch, Write};

const BUCKETS: u32 = removals::BUCKETS as u32;

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
    /// What each part of a request was answered. A log of a test is too short to forget anything.
    replies: BTreeMap<Name, Vec<(u16, Slots, Reply)>>,
}

type Name = (Asker, u128, u64);
/// None are all of them.
type Slots = BTreeSet<u16>;

fn name(once: &Once) -> Name {
    (once.asker, once.id.session, once.id.sequence)
}

fn slots(command: &Command) -> Slots {
    let mut keys: Vec<_> = command.key().into_iter().chain(command.target()).collect();
    if let Command::Transaction(transaction) = command {
        keys.extend(transaction.watches.iter().map(|watch| &watch.key));
        keys.extend(transaction.steps.iter().filter_map(Step::key));
        keys.extend(transaction.steps.iter().filter_map(Step::target));
    }
    keys.into_iter().map(|key| slot_of(key).0).collect()
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
        let last = self.removed.entry(self.hashes.hash_of(key) % BUCKETS).or_default();
        *last = version.max(*last);
    }

    /// The last change of a key that a fill must not undo, or a later one.
    pub(super) fn last_change(&self, key: &[u8]) -> u64 {
        let removed = self.removed.get(&(self.hashes.hash_of(key) % BUCKETS)).copied();
        let written = self.entries.get(key).map_or(0, |e| e.version);
        written.max(removed.unwrap_or(0)).max(self.flushed)
    }

    /// Whether a key that must be absent may have been there since.
    pub(super) fn came_and_went(&self, watch: &Watch) -> bool {
        let mark = self.hashes.hash_of(&watch.key) % BUCKETS;
        let removed = self.removed.get(&mark).copied().unwrap_or(0).max(self.flushed);
        watch.version.is_none() && watch.since.is_some_and(|since| removed > since.0)
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
        let Some(once) = &write.request_id else { return self.execute(&write.command, version) };
        let slots = slots(&write.command);
        let known = self.replies.get(&name(once)).map_or(&[][..], |parts| &parts[..]);
        if let Some((_, _, reply)) = known.iter().find(|k| k.0 == once.part && k.1 == slots) {
            return reply.clone();
        }
        let meet = |of: &Slots| of.is_empty() || slots.is_empty() || !of.is_disjoint(&slots);
        if known.iter().any(|known| known.0 == once.part || meet(&known.1)) {
            return Reply::Refused(Refusal::SessionExpired);
        }
        let reply = self.execute(&write.command, version);
        if !matches!(&reply, Reply::Refused(refusal) if refusal.may_pass_later()) {
            self.replies.entry(name(once)).or_default().push((once.part, slots, reply.clone()));
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
