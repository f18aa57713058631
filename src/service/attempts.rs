//! What one operation has gone through so far, and what follows from it. Pure: the retry rules of
//! INV-5 and INV-6 stand here and nowhere else.

use crate::types::{Error, GroupId, NodeId, Outcome, Reason, ShardId};

/// Hints followed in a row without a pause: two nodes that point at each other must not make a
/// busy loop.
const HINTS_IN_A_ROW_MAX: u32 = 2;
/// First pause of the back-off, milliseconds; it doubles.
const PAUSE_MS_MIN: u64 = 2;
/// Longest pause of the back-off, milliseconds.
const PAUSE_MS_MAX: u64 = 128;

/// What to do after an attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// This is the answer.
    Answer(Error),
    /// Try at this node now.
    Follow(NodeId),
    /// Wait for a change, at most for the pause, then try again.
    Pause,
}

/// What one operation has gone through so far.
#[derive(Debug)]
pub(super) struct Attempts {
    write: bool,
    /// A retry of what may have been proposed is safe: reads, and writes with a request id.
    repeatable: bool,
    /// The first failure after which the write may have been proposed. Once set it stays (INV-5).
    unknown: Option<Error>,
    last: Option<Error>,
    hints_in_a_row: u32,
    pauses: u32,
}

impl Attempts {
    /// Of a write.
    pub(super) fn of_write(has_request_id: bool) -> Self {
        Attempts { write: true, ..Self::new(has_request_id) }
    }

    /// Of a read.
    pub(super) fn of_read() -> Self {
        Self::new(true)
    }

    fn new(repeatable: bool) -> Self {
        Attempts {
            write: false,
            repeatable,
            unknown: None,
            last: None,
            hints_in_a_row: 0,
            pauses: 0,
        }
    }

    /// The write has an id from now on.
    pub(super) fn has_request_id(&mut self) {
        self.repeatable = true;
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, error: Error) -> Next {
        if self.write && self.unknown.is_none() && error.outcome() == Outcome::Unknown {
            self.unknown = Some(error.clone());
        }
        let next = match &error.reason {
            Reason::NotLeader { leader: Some(leader), .. }
                if self.hints_in_a_row < HINTS_IN_A_ROW_MAX =>
            {
                self.hints_in_a_row += 1;
                Next::Follow(*leader)
            }
            Reason::NotLeader { .. }
            | Reason::NotOwner { .. }
            | Reason::NoLeader { .. }
            | Reason::NotReady
            | Reason::Stopping
            | Reason::ReadFailed { .. }
            // The serving node saw the deadline, by its own clock; ours decides.
            | Reason::DeadlineBeforePropose => Next::Pause,
            Reason::Lost { .. } | Reason::DeadlineAfterPropose if self.repeatable => Next::Pause,
            // A limit is told at once (INV-8), unless an earlier attempt must still be settled.
            Reason::ResourceExhausted { .. } if self.unknown.is_some() => Next::Pause,
            Reason::Lost { .. }
            | Reason::DeadlineAfterPropose
            | Reason::ResourceExhausted { .. }
            | Reason::TooStale { .. }
            | Reason::InvalidArgument { .. }
            | Reason::TooLarge { .. }
            | Reason::SessionExpired
            | Reason::NotInteger
            | Reason::Overflow
            | Reason::NotFloat
            | Reason::NotFinite
            | Reason::ReplyTooLarge { .. }
            | Reason::CrossShard { .. }
            | Reason::Internal { .. } => Next::Answer(self.sealed(error.clone())),
        };
        self.last = Some(error);
        next
    }

    /// Length of the next pause, milliseconds.
    pub(super) fn pause_ms(&mut self) -> u64 {
        self.hints_in_a_row = 0;
        let pause_ms = PAUSE_MS_MIN << self.pauses.min(16);
        self.pauses += 1;
        pause_ms.min(PAUSE_MS_MAX)
    }

    /// Pauses so far.
    pub(super) fn pauses(&self) -> u32 {
        self.pauses
    }

