//! Countermeasures that a test can take out, to show that what they prevent happens without them.
//! Outside of tests nothing is ever taken out, and no configuration reaches this.

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
}

/// Always false outside of tests.
#[cfg(not(test))]
pub(super) const fn taken_out(_: Countermeasure) -> bool {
    false
}

#[cfg(test)]
pub(super) use in_tests::{take_out, taken_out};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    use super::Countermeasure;

    thread_local! {
        // A simulation runs in one thread.
        static OUT: Cell<Option<Countermeasure>> = const { Cell::new(None) };
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
