//! The state machine of a shard's group: apply, and what reads ask of it.
//!
//! Everything here is a function of the log alone: no clock, no random source, no memory pressure.
//! Two replicas that applied the same entries hold the same entries, order and sessions (INV-3).

use bytes::Bytes;

use super::digest::{fold, of_entry, of_mark};
use super::eviction::{Eviction, Lru};
use super::expiry::Deadlines;
use super::keyspace::{Entry, EntryId, Keyspace, NEVER, Parts, logical_bytes};
use super::restore::MachineRestorer;
use super::sessions::{Seen, Sessions};
use super::slot::slot_of;
use super::slot_set::SlotSet;
use super::snapshot::Walk;
use super::snapshot_record::Header;
use crate::types::limits::{BATCH_WRITES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::types::wire;
use crate::types::{
    Batch, Command, Condition, Delete, Expiry, Found, Refusal, Reply, RoutingEpoch, Set, Value,
    Version, Write,
};

/// Bits of a version that tell the writes of one entry apart.
const VERSION_POSITION_BITS: u32 = 10;
const _: () = assert!(BATCH_WRITES_MAX <= 1 << VERSION_POSITION_BITS);

/// Entries that are due reaped by one log entry, besides two for each of its writes: faster than
/// they can be added, and bounded.
const REAP_STEP: usize = 32;

/// Entries evicted by one insert beyond those it needs, on the way down to 99.5 % of the limit.
const EVICT_AHEAD_MAX: usize = 16;

/// What a machine begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineConfig {
    /// Limit of logical bytes.
    pub bytes_max: u64,
    /// Seed of the key hash, the same on all replicas.
    pub hash_seed: u64,
    /// Slots the group owns.
    pub owned: SlotSet,
}

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

/// The state machine of a shard's group.
#[derive(Debug)]
pub struct Machine {
    bytes_max: u64,
    owned: SlotSet,
    /// Invariant: only grows (INV-4).
    log_time_ms: u64,
    keyspace: Keyspace,
    deadlines: Deadlines,
    order: Lru,
    sessions: Sessions,
    /// Invariant: the wrapping sum of `of_entry` over all entries.
    content_digest: u64,
    /// Invariant: the wrapping sum of `of_mark` over all entries.
    order_digest: u64,
    walk: Option<Walk>,
    touched: Vec<EntryId>,
    evictions: u64,
    expirations: u64,
    touches: u64,
}

impl Machine {
    /// An empty machine at log time 0.
    pub fn new(config: MachineConfig) -> Self {
        let keyspace = Keyspace::new(config.hash_seed);
        let sessions = Sessions::new(config.hash_seed);
        Machine {
            bytes_max: config.bytes_max,
            owned: config.owned,
            log_time_ms: 0,
            keyspace,
            deadlines: Deadlines::default(),
            order: Lru::new(),
            sessions,
            content_digest: 0,
            order_digest: 0,
            walk: None,
            touched: Vec::new(),
            evictions: 0,
            expirations: 0,
            touches: 0,
        }
    }

