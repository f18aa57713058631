//! Countermeasures that a test can take out, to show that what they prevent happens without them.
//! Only builds with debug assertions have the switch, and only a call of [`take_out`] moves it: no
//! configuration reaches it, and in a release build nothing is ever taken out.

/// What a test can take out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Countermeasure {
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
    /// Remembered replies age by what cannot leap, and a retry is looked up before any is dropped.
    RetryBeforeExpiry,
    /// A node reports the replica ids that ran on it and whose logs are gone, not all that the table
    /// places on it.
    LostReplicaIds,
    /// Log time is what a majority of clocks says, not what the leader's does.
    MajorityClock,
}

/// Always false in a release build.
#[cfg(not(any(test, debug_assertions)))]
pub const fn taken_out(_: Countermeasure) -> bool {
    false
}

/// Whether an append stream to this node fails before it took a request. Always false in a release
/// build.
#[cfg(not(any(test, debug_assertions)))]
pub const fn fails_early(_: super::ids::NodeId) -> bool {
    false
}

#[cfg(any(test, debug_assertions))]
#[doc(hidden)]
pub use switched::{
    EARLY_FAILURES_MAX, FailsEarly, TakenOut, early_failures, fail_early, fails_early, take_out,
    taken_out,
};

#[cfg(any(test, debug_assertions))]
mod switched {
    use std::cell::Cell;

    use super::Countermeasure;
    use crate::types::ids::NodeId;

    /// Early failures after which a stream behaves again: a spin of this length is proof enough.
    pub const EARLY_FAILURES_MAX: u64 = 20_000;

    thread_local! {
        // A simulation runs in one thread.
        /// A bit for each that is out.
        static OUT: Cell<u64> = const { Cell::new(0) };
        static FAILS_EARLY: Cell<Option<NodeId>> = const { Cell::new(None) };
        static EARLY_FAILURES: Cell<u64> = const { Cell::new(0) };
    }

    /// Streams to `node` behave again when dropped.
    #[derive(Debug)]
    pub struct FailsEarly;

    impl Drop for FailsEarly {
        fn drop(&mut self) {
            FAILS_EARLY.set(None);
        }
    }

    /// Lets append streams to `node` fail before they took a request.
    pub fn fail_early(node: NodeId) -> FailsEarly {
        FAILS_EARLY.set(Some(node));
        EARLY_FAILURES.set(0);
        FailsEarly
    }

    /// Early failures since [`fail_early`].
    pub fn early_failures() -> u64 {
        EARLY_FAILURES.get()
    }

    /// Whether an append stream to this node fails before it took a request.
    pub fn fails_early(node: NodeId) -> bool {
        let failures = EARLY_FAILURES.get();
        if FAILS_EARLY.get() != Some(node) || failures >= EARLY_FAILURES_MAX {
            return false;
        }
        EARLY_FAILURES.set(failures + 1);
        true
    }

    const fn bit(which: Countermeasure) -> u64 {
        1 << which as u64
    }

    /// Puts the countermeasure back when dropped.
    #[derive(Debug)]
    pub struct TakenOut(Countermeasure);

    impl Drop for TakenOut {
        fn drop(&mut self) {
            OUT.set(OUT.get() & !bit(self.0));
        }
    }

    /// Takes one countermeasure out on this thread, until what it gives is dropped.
    pub fn take_out(which: Countermeasure) -> TakenOut {
        OUT.set(OUT.get() | bit(which));
        TakenOut(which)
    }

    /// Whether a test has taken it out on this thread.
    pub fn taken_out(which: Countermeasure) -> bool {
        OUT.get() & bit(which) != 0
    }
}
