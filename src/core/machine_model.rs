//! What the machine should do, as simply as it can be said: a map, a list in order of recency, and
//! no index, slab, hint or shortcut. The oracle of the property tests.

use std::collections::BTreeMap;

use crate::core::keyspace::{Keyspace, NEVER, logical_bytes};
use crate::core::machine::entry_bytes_max;
use crate::core::slot::slot_of;
use crate::core::slot_set::SlotSet;
use crate::types::{
    Batch, Command, Condition, Expiry, Refusal, Reply, RequestId, RoutingEpoch, Set, Value,
    Version, Write,
};

/// A cache entry of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelEntry {
    pub value: Value,
    pub deadline_ms: u64,
    pub version: u64,
}

/// The model.
pub struct Model {
    pub log_time_ms: u64,
    pub bytes_max: u64,
    owned: SlotSet,
    hashes: Keyspace,
    pub entries: BTreeMap<Vec<u8>, ModelEntry>,
    /// Keys, least recent first.
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
            order: Vec::new(),
            replies: BTreeMap::new(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|(k, e)| logical_bytes(k.len() + e.value.data.len())).sum()
    }

    pub fn alive(&self, key: &[u8]) -> Option<&ModelEntry> {
        self.entries.get(key).filter(|e| e.deadline_ms > self.log_time_ms)
    }

    pub fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Reply> {
        self.log_time_ms = self.log_time_ms.max(batch.stamp_ms);
        for _ in 0..32 + 2 * batch.writes.len() {
            match self.first_due() {
                Some(key) => self.forget(&key),
                None => break,
            }
        }
        for touch in &batch.touches {
            let has = |key: &&Vec<u8>| self.hashes.hash_of(key) == *touch;
            let mut keys: Vec<_> = self.entries.keys().filter(has).cloned().collect();
            keys.retain(|key| self.alive(key).is_some());
            keys.sort_by_key(|key| self.entries[key].version);
            keys.iter().for_each(|key| self.promote(key));
        }
        let writes = batch.writes.iter().enumerate();
        writes.map(|(at, write)| self.write(write, index * 1024 + at as u64)).collect()
    }

    fn write(&mut self, write: &Write, version: u64) -> Reply {
        if let Some(reply) = write.request_id.and_then(|id| self.replies.get(&name(id))) {
            return reply.clone();
        }
        let reply = match &write.command {
            Command::Set(set) => self.set(set, version),
            Command::Delete(delete) => self.delete(&delete.key, delete.condition),
            Command::Tick => Reply::Done,
            Command::SetLimit { bytes_max } => {
                self.bytes_max = *bytes_max;
                while self.bytes() > self.bytes_max {
                    self.evict_one();
                }
                Reply::Done
            }
        };
        if let (Some(id), false) =
            (write.request_id, matches!(reply, Reply::Refused(Refusal::NotOwner { .. })))
        {
            self.replies.insert(name(id), reply.clone());
        }
        reply
    }

    fn refused(&self, key: &[u8], value_len: usize) -> Option<Reply> {
        let (bytes, bytes_max) =
            (logical_bytes(key.len() + value_len), entry_bytes_max(self.bytes_max));
        if !self.owned.contains(slot_of(key)) {
            return Some(Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(0) }));
        }
        (bytes > bytes_max).then_some(Reply::Refused(Refusal::TooLarge { bytes, bytes_max }))
    }

    /// Whether the condition fails; what has expired goes when it is looked at.
    fn fails(&mut self, key: &[u8], condition: Condition) -> Option<Reply> {
        if self.alive(key).is_none() && self.entries.contains_key(key) {
            self.forget(key);
        }
        let current = self.entries.get(key).map(|e| Version(e.version));
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfPresent => current.is_some(),
            Condition::IfVersion(version) => current == Some(version),
        };
        (!holds).then_some(Reply::ConditionFailed { current })
    }

    fn set(&mut self, set: &Set, version: u64) -> Reply {
        let failed = self.refused(&set.key, set.value.data.len());
        if let Some(reply) = failed.or_else(|| self.fails(&set.key, set.condition)) {
            return reply;
        }
        let kept = self.entries.get(&set.key[..]).map_or(NEVER, |e| e.deadline_ms);
        let deadline_ms = match set.expiry {
            Expiry::Never => NEVER,
            Expiry::AfterMs(ms) => self.log_time_ms + ms,
            Expiry::AtMs(ms) => ms,
            Expiry::Keep => kept,
        };
        self.forget(&set.key);
        if deadline_ms > self.log_time_ms {
            let added = logical_bytes(set.key.len() + set.value.data.len());
            self.make_room(added);
            let entry = ModelEntry { value: set.value.clone(), deadline_ms, version };
            self.entries.insert(set.key.to_vec(), entry);
            self.order.push(set.key.to_vec());
        }
        Reply::Set { version: Version(version) }
    }

    fn delete(&mut self, key: &[u8], condition: Condition) -> Reply {
        let failed = self.refused(key, 0);
        if let Some(reply) = failed.or_else(|| self.fails(key, condition)) {
            return reply;
        }
        let Some(entry) = self.entries.get(key) else { return Reply::NotFound };
        let version = Version(entry.version);
        self.forget(key);
        Reply::Deleted { version }
    }

    fn make_room(&mut self, added: u64) {
        if self.bytes() + added <= self.bytes_max {
            return;
        }
        while self.bytes() + added > self.bytes_max {
            self.evict_one();
        }
        for _ in 0..16 {
            if self.bytes() + added > self.bytes_max - self.bytes_max / 200 {
                self.evict_one();
            }
        }
    }

    fn evict_one(&mut self) {
        let key = self.first_due().unwrap_or_else(|| self.order[0].clone());
        self.forget(&key);
    }

    fn first_due(&self) -> Option<Vec<u8>> {
        let due = self.entries.iter().filter(|(_, e)| e.deadline_ms <= self.log_time_ms);
        due.min_by_key(|(_, e)| (e.deadline_ms, e.version)).map(|(key, _)| key.clone())
    }

    fn promote(&mut self, key: &[u8]) {
        self.order.retain(|other| other != key);
        self.order.push(key.to_vec());
    }

    fn forget(&mut self, key: &[u8]) {
        self.entries.remove(key);
        self.order.retain(|other| other != key);
    }
}