    /// The deadline passed; `shard` is `None` before the cluster formed.
    pub(super) fn expired(&self, shard: Option<ShardId>) -> Error {
        if self.unknown.is_some() {
            return Reason::DeadlineAfterPropose.into();
        }
        let (Some(shard), Some(last)) = (shard, &self.last) else {
            return match (shard, &self.last) {
                (None, _) => Reason::NotReady.into(),
                (Some(_), _) => Reason::DeadlineBeforePropose.into(),
            };
        };
        match &last.reason {
            Reason::NotLeader { .. } | Reason::NoLeader { .. } => {
                Reason::NoLeader { group: GroupId::of_shard(shard) }.into()
            }
            Reason::NotOwner { .. }
            | Reason::NotReady
            | Reason::Stopping
            | Reason::ReadFailed { .. } => last.clone(),
            _ => Reason::DeadlineBeforePropose.into(),
        }
    }

    /// Never turns `Unknown` into `Rejected` (INV-5): once an attempt may have been proposed, a
    /// later refusal says nothing about that attempt.
    fn sealed(&self, error: Error) -> Error {
        match &self.unknown {
            Some(first) if error.outcome() == Outcome::Rejected => {
                Reason::Lost { detail: format!("{first}; then {error}") }.into()
            }
            _ if !self.write && error.outcome() == Outcome::Unknown => {
                Reason::ReadFailed { detail: error.to_string() }.into()
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::RoutingEpoch;

    fn reasons() -> Vec<Reason> {
        let shard = ShardId(1);
        let detail = || "d".to_owned();
        vec![
            Reason::InvalidArgument { field: "key", problem: detail() },
            Reason::NotLeader { group: GroupId::of_shard(shard), leader: None },
            Reason::NotLeader { group: GroupId::of_shard(shard), leader: Some(NodeId(2)) },
            Reason::NotOwner { epoch: RoutingEpoch(1) },
            Reason::NoLeader { group: GroupId::of_shard(shard) },
            Reason::NotReady,
            Reason::ResourceExhausted { what: "group queue", limit: 1 },
            Reason::Stopping,
            Reason::DeadlineBeforePropose,
            Reason::DeadlineAfterPropose,
            Reason::Lost { detail: detail() },
            Reason::ReadFailed { detail: detail() },
            Reason::TooStale { age_ms: 2, staleness_ms_max: 1 },
            Reason::SessionExpired,
            Reason::TooLarge { bytes: 2, bytes_max: 1 },
            Reason::Internal { detail: detail() },
            Reason::NotInteger,
            Reason::Overflow,
            Reason::NotFloat,
            Reason::NotFinite,
            Reason::ReplyTooLarge { bytes: 2, bytes_max: 1 },
            Reason::CrossShard { shards: 2 },
        ]
    }

    proptest! {
        /// INV-5 over any history: the final failure of a write is `Unknown` if, and only if, an
        /// attempt ended `Unknown`; of a read it is always `Rejected`.
        #[test]
        fn the_final_outcome_is_that_of_the_worst_attempt(
            picks in proptest::collection::vec(0..22usize, 1..12),
            write in any::<bool>(),
            has_id in any::<bool>(),
        ) {
            let mut attempts =
                if write { Attempts::of_write(has_id) } else { Attempts::of_read() };
            let mut unknown = false;
            let mut answer = None;
            for pick in picks {
                let error = Error::from(reasons()[pick].clone());
                unknown |= write && error.outcome() == Outcome::Unknown;
                if let Next::Answer(error) = attempts.failed(error) {
                    answer = Some(error);
                    break;
                }
                prop_assert!(!unknown || has_id, "a write without an id was tried again");
            }
            let answer = answer.unwrap_or_else(|| attempts.expired(Some(ShardId(1))));
            prop_assert_eq!(answer.outcome() == Outcome::Unknown, unknown, "{}", answer);
        }
    }

    #[test]
    fn two_nodes_that_point_at_each_other_do_not_make_a_busy_loop() {
        let mut attempts = Attempts::of_write(true);
        let hint = |n| {
            Error::from(Reason::NotLeader {
                group: GroupId::of_shard(ShardId(1)),
                leader: Some(NodeId(n)),
            })
        };
        assert_eq!(attempts.failed(hint(1)), Next::Follow(NodeId(1)));
        assert_eq!(attempts.failed(hint(2)), Next::Follow(NodeId(2)));
        assert_eq!(attempts.failed(hint(1)), Next::Pause);
        let pauses: Vec<u64> = (0..9).map(|_| attempts.pause_ms()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 128, 128]);
        assert_eq!(attempts.failed(hint(1)), Next::Follow(NodeId(1)), "after a pause again");
    }
}
