//! What an operation answers.

use serde::{Deserialize, Serialize};

use super::command::Value;
use super::ids::{RoutingEpoch, Version};

/// Answer to one `Write`, as decided at apply. Remembered by sessions, so it is encodable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The write took effect.
    Set {
        /// Version the key has now.
        version: Version,
    },
    /// The key was present and is gone.
    Deleted {
        /// Version it had.
        version: Version,
    },
    /// Delete found no such key.
    NotFound,
    /// A condition did not hold; nothing changed.
    ConditionFailed {
        /// Version the key has, `None` if it is absent.
        current: Option<Version>,
    },
    /// Log time advanced, or a limit changed.
    Done,
    /// Refused at apply; nothing changed.
    Refused(Refusal),
}

/// Why a write was refused at apply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// This group does not own the slot under its epoch.
    NotOwner {
        /// Epoch the group knows.
        epoch: RoutingEpoch,
    },
    /// The cache entry is larger than the group can hold.
    TooLarge {
        /// Logical bytes of the entry.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The session's first reply to this request id has been forgotten; the outcome is `Unknown`.
    SessionExpired,
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// Its version.
    pub version: Version,
    /// Milliseconds until it ends, by log time; `None` if never.
    pub ttl_ms: Option<u64>,
}

/// Log id and age of what a read shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freshness {
    /// Term of the applied log id.
    pub term: u64,
    /// Index of the applied log id.
    pub index: u64,
    /// Upper bound of the age in milliseconds; 0 for linearizable reads.
    pub age_ms: u64,
}

/// Consistency of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// Read index, one barrier for everything queued before it began.
    #[default]
    Linearizable,
    /// The leader's lease; opt-in, assumes bounded clock drift.
    Lease,
    /// Any replica not older than this many milliseconds.
    Bounded {
        /// Largest age accepted.
        staleness_ms_max: u64,
    },
    /// Any replica.
    Stale,
}
