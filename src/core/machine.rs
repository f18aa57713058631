//! The state machine of a shard's group: apply, and what reads ask of it.
//!
//! Everything here is a function of the log alone: no clock, no random source, no memory pressure.
//! Two replicas that applied the same entries hold the same entries, order and sessions (INV-3).

mod commands;
mod look;
mod refill;
mod scan;
mod store;
mod walk;
mod work;

use super::digest::{of_entry, of_mark};
use super::eviction::{Eviction, Lru};
use super::expiry::Deadlines;
use super::keyspace::{Entry, EntryId, Keyspace, NEVER, logical_bytes};
use super::removals::Removals;
use super::retry_memory::RetryMemory;
use super::session::{Seen, Slots};
use super::slot::slot_of;
use super::slot_set::SlotSet;
use super::snapshot::Walk;
use super::watcher::SharedWatcher;
use crate::types::limits::{BATCH_WRITES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::types::probe::{Probe, reached};
use crate::types::wire;
use crate::types::{
    Batch, Command, Condition, Expiry, Generation, Refusal, Reply, RoutingEpoch, Version, Write,
    positions,
};

pub use commands::flush::Garbage;
#[cfg(test)]
pub(super) use commands::increment_float::sum as decimal_sum;
pub use look::{Due, Lookup, MachineStats};
pub use refill::{Refillable, Refilled};

/// Bits of a version that tell the writes of one entry apart.
const VERSION_POSITION_BITS: u32 = 10;
const _: () = assert!(BATCH_WRITES_MAX <= 1 << VERSION_POSITION_BITS);
/// Bits of the versions that one generation of a group gives.
const GENERATION_VERSION_BITS: u32 = 50;

/// Entries that are due reaped by one log entry, besides two for each of its writes: faster than
/// they can be added, and bounded.
const REAP_STEP: usize = 32;

/// Longest value whose exact bytes a refusal tells.
const LENGTH_TOLD_MAX: usize = 1 << 30;

/// What a machine begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineConfig {
    /// Limit of logical bytes.
    pub bytes_max: u64,
    /// Seed of the key hash, the same on all replicas.
    pub hash_seed: u64,
    /// Slots the group owns.
    pub owned: SlotSet,
    /// Versions are above this one: see [`versions_from`].
    pub versions_from: u64,
}

/// Where the versions of a generation begin: above all of those before it, so that a fencing token of
/// a group that had to start again empty is no older than any that it gave (INV-7). A generation has
/// room for 2^40 entries, three years at 10,000 a second; the first eight stay exact in JSON.
pub fn versions_from(generation: Generation) -> u64 {
    u64::from(generation.0.saturating_sub(1)) << GENERATION_VERSION_BITS
}

/// What a restored machine holds.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) keyspace: Keyspace,
    pub(super) order: Lru,
    pub(super) retries: RetryMemory,
    pub(super) removals: Removals,
}

/// The state machine of a shard's group.
#[derive(Debug)]
pub struct Machine {
    bytes_max: u64,
    owned: SlotSet,
    versions_from: u64,
    /// Invariant: only grows (INV-4).
    log_time_ms: u64,
    keyspace: Keyspace,
    deadlines: Deadlines,
    order: Lru,
    retries: RetryMemory,
    removals: Removals,
    /// Invariant: the wrapping sum of `of_entry` over all entries.
    content_digest: u64,
    /// Invariant: the wrapping sum of `of_mark` over all entries.
    order_digest: u64,
    walk: Option<Walk>,
    /// What a flush took out and nobody has dropped yet; not replicated.
    garbage: Garbage,
    touched: Vec<EntryId>,
    /// Hears of changes; not replicated.
    watcher: Option<SharedWatcher>,
    evictions: u64,
    expirations: u64,
    touches: u64,
}

