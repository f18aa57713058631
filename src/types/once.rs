//! Under which name a write is known, should it come again (INV-6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::RequestId;
use super::limits::{DEADLINE_MS_MAX, SESSION_IDLE_MS_MAX};

/// How much faster the age of a group may pass than the clock of who asks it.
const AGE_RATE_MAX: u64 = 2;
/// How much age may pass between the look at that clock and the proposal: a request waits at most for
/// its deadline on its way.
const AGE_ON_THE_WAY_MS_MAX: u64 = AGE_RATE_MAX * DEADLINE_MS_MAX;

// A retry within a deadline asks for less than what is remembered.
const _: () = assert!(2 * AGE_ON_THE_WAY_MS_MAX < SESSION_IDLE_MS_MAX);

/// What a caller says of an operation: its id, and whether it sent it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// The id.
    pub id: RequestId,
    /// Whether it was sent before.
    pub sent: Sent,
}

impl From<RequestId> for Named {
    /// Of a caller who says no more.
    fn from(id: RequestId) -> Self {
        Named { id, sent: Sent::Unsaid }
    }
}

/// Whether an operation was sent before under its request id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sent {
    /// Never.
    First,
    /// It was, for the first time this long ago.
    Before {
        /// Milliseconds, rounded up.
        ms: u64,
    },
    /// The caller does not say. It is taken for one that was sent within the time for which an id is
    /// good (`SESSION_IDLE_MS_MAX`).
    #[default]
    Unsaid,
}

impl Sent {
    /// Of the same operation that is sent again after this time.
    #[must_use]
    pub fn again_after(self, time: Duration) -> Sent {
        let later_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        match self {
            Sent::First => Sent::Before { ms: later_ms },
            Sent::Before { ms } => Sent::Before { ms: ms.saturating_add(later_ms) },
            Sent::Unsaid => Sent::Unsaid,
        }
    }

    /// How much age of a group may have passed since the operation was first sent; none if it never
    /// was.
    pub fn age_ms_max(self) -> Option<u64> {
        match self {
            Sent::First => None,
            Sent::Before { ms } => {
                Some(ms.saturating_mul(AGE_RATE_MAX).saturating_add(AGE_ON_THE_WAY_MS_MAX))
            }
            // What is dropped for idleness was last used longer ago than this.
            Sent::Unsaid => Some(SESSION_IDLE_MS_MAX - 1),
        }
    }
}

/// Whose memory of replies an id belongs to: what one of them must forget, the other keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Asker {
    /// A node gave the id, for its own retries.
    Node,
    /// A caller gave it.
    Caller,
}

/// Under which name a write is known, should it come again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Once {
    /// The id of the request.
    pub id: RequestId,
    /// Which part of the request it is: the position of its first operation. 0 for all of it.
    pub part: u16,
    /// Who gave the id.
    pub asker: Asker,
    /// How much age of the group may have passed since the write was first sent, milliseconds; none
    /// if it is sent for the first time.
    pub age_ms_max: Option<u64>,
}

impl From<RequestId> for Once {
    /// The whole request of a node, sent for the first time.
    fn from(id: RequestId) -> Self {
        Once { id, part: 0, asker: Asker::Node, age_ms_max: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_tells_how_much_age_may_have_passed() {
        assert_eq!(Sent::First.age_ms_max(), None);
        assert_eq!(Sent::Before { ms: 0 }.age_ms_max(), Some(120_000));
        assert_eq!(Sent::Before { ms: 1_500 }.age_ms_max(), Some(123_000));
        assert_eq!(Sent::Before { ms: u64::MAX }.age_ms_max(), Some(u64::MAX));
        assert_eq!(Sent::Unsaid.age_ms_max(), Some(599_999));
    }
}