    /// A machine of restored parts.
    ///
    /// # Errors
    /// If two entries have one version.
    pub(super) fn assemble(
        config: MachineConfig,
        log_time_ms: u64,
        keyspace: Keyspace,
        order: Lru,
        sessions: Sessions,
    ) -> Result<Self, wire::Error> {
        let mut machine = Machine { log_time_ms, sessions, ..Machine::new(config) };
        let mut versions: Vec<u64> = Vec::with_capacity(keyspace.len());
        for (id, entry) in (0..keyspace.ids_end()).filter_map(|id| Some((id, keyspace.peek(id)?))) {
            versions.push(entry.version);
            let digest = of_entry(entry, keyspace.seed());
            machine.content_digest = machine.content_digest.wrapping_add(digest);
            let mark = of_mark(entry.version, order.export(id));
            machine.order_digest = machine.order_digest.wrapping_add(mark);
        }
        versions.sort_unstable();
        if versions.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(wire::Error::Malformed { what: "snapshot versions" });
        }
        for (id, entry) in (0..keyspace.ids_end()).filter_map(|id| Some((id, keyspace.peek(id)?))) {
            machine.deadlines.insert(entry.deadline_ms, entry.version, id);
        }
        machine.keyspace = keyspace;
        machine.order = order;
        Ok(machine)
    }

    /// Applies the log entry at `index`: clock, touches, operations, in this order. Pushes one
    /// reply for each write.
    ///
    /// The version of a write is `index * 1024 + position`: it grows across entries and within
    /// one, and stays below 2^53 (exact in JSON) for 2^43 entries, 28 years at 10,000 a second.
    ///
    /// # Panics
    /// If the batch has more than `BATCH_WRITES_MAX` writes, which no encoder makes and no decoder
    /// lets through.
    pub fn apply(&mut self, index: u64, batch: &Batch, replies: &mut Vec<Reply>) {
        assert!(batch.writes.len() <= BATCH_WRITES_MAX, "a batch is bounded at both ends");
        self.log_time_ms = self.log_time_ms.max(batch.stamp_ms);
        self.sessions.expire(self.log_time_ms);
        self.reap(REAP_STEP + 2 * batch.writes.len());
        for hash in &batch.touches {
            self.touch(*hash);
        }
        replies.reserve(batch.writes.len());
        for (position, write) in batch.writes.iter().enumerate() {
            let version = (index << VERSION_POSITION_BITS) | position as u64;
            replies.push(self.write(write, version));
        }
    }

    fn write(&mut self, write: &Write, version: u64) -> Reply {
        let Some(id) = write.request_id else { return self.execute(&write.command, version) };
        match self.sessions.look(id, self.log_time_ms) {
            Seen::Again(reply) => return reply,
            Seen::Forgotten => return Reply::Refused(Refusal::SessionExpired),
            Seen::New => {}
        }
        let reply = self.execute(&write.command, version);
        // A retry after the slot has come here, or at its new owner, must be applied.
        if !matches!(reply, Reply::Refused(Refusal::NotOwner { .. })) {
            self.sessions.remember(id, &reply, self.log_time_ms);
        }
        reply
    }

    fn execute(&mut self, command: &Command, version: u64) -> Reply {
        match command {
            Command::Set(set) => self.set(set, version),
            Command::Delete(delete) => self.delete(delete),
            Command::Tick => Reply::Done,
            Command::SetLimit { bytes_max } => self.set_limit(*bytes_max),
        }
    }

    fn set(&mut self, set: &Set, version: u64) -> Reply {
        if let Some(refusal) = self.refuse(&set.key, set.value.data.len()) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&set.key);
        let current = found.map(|id| self.keyspace.get(id));
        if !holds(set.condition, current) {
            return Reply::ConditionFailed { current: current.map(|e| Version(e.version)) };
        }
        let deadline_ms = match set.expiry {
            Expiry::Never => NEVER,
            Expiry::AfterMs(ttl_ms) => self.log_time_ms.saturating_add(ttl_ms),
            Expiry::AtMs(deadline_ms) => deadline_ms,
            Expiry::Keep => current.map_or(NEVER, |e| e.deadline_ms),
        };
        let done = Reply::Set { version: Version(version) };
        if deadline_ms <= self.log_time_ms {
            // Set and expired in one: the key is absent from here on, as Redis does it.
            if let Some(id) = found {
                self.remove(id);
            }
            return done;
        }
        let parts = Parts {
            key: &set.key,
            value: &set.value.data,
            kind: set.value.kind,
            deadline_ms,
            version,
        };
        let entry = self.keyspace.make(parts);
        match found {
            Some(id) => self.replace(id, entry),
            None => self.insert(entry),
        }
        done
    }

    fn delete(&mut self, delete: &Delete) -> Reply {
        if let Some(refusal) = self.refuse(&delete.key, 0) {
            return Reply::Refused(refusal);
        }
        let found = self.find_alive(&delete.key);
        let current = found.map(|id| self.keyspace.get(id));
        let current_version = current.map(|e| Version(e.version));
        if !holds(delete.condition, current) {
            return Reply::ConditionFailed { current: current_version };
        }
        match (found, current_version) {
            (Some(id), Some(version)) => {
                self.remove(id);
                Reply::Deleted { version }
            }
            _ => Reply::NotFound,
        }
    }

    /// Evicts at once what does not fit a smaller limit: it takes time in proportion.
    fn set_limit(&mut self, bytes_max: u64) -> Reply {
        self.bytes_max = bytes_max;
        while self.keyspace.bytes() > self.bytes_max {
            self.evict_one();
        }
        Reply::Done
    }

    fn refuse(&self, key: &[u8], value_len: usize) -> Option<Refusal> {
        if !self.owned.contains(slot_of(key)) {
            // The machine is not told the epoch under which it owns its slots.
            return Some(Refusal::NotOwner { epoch: RoutingEpoch::default() });
        }
        let bytes = logical_bytes(key.len() + value_len);
        let bytes_max = entry_bytes_max(self.bytes_max);
        let too_large =
            key.len() > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX || bytes > bytes_max;
        too_large.then_some(Refusal::TooLarge { bytes, bytes_max })
    }

    /// Finds a key that is alive; one that has expired is reaped on the way (INV-4).
    fn find_alive(&mut self, key: &[u8]) -> Option<EntryId> {
        let id = self.keyspace.find(self.keyspace.hash_of(key), key)?;
        if self.keyspace.get(id).is_alive(self.log_time_ms) {
            return Some(id);
        }
        self.expirations += 1;
        self.remove(id);
        None
    }

    fn touch(&mut self, hash: u32) {
        let mut touched = std::mem::take(&mut self.touched);
        self.keyspace.find_hash(hash, &mut touched);
        for id in touched.drain(..) {
            if self.keyspace.get(id).is_alive(self.log_time_ms) {
                self.before_change(id);
                self.promote(id, self.keyspace.get(id).version);
                self.touches += 1;
            }
        }
        self.touched = touched;
    }

    fn insert(&mut self, entry: Entry) {
        self.make_room(entry.bytes());
        self.before_change(self.keyspace.next_id());
        let (deadline_ms, version) = (entry.deadline_ms, entry.version);
        let digest = of_entry(&entry, self.keyspace.seed());
        self.content_digest = self.content_digest.wrapping_add(digest);
        let id = self.keyspace.insert(entry);
        self.deadlines.insert(deadline_ms, version, id);
        self.order.insert(id);
        self.order_digest = self.order_digest.wrapping_add(of_mark(version, self.order.export(id)));
        assert!(self.keyspace.bytes() <= self.bytes_max, "room was made");
    }

    fn replace(&mut self, id: EntryId, entry: Entry) {
        self.before_change(id);
        let seed = self.keyspace.seed();
        let (deadline_ms, version) = (entry.deadline_ms, entry.version);
        self.content_digest = self.content_digest.wrapping_add(of_entry(&entry, seed));
        let old = self.keyspace.replace(id, entry);
        self.content_digest = self.content_digest.wrapping_sub(of_entry(&old, seed));
        self.deadlines.remove(old.deadline_ms, old.version);
        self.deadlines.insert(deadline_ms, version, id);
        self.promote(id, old.version);
        // The entry itself is the most recent and smaller than the limit: it is not a victim.
        self.make_room(0);
        assert!(self.keyspace.bytes() <= self.bytes_max, "room was made");
    }

    fn remove(&mut self, id: EntryId) {
        self.before_change(id);
        let mark = self.order.export(id);
        let entry = self.keyspace.remove(id);
        let digest = of_entry(&entry, self.keyspace.seed());
        self.content_digest = self.content_digest.wrapping_sub(digest);
        self.order_digest = self.order_digest.wrapping_sub(of_mark(entry.version, mark));
        self.deadlines.remove(entry.deadline_ms, entry.version);
        self.order.remove(id);
    }

    /// Moves an entry to the warm end. Its mark was digested under `old_version`.
    fn promote(&mut self, id: EntryId, old_version: u64) {
        let old = of_mark(old_version, self.order.export(id));
        self.order.touch(id);
        let new = of_mark(self.keyspace.get(id).version, self.order.export(id));
        self.order_digest = self.order_digest.wrapping_sub(old).wrapping_add(new);
    }

    /// Reaps up to `step` entries that are due.
    fn reap(&mut self, step: usize) {
        for _ in 0..step {
            let Some(id) = self.deadlines.first_due(self.log_time_ms) else { break };
            self.expirations += 1;
            self.remove(id);
        }
    }

    /// Makes room for `added` bytes: if they do not fit, evicts until they do, and then a bounded
    /// number more down to 99.5 % of the limit.
    fn make_room(&mut self, added: u64) {
        if self.keyspace.bytes() + added <= self.bytes_max {
            return;
        }
        let target = self.bytes_max - self.bytes_max / 200;
        let mut ahead = 0;
        while self.keyspace.bytes() + added > target && ahead < EVICT_AHEAD_MAX {
            ahead += usize::from(self.keyspace.bytes() + added <= self.bytes_max);
            self.evict_one();
        }
    }

    /// Frees one entry: one that is due if there is any, else the policy's victim.
    fn evict_one(&mut self) {
        if let Some(id) = self.deadlines.first_due(self.log_time_ms) {
            self.expirations += 1;
            return self.remove(id);
        }
        let id = self.order.victim().expect("an entry fits the limit, so something else is held");
        self.evictions += 1;
        self.remove(id);
    }

    fn before_change(&mut self, id: EntryId) {
        if let Some(walk) = &mut self.walk {
            walk.before_change(id, self.keyspace.peek(id), &self.order);
        }
    }
}

