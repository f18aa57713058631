//! What a read asks and finds. Reads never enter the log, but for those inside a transaction.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{Value, ValueKind};
use super::ids::{Slot, Version};

/// One read of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// All but the value: whether the key exists, its length, version and deadline.
    Inspect {
        /// The key.
        key: Bytes,
    },
    /// A part of the value. Positions count from 0, or from the end if negative (-1 is the last
    /// byte); both ends belong to it; what lies outside is left out (`GETRANGE` of Redis).
    GetRange {
        /// The key.
        key: Bytes,
        /// First byte.
        start: i64,
        /// Last byte.
        end: i64,
    },
    /// Some keys of the group, in the order of their positions.
    Scan(Scan),
    /// How many keys are alive.
    Size {
        /// Only those of this slot.
        slot: Option<Slot>,
    },
}

/// A stretch of a walk over a group's keys. A key's position is its slot (14 bits) and the highest
/// 18 bits of its seeded hash: the same on every replica of the group, and for as long as the key
/// lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Position to begin at.
    pub first: u32,
    /// Last position that belongs to the walk.
    pub last: u32,
    /// Keys to look at; more only if several share the last position.
    pub keys_max: u32,
    /// Glob pattern keys must match (`core::glob`), at most `PATTERN_BYTES_MAX` bytes.
    pub pattern: Option<Bytes>,
}

impl Query {
    /// The key it reads; `None` if it is about the whole group.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Query::Get { key } | Query::Inspect { key } | Query::GetRange { key, .. } => Some(key),
            Query::Scan(_) | Query::Size { .. } => None,
        }
    }

    /// Name for metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Query::Get { .. } => "get",
            Query::Inspect { .. } => "inspect",
            Query::GetRange { .. } => "get_range",
            Query::Scan(_) => "scan",
            Query::Size { .. } => "size",
        }
    }
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Of `Get` and `GetRange`: the value (or its part), `None` if the key is absent.
    Value(Option<Found>),
    /// Of `Inspect`, `None` if the key is absent.
    Meta(Option<Meta>),
    /// Of `Scan`.
    Keys(Keys),
    /// Of `Size`.
    Size(u64),
    /// Of `Get` and `GetRange`: the key is a lock.
    WrongKind,
}

impl Answer {
    /// Bytes of values and keys in it.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Answer::Value(Some(found)) => found.value.data.len(),
            Answer::Keys(keys) => keys.keys.iter().map(Bytes::len).sum(),
            Answer::Value(None) | Answer::Meta(_) | Answer::Size(_) | Answer::WrongKind => 0,
        }
    }

    /// The value found; `None` if there is none or something else was asked.
    pub fn into_found(self) -> Option<Found> {
        match self {
            Answer::Value(found) => found,
            Answer::Meta(_) | Answer::Keys(_) | Answer::Size(_) | Answer::WrongKind => None,
        }
    }

    /// Whether the key was there; `None` if it was not about a key.
    pub fn hit(&self) -> Option<bool> {
        match self {
            Answer::Value(found) => Some(found.is_some()),
            Answer::Meta(meta) => Some(meta.is_some()),
            Answer::Keys(_) | Answer::Size(_) | Answer::WrongKind => None,
        }
    }
}

/// A value and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// Its version.
    pub version: Version,
    /// Milliseconds until it ends, by log time; `None` if never.
    pub ttl_ms: Option<u64>,
}

/// All of a cache entry but its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// Its version.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// How the value was given.
    pub kind: ValueKind,
    /// Milliseconds until it ends, by log time; `None` if never.
    pub ttl_ms: Option<u64>,
    /// When it ends, log time in milliseconds since the Unix epoch; `None` if never.
    pub deadline_ms: Option<u64>,
}

/// Keys that a scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Keys {
    /// In the order of their positions.
    pub keys: Vec<Bytes>,
    /// Position at which to go on; `None` if the walk has come to its last position.
    pub next: Option<u32>,
}
