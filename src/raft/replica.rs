//! One replica of one group: openraft, its log, its state machine, its frames.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::linearizable_read::Linearizer;
use openraft::{LinearizerOption, ReadPolicy};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::compactor;
use super::digests::Digests;
use super::frame_codec::{decode, decode_append, encode, encode_append_response};
use super::freshness::FreshnessTracker;
use super::heartbeat::{Beat, Heartbeats};
use super::log_store::LogStore;
use super::machine::{Applied, StateMachine};
use super::network::{NetworkContext, NetworkFactory};
use super::settings::RaftSettings;
use super::snapshot_receive::SnapshotReceiver;
use super::state_store::{SharedMachine, StateStore};
use super::types::{Payload, ReplicaNode, TypeConfig};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::{self, Wal};
use crate::transport::{FrameKind, Refusal, SharedTransport};
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, LogKey, NodeId, Reason, ReplicaId, task};

/// What a replica needs of its node.
#[derive(Clone, Debug)]
pub struct ReplicaDeps {
    /// Calls peers.
    pub transport: SharedTransport,
    /// The node's write-ahead log; `None` in `memory` durability.
    pub wal: Option<Arc<dyn Wal>>,
    /// Snapshot files.
    pub files: Arc<SnapshotFiles>,
    /// The node's heartbeat timer.
    pub heartbeats: Heartbeats,
    /// Timing and sizes.
    pub settings: RaftSettings,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
}

/// Why a replica could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be read, or is damaged: quarantine it, rejoin under a new replica id.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// The replica ran before and its log is gone: it must never run again under this id.
    #[error("the log of {0} is gone")]
    LogLost(LogKey),
    /// A setting openraft refuses.
    #[error("raft settings: {0}")]
    Settings(#[from] openraft::ConfigError),
    /// openraft could not recover its state.
    #[error("recovery: {0}")]
    Recovery(String),
}

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

type RaftHandle<M> = Raft<TypeConfig, StateStore<M>>;
type ReadError = RaftError<TypeConfig, LinearizableReadError<TypeConfig>>;
pub(super) type WriteResult = openraft::raft::ClientWriteResult<TypeConfig>;

/// One replica of one group. Cheap to clone.
pub struct Replica<M: StateMachine> {
    inner: Arc<Inner<M>>,
}

impl<M: StateMachine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica { inner: Arc::clone(&self.inner) }
    }
}

impl<M: StateMachine> std::fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("key", &self.inner.key).finish()
    }
}

