//! openraft's network over the peer transport.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::BoxStream;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;

use super::acknowledged::Acknowledged;
use super::append_pipeline::AppendPipeline;
use super::countermeasure::{Countermeasure, fails_early, taken_out};
use super::digests::Digests;
use super::frame_codec::{
    AppendExtras, LifeClock, addressed, decode, decode_append_response, encode, encode_append,
};
use super::log_store::LogStore;
use super::lost_replicas::{LostReplica, LostReplicas, WHAT_SHORTENED};
use super::machine::StateMachine;
use super::quorum::QuorumTracker;
use super::settings::RaftSettings;
use super::snapshot_send::send_snapshot;
use super::state_store::{SnapshotData, SnapshotOf};
use super::types::{LogId, ReplicaNode, TypeConfig, Vote, term_of};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::transport::{self, FrameKind, SharedTransport};
use crate::types::clock::{Instant, now};
use crate::types::{GroupId, LogKey, NodeId, ReplicaId, wire};

type DataMetrics =
    openraft::alias::WatchReceiverOf<TypeConfig, openraft::metrics::RaftDataMetrics<TypeConfig>>;
pub(super) type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// What all connections of one replica share.
#[derive(Clone)]
pub struct NetworkContext {
    pub(super) group: GroupId,
    pub(super) transport: SharedTransport,
    pub(super) files: Arc<SnapshotFiles>,
    pub(super) digests: Arc<Digests>,
    /// Appends in flight to one follower.
    pub(super) appends_in_flight: usize,
    /// Log id up to which this replica's machine is applied.
    pub(super) applied: Arc<dyn Fn() -> Option<LogId> + Send + Sync>,
    /// This replica's log: a stream sees in it whether entries are on their way.
    pub(super) log: LogStore,
    /// Longest wait for the answer to an append that carries entries.
    pub(super) append_timeout: Duration,
    /// Since when this replica runs.
    start: Instant,
    /// Told of followers whose log is shorter than what they acknowledged.
    lost: LostReplicas,
    /// Who was heard of, and when.
    pub(super) quorum: Arc<QuorumTracker>,
    /// What each follower said last. Held for moments.
    heard: Arc<Mutex<BTreeMap<ReplicaId, Arc<Heard>>>>,
    /// Set once openraft runs.
    metrics: Arc<OnceLock<DataMetrics>>,
}

/// What a follower said of itself in its answers. Held for moments.
type Heard = Mutex<Said>;

#[derive(Debug, Default)]
struct Said {
    /// Newest clock it answered with, in the life that it answered in last.
    clock: LifeClock,
    /// It does not want to lead.
    reluctant: bool,
    /// Its log is shorter than what it acknowledged. Stays: its id is lost.
    shortened: bool,
    /// What it acknowledged, in all of its lives.
    acknowledged: Acknowledged,
}

impl Said {
    /// What it said of its clock in an earlier life is dropped: the clock began again.
    fn heard_clock(&mut self, clock: LifeClock) {
        let began_again =
            clock.life != self.clock.life && !taken_out(Countermeasure::EchoOfThisLife);
        if began_again || clock.ms > self.clock.ms {
            self.clock = clock;
        }
    }
}

