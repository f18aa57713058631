//! The changes that apply is made of. Each keeps keyspace, deadlines, eviction order, digests and
//! the snapshot walk in step.

use super::Machine;
use crate::core::digest::{of_entry, of_mark};
use crate::core::eviction::Eviction;
use crate::core::keyspace::{Entry, EntryId, NEVER};
use crate::types::{Found, Value, Version};

/// Entries evicted by one insert beyond those it needs, on the way down to 99.5 % of the limit.
const EVICT_AHEAD_MAX: usize = 16;

impl Machine {
    /// Finds a key that is alive; one that has expired is reaped on the way (INV-4).
    pub(super) fn find_alive(&mut self, key: &[u8]) -> Option<EntryId> {
        let id = self.keyspace.find(self.keyspace.hash_of(key), key)?;
        if self.keyspace.get(id).is_alive(self.log_time_ms) {
            return Some(id);
        }
        self.expirations += 1;
        self.remove(id);
        None
    }

    pub(super) fn touch(&mut self, hash: u32) {
        let mut touched = std::mem::take(&mut self.touched);
        self.keyspace.find_hash(hash, &mut touched);
        for id in touched.drain(..) {
            let entry = self.keyspace.get(id);
            if entry.is_alive(self.log_time_ms) && !entry.is_lock() {
                self.before_change(id);
                self.promote(id, self.keyspace.get(id).version);
                self.touches += 1;
            }
        }
        self.touched = touched;
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.make_room(entry.bytes());
        self.before_change(self.keyspace.next_id());
        self.changed(entry.hash());
        let (deadline_ms, version, is_lock) = (entry.deadline_ms, entry.version, entry.is_lock());
        let digest = of_entry(&entry, self.keyspace.seed());
        self.content_digest = self.content_digest.wrapping_add(digest);
        let id = self.keyspace.insert(entry);
        self.deadlines.insert(deadline_ms, version, id);
        if !is_lock {
            let mark = of_mark(version, self.order.insert(id));
            self.order_digest = self.order_digest.wrapping_add(mark);
        }
        assert!(self.keyspace.bytes() <= self.bytes_max, "room was made");
    }

    pub(super) fn replace(&mut self, id: EntryId, entry: Entry) {
        self.before_change(id);
        self.changed(entry.hash());
        let seed = self.keyspace.seed();
        let (deadline_ms, version) = (entry.deadline_ms, entry.version);
        self.content_digest = self.content_digest.wrapping_add(of_entry(&entry, seed));
        let old = self.keyspace.replace(id, entry);
        self.content_digest = self.content_digest.wrapping_sub(of_entry(&old, seed));
        self.deadlines.remove(old.deadline_ms, old.version);
        self.deadlines.insert(deadline_ms, version, id);
        if old.is_lock() {
            // The same lock for longer: it takes what it took, and has no place in the order.
            return;
        }
        self.promote(id, old.version);
        // The entry itself is the most recent and smaller than the limit: it is not a victim.
        self.make_room(0);
        assert!(self.keyspace.bytes() <= self.bytes_max, "room was made");
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        self.before_change(id);
        let entry = self.keyspace.remove(id);
        let digest = of_entry(&entry, self.keyspace.seed());
        self.content_digest = self.content_digest.wrapping_sub(digest);
        if !entry.is_lock() {
            let mark = of_mark(entry.version, self.order.remove(id));
            self.order_digest = self.order_digest.wrapping_sub(mark);
        }
        self.changed(entry.hash());
        // Whoever saw the key as it was before this entry must not fill it: this was newer.
        self.removals.note(entry.hash(), entry.version);
        self.deadlines.remove(entry.deadline_ms, entry.version);
    }

    /// Moves an entry to the warm end. Its mark was digested under `old_version`.
    pub(super) fn promote(&mut self, id: EntryId, old_version: u64) {
        let (before, after) = self.order.touch(id);
        let old = of_mark(old_version, before);
        let new = of_mark(self.keyspace.get(id).version, after);
        self.order_digest = self.order_digest.wrapping_sub(old).wrapping_add(new);
    }

    /// Reaps up to `step` entries that are due.
    pub(super) fn reap(&mut self, step: usize) {
        for _ in 0..step {
            let Some(id) = self.deadlines.first_due(self.log_time_ms) else { break };
            self.expirations += 1;
            self.remove(id);
        }
    }

    /// Makes room for `added` bytes: if they do not fit, evicts until they do, and then a bounded
    /// number more down to 99.5 % of the limit.
    pub(super) fn make_room(&mut self, added: u64) {
        if self.keyspace.bytes() + added <= self.bytes_max {
            return;
        }
        let target = self.bytes_max - self.bytes_max / 200;
        let mut ahead = 0;
        while self.keyspace.bytes() + added > target && ahead < EVICT_AHEAD_MAX {
            ahead += usize::from(self.keyspace.bytes() + added <= self.bytes_max);
            if !self.evict_one() {
                break;
            }
        }
    }

    /// Frees one entry: one that is due if there is any, else the policy's victim. False if only
    /// locks are held.
    pub(super) fn evict_one(&mut self) -> bool {
        if let Some(id) = self.deadlines.first_due(self.log_time_ms) {
            self.expirations += 1;
            self.remove(id);
            return true;
        }
        let Some(id) = self.order.victim() else { return false };
        self.evictions += 1;
        self.remove(id);
        true
    }

    /// Tells who watches that a key of this hash is not as it was.
    pub(super) fn changed(&self, hash: u32) {
        if let Some(watcher) = &self.watcher {
            watcher.changed(hash);
        }
    }

    /// A command removed a key, or was to and found it absent: what was read before must not be
    /// filled in any more.
    pub(super) fn note_removal(&mut self, key: &[u8], version: u64) {
        let hash = self.keyspace.hash_of(key);
        self.changed(hash);
        self.removals.note(hash, version);
    }

    /// What an entry is, its time to live by log time alone: the same on every replica.
    pub(super) fn found(&self, id: EntryId) -> Found {
        let entry = self.keyspace.get(id);
        Found {
            value: Value { data: entry.value(), kind: entry.kind },
            version: Version(entry.version),
            ttl_ms: (entry.deadline_ms != NEVER).then(|| entry.deadline_ms - self.log_time_ms),
        }
    }

    /// Puts an entry in the place of the one at `found`, or in a new one.
    pub(super) fn put(&mut self, found: Option<EntryId>, entry: Entry) {
        match found {
            Some(id) => self.replace(id, entry),
            None => self.insert(entry),
        }
    }

    pub(super) fn before_change(&mut self, id: EntryId) {
        if let Some(walk) = &mut self.walk {
            walk.before_change(id, self.keyspace.peek(id), &self.order);
        }
    }
}
