//! What a log entry carries. This is the log format: its encoding lives in `codec::log_record`,
//! append only, guarded by a golden-bytes test.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::Version;
use super::lease::Fill;
use super::lock::{Lock, Renew, Unlock};
use super::once::Once;
use super::transaction::Transaction;

/// One Raft entry of a shard's group: many operations under one stamp.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// Leader's log-time stamp, milliseconds since the Unix epoch.
    /// The machine's clock becomes `max(last, stamp_ms)`.
    pub stamp_ms: u64,
    /// Recency hints: 4-byte hashes of keys that were read (see `core::keyspace`).
    pub touches: Vec<u32>,
    /// Operations, applied in order.
    pub writes: Vec<Write>,
}

/// One operation that goes through the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Present when the operation may be retried: the first reply is remembered (INV-6).
    pub request_id: Option<Once>,
    /// What to do.
    pub command: Command,
}

/// What a write does. Tags are append only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Set a key.
    Set(Set),
    /// Delete a key.
    Delete(Delete),
    /// Advance log time only (a read met a deadline between log time and the leader's clock).
    Tick,
    /// Change the byte limit of the group; the only way it ever changes.
    SetLimit {
        /// New limit in logical bytes.
        bytes_max: u64,
    },
    /// Set a key and answer the value it had.
    GetSet(Set),
    /// Delete a key and answer the value it had.
    GetDelete(Delete),
    /// Change when a key ends, or with `Expiry::Keep` only make it the most recent one.
    Expire(Expire),
    /// The same, and answer the value.
    GetExpire(Expire),
    /// Add to a whole number.
    Increment(Increment),
    /// Add to a decimal number.
    IncrementFloat(IncrementFloat),
    /// Put bytes behind a value.
    Append(Append),
    /// Put bytes over a part of a value.
    SetRange(SetRange),
    /// Several operations as one.
    Transaction(Transaction),
    /// Remove every key of the group.
    Flush,
    /// Copy a key to another one, with its deadline.
    Copy(CopyKey),
    /// The same, and the first one is gone.
    Rename(CopyKey),
    /// Take a lock.
    Lock(Lock),
    /// Hold a lock for longer.
    Renew(Renew),
    /// Give a lock back.
    Unlock(Unlock),
    /// Set a key that its caller was asked to fill.
    Fill(Fill),
}

impl Command {
    /// The key it works on, the first if there are two; `None` if it is not about one key.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Command::Set(set) | Command::GetSet(set) => Some(&set.key),
            Command::Delete(delete) | Command::GetDelete(delete) => Some(&delete.key),
            Command::Expire(expire) | Command::GetExpire(expire) => Some(&expire.key),
            Command::Increment(increment) => Some(&increment.key),
            Command::IncrementFloat(increment) => Some(&increment.key),
            Command::Append(append) => Some(&append.key),
            Command::SetRange(set_range) => Some(&set_range.key),
            Command::Copy(copy) | Command::Rename(copy) => Some(&copy.key),
            Command::Lock(lock) => Some(&lock.key),
            Command::Renew(renew) => Some(&renew.key),
            Command::Unlock(unlock) => Some(&unlock.key),
            Command::Fill(fill) => Some(&fill.key),
            Command::Tick | Command::SetLimit { .. } | Command::Transaction(_) | Command::Flush => {
                None
            }
        }
    }

    /// The other key it works on, of the same shard; `None` for what is about one key.
    pub fn target(&self) -> Option<&Bytes> {
        match self {
            Command::Copy(copy) | Command::Rename(copy) => Some(&copy.to),
            _ => None,
        }
    }

    /// The key whose value it answers, if it does (a transaction's are its steps').
    pub fn shown_key(&self) -> Option<&Bytes> {
        match self {
            Command::GetSet(set) => Some(&set.key),
            Command::GetDelete(delete) => Some(&delete.key),
            Command::GetExpire(expire) => Some(&expire.key),
            _ => None,
        }
    }

    /// Bytes of keys and value, or of key and owner.
    pub fn payload_bytes(&self) -> usize {
        let value = match self {
            Command::Lock(lock) => lock.owner.len(),
            Command::Renew(renew) => renew.owner.len(),
            Command::Unlock(unlock) => unlock.owner.len(),
            Command::Fill(fill) => fill.value.data.len(),
            Command::Set(set) | Command::GetSet(set) => set.value.data.len(),
            Command::Append(append) => append.value.data.len(),
            Command::SetRange(range) => range.value.data.len(),
            Command::IncrementFloat(increment) => increment.delta.len(),
            Command::Copy(copy) | Command::Rename(copy) => copy.to.len(),
            _ => 0,
        };
        self.key().map_or(0, Bytes::len) + value
    }

    /// How many versions it may give: its share of the positions of a batch, at least 1.
    pub fn positions(&self) -> usize {
        match self {
            Command::Transaction(transaction) => transaction.steps.len().max(1),
            _ => 1,
        }
    }

    /// Name for metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Set(_) => "set",
            Command::Delete(_) => "delete",
            Command::Tick => "tick",
            Command::SetLimit { .. } => "set_limit",
            Command::GetSet(_) => "get_set",
            Command::GetDelete(_) => "get_delete",
            Command::Expire(_) => "expire",
            Command::GetExpire(_) => "get_expire",
            Command::Increment(_) => "increment",
            Command::IncrementFloat(_) => "increment_float",
            Command::Append(_) => "append",
            Command::SetRange(_) => "set_range",
            Command::Transaction(_) => "transaction",
            Command::Flush => "flush",
            Command::Copy(_) => "copy",
            Command::Rename(_) => "rename",
            Command::Lock(_) => "lock",
            Command::Renew(_) => "renew",
            Command::Unlock(_) => "unlock",
            Command::Fill(_) => "fill",
        }
    }
}

