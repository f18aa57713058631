//! Countermeasures that a test can take out, to show that what they prevent happens without them.
//! Outside of tests nothing is ever taken out, and no configuration reaches this.

#[cfg(not(test))]
use crate::types::NodeId;

/// What a test can take out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Countermeasure {
    /// A restarted replica keeps still for one election time-out.
    RestartGuard,
    /// Peers are asked for their pre-vote; openraft's default grants it unasked.
    PreVote,
    /// The request to take over leadership is sent; openraft's default is an error.
    TransferLeader,
    /// An append waits a bounded time for its answer.
    AppendTimeout,
    /// Every responder of an applied entry is answered.
    ApplyAnswer,
    /// A deadline that passes after the proposal is told as `Unknown`.
    UnknownAfterPropose,
    /// Frames for another replica id are refused.
    TargetReplica,
    /// A replica whose log is shorter than what it acknowledged is lost.
    ShortenedLog,
    /// An echo counts in the life of the follower that it is of.
    EchoOfThisLife,
    /// The log is cut, durably, before a snapshot that contradicts it is published.
    TruncateFirst,
    /// That, and a log that contradicts the snapshot beside it is dropped at the start.
    FollowSnapshot,
}

/// Always false outside of tests.
#[cfg(not(test))]
pub(super) const fn taken_out(_: Countermeasure) -> bool {
    false
}

/// Whether an append stream to this node fails before it took a request. Always false outside of
/// tests.
#[cfg(not(test))]
pub(super) const fn fails_early(_: NodeId) -> bool {
    false
}

#[cfg(test)]
pub(super) use in_tests::{
    EARLY_FAILURES_MAX, early_failures, fail_early, fails_early, take_out, taken_out,
};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    use super::Countermeasure;
    use crate::types::NodeId;

    /// Early failures after which a stream behaves again: a spin of this length is proof enough.
    pub(in crate::raft) const EARLY_FAILURES_MAX: u64 = 20_000;

    thread_local! {
        // A simulation runs in one thread.
        static OUT: Cell<Option<Countermeasure>> = const { Cell::new(None) };
        static FAILS_EARLY: Cell<Option<NodeId>> = const { Cell::new(None) };
        static EARLY_FAILURES: Cell<u64> = const { Cell::new(0) };
    }

    /// Streams to `node` behave again when dropped.
    #[derive(Debug)]
    pub(in crate::raft) struct FailsEarly;

    impl Drop for FailsEarly {
        fn drop(&mut self) {
            FAILS_EARLY.set(None);
        }
    }

    /// Lets append streams to `node` fail before they took a request.
    pub(in crate::raft) fn fail_early(node: NodeId) -> FailsEarly {
        FAILS_EARLY.set(Some(node));
        EARLY_FAILURES.set(0);
        FailsEarly
    }

    /// Early failures since [`fail_early`].
    pub(in crate::raft) fn early_failures() -> u64 {
        EARLY_FAILURES.get()
    }

    pub(in crate::raft) fn fails_early(node: NodeId) -> bool {
        let failures = EARLY_FAILURES.get();
        if FAILS_EARLY.get() != Some(node) || failures >= EARLY_FAILURES_MAX {
            return false;
        }
        EARLY_FAILURES.set(failures + 1);
        true
    }

    /// Puts the countermeasure back when dropped.
    #[derive(Debug)]
    pub(in crate::raft) struct TakenOut;

    impl Drop for TakenOut {
        fn drop(&mut self) {
            OUT.set(None);
        }
    }

    /// Takes one countermeasure out on this thread.
    pub(in crate::raft) fn take_out(which: Countermeasure) -> TakenOut {
        OUT.set(Some(which));
        TakenOut
    }

    pub(in crate::raft) fn taken_out(which: Countermeasure) -> bool {
        OUT.get() == Some(which)
    }
}
