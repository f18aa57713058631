//! Identifiers. Each is a newtype so that one cannot be passed where another is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl From<$inner> for $name {
            fn from(raw: $inner) -> Self {
                $name(raw)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A process. Chosen by the operator, at least 1, unique in the cluster.
    NodeId(u64),
    "n"
);
id!(
    /// One group's copy on a node: its Raft identity.
    ///
    /// Invariant: never used twice. A replica that lost its log must not vote under its old id
    /// (a "blank restart" loses acknowledged writes), so the controller hands out a fresh one.
    ReplicaId(u64),
    "r"
);
id!(
    /// A set of slots, the unit of ownership.
    ShardId(u16),
    "s"
);
id!(
    /// A Raft group. 0 is the controller; shard `s` is served by group `s + 1`.
    GroupId(u32),
    "g"
);
id!(
    /// Hash bucket of a key: CRC16 modulo 16384, as Redis Cluster defines it.
    Slot(u16),
    "slot"
);
id!(
    /// Version of the routing table; only grows.
    RoutingEpoch(u64),
    "e"
);
id!(
    /// Of a group that had to start again empty (INV-7); 1 is the first.
    Generation(u32),
    "gen"
);
id!(
    /// Version of a value: only grows within a group, taken from the log index of the write.
    Version(u64),
    "v"
);

/// Number of slots, fixed by the Redis Cluster specification.
pub const SLOTS: u16 = 16384;

impl GroupId {
    /// The controller's group.
    pub const CONTROLLER: GroupId = GroupId(0);

    /// The group that serves `shard`.
    pub const fn of_shard(shard: ShardId) -> Self {
        GroupId(shard.0 as u32 + 1)
    }

    /// The shard this group serves, `None` for the controller.
    pub fn shard(self) -> Option<ShardId> {
        u16::try_from(self.0.checked_sub(1)?).ok().map(ShardId)
    }
}

/// Names one replica's log and snapshots on a node's disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LogKey {
    /// Group the log belongs to.
    pub group: GroupId,
    /// Replica the log belongs to: a fresh replica id never sees an older one's log.
    pub replica: ReplicaId,
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.group, self.replica)
    }
}

/// Names an operation for the whole cluster, so that a retry is applied once (INV-6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId {
    /// Chosen at random by the caller, once per client or connection.
    pub session: u128,
    /// Chosen by the caller, distinct for each operation of the session.
    pub sequence: u64,
}