struct Inner<M: StateMachine> {
    key: LogKey,
    raft: RaftHandle<M>,
    machine: SharedMachine<M>,
    log: LogStore,
    digests: Arc<Digests>,
    freshness: FreshnessTracker,
    receiver: SnapshotReceiver<M>,
    context: NetworkContext,
    settings: RaftSettings,
    leader: watch::Receiver<Option<Leader>>,
    /// Until then this replica neither votes nor campaigns.
    guard_until: Option<Instant>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl<M: StateMachine> Replica<M> {
    /// Recovers the replica's state and starts it. A replica that has a log keeps still for one
    /// full election time-out first: openraft restores a vote without its lease, so a restarted
    /// voter could elect a new leader inside the old leader's lease and make lease reads stale.
    ///
    /// `ran_before` says that this replica id has been in use; then its log must be there. When this
    /// returns, a durable log holds at least a mark, so the caller may remember that it ran.
    pub async fn start(
        key: LogKey,
        node: NodeId,
        machine: M,
        ran_before: bool,
        deps: ReplicaDeps,
    ) -> Result<Self, StartError> {
        let recovered = match &deps.wal {
            Some(wal) => {
                let wal = Arc::clone(wal);
                deps.files.offload(move || wal.open(key)).await?
            }
            None => wal::Recovered { fresh: true, ..wal::Recovered::default() },
        };
        if ran_before && recovered.fresh {
            // A blank restart loses acknowledged writes (INV-2).
            return Err(StartError::LogLost(key));
        }
        let log = LogStore::open(key, deps.wal.clone(), recovered)?;
        log.mark_begun().await?;
        let guard_until = (!log.is_pristine()).then(|| now() + deps.settings.restart_guard());
        let digests = Arc::new(Digests::default());
        let store = StateStore::new(key, machine, Arc::clone(&deps.files), Arc::clone(&digests));
        let machine = store.shared();
        let context = NetworkContext::new(
            key.group,
            Arc::clone(&deps.transport),
            Arc::clone(&deps.files),
            Arc::clone(&digests),
            deps.settings.appends_in_flight,
            Duration::from_millis(deps.settings.election_ms_min),
        );
        let factory = NetworkFactory::<M> { context: context.clone(), machine: PhantomData };
        let config = deps.settings.openraft(format!("{key} on {node}"))?;
        let raft = Raft::new(key.replica, config, factory, log.clone(), store)
            .await
            .map_err(|fatal| StartError::Recovery(fatal.to_string()))?;
        context.set_metrics(raft.data_metrics());
        let (leader_tx, leader) = watch::channel(None);
        let receiver = SnapshotReceiver::new(key, Arc::clone(&deps.files), Arc::clone(&machine));
        let inner = Arc::new(Inner {
            key,
            raft,
            machine,
            log,
            digests,
            freshness: FreshnessTracker::default(),
            receiver,
            context,
            settings: deps.settings,
            leader,
            guard_until,
            metrics: deps.metrics,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let beat: Arc<dyn Beat> = inner.clone();
        deps.heartbeats.join(Arc::downgrade(&beat));
        let replica = Replica { inner };
        replica.spawn_tasks(leader_tx);
        Ok(replica)
    }

    fn spawn_tasks(&self, leader_tx: watch::Sender<Option<Leader>>) {
        let inner = &self.inner;
        let cancel = inner.cancel.clone();
        let raft = inner.raft.clone();
        inner.tasks.spawn(task::guarded("leader watch", async move {
            let watch = watch_leader(raft, leader_tx);
            cancel.run_until_cancelled(watch).await;
        }));
        let (raft, guard) = (inner.raft.clone(), inner.guard_until);
        let cancel = inner.cancel.clone();
        inner.tasks.spawn(task::guarded("restart guard", async move {
            if let Some(until) = guard {
                cancel.run_until_cancelled(tokio::time::sleep_until(until)).await;
            }
            raft.runtime_config().elect(true);
        }));
        let cancel = inner.cancel.clone();
        let compact = compactor::run(
            inner.raft.clone(),
            inner.log.clone(),
            Arc::clone(&inner.machine),
            inner.settings.snapshot_log_bytes,
        );
        inner.tasks.spawn(task::guarded("compactor", async move {
            cancel.run_until_cancelled(compact).await;
        }));
    }

    /// Whose log this is.
    pub fn key(&self) -> LogKey {
        self.inner.key
    }

    /// Timing and sizes.
    pub fn settings(&self) -> &RaftSettings {
        &self.inner.settings
    }

    /// Makes these replicas the first members. Safe to call on several of them and again.
    pub async fn initialize(&self, members: &[(ReplicaId, NodeId)]) -> Result<(), Error> {
        let members: std::collections::BTreeMap<_, _> =
            members.iter().map(|(replica, node)| (*replica, ReplicaNode { node: *node })).collect();
        match self.inner.raft.initialize(members).await {
            // Not allowed: it has a log or a vote already, so it belongs to a group.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(internal(error)),
        }
    }

    /// True once the group has members.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.inner.raft.is_initialized().await.map_err(internal)
    }

    /// Hands a payload to openraft; the answer comes through the receiver. An error means that it
    /// was surely not proposed.
    pub(super) async fn submit(
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
    pub(super) fn conclude(&self, result: Option<WriteResult>) -> Result<(u64, Applied), Error> {
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
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => self.not_leader(),
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(quorum)) => {
                Reason::ReadFailed { detail: quorum.to_string() }.into()
            }
            RaftError::Fatal(_) => Reason::Stopping.into(),
        }
    }

    /// Looks at the machine as applied now. Keep it short: applies wait.
    pub fn with_machine<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.inner.machine.read().machine)
    }

    /// Looks at the machine together with the term and index it is applied up to.
    pub fn with_applied<T>(&self, look: impl FnOnce(&M, u64, u64) -> T) -> T {
        let state = self.inner.machine.read();
        let (term, index) =
            state.applied.map_or((0, 0), |id| (super::types::term_of(&id), id.index));
        look(&state.machine, term, index)
    }

    /// Upper bound of the age in milliseconds of what the machine shows, `None` if unknown.
    pub fn age_ms(&self) -> Option<u64> {
        if self.is_leader() {
            return self.inner.context.quorum_age_ms();
        }
        self.inner.freshness.age_ms(self.with_applied(|_, _, index| index))
    }

    /// Leader as believed now.
    pub fn leader(&self) -> Option<Leader> {
        *self.inner.leader.borrow()
    }

    /// True if this replica leads, as believed now. Never enough for a read: see `barrier`.
    pub fn is_leader(&self) -> bool {
        self.leader().is_some_and(|l| l.replica == self.inner.key.replica)
    }

    /// Waits until the leader, as believed here, is not `seen` any more.
    pub async fn leader_changed(&self, seen: Option<Leader>) -> Option<Leader> {
        let mut watch = self.inner.leader.clone();
        // The borrow ends before the next await, or the future could not move between threads.
        let changed = watch.wait_for(|leader| *leader != seen).await.map(|leader| *leader);
        match changed {
            Ok(leader) => leader,
            // The replica stopped: nothing will change any more.
            Err(_) => std::future::pending().await,
        }
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
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let role = match (&seen.running_state, seen.state) {
            (Err(_), _) | (_, openraft::ServerState::Shutdown) => "stopped",
            (_, openraft::ServerState::Leader) => "leader",
            (_, openraft::ServerState::Follower) => "follower",
            (_, openraft::ServerState::Candidate) => "candidate",
            (_, openraft::ServerState::Learner) => "learner",
        };
        Progress {
            role,
            term: seen.current_term,
            last_index: seen.last_log_index.unwrap_or(0),
            committed_index: seen.cluster_committed.map_or(0, |id| id.index),
            applied_index,
            snapshot_index: seen.snapshot.map_or(0, |id| id.index),
            log_bytes: self.inner.log.bytes(),
        }
    }

    /// True while this replica may propose: its log is within the leader's bound (INV-8).
    pub(super) fn log_has_room(&self) -> bool {
        self.inner.log.bytes()
            < compactor::leader_max(self.inner.settings.snapshot_log_bytes, self.live_bytes())
    }

    /// Waits until entries were dropped from the log since the last such wait. For one waiter.
    pub(super) async fn log_shrunk(&self) {
        self.inner.log.shrunk().await;
    }

    fn live_bytes(&self) -> u64 {
        self.with_machine(M::live_bytes)
    }

    /// Builds a snapshot now and waits until it covers what was applied before the call.
    pub async fn snapshot_now(&self, deadline: Instant) -> Result<(), Error> {
        let applied = self.with_applied(|_, _, index| index);
        self.inner.raft.trigger().snapshot().await.map_err(internal)?;
        let left = deadline.saturating_duration_since(now());
        self.inner
            .raft
            .wait(Some(left))
            .metrics(|m| m.snapshot.is_some_and(|id| id.index >= applied), "snapshot")
            .await
            .map(|_| ())
            .map_err(internal)
    }

    /// Purges the log up to the last snapshot, so that a follower behind it needs the snapshot.
    pub async fn purge_to_snapshot(&self) -> Result<(), Error> {
        let index = self.progress().snapshot_index;
        self.inner.raft.trigger().purge_log(index).await.map_err(internal)
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
        tokio::time::timeout_at(deadline, self.leader_changed(seen)).await.map(|_| ()).map_err(
            |_| {
                let detail = format!("{} did not take over in time", target);
                Reason::ReadFailed { detail }.into()
            },
        )
    }

    /// Other voters and how many log entries each lacks of this leader's log; empty unless leading.
    pub fn voters_behind(&self) -> Vec<(ReplicaId, u64)> {
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let last = seen.last_log_index.unwrap_or(0);
        let voters: std::collections::BTreeSet<_> = seen.membership_config.voter_ids().collect();
        let progress = seen.replication.iter().flatten();
        progress
            .filter(|(id, _)| **id != self.inner.key.replica && voters.contains(id))
            .map(|(id, matched)| (*id, last.saturating_sub(matched.map_or(0, |id| id.index))))
            .collect()
    }

    fn successor(&self, wanted: Option<ReplicaId>) -> Option<ReplicaId> {
        let metrics = self.inner.raft.metrics();
        let seen = metrics.borrow_watched();
        let voters: std::collections::BTreeSet<_> = seen.membership_config.voter_ids().collect();
        let progress = seen.replication.as_ref()?;
        progress
            .iter()
            .filter(|(id, _)| **id != self.inner.key.replica && voters.contains(id))
            .filter(|(id, _)| wanted.is_none_or(|wanted| wanted == **id))
            .max_by_key(|(_, matched)| matched.map(|id| id.index))
            .map(|(id, _)| *id)
    }

    /// Serves a Raft frame (append, vote, pre-vote, transfer, snapshot) of a peer.
    pub async fn handle(
        &self,
        _from: NodeId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let raft = &self.inner.raft;
        let payload = take_target(payload, self.inner.key.replica)?;
        match kind {
            FrameKind::Append => self.handle_append(payload).await,
            FrameKind::Vote => {
                self.check_guard()?;
                let request = decode(&payload, "vote").map_err(refuse)?;
                raft.vote(request).await.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::PreVote => {
                self.check_guard()?;
                let request = decode(&payload, "pre-vote").map_err(refuse)?;
                raft.pre_vote(request).await.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::TransferLeader => {
                self.check_guard()?;
                let request = decode(&payload, "transfer").map_err(refuse)?;
                let answer = raft.handle_transfer_leader(request).await;
                answer.map(|answer| encode(&answer)).map_err(refuse)
            }
            FrameKind::Snapshot => self.inner.receiver.handle(raft, payload).await,
            other => Err(Refusal(format!("{other:?} is not a Raft frame"))),
        }
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
        let (request, extras) = decode_append(payload).map_err(refuse)?;
        let commit = request.leader_commit.map_or(0, |id| id.index);
        if !request.entries.is_empty() {
            self.check_log_bound()?;
        }
        let response = inner.raft.append_entries(request).await.map_err(refuse)?;
        if response.is_success() {
            let applied = self.with_applied(|_, _, index| index);
            inner.freshness.heard(extras.echo_ms, extras.quorum_age_ms, commit, applied);
            if let Some((index, digest)) = extras.checkpoint
                && let Some(mismatch) = inner.digests.check(index, digest)
            {
                return Err(self.diverged(mismatch));
            }
        }
        Ok(encode_append_response(&response, inner.freshness.now_ms()))
    }

    /// INV-3 is broken: stop this replica rather than serve what differs from the leader.
    fn diverged(&self, mismatch: super::digests::Mismatch) -> Refusal {
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

    /// Stops the replica and awaits its tasks.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(replica = %self.inner.key, %error, "replica did not stop cleanly");
        }
        self.inner.tasks.wait().await;
    }
}

