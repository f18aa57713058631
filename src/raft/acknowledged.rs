//! What a follower acknowledged, as the leader remembers it: its log must never be shorter.
//!
//! A data directory that was restored from an old copy, or a disk that lost flushed bytes, brings a
//! replica back whose log is shorter than what it acknowledged. openraft only debug-asserts on that:
//! it keeps counting the follower for entries that it does not hold, and waits for it for ever. So
//! the leader tells with each append what the follower must hold, and the follower looks
//! (`replica/shortened.rs`).

use super::types::{LogId, term_of};

/// Newest entry that one follower acknowledged to this replica as its leader; over the follower's
/// restarts and over several leaderships.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Acknowledged {
    /// Leadership in which `newest` was acknowledged.
    term: u64,
    /// Invariant: only grows within a term.
    newest: Option<LogId>,
    /// Newest one that was also committed: no later leader may take it back.
    /// Invariant: only grows.
    committed: Option<LogId>,
}

impl Acknowledged {
    /// The follower acknowledged everything up to `last` to the leader of `term`.
    pub(super) fn answered(&mut self, term: u64, last: Option<LogId>) {
        if term > self.term {
            (self.term, self.newest) = (term, None);
        }
        // An answer that comes after the leadership ended: a later leader may have overwritten that.
        if term == self.term {
            self.newest = self.newest.max(last);
        }
    }

    /// What the follower must hold when the leader of `term`, whose machine is applied up to
    /// `applied`, sends it an append.
    pub(super) fn must_hold(&mut self, term: u64, applied: Option<LogId>) -> Option<LogId> {
        // What is applied is committed, and both stand in the log of this leadership.
        if applied.is_some_and(|id| term_of(&id) <= self.term) {
            self.committed = self.committed.max(self.newest.min(applied));
        }
        match term == self.term {
            true => self.newest.max(self.committed),
            false => self.committed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::log_id;

    #[test]
    fn the_newest_counts_within_a_leadership() {
        let mut acknowledged = Acknowledged::default();
        assert_eq!(acknowledged.must_hold(3, Some(log_id(3, 9))), None, "nothing was answered");
        acknowledged.answered(3, Some(log_id(3, 7)));
        acknowledged.answered(3, Some(log_id(3, 5)));
        acknowledged.answered(3, None);
        acknowledged.answered(2, Some(log_id(2, 8)));
        assert_eq!(acknowledged.must_hold(3, None), Some(log_id(3, 7)));
    }

    #[test]
    fn of_an_earlier_leadership_only_what_was_committed_counts() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.answered(3, Some(log_id(3, 7)));
        assert_eq!(
            acknowledged.must_hold(5, None),
            None,
            "a leader between may have taken it back"
        );
        // Applied under a later leader: its log need not have been the same at 7.
        assert_eq!(acknowledged.must_hold(5, Some(log_id(4, 9))), None);
        assert_eq!(acknowledged.must_hold(3, Some(log_id(3, 6))), Some(log_id(3, 7)));
        assert_eq!(acknowledged.must_hold(5, Some(log_id(4, 9))), Some(log_id(3, 6)));
        acknowledged.answered(5, Some(log_id(2, 2)));
        assert_eq!(acknowledged.must_hold(5, Some(log_id(5, 12))), Some(log_id(3, 6)));
        acknowledged.answered(5, Some(log_id(5, 11)));
        assert_eq!(acknowledged.must_hold(5, Some(log_id(5, 12))), Some(log_id(5, 11)));
        assert_eq!(acknowledged.must_hold(6, None), Some(log_id(5, 11)));
    }
}
