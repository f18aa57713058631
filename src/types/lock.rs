//! Locks: keys of a kind of their own, with an owner and a fencing token. See docs/locks.md.

use bytes::Bytes;

use super::ids::Version;

/// Take a lock, or renew it if the owner has it. The token is the key's version: it grows with each
/// new holder and stays while one holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// Who asks, chosen by the caller: 1..=`LOCK_OWNER_BYTES_MAX` bytes.
    pub owner: Bytes,
    /// The lock ends this many milliseconds after the entry's log time.
    pub ttl_ms: u64,
    /// Locks that the group may hold, this one included. Part of the log, so that replicas whose
    /// nodes are configured differently decide alike.
    pub locks_max: u32,
}

/// Hold a lock for longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renew {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// Who holds it.
    pub owner: Bytes,
    /// What `Lock` answered.
    pub token: Version,
    /// The lock ends this many milliseconds after the entry's log time.
    pub ttl_ms: u64,
}

/// Give a lock back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unlock {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// Who holds it.
    pub owner: Bytes,
    /// What `Lock` answered.
    pub token: Version,
}