impl<M: StateMachine> Beat for Inner<M> {
    fn leads(&self) -> bool {
        self.leader.borrow().is_some_and(|l| l.replica == self.key.replica)
    }

    fn beat(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Fails only when the replica is stopping.
            if let Err(error) = self.raft.trigger().heartbeat().await {
                tracing::debug!(replica = %self.key, %error, "no heartbeat");
            }
        })
    }
}

async fn watch_leader<M: StateMachine>(
    raft: RaftHandle<M>,
    leader_tx: watch::Sender<Option<Leader>>,
) {
    let mut server = raft.server_metrics();
    loop {
        let leader = {
            let seen = server.borrow_and_update();
            let node = seen.current_leader.and_then(|id| {
                seen.membership_config.membership().get_node(&id).map(|node| (id, node.node))
            });
            node.map(|(replica, node)| Leader { term: seen.vote.leader_id.term, replica, node })
        };
        leader_tx.send_if_modified(|current| {
            let changed = *current != leader;
            *current = leader;
            changed
        });
        if server.changed().await.is_err() {
            leader_tx.send_replace(None);
            return;
        }
    }
}

/// Checks that a frame is for this replica, not for another one of the group that lived here.
fn take_target(mut payload: Bytes, own: ReplicaId) -> Result<Bytes, Refusal> {
    let target = crate::types::wire::get_u64(&mut payload, "target replica").map_err(refuse)?;
    if target != own.0 {
        return Err(Refusal(format!("{} does not run here, {own} does", ReplicaId(target))));
    }
    Ok(payload)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Reason::Internal { detail: error.to_string() }.into()
}

fn refuse(error: impl std::fmt::Display) -> Refusal {
    Refusal(error.to_string())
}
