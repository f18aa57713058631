//! Runs the replicas that the routing table places on this node.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::controller::{HostError, Standing};
use crate::core::machine::{MachineConfig, versions_from};
use crate::core::reconcile::StartReplica;
use crate::core::slot_set::SlotSet;
use crate::core::table::RoutingTable;
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::heartbeat::Heartbeats;
use crate::raft::lost_replicas::LostReplicas;
use crate::raft::replica::{Replica, ReplicaDeps, StartError};
use crate::raft::settings::RaftSettings;
use crate::raft::shard_group::ShardGroup;
use crate::service::Registry;
use crate::storage::health::{NodeStorage, Reporter};
use crate::storage::identity;
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::shortened_replicas::ShortenedReplicas;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal_slot::WalSlot;
use crate::transport::SharedTransport;
use crate::types::clock::{Instant, SharedClock};
use crate::types::metrics::Metrics;
use crate::types::watch;
use crate::types::{Error, LogKey, NodeId, Reason, ShardId, Slot};

/// Replicas of one node.
pub struct Host {
    pub(super) node: NodeId,
    pub(super) transport: SharedTransport,
    pub(super) heartbeats: Heartbeats,
    pub(super) settings: RaftSettings,
    pub(super) metrics: Arc<Metrics>,
    /// Logs, which may be closed and opened again.
    pub(super) storage: Arc<NodeStorage>,
    /// Snapshots of the shards' replicas.
    pub(super) shard_files: Arc<SnapshotFiles>,
    /// Snapshots of the controller's replica.
    pub(super) control_files: Arc<SnapshotFiles>,
    pub(super) clock: SharedClock,
    pub(super) registry: Registry<ShardGroup>,
    /// Held while a replica is started: blocking file work, so a plain lock on a blocking thread.
    pub(super) started: Arc<Mutex<ReplicasStarted>>,
    /// The controller's replica, once it runs. Held for moments.
    pub(super) controller: Mutex<Option<Replica<ClusterStateMachine>>>,
    /// Life of the storage in which that replica was opened. Held for moments.
    pub(super) control_storage: Mutex<Option<Reporter>>,
    /// Held while a shard's replica starts or stops, so that who stops all of them misses none. A
    /// tokio lock: held across the start. True once nothing starts any more.
    pub(super) closed: tokio::sync::Mutex<bool>,
    /// Shards' replicas that stand still because of the disk.
    pub(super) stalled: std::sync::atomic::AtomicUsize,
    /// Replicas that must not run any more, with the reason. Held for moments.
    pub(super) lost: Mutex<BTreeMap<LogKey, String>>,
    /// Replicas whose log is shorter than what they acknowledged: those here, and those of peers that
    /// this node leads.
    pub(super) shortened: LostReplicas,
    /// Those of this node, on the disk. As for `started`: a plain lock on a blocking thread.
    pub(super) noted: Arc<Mutex<ShortenedReplicas>>,
    /// Shards without a replica here of whose nodes no majority is connected, and since when. Held for
    /// moments.
    pub(super) away: Mutex<BTreeMap<ShardId, Instant>>,
    /// Set once, when the controller exists.
    pub(super) table: OnceLock<watch::Receiver<Arc<RoutingTable>>>,
    pub(super) standing: OnceLock<watch::Receiver<Standing>>,
}

impl Host {
    pub(super) fn controller_replica(&self) -> Option<Replica<ClusterStateMachine>> {
        self.controller.lock().clone()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.standing.get().is_some_and(|standing| standing.borrow().is_registered())
    }

    fn owned(&self, shard: ShardId) -> SlotSet {
        let mut owned = SlotSet::empty();
        if let Some(table) = self.table.get() {
            let table = Arc::clone(&table.borrow());
            for (slot, owner) in (0u16..).zip(&table.slots) {
                if *owner == shard {
                    owned.insert(Slot(slot));
                }
            }
        }
        owned
    }

