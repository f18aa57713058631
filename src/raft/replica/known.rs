//! What a replica knows of its leader and its quorum, published to all who ask.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};

use super::{Inner, Leader, Replica, StateMachine};
use crate::raft::quorum::{Quorum, QuorumState, Role};
use crate::types::clock::now;
use crate::types::{Error, Reason, watch};

/// What a replica knows: the leader only while it has a quorum, so far as this replica can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::raft) struct Known {
    /// Who leads.
    pub(in crate::raft) leader: Option<Leader>,
    /// Whether there is a quorum.
    pub(in crate::raft) quorum: QuorumState,
}

impl<M: StateMachine> Replica<M> {
    /// What is known of the quorum now.
    pub fn quorum(&self) -> Quorum {
        self.inner.look()
    }

    /// True if no majority was heard of for so long that requests are not kept waiting for one.
    pub fn has_lost_quorum(&self) -> bool {
        self.inner.known.borrow().quorum == QuorumState::Lost
    }

    /// Follows what is known.
    pub(in crate::raft) fn watch_known(&self) -> watch::Receiver<Known> {
        self.inner.known.clone()
    }

    /// Nothing was proposed, and nothing could be.
    pub(in crate::raft) fn no_quorum(&self) -> Error {
        let silent = self.quorum().age.unwrap_or_else(|| self.inner.settings.no_quorum_after());
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        let reason = Reason::NoQuorum { group: self.inner.key.group, silent_ms };
        Error::from(reason).retry_after(crate::raft::settings::NO_QUORUM_RETRY_AFTER)
    }
}

impl<M: StateMachine> Inner<M> {
    fn look(&self) -> Quorum {
        let server = self.raft.server_metrics();
        let data = self.raft.data_metrics();
        // openraft's instant is a type of its own: only how long ago it was can be asked of it.
        let acked = data.borrow_watched().last_quorum_acked;
        let acked = acked.and_then(|acked| now().checked_sub(acked.into_inner().elapsed()));
        let (voters, leads) = {
            let seen = server.borrow_watched();
            let voters = seen.membership_config.membership().get_joint_config().clone();
            (voters, seen.state == ServerState::Leader)
        };
        let role = Role { own: self.key.replica, voters, leads, acked };
        self.context.quorum.look(&role, self.settings.no_quorum_after())
    }
}

/// Publishes what is known whenever it changes, until the replica stops or is dropped.
pub(super) async fn watch_known<M: StateMachine>(
    this: &Weak<Inner<M>>,
    known: &watch::Sender<Known>,
) {
    let Some(mut server) = this.upgrade().map(|inner| inner.raft.server_metrics()) else { return };
    let mut last = None;
    loop {
        let Some(inner) = this.upgrade() else { return };
        let (believed, leads) = {
            let seen = server.borrow_and_update();
            let node = seen.current_leader.and_then(|id| {
                seen.membership_config.membership().get_node(&id).map(|node| (id, node.node))
            });
            let term = seen.vote.leader_id.term;
            let leader = node.map(|(replica, node)| Leader { term, replica, node });
            (leader, leader.filter(|_| seen.state == ServerState::Leader))
        };
        if let Some(leader) = leads {
            // By the votes of a majority.
            inner.context.quorum.led(leader.term, None);
        }
        inner.leads_term.store(leads.map_or(0, |leader| leader.term), Ordering::Release);
        let quorum = inner.look();
        let next = Known { leader: believed.filter(|_| quorum.is_led()), quorum: quorum.state };
        if next.leader.is_some() && next.leader != last {
            last = next.leader;
            inner.count_leader();
        }
        known.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        let context = inner.context.clone();
        drop(inner);
        tokio::select! {
            biased;
            changed = server.changed() => if changed.is_err() { break },
            () = context.quorum.news() => {}
            () = tokio::time::sleep(quorum.look_again()) => {}
        }
    }
    if let Some(inner) = this.upgrade() {
        inner.leads_term.store(0, Ordering::Release);
    }
    known.send_replace(Known::default());
}

impl<M: StateMachine> Inner<M> {
    fn count_leader(&self) {
        let shard = match self.key.group.shard() {
            Some(shard) => shard.0.to_string(),
            None => "controller".to_owned(),
        };
        self.metrics.leader_changes.with_label_values(&[&shard]).inc();
    }
}
