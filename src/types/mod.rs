//! F0: ids, command (the log format), reply, error, limits. Imports nothing of the other floors.

pub mod clock;
pub mod command;
pub mod countermeasure;
pub mod error;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod log_limit;
pub mod metrics;
pub mod once;
pub mod probe;
pub mod query;
pub mod random;
pub mod reply;
pub mod task;
pub mod transaction;
pub mod watch;
pub mod watchdog;
pub mod wire;

pub use command::{
    Append, Batch, Command, Condition, CopyKey, Delete, Expire, ExpireCondition, Expiry, Increment,
    IncrementFloat, Set, SetRange, Value, ValueKind, Write, positions,
};
pub use error::{Error, Outcome, Reason};
pub use ids::{
    Generation, GroupId, LogKey, NodeId, ReplicaId, RequestId, RoutingEpoch, SLOTS, ShardId, Slot,
    Version,
};
pub use lease::{Fill, GetOrLease, Leased};
pub use lock::{Lock, Renew, Unlock};
pub use once::{Asker, Named, Once, Sent};
pub use query::{Answer, Found, Keys, Meta, Query, Scan};
pub use reply::{Consistency, Freshness, Refusal, Reply};
pub use transaction::{Step, Transaction, Watch};
