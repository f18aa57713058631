//! What a replica tells of itself: its machine, its leader, its progress, its age.

use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver;

use super::{Replica, StateMachine};
use crate::core::clock_rate::{EVEN_PPM, age_bound_ms};
use crate::raft::compactor;
use crate::raft::types::term_of;
use crate::types::clock::now;
use crate::types::{Error, NodeId, Reason, ReplicaId};

/// Who leads a group, as this replica believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Term of the leadership.
    pub term: u64,
    /// Replica that leads.
    pub replica: ReplicaId,
    /// Node it lives on.
    pub node: NodeId,
}

/// Where a replica stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// "leader", "follower", "candidate", "learner" or "stopped".
    pub role: &'static str,
    /// Raft term.
    pub term: u64,
    /// Last log index; 0 if the log is empty.
    pub last_index: u64,
    /// Committed index as known here.
    pub committed_index: u64,
    /// Applied index.
    pub applied_index: u64,
    /// Index of the last snapshot.
    pub snapshot_index: u64,
    /// Bytes of log kept in memory.
    pub log_bytes: u64,
}

impl<M: StateMachine> Replica<M> {
    /// Looks at the machine as applied now. Keep it short: applies wait.
    pub fn with_machine<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.inner.machine.read().machine)
    }

    /// `Stopping` once the replica was stopped, or is about to be: what a replica that differs from
    /// its leader holds is shown to nobody.
    pub fn check_runs(&self) -> Result<(), Error> {
        if self.inner.cancel.is_cancelled() || self.is_shortened() {
            return Err(Reason::Stopping.into());
        }
        Ok(())
    }

    /// Changes the machine behind the log's back.
    #[cfg(test)]
    pub(in crate::raft) fn tamper<T>(&self, change: impl FnOnce(&mut M) -> T) -> T {
        change(&mut self.inner.machine.write().machine)
    }

    /// Looks at the machine together with the term and index it is applied up to.
    pub fn with_applied<T>(&self, look: impl FnOnce(&M, u64, u64) -> T) -> T {
        let state = self.inner.machine.read();
        let (term, index) = state.applied.map_or((0, 0), |id| (term_of(&id), id.index));
        look(&state.machine, term, index)
    }

    /// Upper bound of the age in milliseconds of what the machine shows, `None` if unknown.
    pub fn age_ms(&self) -> Option<u64> {
        let term = self.inner.leads_term.load(Ordering::Acquire);
        if term > 0 {
            // Without an entry of its own term it may not know what its predecessor acknowledged.
            let knows = self.with_applied(|_, applied_term, _| applied_term == term);
            let age_ms = self.inner.context.quorum_age_ms().filter(|_| knows);
            return age_ms.map(|age_ms| age_bound_ms(age_ms, EVEN_PPM));
        }
        self.inner.freshness.age_ms(self.with_applied(|_, _, index| index))
    }

    /// Leader as believed now; none that has no quorum, as far as this replica can tell.
    pub fn leader(&self) -> Option<Leader> {
        self.inner.known.borrow().leader
    }

    /// True if this replica leads, with a quorum, as believed now. Never enough for a read: see
    /// `barrier`.
    pub fn is_leader(&self) -> bool {
        self.leader().is_some_and(|l| l.replica == self.inner.key.replica)
    }

    /// Waits until the leader, as believed here, is not `seen` any more.
    pub async fn leader_changed(&self, seen: Option<Leader>) -> Option<Leader> {
        let mut watch = self.inner.known.clone();
        // The borrow ends before the next await, or the future could not move between threads.
        let changed = watch.wait_for(|known| known.leader != seen).await.map(|known| known.leader);
        match changed {
            Ok(leader) => leader,
            // The replica stopped: nothing will change any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// True while this replica keeps still after a restart: it neither votes nor takes over.
    pub fn keeps_still(&self) -> bool {
        self.inner.guard_until.is_some_and(|until| now() < until)
    }

    /// True while this replica may propose: its log is within the leader's bound (INV-8).
    pub(in crate::raft) fn log_has_room(&self) -> bool {
        self.inner.log.bytes()
            < compactor::leader_max(self.inner.settings.snapshot_log_bytes, self.live_bytes())
    }

    /// Waits until entries were dropped from the log since the last such wait. For one waiter.
    pub(in crate::raft) async fn log_shrunk(&self) {
        self.inner.log.shrunk().await;
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.with_machine(M::live_bytes)
    }

    /// Waits until more than `index` entries are applied; returns the applied index.
    pub async fn applied_past(&self, index: u64) -> u64 {
        let mut data = self.inner.raft.data_metrics();
        loop {
            let applied = self.with_applied(|_, _, applied| applied);
            if applied > index {
                return applied;
            }
            if data.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Where this replica stands.
    pub fn progress(&self) -> Progress {
        let applied_index = self.with_applied(|_, _, index| index);
        let leads = self.is_leader();
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let role = match (&seen.running_state, seen.state) {
            (Err(_), _) | (_, openraft::ServerState::Shutdown) => "stopped",
            (_, openraft::ServerState::Leader) if leads => "leader",
            // Without a quorum it is no leader in any report, whatever openraft calls it.
            (_, openraft::ServerState::Leader | openraft::ServerState::Follower) => "follower",
            (_, openraft::ServerState::Candidate) => "candidate",
            (_, openraft::ServerState::Learner) => "learner",
        };
        Progress {
            role,
            term: seen.current_term,
            // Not openraft's, which follows behind what is applied.
            last_index: self.inner.log.last_index(),
            committed_index: seen.cluster_committed.map_or(0, |id| id.index),
            applied_index,
            snapshot_index: seen.snapshot.map_or(0, |id| id.index),
            log_bytes: self.inner.log.bytes(),
        }
    }
}