impl Machine {
    /// An empty machine at log time 0.
    pub fn new(config: MachineConfig) -> Self {
        let keyspace = Keyspace::new(config.hash_seed);
        let retries = RetryMemory::new(config.hash_seed);
        Machine {
            bytes_max: config.bytes_max,
            owned: config.owned,
            versions_from: config.versions_from,
            log_time_ms: 0,
            keyspace,
            deadlines: Deadlines::default(),
            order: Lru::new(),
            retries,
            removals: Removals::new(),
            content_digest: 0,
            order_digest: 0,
            walk: None,
            garbage: Garbage::default(),
            touched: Vec::new(),
            watcher: None,
            evictions: 0,
            expirations: 0,
            touches: 0,
        }
    }

    /// Has a watcher hear of every change from now on.
    pub fn watch(&mut self, watcher: SharedWatcher) {
        self.watcher = Some(watcher);
    }

    /// A machine of restored parts.
    ///
    /// # Errors
    /// If two entries have one version.
    pub(super) fn assemble(
        config: MachineConfig,
        log_time_ms: u64,
        parts: Parts,
    ) -> Result<Self, wire::Error> {
        let Parts { keyspace, order, retries, removals } = parts;
        let mut machine = Machine { log_time_ms, retries, removals, ..Machine::new(config) };
        let mut versions: Vec<u64> = Vec::with_capacity(keyspace.len());
        for (id, entry) in (0..keyspace.ids_end()).filter_map(|id| Some((id, keyspace.peek(id)?))) {
            versions.push(entry.version);
            let digest = of_entry(entry, keyspace.seed());
            machine.content_digest = machine.content_digest.wrapping_add(digest);
            if !entry.is_lock() {
                let mark = of_mark(entry.version, order.export(id));
                machine.order_digest = machine.order_digest.wrapping_add(mark);
            }
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

    /// Applies the log entry at `index`: clock, touches, operations, what is forgotten, in this order. Pushes one
    /// reply for each write.
    ///
    /// The version of a write is `index * 1024 + position`, above where its generation begins
    /// ([`versions_from`]): it grows across entries, within one, and across generations.
    ///
    /// # Panics
    /// If the batch has more than `BATCH_WRITES_MAX` writes, steps of transactions counted, which no
    /// encoder makes and no decoder lets through.
    pub fn apply(&mut self, index: u64, batch: &Batch, replies: &mut Vec<Reply>) {
        let positions = positions(&batch.writes);
        assert!(positions <= BATCH_WRITES_MAX, "a batch is bounded at both ends");
        let before_ms = self.log_time_ms;
        self.log_time_ms = self.log_time_ms.max(batch.stamp_ms);
        self.retries.pass(self.log_time_ms - before_ms);
        self.reap(REAP_STEP + 2 * positions);
        for hash in &batch.touches {
            self.touch(*hash);
        }
        replies.reserve(batch.writes.len());
        let mut version = self.versions_from + (index << VERSION_POSITION_BITS);
        for write in &batch.writes {
            replies.push(self.write(write, version));
            version += write.command.positions() as u64;
        }
        // Behind the writes: what one of them asks for again is looked up before it can go.
        self.retries.settle();
    }

    fn write(&mut self, write: &Write, version: u64) -> Reply {
        let Some(once) = &write.request_id else { return self.execute(&write.command, version) };
        let slots = Slots::of(&write.command);
        match self.retries.look(once, &slots, version) {
            Seen::Again(reply) => {
                reached(Probe::RetryAnswered);
                return reply;
            }
            Seen::Forgotten => {
                reached(Probe::ReplyForgotten);
                return Reply::Refused(Refusal::SessionExpired);
            }
            Seen::New => {}
        }
        let reply = self.execute(&write.command, version);
        // A retry after the slot has come here, or at its new owner, or once there is room for a lock,
        // must be applied: nothing was.
        let later = Refusal::may_pass_later;
        if !matches!(&reply, Reply::Refused(refusal) if later(refusal)) {
            self.retries.remember(once, slots, &reply, version);
        }
        reply
    }

    fn execute(&mut self, command: &Command, version: u64) -> Reply {
        match command {
            Command::Set(set) => self.set(set, version),
            Command::GetSet(set) => self.get_set(set, version),
            Command::Delete(delete) => self.delete(delete, version),
            Command::GetDelete(delete) => self.get_delete(delete, version),
            Command::Expire(expire) => self.expire(expire, version),
            Command::GetExpire(expire) => self.get_expire(expire, version),
            Command::Increment(increment) => self.increment(increment, version),
            Command::IncrementFloat(increment) => self.increment_float(increment, version),
            Command::Append(append) => self.append(append, version),
            Command::SetRange(set_range) => self.set_range(set_range, version),
            Command::Transaction(transaction) => self.transaction(transaction, version),
            Command::Tick => Reply::Done,
            Command::SetLimit { bytes_max } => self.set_limit(*bytes_max),
            Command::Copy(copy) => self.copy(copy, version),
            Command::Rename(copy) => self.rename(copy, version),
            Command::Flush => self.flush(version),
            Command::Lock(lock) => self.lock(lock, version),
            Command::Renew(renew) => self.renew(renew),
            Command::Unlock(unlock) => self.unlock(unlock),
            Command::Fill(fill) => self.fill(fill, version),
        }
    }

    /// The last version that the entry at `index`, or one before it, can give.
    pub fn last_version(&self, index: u64) -> Version {
        let last = (1 << VERSION_POSITION_BITS) - 1;
        Version(self.versions_from + (index << VERSION_POSITION_BITS | last))
    }

    fn not_owned(&self, key: &[u8]) -> Option<Refusal> {
        let owned = self.owned.contains(slot_of(key));
        // The machine is not told the epoch under which it owns its slots.
        (!owned).then(|| Refusal::NotOwner { epoch: RoutingEpoch::default() })
    }

    fn too_large(&self, key: &[u8], value_len: usize) -> Option<Refusal> {
        // What a command asks for may be any number.
        let bytes = logical_bytes(key.len() + value_len.min(LENGTH_TOLD_MAX));
        let bytes_max = entry_bytes_max(self.bytes_max).min(self.bytes_beside_locks());
        let too_large =
            key.len() > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX || bytes > bytes_max;
        too_large.then_some(Refusal::TooLarge { bytes, bytes_max })
    }

    /// What values may take: locks are never evicted, and after a smaller limit they may be more than
    /// it. A part stays free for the eviction that goes ahead.
    fn bytes_beside_locks(&self) -> u64 {
        (self.bytes_max - self.bytes_max / 100).saturating_sub(self.keyspace.locks().1)
    }

    /// A lock is no value to the commands that work on values.
    fn wrong_kind(&self, found: Option<EntryId>) -> bool {
        found.is_some_and(|id| self.keyspace.get(id).is_lock())
    }

    /// What a command is refused that changes or removes what is there: it adds nothing, so a want of
    /// room does not matter to it.
    fn refuse_key(&self, key: &[u8]) -> Option<Refusal> {
        let (bytes, bytes_max) = (logical_bytes(key.len()), entry_bytes_max(self.bytes_max));
        let too_large = || Refusal::TooLarge { bytes, bytes_max };
        self.not_owned(key).or_else(|| (key.len() > KEY_BYTES_MAX).then(too_large))
    }

    /// What a command is refused that puts a value.
    fn refuse(&self, key: &[u8], value_len: usize) -> Option<Refusal> {
        self.not_owned(key).or_else(|| self.too_large(key, value_len))
    }

    /// When a key ends that is given this expiry and ended at `kept_ms` before.
    fn deadline(&self, expiry: Expiry, kept_ms: u64) -> u64 {
        match expiry {
            Expiry::Never => NEVER,
            Expiry::AfterMs(ttl_ms) => self.log_time_ms.saturating_add(ttl_ms),
            Expiry::AtMs(deadline_ms) => deadline_ms,
            Expiry::Keep => kept_ms,
        }
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
