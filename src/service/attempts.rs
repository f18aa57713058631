//! What one operation has gone through so far, and what follows from it. Pure: the retry rules of
//! INV-5 and INV-6 stand here and nowhere else.

use std::time::Duration;

use crate::types::{Error, GroupId, NodeId, Outcome, Reason, ShardId};

/// Hints followed in a row without a pause: two nodes that point at each other must not make a
/// busy loop.
const HINTS_IN_A_ROW_MAX: u32 = 2;
/// Answers in a row that the disk failed, after which it is told: by then every replica was asked.
const DISKS_IN_A_ROW_MAX: u32 = 6;
/// Answers in a row that a replica has no quorum, after which it is told. With the pauses between them
/// half a second: one that is cut off alone, or was late to hear of an election, is not the last word.
const NO_QUORUMS_IN_A_ROW_MAX: u32 = 9;
/// When to try again then: the nodes look at their disks about once a second.
const DISK_RETRY_AFTER: Duration = Duration::from_secs(1);
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
    disks_in_a_row: u32,
    no_quorums_in_a_row: u32,
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
            disks_in_a_row: 0,
            no_quorums_in_a_row: 0,
            pauses: 0,
        }
    }

    /// The write has an id from now on.
    pub(super) fn has_request_id(&mut self) {
        self.repeatable = true;
    }

    /// Whether an attempt ended so that it may have been proposed.
    pub(super) fn may_have_been_proposed(&self) -> bool {
        self.unknown.is_some()
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, error: Error) -> Next {
        if self.write && self.unknown.is_none() && error.outcome() == Outcome::Unknown {
            self.unknown = Some(error.clone());
        }
        self.disks_in_a_row = match error.reason {
            Reason::StorageFailed { .. } => self.disks_in_a_row + 1,
            _ => 0,
        };
        self.no_quorums_in_a_row = match error.reason {
            Reason::NoQuorum { .. } => self.no_quorums_in_a_row + 1,
            // A node that cannot be reached says nothing against it.
            Reason::NoLeader { .. } => self.no_quorums_in_a_row,
            _ => 0,
        };
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
            // Another replica may do it, and another leader will be elected, unless all fail alike.
            Reason::StorageFailed { .. } if self.disks_in_a_row < DISKS_IN_A_ROW_MAX => Next::Pause,
            Reason::StorageFailed { .. } => {
                Next::Answer(self.sealed(error.clone().retry_after(DISK_RETRY_AFTER)))
            }
            // Nobody should wait for a majority that is gone, unless an earlier attempt must still be
            // settled.
            Reason::NoQuorum { .. } if self.unknown.is_some() => Next::Pause,
            Reason::NoQuorum { .. } if self.no_quorums_in_a_row < NO_QUORUMS_IN_A_ROW_MAX => {
                Next::Pause
            }
            // A limit is told at once (INV-8), unless an earlier attempt must still be settled.
            Reason::ResourceExhausted { .. } if self.unknown.is_some() => Next::Pause,
            Reason::NoQuorum { .. }
            | Reason::Lost { .. }
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
            | Reason::WrongKind
            | Reason::OutdatedToken
            | Reason::Internal { .. } => Next::Answer(self.sealed(error.clone())),
        };
        self.last = Some(error);
        next
    }

    /// The replica here has no quorum, and no other one can be asked: this is told at once, unless an
    /// earlier attempt must still be settled.
    pub(super) fn cut_off(&mut self, error: Error) -> Next {
        let next = match self.unknown {
            Some(_) => Next::Pause,
            None => Next::Answer(error.clone()),
        };
        self.last = Some(error);
        next
    }

    /// Length of the next pause, milliseconds. After a limit was met, as long as it asked for.
    pub(super) fn pause_ms(&mut self) -> u64 {
        self.hints_in_a_row = 0;
        let pause_ms = PAUSE_MS_MIN << self.pauses.min(16);
        self.pauses += 1;
        let asked = match &self.last {
            Some(Error { reason: Reason::ResourceExhausted { .. }, retry_after }) => *retry_after,
            _ => None,
        };
        let asked_ms = asked.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        pause_ms.min(PAUSE_MS_MAX).max(asked_ms)
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
            | Reason::NoQuorum { .. }
            | Reason::NotReady
            | Reason::Stopping
            | Reason::StorageFailed { .. }
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
            Reason::StorageFailed { detail: detail() },
            Reason::NotInteger,
            Reason::Overflow,
            Reason::NotFloat,
            Reason::NotFinite,
            Reason::ReplyTooLarge { bytes: 2, bytes_max: 1 },
            Reason::CrossShard { shards: 2 },
            Reason::WrongKind,
            Reason::OutdatedToken,
            Reason::NoQuorum { group: GroupId::of_shard(shard), silent_ms: 2_000 },
        ]
    }

    proptest! {
        /// INV-5 over any history: the final failure of a write is `Unknown` if, and only if, an
        /// attempt ended `Unknown`; of a read it is always `Rejected`.
        #[test]
        fn the_final_outcome_is_that_of_the_worst_attempt(
            picks in proptest::collection::vec(0..26usize, 1..12),
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
    fn a_failed_disk_is_told_at_once_when_every_replica_says_so() {
        let failed = || Error::from(Reason::StorageFailed { detail: "full".to_owned() });
        let mut attempts = Attempts::of_write(true);
        for _ in 1..DISKS_IN_A_ROW_MAX {
            assert_eq!(attempts.failed(failed()), Next::Pause);
        }
        // Somebody who runs knows no leader yet: an election may be under way.
        let election = Reason::NotLeader { group: GroupId::of_shard(ShardId(1)), leader: None };
        assert_eq!(attempts.failed(election.into()), Next::Pause);
        for _ in 1..DISKS_IN_A_ROW_MAX {
            assert_eq!(attempts.failed(failed()), Next::Pause);
        }
        let Next::Answer(error) = attempts.failed(failed()) else { panic!("it goes on for ever") };
        assert_eq!(error.reason.name(), "storage_failed");
        assert_eq!(error.retry_after, Some(DISK_RETRY_AFTER));
        assert_eq!(error.outcome(), Outcome::Rejected);
    }

    #[test]
    fn a_lost_quorum_is_told_when_every_replica_that_is_reached_says_so() {
        let group = GroupId::of_shard(ShardId(1));
        let none = || Error::from(Reason::NoQuorum { group, silent_ms: 2_000 });
        let mut attempts = Attempts::of_write(true);
        let mut waited_ms = 0;
        for _ in 1..NO_QUORUMS_IN_A_ROW_MAX {
            assert_eq!(attempts.failed(none()), Next::Pause);
            waited_ms += attempts.pause_ms();
            assert_eq!(
                attempts.failed(Reason::NoLeader { group }.into()),
                Next::Pause,
                "it is down"
            );
        }
        assert!((300..=600).contains(&waited_ms), "{waited_ms} ms");
        // An election is under way at one of them: that is waited for.
        let election = Reason::NotLeader { group, leader: None };
        assert_eq!(attempts.failed(election.into()), Next::Pause);
        for _ in 1..NO_QUORUMS_IN_A_ROW_MAX {
            assert_eq!(attempts.failed(none()), Next::Pause);
        }
        assert_eq!(attempts.failed(none()), Next::Answer(none()));
        // Nobody else can be asked: at once.
        assert_eq!(Attempts::of_write(true).cut_off(none()), Next::Answer(none()));
        // What may have been proposed is settled later, or `Unknown` at the deadline (INV-5).
        let mut attempts = Attempts::of_write(true);
        attempts.failed(Reason::Lost { detail: "d".to_owned() }.into());
        assert_eq!(attempts.cut_off(none()), Next::Pause);
        for _ in 0..20 {
            assert_eq!(attempts.failed(none()), Next::Pause);
        }
        assert_eq!(attempts.expired(Some(ShardId(1))).outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_limit_is_told_at_once_and_where_it_cannot_be_its_hint_is_honoured() {
        let full = || {
            let reason = Reason::ResourceExhausted { what: "requests in flight", limit: 1 };
            Error::from(reason).retry_after(std::time::Duration::from_millis(100))
        };
        let mut attempts = Attempts::of_write(true);
        assert_eq!(attempts.failed(full()), Next::Answer(full()), "never tried again by the node");
        assert_eq!(Attempts::of_read().failed(full()), Next::Answer(full()));

        // An earlier attempt may have been applied: only a later one can tell.
        let mut attempts = Attempts::of_write(true);
        let lost = Error::from(Reason::Lost { detail: "d".to_owned() });
        assert_eq!(attempts.failed(lost.clone()), Next::Pause);
        assert_eq!(attempts.pause_ms(), 2);
        for _ in 0..3 {
            assert_eq!(attempts.failed(full()), Next::Pause);
            assert_eq!(attempts.pause_ms(), 100, "no tight loop");
        }
        assert_eq!(attempts.failed(lost), Next::Pause);
        assert_eq!(attempts.pause_ms(), 32, "the back-off goes on as it was");
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
