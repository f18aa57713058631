//! Protection against stampedes: one caller fills a key that is missing, the others wait for it or are
//! served what was there. See docs/locks.md and docs/adr/0013.

use bytes::Bytes;

use super::command::{Expiry, Value};
use super::ids::Version;
use super::query::Found;

/// Store what a caller with a token has worked out. Refused at apply if anything happened to the key
/// since the token was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fill {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// The value.
    pub value: Value,
    /// This many milliseconds after the entry's log time the value is stale: one caller is asked to
    /// fill it again and the others are served it until `expiry`.
    pub soft_ms: Option<u64>,
    /// When it ends: never `Keep`.
    pub expiry: Expiry,
    /// How long the value took to work out, milliseconds: what early refreshes go by.
    pub cost_ms: u64,
    /// What `GetOrLease` answered.
    pub token: u64,
    /// Set by the leader that knows the token as good: nothing has happened to the key since the
    /// write with this version. `None` is refused.
    pub since: Option<Version>,
}

/// Read a key, or get the right to fill it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetOrLease {
    /// 1..=`limits.key_bytes_max` bytes.
    pub key: Bytes,
    /// How long to wait for another caller's fill, milliseconds.
    pub wait_ms: u64,
    /// A stale value will do where another caller fills the key.
    pub stale_ok: bool,
    /// How early a value may be asked to be filled again, in thousandths of the time it took to work
    /// out: 1000 is right, 0 is never (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal
    /// Probabilistic Cache Stampede Prevention", VLDB 2015).
    pub beta_milli: u32,
}

/// What `GetOrLease` answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leased {
    /// The value.
    Hit(Found),
    /// A value that is to be filled again; another caller does.
    Stale {
        /// The value.
        found: Found,
        /// How long it has been stale, milliseconds.
        age_ms: u64,
    },
    /// The caller is to fill the key: nobody else is asked to for as long as the token is good.
    Fill {
        /// For `Fill`. At least 1, at most 2^53 - 1.
        token: u64,
        /// How long it is good, milliseconds.
        token_ms: u64,
        /// The value that is there still, if any.
        found: Option<Found>,
    },
    /// Another caller fills the key, and the wait is over.
    Busy,
}

impl Leased {
    /// Bytes of values in it.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Leased::Hit(found)
            | Leased::Stale { found, .. }
            | Leased::Fill { found: Some(found), .. } => found.value.data.len(),
            Leased::Fill { found: None, .. } | Leased::Busy => 0,
        }
    }
}
