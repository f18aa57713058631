//! What a caller that may fill a key is to know of it.

use super::{Due, Machine};
use crate::core::keyspace::{NEVER, Refill};
use crate::types::Found;

/// What a caller that may fill a key finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refillable {
    /// Nothing.
    Absent,
    /// A lock.
    WrongKind,
    /// A value.
    Value(Refilled),
}

/// A value and when it is to be filled again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refilled {
    /// The value.
    pub found: Found,
    /// Milliseconds since it became stale; `None` if it is not.
    pub stale_ms: Option<u64>,
    /// Milliseconds until it becomes stale, or ends; `None` if never.
    pub fresh_ms: Option<u64>,
    /// How long it took to work out, milliseconds; 0 if it was not filled.
    pub cost_ms: u32,
}

impl Machine {
    /// The hash by which the watcher hears of changes of a key.
    pub fn hash_of(&self, key: &[u8]) -> u32 {
        self.keyspace.hash_of(key)
    }

    /// Looks a key up for a caller that may fill it. `leader_now_ms` as in `get`.
    ///
    /// # Errors
    /// As `read`.
    pub fn refillable(&self, key: &[u8], leader_now_ms: u64) -> Result<Refillable, Due> {
        let Some(entry) = self.look(key, leader_now_ms)? else { return Ok(Refillable::Absent) };
        if entry.is_lock() {
            return Ok(Refillable::WrongKind);
        }
        let at_ms = self.log_time_ms.max(leader_now_ms);
        let plain = Refill { soft_ms: entry.deadline_ms, cost_ms: 0 };
        let Refill { soft_ms, cost_ms } = entry.refill().unwrap_or(plain);
        Ok(Refillable::Value(Refilled {
            found: self.show(entry, entry.value(), leader_now_ms),
            stale_ms: (soft_ms <= at_ms).then(|| at_ms - soft_ms),
            fresh_ms: (soft_ms != NEVER).then(|| soft_ms.saturating_sub(at_ms)),
            cost_ms,
        }))
    }
}