impl NetworkContext {
    pub(super) fn new(
        group: GroupId,
        transport: SharedTransport,
        files: Arc<SnapshotFiles>,
        digests: Arc<Digests>,
        applied: Arc<dyn Fn() -> Option<LogId> + Send + Sync>,
        log: LogStore,
        (lost, settings): (LostReplicas, &RaftSettings),
    ) -> Self {
        NetworkContext {
            group,
            transport,
            files,
            digests,
            applied,
            log,
            appends_in_flight: settings.appends_in_flight,
            append_timeout: Duration::from_millis(settings.election_ms_min),
            start: now(),
            lost,
            quorum: Arc::default(),
            heard: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// Lets appends carry the age of the last quorum acknowledgement.
    pub(super) fn set_metrics(&self, metrics: DataMetrics) {
        // Set once, by the replica that owns this context.
        let _ = self.metrics.set(metrics);
    }

    /// Milliseconds since the last append that a quorum acknowledged was sent; rounded up, as what
    /// is bounded by it is old.
    pub(super) fn quorum_age_ms(&self) -> Option<u64> {
        let acked = self.metrics.get()?.borrow_watched().last_quorum_acked?;
        let age = acked.into_inner().elapsed();
        u64::try_from(age.as_micros().div_ceil(1_000)).ok()
    }

    /// Microseconds that this replica's clock has counted since it started.
    fn elapsed_us(&self) -> u64 {
        u64::try_from(now().duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn heard_of(&self, target: ReplicaId) -> Arc<Heard> {
        Arc::clone(self.heard.lock().entry(target).or_default())
    }

    /// True if the follower said last that it does not want to lead, or must not any more.
    pub(super) fn is_reluctant(&self, target: ReplicaId) -> bool {
        let heard = self.heard.lock().get(&target).cloned();
        heard.is_some_and(|heard| {
            let said = heard.lock();
            said.reluctant || said.shortened
        })
    }
}

/// Makes connections to peers' replicas.
pub struct NetworkFactory<M> {
    pub(super) context: NetworkContext,
    pub(super) machine: PhantomData<fn() -> M>,
}

impl<M: StateMachine> RaftNetworkFactory<TypeConfig> for NetworkFactory<M> {
    type Network = PeerNetwork<M>;

    async fn new_client(&mut self, target: ReplicaId, node: &ReplicaNode) -> Self::Network {
        PeerNetwork {
            heard: self.context.heard_of(target),
            context: self.context.clone(),
            node: node.node,
            target,
            machine: PhantomData,
        }
    }
}

/// One replica of a peer.
pub struct PeerNetwork<M> {
    pub(super) context: NetworkContext,
    node: NodeId,
    target: ReplicaId,
    heard: Arc<Heard>,
    machine: PhantomData<fn() -> M>,
}

fn unreachable_peer(error: &transport::Error) -> RPCError<TypeConfig> {
    // Always `Unreachable`, whose back-off keeps a dead follower from costing a core.
    RPCError::Unreachable(Unreachable::new(error))
}

fn unreachable_because(why: &'static str) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(why)))
}

fn malformed(error: &wire::Error) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl<M: StateMachine> PeerNetwork<M> {
    async fn call(
        &self,
        kind: FrameKind,
        payload: bytes::Bytes,
        timeout: Duration,
    ) -> Rpc<bytes::Bytes> {
        self.context
            .transport
            .call(
                self.node,
                self.context.group,
                kind,
                addressed(self.target, &payload),
                now() + timeout,
            )
            .await
            .map_err(|e| unreachable_peer(&e))
    }

    /// What travels with an append of the leader of `term`, and what its follower must hold.
    fn extras(&self, term: u64) -> AppendExtras {
        // In this order: what this leader has applied by now holds every write it acknowledged
        // before the follower's clock showed the echo. A leader that has applied nothing of its
        // own term may not know yet what its predecessor acknowledged.
        let echo = self.heard.lock().clock;
        let quorum_age_ms = self.context.quorum_age_ms();
        let applied = (self.context.applied)();
        let (applied_term, complete_index) = applied.map_or((0, 0), |id| (term_of(&id), id.index));
        let leads = applied_term == term;
        AppendExtras {
            echo,
            quorum_age_ms: quorum_age_ms.filter(|_| leads).unwrap_or(u64::MAX),
            complete_index,
            elapsed_us: self.context.elapsed_us(),
            acknowledged: self.heard.lock().acknowledged.must_hold(term, applied),
            checkpoint: self.context.digests.newest(),
        }
    }

    /// Queues an append; the answer comes with the returned future.
    pub(super) fn send_append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
        soft_ttl: Duration,
    ) -> BoxFuture<'static, Rpc<AppendEntriesResponse<TypeConfig>>> {
        let timeout = match request.entries.is_empty() {
            _ if taken_out(Countermeasure::AppendTimeout) => Duration::from_secs(86_400),
            true => soft_ttl,
            false => self.context.append_timeout,
        };
        let term = request.vote.leader_id.term;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let extras = self.extras(term);
        let call = self.context.transport.call(
            self.node,
            self.context.group,
            FrameKind::Append,
            encode_append(self.target, request, extras),
            now() + timeout,
        );
        let (heard, lost) = (Arc::clone(&self.heard), self.context.lost.clone());
        let (key, node) = (LogKey { group: self.context.group, replica: self.target }, self.node);
        Box::pin(async move {
            let bytes = call.await.map_err(|e| unreachable_peer(&e))?;
            let (response, answer) = decode_append_response(bytes).map_err(|e| malformed(&e))?;
            // It had acknowledged `prev` before this append was sent, so no later one overtook it.
            let conflict = matches!(response, AppendEntriesResponse::Conflict);
            let lacks = conflict && prev.is_some() && prev <= extras.acknowledged;
            let shortened = {
                let mut said = heard.lock();
                said.heard_clock(answer.clock);
                said.reluctant = answer.reluctant;
                said.shortened |= answer.shortened || lacks;
                match &response {
                    _ if said.shortened => {}
                    AppendEntriesResponse::Success => said.acknowledged.answered(term, last),
                    AppendEntriesResponse::PartialSuccess(last) => {
                        said.acknowledged.answered(term, *last);
                    }
                    AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
                }
                said.shortened
            };
            if shortened && !taken_out(Countermeasure::ShortenedLog) {
                // Nothing it says may be counted: openraft hears that it cannot be reached, and
                // tries again with back-off.
                lost.tell(key, LostReplica { node, why: WHAT_SHORTENED.to_owned() });
                return Err(unreachable_because(WHAT_SHORTENED));
            }
            if conflict && prev.is_none() {
                // openraft would panic: every log agrees with an empty one.
                return Err(unreachable_because("a conflict with an empty log"));
            }
            Ok(response)
        })
    }
}

impl<M: StateMachine> RaftNetworkV2<TypeConfig> for PeerNetwork<M> {
    type SnapshotData = SnapshotData<M>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        self.send_append(&request, option.soft_ttl()).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if fails_early(self.node) {
            let error = io::Error::other("failed before a request was taken");
            return Box::pin(async move { Err(RPCError::Unreachable(Unreachable::new(&error))) });
        }
        let answers = AppendPipeline::new(self, input, option.soft_ttl()).answers();
        Box::pin(async move { Ok(answers) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let bytes = self.call(FrameKind::Vote, encode(&request), option.soft_ttl()).await?;
        self.context.quorum.voter(self.target);
        decode(&bytes, "vote response").map_err(|e| malformed(&e))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        if taken_out(Countermeasure::PreVote) {
            return Ok(VoteResponse::new(request.vote, None, true));
        }
        // An unreachable peer is an error, never a grant.
        let bytes = self.call(FrameKind::PreVote, encode(&request), option.soft_ttl()).await?;
        self.context.quorum.voter(self.target);
        decode(&bytes, "pre-vote response").map_err(|e| malformed(&e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<M>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let file = match snapshot.snapshot {
            SnapshotData::File(file) => file,
            SnapshotData::Received { .. } | SnapshotData::GivenUp => {
                let error = io::Error::other("only stored snapshots are sent");
                return Err(StreamingError::Network(NetworkError::new(&error)));
            }
        };
        let send = send_snapshot(
            self.context.clone(),
            (self.node, self.target),
            vote,
            &snapshot.meta,
            file,
            option.soft_ttl(),
        );
        let sent = match select(std::pin::pin!(cancel), std::pin::pin!(send)).await {
            Either::Left((closed, _)) => return Err(StreamingError::Closed(closed)),
            Either::Right((sent, _)) => sent?,
        };
        if sent.vote == vote {
            let term = vote.leader_id.term;
            self.heard.lock().acknowledged.answered(term, snapshot.meta.last_log_id);
        }
        Ok(sent)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        if taken_out(Countermeasure::TransferLeader) {
            let error = io::Error::other("not implemented");
            return Err(RPCError::Unreachable(Unreachable::new(&error)));
        }
        let bytes =
            self.call(FrameKind::TransferLeader, encode(&request), option.soft_ttl()).await?;
        decode(&bytes, "transfer response").map_err(|e| malformed(&e))
    }
}