/// Reading.
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
            ttl_ms: ends.then(|| entry.deadline_ms - self.log_time_ms),
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

/// Snapshots.
impl Machine {
    /// Begins a walk of the present state; a walk under way is abandoned.
    pub fn snapshot_begin(&mut self) {
        let header = Header {
            log_time_ms: self.log_time_ms,
            bytes_max: self.bytes_max,
            hash_seed: self.keyspace.seed(),
            tick: self.order.tick(),
            keys: self.keyspace.len() as u64,
            bytes: self.keyspace.bytes(),
            sessions: self.sessions.len() as u64,
            digest: self.digest(),
            owned: self.owned.clone(),
        };
        self.walk = Some(Walk::new(header, &self.keyspace, self.sessions.export()));
    }

    /// Next chunk of about `bytes_max` bytes (more by one entry at most); `None` when all has been
    /// given or no walk is under way.
    pub fn snapshot_chunk(&mut self, bytes_max: usize) -> Option<Bytes> {
        self.walk.as_mut()?.chunk(&self.keyspace, &self.order, bytes_max)
    }

    /// Ends the walk, finished or not.
    pub fn snapshot_end(&mut self) {
        self.walk = None;
    }

    /// Pre-images waiting to be written; 0 if no walk is under way.
    pub fn snapshot_preimages(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::preimages)
    }

    /// A collector for a snapshot of such a machine.
    pub fn restorer(&self) -> MachineRestorer {
        MachineRestorer::new()
    }
}

/// Largest entry under a limit, logical bytes: a value of the smaller of `VALUE_BYTES_MAX` and 1/64
/// of the limit, under the longest key. Half of the limit at most, so that an insert always fits.
pub fn entry_bytes_max(limit: u64) -> u64 {
    let value_len = VALUE_BYTES_MAX.min(usize::try_from(limit / 64).unwrap_or(usize::MAX));
    logical_bytes(KEY_BYTES_MAX + value_len).min(limit / 2)
}

fn holds(condition: Condition, current: Option<&Entry>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => current.is_none(),
        Condition::IfPresent => current.is_some(),
        Condition::IfVersion(version) => current.is_some_and(|e| e.version == version.0),
    }
}
