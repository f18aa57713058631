//! What operations may be asked for besides key and value.

use std::time::Duration;

use bytes::Bytes;

use crate::pb;

/// Which state a read must show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consistency {
    /// Every write that was acknowledged before the call.
    #[default]
    Linearizable,
    /// The same as long as clocks drift less than the lease's margin; saves a round of messages
    /// where the nodes allow it.
    Lease,
    /// Of any replica that is not older than this.
    Bounded(Duration),
    /// Of any replica.
    Stale,
}

impl Consistency {
    /// Whether any replica may answer.
    pub(super) fn any(self) -> bool {
        matches!(self, Consistency::Bounded(_) | Consistency::Stale)
    }
}

/// How to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GetOptions {
    /// Which state.
    pub consistency: Consistency,
}

/// What must hold when a write is applied; an expired key is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Only {
    /// Nothing.
    #[default]
    Always,
    /// The key is absent.
    IfAbsent,
    /// The key is there.
    IfPresent,
    /// The key has this version (compare-and-set).
    IfVersion(u64),
}

impl Only {
    pub(super) fn message(self) -> Option<pb::Condition> {
        use pb::condition::Kind;
        let kind = match self {
            Only::Always => return None,
            Only::IfAbsent => Kind::IfAbsent(true),
            Only::IfPresent => Kind::IfPresent(true),
            Only::IfVersion(version) => Kind::IfVersion(version),
        };
        Some(pb::Condition { kind: Some(kind) })
    }
}

/// When a value ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// This long after the write is applied; the nodes count in milliseconds, rounded up.
    After(Duration),
    /// At this time, milliseconds since the Unix epoch.
    AtMs(u64),
    /// When the value before would have ended.
    Keep,
}

/// How to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetOptions {
    /// What must hold.
    pub only: Only,
    /// When it ends.
    pub expiry: Expiry,
}

/// How to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeleteOptions {
    /// What must hold.
    pub only: Only,
}

/// A time at which a key ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// This long after the write is applied; the nodes count in milliseconds, rounded up.
    After(Duration),
    /// At this time, milliseconds since the Unix epoch.
    AtMs(u64),
}

/// What must hold of the deadline that a key has; none counts as later than any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum When {
    /// Nothing.
    #[default]
    Always,
    /// It has none.
    IfNone,
    /// It has one.
    IfSome,
    /// The new one is later.
    IfLater,
    /// The new one is earlier.
    IfEarlier,
    /// It has one, and the new one is earlier.
    IfSomeAndEarlier,
}

/// How to change when a key ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpireOptions {
    /// What must hold.
    pub when: When,
    /// Answer the value.
    pub return_value: bool,
}

/// How to read a key that one caller fills for all.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LeaseOptions {
    /// How long to wait for another caller's fill, at most a minute; not at all, if zero. It is a
    /// part of the deadline of the operation, which ends the wait if it is less.
    pub wait: Duration,
    /// A stale value will do while another caller fills the key.
    pub stale_ok: bool,
    /// How early a fresh value may be asked to be filled again, in multiples of the time it took to
    /// work out: 1 is right for most, 0 is never, at most 100.
    pub beta: f32,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        LeaseOptions { wait: Duration::ZERO, stale_ok: false, beta: 1.0 }
    }
}

/// How to fill a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FillOptions {
    /// When the value ends; never, if none is given.
    pub ends: Option<Ends>,
    /// The value is stale this long after it is applied: one caller is asked to fill it again, the
    /// others may be served it until it ends. Never, if none is given.
    pub soft: Option<Duration>,
    /// How long it took to work out: what early refreshes go by.
    pub cost: Duration,
}

/// How to walk over all keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScanOptions {
    /// Glob that keys must match (`*`, `?`, `[a-z]`); every key, if none is given.
    pub pattern: Option<Bytes>,
    /// Keys to look at in a shard for one page, at most 4096; 0 leaves it to the node (10).
    pub count: u32,
    /// Which state.
    pub consistency: Consistency,
}
