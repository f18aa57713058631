//! The one error a caller sees. See `docs/errors.md`.

use std::time::Duration;

use super::ids::{GroupId, NodeId, RoutingEpoch};

/// Whether a failed operation may have been applied (INV-5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Surely not applied.
    Rejected,
    /// May have been applied, now or later.
    Unknown,
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// What happened.
    pub reason: Reason,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
}

/// What happened. Every variant has one outcome, given by `Reason::outcome`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// Bad input, by name of the field and its limit.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// Field of the request.
        field: &'static str,
        /// What is wrong, with the limit.
        problem: String,
    },
    /// This replica does not lead the group.
    #[error("not the leader of {group}{}", leader.map(|l| format!("; try {l}")).unwrap_or_default())]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Node that leads, if known.
        leader: Option<NodeId>,
    },
    /// This node, or the group, does not serve the slot.
    #[error("slot is not served here under routing epoch {epoch}")]
    NotOwner {
        /// Epoch the answering side knows.
        epoch: RoutingEpoch,
    },
    /// No leader within the deadline; nothing was proposed.
    #[error("{group} has no leader within the deadline")]
    NoLeader {
        /// The group.
        group: GroupId,
    },
    /// No majority of the group's replicas can be reached; nothing was proposed.
    #[error("no quorum: no majority of the replicas of {group} was heard of for {silent_ms} ms")]
    NoQuorum {
        /// The group.
        group: GroupId,
        /// For how long.
        silent_ms: u64,
    },
    /// The cluster has not formed yet.
    #[error("the cluster has not formed yet")]
    NotReady,
    /// A limit of this node was met (INV-8).
    #[error("{what} is at its limit of {limit}")]
    ResourceExhausted {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The deadline passed before the operation was proposed.
    #[error("deadline passed before the operation was proposed")]
    DeadlineBeforePropose,
    /// The deadline passed after the operation may have been proposed.
    #[error("deadline passed; the operation may have been applied")]
    DeadlineAfterPropose,
    /// The leader changed, or the connection broke, after the operation may have been proposed.
    #[error("leadership or connection lost; the operation may have been applied ({detail})")]
    Lost {
        /// What was seen.
        detail: String,
    },
    /// A read could not be served (reads change nothing, so it is `Rejected`).
    #[error("read not served: {detail}")]
    ReadFailed {
        /// What was seen.
        detail: String,
    },
    /// No replica here is fresh enough for the bound asked for.
    #[error("the replica is {} old, {staleness_ms_max} ms are allowed", age(*age_ms))]
    TooStale {
        /// Age of the replica; `u64::MAX` if it has not heard enough of a leader to tell.
        age_ms: u64,
        /// Bound asked for.
        staleness_ms_max: u64,
    },
    /// A request id was used again after its first reply was forgotten.
    #[error("the first reply to this request id is no longer remembered")]
    SessionExpired,
    /// The cache entry is larger than the group can hold.
    #[error(
        "value: the cache entry takes {bytes} bytes, more than the {bytes_max} the shard can hold"
    )]
    TooLarge {
        /// Logical bytes of the entry.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The disk of every replica that was asked refuses to be written; nothing was proposed.
    #[error("disk: {detail}")]
    StorageFailed {
        /// What the disk said.
        detail: String,
    },
    /// The value to add to is not a whole number of 64 bits.
    #[error("value: is not an integer or out of range")]
    NotInteger,
    /// The sum is no whole number of 64 bits.
    #[error("value: increment or decrement would overflow")]
    Overflow,
    /// The value to add to, or what to add, is not a decimal number.
    #[error("value: is not a valid float")]
    NotFloat,
    /// The sum is infinite, or too large to be written out.
    #[error("value: increment would produce NaN or Infinity")]
    NotFinite,
    /// With this operation the replies of its transaction would be larger than they may be.
    #[error("the replies of the transaction take {bytes} bytes with this one, at most {bytes_max}")]
    ReplyTooLarge {
        /// Bytes of values with it.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The key is a lock where a value was meant, or the other way round.
    #[error("key: holds the wrong kind: it is a lock, or was expected to be one")]
    WrongKind,
    /// Something happened to the key since the token of the fill was given: another fill, a set, a
    /// delete, or its time has passed.
    #[error("token: is outdated")]
    OutdatedToken,
    /// The keys of an atomic request belong to several shards.
    #[error(
        "keys: an atomic request needs keys of one shard, these belong to {shards}; use a {{hash tag}}"
    )]
    CrossShard {
        /// How many.
        shards: u64,
    },
    /// A fault of this node; the log has it.
    #[error("internal: {detail}")]
    Internal {
        /// What was seen.
        detail: String,
    },
}

