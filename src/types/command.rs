//! What a log entry carries. This is the log format: its encoding lives in `codec::log_record`,
//! append only, guarded by a golden-bytes test.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{RequestId, Version};

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
    pub request_id: Option<RequestId>,
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

/// One read of a key; never enters the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The key.
    pub key: Bytes,
}