    /// What a replica needs in the storage's present life.
    pub(super) fn deps(
        &self,
        slot: Option<&WalSlot>,
        files: &Arc<SnapshotFiles>,
    ) -> Result<ReplicaDeps, Error> {
        let wal = slot.map(WalSlot::get).transpose();
        Ok(ReplicaDeps {
            transport: Arc::clone(&self.transport),
            wal: wal.map_err(|error| disk_failed(&error))?,
            files: Arc::clone(files),
            storage: self.storage.health.reporter(),
            lost: self.shortened.clone(),
            heartbeats: self.heartbeats.clone(),
            settings: self.settings.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// True if the shards' replicas have a log.
    pub(super) fn durable(&self) -> bool {
        self.storage.shard_wal.is_some()
    }

    pub(super) async fn ran_before(&self, key: LogKey) -> bool {
        let started = Arc::clone(&self.started);
        self.shard_files.offload(move || started.lock().contains(key)).await
    }

    pub(super) async fn remember_started(
        &self,
        key: LogKey,
        storage: &Reporter,
    ) -> Result<(), Error> {
        let started = Arc::clone(&self.started);
        let remembered = self.shard_files.offload(move || started.lock().insert(key)).await;
        remembered.map(|_| ()).map_err(|error| {
            storage.failed("files", &error, error_kind(&error));
            disk_failed(&error)
        })
    }

    /// Starts a replica. One whose log is lost is remembered, durably.
    pub(super) async fn start(&self, start: &StartReplica) -> Result<(), HostError> {
        let result = self.try_start(start).await;
        if let Err(HostError::LogLost(key)) = result {
            let started = Arc::clone(&self.started);
            let noted = self.shard_files.offload(move || started.lock().note_lost(&[key])).await;
            noted.map_err(|error| disk_failed(&error))?;
        }
        result
    }

    /// Whether the replica must never run here again.
    async fn ended_before(&self, key: LogKey) -> bool {
        let started = Arc::clone(&self.started);
        let ended = move || {
            let started = started.lock();
            started.is_lost(key) || started.is_set_aside(key)
        };
        self.shard_files.offload(ended).await
    }

    async fn try_start(&self, start: &StartReplica) -> Result<(), HostError> {
        let closed = self.closed.lock().await;
        let key = start.key;
        if *closed {
            return Err(HostError::Failed(Reason::Stopping.into()));
        }
        if self.registry.get(key.group).is_some_and(|group| group.replica().key() == key) {
            return Ok(());
        }
        if self.is_shortened(key) {
            return Err(HostError::LogLost(key));
        }
        let durable = self.durable();
        if durable && let Some(stall) = self.storage.health.stall() {
            // The guard may have stopped the others a moment ago; whatever stalls after this line
            // waits for `closed` and stops this one as well.
            return Err(HostError::Failed(disk_failed(&stall.why)));
        }
        let deps = self.deps(self.storage.shard_wal.as_deref(), &self.shard_files)?;
        let storage = deps.storage.clone();
        let ran_before = self.ran_before(key).await;
        if ran_before && !durable {
            return Err(self.log_lost(key, "its log was in memory".to_owned()));
        }
        if self.ended_before(key).await {
            return Err(self.log_lost(key, "its log was gone, or set aside, before".to_owned()));
        }
        let machine = MachineConfig {
            bytes_max: start.bytes_max,
            hash_seed: start.hash_seed,
            owned: self.owned(start.shard),
            versions_from: versions_from(start.generation),
        };
        let clock = Arc::clone(&self.clock);
        let group = ShardGroup::start(key, self.node, machine, ran_before, deps, clock).await;
        let group = group.map_err(|error| self.start_error(key, &error, &storage))?;
        if !ran_before {
            // A durable log holds a mark by now, so an empty one can be told from a lost one. Nobody
            // has spoken to the replica yet: frames find it only in the registry.
            if let Err(error) = self.remember_started(key, &storage).await {
                group.shutdown().await;
                return Err(error.into());
            }
        }
        self.registry.insert(key.group, group);
        Ok(())
    }

    fn start_error(&self, key: LogKey, error: &StartError, storage: &Reporter) -> HostError {
        match error {
            // Whatever it was, the disk failed meanwhile: what it holds is seen when it is open again.
            other if storage.is_over() => HostError::Failed(disk_failed(other)),
            StartError::LogLost(_) => self.log_lost(key, "its log is gone".to_owned()),
            StartError::Wal(wal) if wal.is_damage() => self.log_lost(key, wal.to_string()),
            // Log or snapshot were not readable as written: for this life it is as good as lost. The
            // cluster is not told: another life may read them.
            StartError::Recovery(why) => {
                self.lost.lock().insert(key, why.clone());
                HostError::Unreadable(key)
            }
            other => HostError::Failed(Reason::Internal { detail: other.to_string() }.into()),
        }
    }

    fn log_lost(&self, key: LogKey, why: String) -> HostError {
        self.lost.lock().insert(key, why);
        HostError::LogLost(key)
    }

    pub(super) async fn stop(&self, key: LogKey) -> Result<(), HostError> {
        let _alone = self.closed.lock().await;
        if self.registry.get(key.group).is_some_and(|group| group.replica().key() == key)
            && let Some(group) = self.registry.remove(key.group)
        {
            group.shutdown().await;
        }
        Ok(())
    }

    /// Stops every shard's replica. With `for_good`, none starts any more.
    pub(super) async fn stop_all(&self, for_good: bool) -> usize {
        let mut closed = self.closed.lock().await;
        *closed |= for_good;
        let groups = self.registry.all();
        for (id, _) in groups.iter().filter(|_| !for_good) {
            self.registry.remove(*id);
        }
        join_all(groups.iter().map(|(_, group)| group.shutdown())).await;
        groups.len()
    }
}

/// A failure of the disk before anything was proposed.
pub(super) fn disk_failed(error: &(impl std::fmt::Display + ?Sized)) -> Error {
    Reason::StorageFailed { detail: error.to_string() }.into()
}

fn error_kind(error: &identity::Error) -> std::io::ErrorKind {
    match error {
        identity::Error::Io(error) => error.kind(),
        identity::Error::InUse(_)
        | identity::Error::Damaged { .. }
        | identity::Error::OtherNode { .. }
        | identity::Error::Format { .. } => std::io::ErrorKind::InvalidData,
    }
}