fn age(age_ms: u64) -> String {
    if age_ms == u64::MAX { "not known how".to_owned() } else { format!("{age_ms} ms") }
}

impl Reason {
    /// Whether the operation may have been applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            Reason::InvalidArgument { .. }
            | Reason::NotLeader { .. }
            | Reason::NotOwner { .. }
            | Reason::NoLeader { .. }
            | Reason::NoQuorum { .. }
            | Reason::NotReady
            | Reason::ResourceExhausted { .. }
            | Reason::Stopping
            | Reason::DeadlineBeforePropose
            | Reason::ReadFailed { .. }
            | Reason::TooStale { .. }
            | Reason::TooLarge { .. }
            | Reason::StorageFailed { .. }
            | Reason::NotInteger
            | Reason::Overflow
            | Reason::NotFloat
            | Reason::NotFinite
            | Reason::ReplyTooLarge { .. }
            | Reason::WrongKind
            | Reason::OutdatedToken
            | Reason::CrossShard { .. } => Outcome::Rejected,
            Reason::DeadlineAfterPropose
            | Reason::Lost { .. }
            | Reason::SessionExpired
            | Reason::Internal { .. } => Outcome::Unknown,
        }
    }

    /// Whether another try, here or at the hinted node, can succeed without the caller changing
    /// anything. An `Unknown` outcome is retryable only under the same request id.
    pub fn retryable(&self) -> bool {
        match self {
            Reason::NotLeader { .. }
            | Reason::NotOwner { .. }
            | Reason::NoLeader { .. }
            | Reason::NoQuorum { .. }
            | Reason::NotReady
            | Reason::ResourceExhausted { .. }
            | Reason::Stopping
            | Reason::DeadlineAfterPropose
            | Reason::Lost { .. }
            | Reason::ReadFailed { .. }
            | Reason::TooStale { .. }
            | Reason::StorageFailed { .. } => true,
            Reason::InvalidArgument { .. }
            | Reason::DeadlineBeforePropose
            | Reason::SessionExpired
            | Reason::TooLarge { .. }
            | Reason::NotInteger
            | Reason::Overflow
            | Reason::NotFloat
            | Reason::NotFinite
            | Reason::ReplyTooLarge { .. }
            | Reason::WrongKind
            | Reason::OutdatedToken
            | Reason::CrossShard { .. }
            | Reason::Internal { .. } => false,
        }
    }

    /// Short stable name for metrics, logs and the machine-readable detail.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::InvalidArgument { .. } => "invalid_argument",
            Reason::NotLeader { .. } => "not_leader",
            Reason::NotOwner { .. } => "not_owner",
            Reason::NoLeader { .. } => "no_leader",
            Reason::NoQuorum { .. } => "no_quorum",
            Reason::NotReady => "not_ready",
            Reason::ResourceExhausted { .. } => "resource_exhausted",
            Reason::Stopping => "stopping",
            Reason::DeadlineBeforePropose => "deadline_before_propose",
            Reason::DeadlineAfterPropose => "deadline_after_propose",
            Reason::Lost { .. } => "lost",
            Reason::ReadFailed { .. } => "read_failed",
            Reason::TooStale { .. } => "too_stale",
            Reason::SessionExpired => "session_expired",
            Reason::TooLarge { .. } => "too_large",
            Reason::StorageFailed { .. } => "storage_failed",
            Reason::NotInteger => "not_integer",
            Reason::Overflow => "overflow",
            Reason::NotFloat => "not_float",
            Reason::NotFinite => "not_finite",
            Reason::ReplyTooLarge { .. } => "reply_too_large",
            Reason::CrossShard { .. } => "cross_shard",
            Reason::WrongKind => "wrong_kind",
            Reason::OutdatedToken => "outdated_token",
            Reason::Internal { .. } => "internal",
        }
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Error { reason, retry_after: None }
    }
}

impl Error {
    /// The same error with a hint when to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Whether the operation may have been applied.
    pub fn outcome(&self) -> Outcome {
        self.reason.outcome()
    }

    /// See `Reason::retryable`.
    pub fn retryable(&self) -> bool {
        self.reason.retryable()
    }
}
