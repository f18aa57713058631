//! Serves the Raft frames of peers, behind the restart guard and the check of the digest.

use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{AppendEntriesResponse, VoteRequest};

use super::{Replica, StateMachine};
use crate::raft::compactor;
use crate::raft::countermeasure::{Countermeasure, taken_out};
use crate::raft::digests::Mismatch;
use crate::raft::frame_codec::{
    AnswerExtras, decode, decode_append, encode, encode_append_response,
};
use crate::raft::types::TypeConfig;
use crate::transport::{FrameKind, Refusal};
use crate::types::clock::now;
use crate::types::{NodeId, ReplicaId, task, wire};

impl<M: StateMachine> Replica<M> {
    /// Serves a Raft frame (append, vote, pre-vote, transfer, snapshot) of a peer.
    pub async fn handle(
        &self,
        _from: NodeId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let raft = &self.inner.raft;
        let payload = take_target(payload, self.inner.key.replica)?;
        if kind == FrameKind::Append {
            return self.handle_append(payload).await;
        }
        self.check_whole()?;
        match kind {
            FrameKind::Vote => {
                self.check_guard()?;
                let request = self.asked_for_vote(&payload, "vote")?;
                raft.vote(request).await.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::PreVote => {
                self.check_guard()?;
                let request = self.asked_for_vote(&payload, "pre-vote")?;
                raft.pre_vote(request).await.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::TransferLeader => {
                self.check_guard()?;
                self.check_willing(&payload)?;
                let request = decode(&payload, "transfer").map_err(refuse)?;
                let answer = raft.handle_transfer_leader(request).await;
                answer.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::Snapshot => self.inner.receiver.handle(raft, payload).await,
            other => Err(Refusal(format!("{other:?} is not a Raft frame"))),
        }
    }

    fn asked_for_vote(
        &self,
        payload: &Bytes,
        what: &'static str,
    ) -> Result<VoteRequest<TypeConfig>, Refusal> {
        let request: VoteRequest<TypeConfig> = decode(payload, what).map_err(refuse)?;
        self.inner.context.quorum.voter(request.vote.leader_id.voted_for);
        Ok(request)
    }

    /// After a restart a replica neither votes nor campaigns for one full election time-out.
    fn check_guard(&self) -> Result<(), Refusal> {
        match self.inner.guard_until {
            Some(until) if now() < until => {
                Err(Refusal("restarted less than one election time-out ago".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// A follower whose snapshots do not keep up takes no more entries; heartbeats pass, so that it
    /// does not campaign. Its leader tries again, and sends a snapshot when it has purged (INV-8).
    fn check_log_bound(&self) -> Result<(), Refusal> {
        let (held, settings) = (self.inner.log.bytes(), &self.inner.settings);
        let bytes_max = compactor::follower_max(settings.snapshot_log_bytes, self.live_bytes());
        if held < bytes_max {
            return Ok(());
        }
        Err(Refusal(format!("the log holds {held} bytes, the bound is {bytes_max}")))
    }

    async fn handle_append(&self, payload: Bytes) -> Result<Bytes, Refusal> {
        let inner = &self.inner;
        let arrived = inner.freshness.arrived();
        let (request, extras) = decode_append(payload).map_err(refuse)?;
        if self.lacks(&request.vote, extras.acknowledged) {
            // Beside the flag the answer counts for nothing.
            let clock = inner.freshness.clock();
            let told = AnswerExtras { clock, reluctant: true, shortened: true };
            return Ok(encode_append_response(&AppendEntriesResponse::Conflict, told));
        }
        if !request.entries.is_empty() {
            self.check_log_bound()?;
        }
        let leader = request.vote.leader_id;
        let term = leader.term;
        let response = inner.raft.append_entries(request).await.map_err(refuse)?;
        if response.is_success() {
            self.heard();
            let acked_ago = Some(extras.quorum_age_ms).filter(|age_ms| *age_ms != u64::MAX);
            inner.context.quorum.led(leader.term, acked_ago.map(Duration::from_millis));
            inner.context.quorum.voter(leader.voted_for);
            let applied = self.with_applied(|_, _, index| index);
            inner.freshness.heard(term, arrived, &extras, applied);
            if let Some((index, digest)) = extras.checkpoint
                && let Some(mismatch) = inner.digests.check(index, digest)
            {
                return Err(self.diverged(mismatch));
            }
        }
        // One that keeps still after its restart would refuse a transfer as well.
        let reluctant = self.is_reluctant() || self.check_guard().is_err();
        let clock = inner.freshness.clock();
        let told = AnswerExtras { clock, reluctant, shortened: false };
        Ok(encode_append_response(&response, told))
    }

    /// INV-3 is broken: stop this replica rather than serve what differs from the leader.
    fn diverged(&self, mismatch: Mismatch) -> Refusal {
        let key = self.inner.key;
        if !self.inner.cancel.is_cancelled() {
            self.inner.metrics.digest_mismatches.inc();
            tracing::error!(replica = %key, ?mismatch, "replica differs from its leader; stopping it");
            self.inner.cancel.cancel();
            let raft = self.inner.raft.clone();
            task::spawn("stop diverged replica", async move {
                if let Err(error) = raft.shutdown().await {
                    tracing::error!(replica = %key, %error, "diverged replica did not stop cleanly");
                }
            });
        }
        Refusal(format!("{key} differs from its leader at index {}", mismatch.index))
    }
}

/// Checks that a frame is for this replica, not for another one of the group that lived here.
fn take_target(mut payload: Bytes, own: ReplicaId) -> Result<Bytes, Refusal> {
    let target = wire::get_u64(&mut payload, "target replica").map_err(refuse)?;
    if target != own.0 && !taken_out(Countermeasure::TargetReplica) {
        return Err(Refusal(format!("{} does not run here, {own} does", ReplicaId(target))));
    }
    Ok(payload)
}

fn refuse(error: impl std::fmt::Display) -> Refusal {
    Refusal(error.to_string())
}