/// Positions that writes take together: at most `BATCH_WRITES_MAX` in one batch, because each
/// gives a version.
pub fn positions(writes: &[Write]) -> usize {
    writes.iter().map(|write| write.command.positions()).sum()
}

/// Set a key to a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// The value.
    pub value: Value,
    /// When it ends.
    pub expiry: Expiry,
    /// What must hold at apply.
    pub condition: Condition,
}

/// Delete a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// What must hold at apply.
    pub condition: Condition,
}

/// Change when a key ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expire {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// When it ends: `Never` makes it persist, `Keep` changes nothing but its recency (and not its
    /// version). A deadline that has come deletes the key.
    pub expiry: Expiry,
    /// What must hold of the deadline it has.
    pub condition: ExpireCondition,
}

/// Add to a whole number, 0 if the key is absent. The deadline stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Increment {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// What to add.
    pub delta: i64,
}

/// Add to a decimal number, 0 if the key is absent. The deadline stays. The sum is exact and
/// rounded to 17 decimals (see `core::machine::commands::decimal`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IncrementFloat {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// What to add, as text: `-1.5e3`. At most `FLOAT_BYTES_MAX` bytes.
    pub delta: Bytes,
}

/// Put bytes behind a value; an absent key is set to them. The deadline stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// What to append. The value stays text only if both are.
    pub value: Value,
}

/// Put bytes over a part of a value, which grows with zero bytes where it is too short; an absent
/// key is an empty value. Nothing to put changes nothing. The deadline stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetRange {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// Where the bytes begin.
    pub offset: u64,
    /// What to put there. The value stays text only if both are and the result is UTF-8.
    pub value: Value,
}

/// Copy a key to another one, or rename it. Value and deadline are those of the first; its version is
/// new. To itself it changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyKey {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// 1..=`limits.key_bytes_max` bytes; of the same shard.
    pub to: Bytes,
    /// What must hold of `to` at apply.
    pub condition: Condition,
}

/// A value: bytes and how they were given, so that text is read back as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    /// The bytes.
    pub data: Bytes,
    /// How they were given.
    pub kind: ValueKind,
}

/// How a value was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ValueKind {
    /// Arbitrary bytes.
    Bytes,
    /// UTF-8 text (checked at the door).
    Text,
}

/// When a value ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Never.
    Never,
    /// This many milliseconds after the entry's log time.
    AfterMs(u64),
    /// At this log time, milliseconds since the Unix epoch.
    AtMs(u64),
    /// Keep the deadline the key has (none if the key is absent).
    Keep,
}

/// What must hold at apply; an expired key is absent to every condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key is absent.
    IfAbsent,
    /// The key is present.
    IfPresent,
    /// The key is present with exactly this version.
    IfVersion(Version),
}

/// What must hold of a key's deadline for `Expire`; no deadline counts as later than any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpireCondition {
    /// Nothing.
    Always,
    /// It has none (`NX` of Redis).
    IfNone,
    /// It has one (`XX`).
    IfSome,
    /// The new one is later (`GT`).
    IfLater,
    /// The new one is earlier (`LT`).
    IfEarlier,
    /// It has one, and the new one is earlier (`XX LT`).
    IfSomeAndEarlier,
}
