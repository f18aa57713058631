//! What an operation answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{RoutingEpoch, Version};
use super::query::{Answer, Found};

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
    /// `GetSet` took effect.
    Swapped {
        /// Version the key has now.
        version: Version,
        /// What it was before, `None` if it was absent.
        old: Option<Box<Found>>,
    },
    /// The condition of `GetSet` or `GetDelete` did not hold; nothing changed.
    NotSwapped {
        /// What the key is, `None` if it is absent.
        current: Option<Box<Found>>,
    },
    /// The key was present and is gone; this it was.
    Taken(Box<Found>),
    /// `GetExpire` took effect; this the key is now.
    Got(Box<Found>),
    /// `Expire` took effect and the key lives.
    Expires {
        /// Version the key has now.
        version: Version,
        /// When it ends, log time in milliseconds since the Unix epoch; `None` if never.
        deadline_ms: Option<u64>,
    },
    /// `Increment` took effect.
    Integer {
        /// Version the key has now.
        version: Version,
        /// The sum.
        value: i64,
    },
    /// `IncrementFloat` took effect.
    Float {
        /// Version the key has now.
        version: Version,
        /// The sum, as the value has it.
        text: Box<str>,
    },
    /// `Append` or `SetRange` took effect.
    Length {
        /// Version the key has now.
        version: Version,
        /// Bytes the value has now.
        value_bytes: u64,
    },
    /// A transaction was applied: one reply for each step, `Read` for reads.
    Transaction(Vec<Reply>),
    /// A watched key is not as it was; nothing changed.
    Aborted {
        /// Which of the watches, from 0.
        watch: u32,
        /// Version the key has, `None` if it is absent.
        current: Option<Version>,
    },
    /// What a read inside a transaction found.
    Read(Box<Answer>),
    /// The lock is the caller's.
    Locked {
        /// Its fencing token: the version of the key.
        token: Version,
        /// When it ends, log time in milliseconds since the Unix epoch.
        deadline_ms: u64,
    },
    /// Somebody else has the lock; nothing changed.
    LockHeld {
        /// The token of who has it.
        token: Version,
        /// Milliseconds until it ends, by log time.
        ttl_ms: u64,
    },
    /// The caller does not have the lock (any more); nothing changed.
    NotHeld {
        /// The token of who has it, `None` if nobody does.
        current: Option<Version>,
    },
}

/// Bytes a reply counts for among those of a transaction: the same on every machine.
const STEP_REPLY_BYTES: usize = 32;
// Remembered by the million: what is large is boxed.
const _: () = assert!(size_of::<Reply>() <= STEP_REPLY_BYTES);

impl Reply {
    /// Bytes of values in it: what it takes beyond its own size.
    pub fn payload_bytes(&self) -> usize {
        let of = |found: &Found| found.value.data.len();
        match self {
            Reply::Swapped { old: found, .. } | Reply::NotSwapped { current: found } => {
                found.as_deref().map_or(0, of)
            }
            Reply::Taken(found) | Reply::Got(found) => of(found),
            Reply::Float { text, .. } => text.len(),
            Reply::Transaction(replies) => {
                replies.iter().map(|reply| STEP_REPLY_BYTES + reply.payload_bytes()).sum()
            }
            Reply::Read(answer) => answer.payload_bytes(),
            Reply::Set { .. }
            | Reply::Deleted { .. }
            | Reply::NotFound
            | Reply::ConditionFailed { .. }
            | Reply::Done
            | Reply::Refused(_)
            | Reply::Expires { .. }
            | Reply::Integer { .. }
            | Reply::Length { .. }
            | Reply::Aborted { .. }
            | Reply::Locked { .. }
            | Reply::LockHeld { .. }
            | Reply::NotHeld { .. } => 0,
        }
    }
}

impl Reply {
    /// Gives values shorter than `below` bytes an allocation of their own, so that a remembered reply
    /// keeps nothing else alive.
    pub fn detach(&mut self, below: usize) {
        let detach = |found: &mut Found| {
            if found.value.data.len() < below {
                found.value.data = Bytes::copy_from_slice(&found.value.data);
            }
        };
        match self {
            Reply::Swapped { old: Some(found), .. }
            | Reply::NotSwapped { current: Some(found) }
            | Reply::Taken(found)
            | Reply::Got(found) => detach(found),
            Reply::Read(answer) => {
                if let Answer::Value(Some(found)) = answer.as_mut() {
                    detach(found);
                }
            }
            Reply::Transaction(replies) => replies.iter_mut().for_each(|reply| reply.detach(below)),
            _ => {}
        }
    }
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
    /// The value is not a whole number of 64 bits.
    NotInteger,
    /// The sum is no whole number of 64 bits.
    Overflow,
    /// The value, or what to add, is not a decimal number.
    NotFloat,
    /// The sum is infinite, or too large to be written out.
    NotFinite,
    /// With this step the replies of the transaction would be larger than they may be.
    ReplyTooLarge {
        /// Bytes of values with it.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The key is a lock where a value was meant, or the other way round.
    WrongKind,
    /// The group holds as many locks, or bytes of locks, as it may.
    Locks {
        /// The limit.
        limit: u64,
    },
    /// Something happened to the key since the token of the fill was given.
    OutdatedToken,
    /// The transaction touches more of large values than one may; nothing of it was done.
    TooMuchWork {
        /// Bytes it would touch.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
}

impl Refusal {
    /// True if the same write, under the same request id, may be applied later.
    pub fn may_pass_later(&self) -> bool {
        match self {
            Refusal::NotOwner { .. } | Refusal::Locks { .. } => true,
            Refusal::TooLarge { .. }
            | Refusal::SessionExpired
            | Refusal::NotInteger
            | Refusal::Overflow
            | Refusal::NotFloat
            | Refusal::NotFinite
            | Refusal::ReplyTooLarge { .. }
            | Refusal::WrongKind
            | Refusal::OutdatedToken
            | Refusal::TooMuchWork { .. } => false,
        }
    }
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
    /// Version of the state: that of every write in it is at most this, of every later one above. What
    /// is absent in it has no version of its own (`Watch::since`). 0 if it is not known.
    pub version: Version,
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
