//! F0: ids, command (the log format), reply, error, limits. Imports nothing of the other floors.

pub mod clock;
pub mod command;
pub mod error;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod random;
pub mod reply;
pub mod task;
pub mod wire;

pub use command::{Batch, Command, Condition, Delete, Expiry, Query, Set, Value, ValueKind, Write};
pub use error::{Error, Outcome, Reason};
pub use ids::{
    Generation, GroupId, LogKey, NodeId, ReplicaId, RequestId, RoutingEpoch, SLOTS, ShardId, Slot,
    Version,
};
pub use reply::{Consistency, Found, Freshness, Refusal, Reply};
