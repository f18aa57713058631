//! One replica of one group: openraft, its log, its state machine, its frames.

mod known;
mod lead;
mod observe;
mod room;
mod serve;
mod shortened;

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use openraft::Raft;
use openraft::errors::{InitializeError, RaftError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use self::known::Known;
use self::known::watch_known;
pub(super) use self::lead::WriteResult;
pub use self::observe::{Leader, Progress};
use self::room::Room;
use super::builds::Builds;
use super::compactor;
use super::countermeasure::{Countermeasure, taken_out};
use super::digests::Digests;
use super::freshness::FreshnessTracker;
use super::heartbeat::{Beat, Heartbeats};
use super::log_store::LogStore;
use super::lost_replicas::LostReplicas;
use super::machine::StateMachine;
use super::network::{NetworkContext, NetworkFactory};
use super::settings::RaftSettings;
use super::snapshot_receive::SnapshotReceiver;
use super::state_store::{SharedMachine, StateStore, snapshot_on_disk};
use super::types::{ReplicaNode, TypeConfig};
use crate::storage::health::Reporter;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::{self, Wal};
use crate::transport::SharedTransport;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::watch;
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
    /// Hears of failures of the disk.
    pub storage: Reporter,
    /// Hears of replicas whose log is shorter than what they acknowledged.
    pub lost: LostReplicas,
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

type RaftHandle<M> = Raft<TypeConfig, StateStore<M>>;

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
    node: NodeId,
    raft: RaftHandle<M>,
    machine: SharedMachine<M>,
    log: LogStore,
    digests: Arc<Digests>,
    freshness: FreshnessTracker,
    receiver: SnapshotReceiver<M>,
    context: NetworkContext,
    settings: RaftSettings,
    /// The leader and the quorum, as every report shows them.
    known: watch::Receiver<Known>,
    /// Term of openraft's own leadership, 0 if it has none: with a quorum or without.
    leads_term: AtomicU64,
    /// What became of the snapshots built here.
    builds: Arc<Builds>,
    /// What a disk with little room asks of this replica.
    room: Room,
    /// Until then this replica neither votes nor campaigns.
    guard_until: Option<Instant>,
    /// The log is shorter than what was acknowledged: it neither votes nor campaigns any more.
    shortened: AtomicBool,
    lost: LostReplicas,
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
        let log = open_log(key, ran_before, &deps).await?;
        let snapshot = snapshot_on_disk::<M>(&deps.files, key).await;
        if let Some(last) = snapshot.map_err(|error| StartError::Recovery(error.to_string()))? {
            log.follow_snapshot(last).await?;
        }
        let ran = !log.is_pristine() && !taken_out(Countermeasure::RestartGuard);
        let guard_until = ran.then(|| now() + deps.settings.restart_guard());
        let digests = Arc::new(Digests::default());
        let (files, storage) = (Arc::clone(&deps.files), deps.storage.clone());
        let store = StateStore::new(key, machine, files, Arc::clone(&digests), storage.clone());
        let (machine, builds, life) = (store.shared(), store.builds(), store.life());
        let looked_at = Arc::clone(&machine);
        let applied = move || looked_at.read().applied;
        let context = NetworkContext::new(
            key.group,
            Arc::clone(&deps.transport),
            Arc::clone(&deps.files),
            Arc::clone(&digests),
            Arc::new(applied),
            log.clone(),
            (deps.lost.clone(), &deps.settings),
        );
        let factory = NetworkFactory::<M> { context: context.clone(), machine: PhantomData };
        let config = deps.settings.openraft(format!("{key} on {node}"))?;
        let raft = Raft::new(key.replica, config, factory, log.clone(), store)
            .await
            .map_err(|fatal| StartError::Recovery(fatal.to_string()))?;
        context.set_metrics(raft.data_metrics());
        if let Some(until) = guard_until {
            context.quorum.begins(until);
        }
        let (known_tx, known) = watch::channel(Known::default());
        let files = Arc::clone(&deps.files);
        let receiver =
            SnapshotReceiver::new((key, life), files, Arc::clone(&machine), log.clone(), storage);
        let inner = Arc::new(Inner {
            key,
            node,
            raft,
            machine,
            log,
            digests,
            freshness: FreshnessTracker::default(),
            receiver,
            context,
            settings: deps.settings,
            known,
            leads_term: AtomicU64::new(0),
            builds,
            room: Room::default(),
            guard_until,
            shortened: AtomicBool::new(false),
            lost: deps.lost,
            metrics: deps.metrics,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let beat: Arc<dyn Beat> = inner.clone();
        deps.heartbeats.join(Arc::downgrade(&beat));
        let replica = Replica { inner };
        replica.spawn_tasks(known_tx);
        Ok(replica)
    }

    fn spawn_tasks(&self, known: watch::Sender<Known>) {
        let inner = &self.inner;
        let (this, cancel) = (Arc::downgrade(inner), inner.cancel.clone());
        inner.tasks.spawn(async move {
            let watch = task::restarted("leader watch", || watch_known(&this, &known));
            cancel.run_until_cancelled(watch).await;
        });
        let (this, guard) = (Arc::downgrade(inner), inner.guard_until);
        let cancel = inner.cancel.clone();
        inner.tasks.spawn(task::guarded("restart guard", async move {
            if let Some(until) = guard {
                cancel.run_until_cancelled(tokio::time::sleep_until(until)).await;
            }
            if let Some(inner) = this.upgrade() {
                Replica { inner }.let_campaign();
            }
        }));
        let cancel = inner.cancel.clone();
        let (raft, log, machine) =
            (inner.raft.clone(), inner.log.clone(), Arc::clone(&inner.machine));
        let (log_bytes, builds) = (inner.settings.snapshot_log_bytes, Arc::clone(&inner.builds));
        inner.tasks.spawn(async move {
            let compact = || {
                let (raft, log, machine) = (raft.clone(), log.clone(), Arc::clone(&machine));
                compactor::run(raft, log, machine, log_bytes, Arc::clone(&builds))
            };
            cancel.run_until_cancelled(task::restarted("compactor", compact)).await;
        });
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

/// The log of a replica as the device has it; it holds at least a mark when this returns.
async fn open_log(
    key: LogKey,
    ran_before: bool,
    deps: &ReplicaDeps,
) -> Result<LogStore, StartError> {
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
    Ok(log)
}

impl<M: StateMachine> Beat for Inner<M> {
    fn leads(&self) -> bool {
        // Without a quorum as well: that is how it gets one again.
        self.leads_term.load(Ordering::Acquire) > 0
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

fn internal(error: impl std::fmt::Display) -> Error {
    Reason::Internal { detail: error.to_string() }.into()
}
