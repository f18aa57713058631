//! States that a simulation must reach, counted where they are reached: a test of faults that never
//! meets them proves nothing about them. (FoundationDB's `CODE_PROBE`.)
//!
//! Only builds with debug assertions count, by thread: a simulation runs in one.

/// A state that is reached rarely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Probe {
    /// A retry got its first reply from memory.
    RetryAnswered,
    /// A retry came whose first reply had been forgotten.
    ReplyForgotten,
    /// A session was dropped because nobody had used it for long.
    SessionForgotten,
    /// A read barrier ended because its leader lost the leadership or its quorum.
    BarrierLost,
    /// A lock was renewed or given back under a token that is not its holder's.
    FenceRefused,
    /// A fill was refused because its token was outdated.
    FillRefused,
    /// A caller waited for another's fill and was woken by it.
    FillAwaited,
    /// A transaction was given up because a watched key had changed.
    TransactionAborted,
    /// A read waited for a tick that brought log time to its deadline.
    TickForRead,
    /// A replica was too old for the bound of a read.
    TooStale,
    /// A read was served by the leader's lease.
    LeaseRead,
    /// The clock that a leader sent back was not of the follower's present life.
    StaleEchoDropped,
    /// A replica found its log shorter than what it had acknowledged.
    ShortLogFound,
    /// A snapshot was installed.
    SnapshotInstalled,
    /// Leadership was handed over on request.
    HandedOver,
    /// A shard lost a minority of its replicas and went on.
    MinorityLost,
    /// A shard started again empty, in a new generation.
    NewGeneration,
}

impl Probe {
    /// All of them.
    pub const ALL: [Probe; 17] = [
        Probe::RetryAnswered,
        Probe::ReplyForgotten,
        Probe::SessionForgotten,
        Probe::BarrierLost,
        Probe::FenceRefused,
        Probe::FillRefused,
        Probe::FillAwaited,
        Probe::TransactionAborted,
        Probe::TickForRead,
        Probe::TooStale,
        Probe::LeaseRead,
        Probe::StaleEchoDropped,
        Probe::ShortLogFound,
        Probe::SnapshotInstalled,
        Probe::HandedOver,
        Probe::MinorityLost,
        Probe::NewGeneration,
    ];
}

/// Does nothing in a release build.
#[cfg(not(any(test, debug_assertions)))]
pub const fn reached(_: Probe) {}

#[cfg(any(test, debug_assertions))]
#[doc(hidden)]
pub use counted::{reached, take};

#[cfg(any(test, debug_assertions))]
mod counted {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::Probe;

    thread_local! {
        static COUNTS: RefCell<BTreeMap<Probe, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Counts a state as reached on this thread.
    pub fn reached(probe: Probe) {
        COUNTS.with_borrow_mut(|counts| *counts.entry(probe).or_default() += 1);
    }

    /// What was reached on this thread since the last call.
    pub fn take() -> BTreeMap<Probe, u64> {
        COUNTS.take()
    }

    #[cfg(test)]
    #[test]
    fn each_is_counted_and_listed_once() {
        drop(take());
        for probe in Probe::ALL {
            reached(probe);
        }
        let counts = take();
        assert_eq!(counts.len(), Probe::ALL.len());
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        assert!(take().is_empty());
    }
}
