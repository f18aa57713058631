//! What only a leader does for its callers: propose, answer barriers, hand leadership over.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::linearizable_read::Linearizer;
use openraft::{LinearizerOption, ReadPolicy};

use super::{Replica, StateMachine, internal};
use crate::raft::machine::Applied;
use crate::raft::types::{Payload, TypeConfig};
use crate::types::clock::{Instant, now};
use crate::types::probe::{Probe, reached};
use crate::types::{Error, Reason, ReplicaId};

type ReadError = RaftError<TypeConfig, LinearizableReadError<TypeConfig>>;
pub(in crate::raft) type WriteResult = openraft::raft::ClientWriteResult<TypeConfig>;

impl<M: StateMachine> Replica<M> {
    /// Hands a payload to openraft; the answer comes through the receiver. An error means that it
    /// was surely not proposed.
    pub(in crate::raft) async fn submit(
        &self,
        payload: Bytes,
    ) -> Result<impl Future<Output = Option<WriteResult>> + Send + 'static + use<M>, Error> {
        let (responder, receiver) = ProgressResponder::complete_only();
        self.inner
            .raft
            .client_write_ff(Payload(payload), Some(responder))
            .await
            .map_err(|_| Reason::Stopping)?;
        Ok(async move { receiver.await.ok() })
    }

    /// What a proposal came to. `None` stands for a responder dropped by a stopping replica: the
    /// entry may be in a log, so it is `Unknown`.
    pub(in crate::raft) fn conclude(
        &self,
        result: Option<WriteResult>,
    ) -> Result<(u64, Applied), Error> {
        match result {
            Some(Ok(response)) => Ok((response.log_id.index, response.data)),
            // openraft says so only before it appends the entry.
            Some(Err(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Some(Err(error)) => Err(Reason::Lost { detail: error.to_string() }.into()),
            None => Err(Reason::Lost { detail: "the replica stopped".to_owned() }.into()),
        }
    }

    /// Proposes one payload and waits until it is applied here. Only on the leader, otherwise
    /// `NotLeader`. Outcomes follow INV-5.
    pub async fn propose(&self, payload: Bytes, deadline: Instant) -> Result<Applied, Error> {
        if now() >= deadline {
            return Err(Reason::DeadlineBeforePropose.into());
        }
        let answer = self.submit(payload).await?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(result) => self.conclude(result).map(|(_, applied)| applied),
            Err(_) => Err(Reason::DeadlineAfterPropose.into()),
        }
    }

    fn not_leader(&self) -> Error {
        let leader = self.leader().filter(|l| l.replica != self.inner.key.replica);
        Reason::NotLeader { group: self.inner.key.group, leader: leader.map(|l| l.node) }.into()
    }

    /// Read index: after it returns, the local machine shows at least every write acknowledged
    /// before the call. Only on the leader.
    pub async fn barrier(&self, deadline: Instant) -> Result<(), Error> {
        self.linearize(ReadPolicy::ReadIndex.into(), deadline).await
    }

    /// Like `barrier`, but content with a quorum acknowledgement within 0.75 of the lease.
    pub async fn lease_barrier(&self, deadline: Instant) -> Result<(), Error> {
        let lease = self.inner.settings.lease();
        let option = LinearizerOption::new(Some(lease), true);
        self.linearize(option, deadline).await
    }

    async fn linearize(&self, option: LinearizerOption, deadline: Instant) -> Result<(), Error> {
        let late = || Error::from(Reason::ReadFailed { detail: "deadline passed".to_owned() });
        let linearizer =
            tokio::time::timeout_at(deadline, self.inner.raft.get_read_linearizer(option))
                .await
                .map_err(|_| late())?;
        let linearizer: Linearizer<TypeConfig> = linearizer.map_err(|e| self.read_error(e))?;
        let left = deadline.saturating_duration_since(now());
        match linearizer.try_await_ready(&self.inner.raft, Some(left)).await {
            Ok(Ok(_ready)) => Ok(()),
            Ok(Err(_behind)) => Err(late()),
            Err(_fatal) => Err(Reason::Stopping.into()),
        }
    }

    fn read_error(&self, error: ReadError) -> Error {
        reached(Probe::BarrierLost);
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => self.not_leader(),
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(quorum)) => {
                Reason::ReadFailed { detail: quorum.to_string() }.into()
            }
            RaftError::Fatal(_) => Reason::Stopping.into(),
        }
    }

    /// Hands leadership to the most up-to-date other voter and waits until it is gone from here.
    /// Does nothing if this replica does not lead, or is the only voter.
    pub async fn hand_over(&self, deadline: Instant) -> Result<(), Error> {
        self.hand_over_to(None, deadline).await
    }

    /// Hands leadership to `target`, or the most up-to-date other voter.
    pub async fn hand_over_to(
        &self,
        target: Option<ReplicaId>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let seen = self.leader();
        if !self.is_leader() {
            return Ok(());
        }
        let Some(target) = self.successor(target) else { return Ok(()) };
        self.inner.raft.trigger().transfer_leader(target).await.map_err(internal)?;
        let changed = tokio::time::timeout_at(deadline, self.leader_changed(seen)).await;
        changed.map(|_| reached(Probe::HandedOver)).map_err(|_| {
            let detail = format!("{} did not take over in time", target);
            Reason::ReadFailed { detail }.into()
        })
    }

    /// Other voters that want to lead and how many log entries each lacks of this leader's log; empty unless leading.
    pub fn voters_behind(&self) -> Vec<(ReplicaId, u64)> {
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let last = seen.last_log_index.unwrap_or(0);
        let voters: std::collections::BTreeSet<_> = seen.membership_config.voter_ids().collect();
        let progress = seen.replication.iter().flatten();
        progress
            .filter(|(id, _)| **id != self.inner.key.replica && voters.contains(id))
            .filter(|(id, _)| !self.inner.context.is_reluctant(**id))
            // One that was not heard of is no candidate, however short the log.
            .filter_map(|(id, matched)| Some((*id, last.saturating_sub((*matched)?.index))))
            .collect()
    }

    pub(super) fn successor(&self, wanted: Option<ReplicaId>) -> Option<ReplicaId> {
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let voters: std::collections::BTreeSet<_> = seen.membership_config.voter_ids().collect();
        let progress = seen.replication.as_ref()?;
        progress
            .iter()
            .filter(|(id, _)| **id != self.inner.key.replica && voters.contains(id))
            .filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id))
            // A transfer that is refused leaves its leader unable to propose: openraft takes no
            // transfer back.
            .filter(|(id, matched)| matched.is_some() && !self.inner.context.is_reluctant(**id))
            .max_by_key(|(_, matched)| matched.map(|id| id.index))
            .map(|(id, _)| *id)
    }
}
