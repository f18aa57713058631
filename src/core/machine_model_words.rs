//! What each command does to the model.

use super::keyspace::{NEVER, logical_bytes};
use super::machine::{decimal_sum, entry_bytes_max};
use super::machine_model::{Model, ModelEntry};
use super::slot::slot_of;
use crate::types::{
    Answer, Append, Command, Condition, CopyKey, Delete, Expire, ExpireCondition, Expiry, Found,
    Meta, Query, Refusal, Reply, RoutingEpoch, Set, SetRange, Step, Transaction, Value, ValueKind,
    Version,
};

impl Model {
    pub(super) fn execute(&mut self, command: &Command, version: u64) -> Reply {
        let mut keys = command.key().into_iter().chain(command.target());
        if keys.any(|key| !self.owned.contains(slot_of(key))) {
            return Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(0) });
        }
        if self.meets_a_lock(command) {
            return Reply::Refused(Refusal::WrongKind);
        }
        match command {
            Command::Set(set) => self.set(set, version, false),
            Command::GetSet(set) => self.set(set, version, true),
            Command::Delete(delete) => self.delete(delete, version, false),
            Command::GetDelete(delete) => self.delete(delete, version, true),
            Command::Expire(expire) => self.expire(expire, version, false),
            Command::GetExpire(expire) => self.expire(expire, version, true),
            Command::Increment(increment) => {
                let old = self.value_or(&increment.key, "0");
                let text = String::from_utf8_lossy(&old.data).into_owned();
                let sum = match text.parse::<i64>() {
                    Ok(n) if n.to_string() == text => n.checked_add(increment.delta),
                    _ => return Reply::Refused(Refusal::NotInteger),
                };
                let Some(value) = sum else { return Reply::Refused(Refusal::Overflow) };
                let data = value.to_string().into();
                let value_of = Value { data, kind: old.kind };
                let version = Version(version);
                self.rewrite(&increment.key, value_of, version)
                    .unwrap_or(Reply::Integer { version, value })
            }
            Command::IncrementFloat(increment) => {
                let old = self.value_or(&increment.key, "0");
                // Its sums have tests of their own.
                let text = match decimal_sum(&old.data, &increment.delta) {
                    Ok(text) => text,
                    Err(refusal) => return Reply::Refused(refusal),
                };
                let value = Value { data: text.clone().into(), kind: old.kind };
                let version = Version(version);
                self.rewrite(&increment.key, value, version)
                    .unwrap_or(Reply::Float { version, text: text.into() })
            }
            Command::Append(Append { key, value }) => {
                let old = self.value_or(key, "").data;
                self.splice(key, old.len(), value, version)
            }
            Command::SetRange(SetRange { key, offset, value }) => {
                self.reap(key);
                if value.data.is_empty() {
                    return self.entries.get(&key[..]).map_or(Reply::NotFound, |e| Reply::Length {
                        version: Version(e.version),
                        value_bytes: e.value.data.len() as u64,
                    });
                }
                self.splice(key, *offset as usize, value, version)
            }
            Command::Copy(copy) => self.copy(copy, version, false),
            Command::Rename(copy) => self.copy(copy, version, true),
            Command::Transaction(transaction) => self.transaction(transaction, version),
            Command::Tick => Reply::Done,
            Command::SetLimit { bytes_max } => {
                self.bytes_max = *bytes_max;
                while self.bytes() > self.bytes_max && self.evict_one() {}
                Reply::Done
            }
            Command::Flush => self.flush(version),
            other => self.of_locks(other, version),
        }
    }

    fn transaction(&mut self, transaction: &Transaction, version: u64) -> Reply {
        let mut keys: Vec<_> = transaction.watches.iter().map(|watch| &watch.key).collect();
        keys.extend(transaction.steps.iter().filter_map(Step::key));
        keys.extend(transaction.steps.iter().filter_map(Step::target));
        if keys.into_iter().any(|key| !self.owned.contains(slot_of(key))) {
            return Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(0) });
        }
        for (watch, at) in transaction.watches.iter().zip(0..) {
            self.reap(&watch.key);
            let current = self.entries.get(&watch.key[..]).map(|e| Version(e.version));
            if current != watch.version || self.came_and_went(watch) {
                return Reply::Aborted { watch: at, current };
            }
        }
        let mut replies = Vec::new();
        for (step, version) in transaction.steps.iter().zip(version..) {
            replies.push(match step {
                Step::Write(command) => self.execute(command, version),
                Step::Read(query) => Reply::Read(Box::new(self.read(query))),
            });
        }
        Reply::Transaction(replies)
    }

    /// What a read of a key finds at this log time.
    pub fn read(&self, query: &Query) -> Answer {
        let entry = query.key().and_then(|key| self.alive(key));
        let shown = matches!(query, Query::Get { .. } | Query::GetRange { .. });
        if shown && entry.is_some_and(|e| e.lock) {
            return Answer::WrongKind;
        }
        let ends = |e: &ModelEntry| (e.deadline_ms != NEVER).then_some(e.deadline_ms);
        match query {
            Query::Get { .. } => Answer::Value(entry.map(|e| self.found(e))),
            Query::GetRange { start, end, .. } => Answer::Value(entry.map(|e| {
                let mut found = self.found(e);
                let len = found.value.data.len() as i64;
                let at = |i: i64| if i < 0 { (i + len).max(0) } else { i };
                let kept = (at(*start)..=at(*end)).filter(|i| *i < len);
                let both_negative = *start < 0 && *end < 0 && start > end;
                let data: Vec<u8> = kept.map(|i| found.value.data[i as usize]).collect();
                found.value.data = if both_negative { Vec::new().into() } else { data.into() };
                found
            })),
            Query::Inspect { .. } => Answer::Meta(entry.map(|e| Meta {
                version: Version(e.version),
                value_bytes: e.value.data.len() as u64,
                kind: e.value.kind,
                ttl_ms: ends(e).map(|at| at - self.log_time_ms),
                deadline_ms: ends(e),
            })),
            Query::Scan(_) | Query::Size { .. } => {
                let alive = self.entries.values().filter(|e| e.deadline_ms > self.log_time_ms);
                Answer::Size(alive.count() as u64)
            }
        }
    }

    pub(super) fn found(&self, entry: &ModelEntry) -> Found {
        let ends = entry.deadline_ms != NEVER;
        Found {
            value: entry.value.clone(),
            version: Version(entry.version),
            ttl_ms: ends.then(|| entry.deadline_ms - self.log_time_ms),
        }
    }

    pub(super) fn too_large(&self, key: &[u8], value_len: usize) -> Option<Reply> {
        let beside_locks = self.bytes_max - self.bytes_max / 100;
        let bytes_max =
            entry_bytes_max(self.bytes_max).min(beside_locks.saturating_sub(self.lock_bytes()));
        let bytes = logical_bytes(key.len() + value_len);
        (bytes > bytes_max).then_some(Reply::Refused(Refusal::TooLarge { bytes, bytes_max }))
    }

    /// What has expired goes when it is looked at.
    pub(super) fn reap(&mut self, key: &[u8]) {
        if self.alive(key).is_none() && self.entries.contains_key(key) {
            self.forget(key);
        }
    }

    fn value_or(&mut self, key: &[u8], absent: &'static str) -> Value {
        self.reap(key);
        let absent = || Value { data: absent.into(), kind: ValueKind::Text };
        self.entries.get(key).map_or_else(absent, |e| e.value.clone())
    }

    /// Another value under the deadline the key has; the refusal if it is too large.
    fn rewrite(&mut self, key: &[u8], value: Value, version: Version) -> Option<Reply> {
        let refusal = self.too_large(key, value.data.len());
        if refusal.is_none() {
            let deadline_ms = self.entries.get(key).map_or(NEVER, |e| e.deadline_ms);
            let version = version.0;
            let plain = ModelEntry { value, deadline_ms, version, lock: false, filled: false };
            self.put(key, plain);
        }
        refusal
    }

    /// Puts bytes at an offset, which may be the end.
    fn splice(&mut self, key: &[u8], offset: usize, value: &Value, version: u64) -> Reply {
        self.reap(key);
        let present = self.entries.get(key).map(|e| e.value.clone());
        let old_kind = present.as_ref().map_or(value.kind, |old| old.kind);
        let mut data = present.map_or(Vec::new(), |old| old.data.to_vec());
        let end = offset + value.data.len();
        data.resize(data.len().max(end), 0);
        data[offset..end].copy_from_slice(&value.data);
        let both = old_kind == ValueKind::Text && value.kind == ValueKind::Text;
        let text = both && std::str::from_utf8(&data).is_ok();
        let kind = if text { ValueKind::Text } else { ValueKind::Bytes };
        let value_bytes = data.len() as u64;
        let (version, value) = (Version(version), Value { data: data.into(), kind });
        self.rewrite(key, value, version).unwrap_or(Reply::Length { version, value_bytes })
    }

    /// Whether the condition fails.
    fn fails(&mut self, key: &[u8], condition: Condition) -> bool {
        self.reap(key);
        let current = self.entries.get(key).map(|e| Version(e.version));
        !match condition {
            Condition::Always => true,
            Condition::IfAbsent => current.is_none(),
            Condition::IfPresent => current.is_some(),
            Condition::IfVersion(version) => current == Some(version),
        }
    }

    pub(super) fn deadline(&self, expiry: Expiry, kept: u64) -> u64 {
        match expiry {
            Expiry::Never => NEVER,
            Expiry::AfterMs(ms) => self.log_time_ms + ms,
            Expiry::AtMs(ms) => ms,
            Expiry::Keep => kept,
        }
    }

    fn set(&mut self, set: &Set, version: u64, get: bool) -> Reply {
        if let Some(reply) = self.too_large(&set.key, set.value.data.len()) {
            return reply;
        }
        let fails = self.fails(&set.key, set.condition);
        let old = self.entries.get(&set.key[..]).map(|e| Box::new(self.found(e)));
        if fails {
            let current = old.as_ref().map(|old| old.version);
            return match get {
                true => Reply::NotSwapped { current: old },
                false => Reply::ConditionFailed { current },
            };
        }
        let kept = self.entries.get(&set.key[..]).map_or(NEVER, |e| e.deadline_ms);
        let deadline_ms = self.deadline(set.expiry, kept);
        if deadline_ms > self.log_time_ms {
            let value = set.value.clone();
            let entry = ModelEntry { value, deadline_ms, version, lock: false, filled: false };
            self.put(&set.key, entry);
        } else {
            self.forget(&set.key);
            self.note(&set.key, version);
        }
        let version = Version(version);
        if get { Reply::Swapped { version, old } } else { Reply::Set { version } }
    }

    pub(super) fn put(&mut self, key: &[u8], entry: ModelEntry) {
        // What is overwritten is not removed.
        self.entries.remove(key);
        self.order.retain(|other| other != key);
        self.make_room(entry.bytes(key));
        self.entries.insert(key.to_vec(), entry);
        self.order.push(key.to_vec());
    }

    fn delete(&mut self, delete: &Delete, version: u64, get: bool) -> Reply {
        let fails = self.fails(&delete.key, delete.condition);
        let old = self.entries.get(&delete.key[..]).map(|e| Box::new(self.found(e)));
        if fails {
            let current = old.as_ref().map(|old| old.version);
            return match get {
                true => Reply::NotSwapped { current: old },
                false => Reply::ConditionFailed { current },
            };
        }
        self.note(&delete.key, version);
        let Some(old) = old else { return Reply::NotFound };
        self.forget(&delete.key);
        if get { Reply::Taken(old) } else { Reply::Deleted { version: old.version } }
    }

    fn copy(&mut self, copy: &CopyKey, version: u64, rename: bool) -> Reply {
        self.reap(&copy.key);
        let Some(from) = self.entries.get(&copy.key[..]).cloned() else { return Reply::NotFound };
        if self.fails(&copy.to, copy.condition) {
            let current = self.entries.get(&copy.to[..]).map(|e| Version(e.version));
            return Reply::ConditionFailed { current };
        }
        if copy.key == copy.to {
            return Reply::Set { version: Version(from.version) };
        }
        if let Some(refusal) = self.too_large(&copy.to, from.value.data.len()) {
            return refusal;
        }
        if rename {
            self.forget(&copy.key);
            self.note(&copy.key, version);
        }
        self.put(&copy.to, ModelEntry { version, filled: false, ..from });
        Reply::Set { version: Version(version) }
    }

    fn expire(&mut self, expire: &Expire, version: u64, get: bool) -> Reply {
        self.reap(&expire.key);
        let Some(entry) = self.entries.get(&expire.key[..]).cloned() else {
            return Reply::NotFound;
        };
        let (kept, new) = (entry.deadline_ms, self.deadline(expire.expiry, entry.deadline_ms));
        let allowed = match expire.condition {
            ExpireCondition::Always => true,
            ExpireCondition::IfNone => kept == NEVER,
            ExpireCondition::IfSome => kept != NEVER,
            ExpireCondition::IfLater => new > kept,
            ExpireCondition::IfEarlier => new < kept,
            ExpireCondition::IfSomeAndEarlier => kept != NEVER && new < kept,
        };
        if !allowed {
            return Reply::ConditionFailed { current: Some(Version(entry.version)) };
        }
        if new <= self.log_time_ms {
            let old = self.found(&entry);
            self.forget(&expire.key);
            self.note(&expire.key, version);
            return match get {
                true => Reply::Taken(Box::new(old)),
                false => Reply::Deleted { version: old.version },
            };
        }
        let persists = expire.expiry == Expiry::Never && kept == NEVER;
        let same = expire.expiry == Expiry::Keep || persists;
        let version = if same { entry.version } else { version };
        let entry = ModelEntry { deadline_ms: new, version, ..entry };
        let (now, ends) = (self.found(&entry), (new != NEVER).then_some(new));
        self.entries.insert(expire.key.to_vec(), entry);
        self.promote(&expire.key);
        match get {
            true => Reply::Got(Box::new(now)),
            false => Reply::Expires { version: Version(version), deadline_ms: ends },
        }
    }
}
