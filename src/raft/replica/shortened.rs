//! A replica whose log is shorter than what it acknowledged: its data directory was restored from an
//! old copy, or its disk lost what had been flushed.
//!
//! A write that it acknowledged may stand in one other log only. If it voted, it could help to elect
//! a leader that never heard of that write; if it led, it would be that leader. So from the moment
//! it finds out, by the first append of a leader that remembers, it takes part in nothing any more:
//! it refuses votes, transfers and snapshots, does not campaign, and answers appends with a flag
//! that says so. Its node stops it and remembers that (`node/host_lost.rs`).

use std::sync::atomic::Ordering;

use super::{Replica, StateMachine};
use crate::raft::countermeasure::{Countermeasure, taken_out};
use crate::raft::lost_replicas::{LostReplica, WHAT_SHORTENED};
use crate::raft::types::{LogId, Vote};
use crate::transport::Refusal;
use crate::types::probe::{Probe, reached};

impl<M: StateMachine> Replica<M> {
    /// True once this replica found its log shorter than what it acknowledged.
    pub fn is_shortened(&self) -> bool {
        self.inner.shortened.load(Ordering::Acquire)
    }

    /// Refuses what only a replica with a whole log may do.
    pub(super) fn check_whole(&self) -> Result<(), Refusal> {
        if self.is_shortened() {
            return Err(Refusal(WHAT_SHORTENED.to_owned()));
        }
        Ok(())
    }

    /// Whether this replica's log lacks what it acknowledged, by the word of the leader with this
    /// vote. Looked at before the append is handled.
    pub(super) fn lacks(&self, vote: &Vote, acknowledged: Option<LogId>) -> bool {
        let inner = &self.inner;
        if taken_out(Countermeasure::ShortenedLog) {
            return false;
        }
        if self.is_shortened() {
            return true;
        }
        let Some(acknowledged) = acknowledged else { return false };
        // While a snapshot is installed the log is cut before the machine holds what was cut: so
        // that is asked around the look at the log, and the machine last.
        let excused = inner.receiver.installs()
            || inner.log.holds(acknowledged)
            || inner.log.votes_above(vote)
            || inner.receiver.installs();
        let applied = inner.machine.read().applied;
        if excused || applied.is_some_and(|applied| applied.index >= acknowledged.index) {
            return false;
        }
        reached(Probe::ShortLogFound);
        inner.shortened.store(true, Ordering::Release);
        self.let_campaign();
        let why = format!(
            "{WHAT_SHORTENED} (last entry {}, acknowledged {acknowledged})",
            inner.log.last_index()
        );
        inner.lost.tell(inner.key, LostReplica { node: inner.node, why });
        true
    }
}
