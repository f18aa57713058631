//! What operations may be asked for besides key and value.

use std::time::Duration;

use super::lane::ttl;
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

impl GetOptions {
    pub(super) fn fill(self, request: &mut pb::GetRequest) {
        let wire = match self.consistency {
            Consistency::Linearizable => pb::Consistency::Linearizable,
            Consistency::Lease => pb::Consistency::Lease,
            Consistency::Bounded(_) => pb::Consistency::Bounded,
            Consistency::Stale => pb::Consistency::Stale,
        };
        request.consistency = wire.into();
        if let Consistency::Bounded(age) = self.consistency {
            request.max_staleness = Some(ttl(age));
        }
    }
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

impl SetOptions {
    pub(super) fn fill(self, request: &mut pb::SetRequest) {
        use pb::set_request::Expiry as Wire;
        request.condition = self.only.message();
        request.expiry = match self.expiry {
            Expiry::Never => None,
            Expiry::After(time) => Some(Wire::Ttl(ttl(time))),
            Expiry::AtMs(at) => Some(Wire::ExpireAtMs(at)),
            Expiry::Keep => Some(Wire::KeepTtl(true)),
        };
    }
}

/// How to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeleteOptions {
    /// What must hold.
    pub only: Only,
}
