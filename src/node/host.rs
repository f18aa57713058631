//! Runs the replicas that the routing table places on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::controller::balance::Leadership;
use crate::controller::{ControllerHost, HostError, ReplicaHost, Standing};
use crate::core::machine::MachineConfig;
use crate::core::reconcile::StartReplica;
use crate::core::slot_set::SlotSet;
use crate::core::table::RoutingTable;
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::machine::StateMachine;
use crate::raft::replica::{Replica, ReplicaDeps, StartError};
use crate::raft::shard_group::ShardGroup;
use crate::service::{Registry, ReplicaStatus, StatusSource};
use crate::storage::replicas_started::ReplicasStarted;
use crate::types::clock::{Instant, SharedClock};
use crate::types::{Error, GroupId, LogKey, NodeId, Reason, ReplicaId, ShardId, Slot};

/// A follower that lacks no more entries than this may be handed the leadership.
const CAUGHT_UP_ENTRIES_MAX: u64 = 64;

/// Replicas of one node.
pub struct Host {
    pub(super) node: NodeId,
    /// For shards: with the shards' log, or none in `memory` durability.
    pub(super) shard_deps: ReplicaDeps,
    /// For the controller: always with a log.
    pub(super) control_deps: ReplicaDeps,
    pub(super) clock: SharedClock,
    pub(super) registry: Registry<ShardGroup>,
    /// Held while a replica is started: blocking file work, so a plain lock on a blocking thread.
    pub(super) started: Arc<Mutex<ReplicasStarted>>,
    /// The controller's replica, once it runs. Held for moments.
    pub(super) controller: Mutex<Option<Replica<ClusterStateMachine>>>,
    /// Replicas that must not run any more, with the reason. Held for moments.
    pub(super) lost: Mutex<BTreeMap<LogKey, String>>,
    /// Set once, when the controller exists.
    pub(super) table: OnceLock<watch::Receiver<Arc<RoutingTable>>>,
    pub(super) standing: OnceLock<watch::Receiver<Standing>>,
}

impl Host {
    pub(super) fn controller_replica(&self) -> Option<Replica<ClusterStateMachine>> {
        self.controller.lock().clone()
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

    async fn ran_before(&self, key: LogKey) -> bool {
        let started = Arc::clone(&self.started);
        self.shard_deps.files.offload(move || started.lock().contains(key)).await
    }

    async fn remember_started(&self, key: LogKey) -> Result<(), Error> {
        let started = Arc::clone(&self.started);
        let remembered = self.shard_deps.files.offload(move || started.lock().insert(key)).await;
        remembered.map(|_| ()).map_err(|e| Reason::Internal { detail: e.to_string() }.into())
    }

    async fn start(&self, start: &StartReplica) -> Result<(), HostError> {
        let key = start.key;
        if self.registry.get(key.group).is_some_and(|group| group.replica().key() == key) {
            return Ok(());
        }
        let durable = self.shard_deps.wal.is_some();
        let ran_before = self.ran_before(key).await;
        if ran_before && !durable {
            return Err(self.log_lost(key, "its log was in memory".to_owned()));
        }
        if !durable {
            // Nothing of it survives a stop: from here on it has run.
            self.remember_started(key).await?;
        }
        let machine = MachineConfig {
            bytes_max: start.bytes_max,
            hash_seed: start.hash_seed,
            owned: self.owned(start.shard),
        };
        let clock = Arc::clone(&self.clock);
        let deps = self.shard_deps.clone();
        let group = ShardGroup::start(key, self.node, machine, ran_before, deps, clock).await;
        let group = group.map_err(|error| self.start_error(key, &error))?;
        if !ran_before && durable {
            // The log holds a mark by now, so an empty one can be told from a lost one.
            if let Err(error) = self.remember_started(key).await {
                group.shutdown().await;
                return Err(self.log_lost(key, format!("its start cannot be noted: {error}")));
            }
        }
        self.registry.insert(key.group, group);
        Ok(())
    }

    fn start_error(&self, key: LogKey, error: &StartError) -> HostError {
        match error {
            StartError::LogLost(_) => self.log_lost(key, "its log is gone".to_owned()),
            StartError::Wal(wal) if wal.is_damage() => self.log_lost(key, wal.to_string()),
            // Log or snapshot were not readable as written: for this life it is as good as lost.
            StartError::Recovery(why) => self.log_lost(key, why.clone()),
            other => HostError::Failed(Reason::Internal { detail: other.to_string() }.into()),
        }
    }

    fn log_lost(&self, key: LogKey, why: String) -> HostError {
        self.lost.lock().insert(key, why);
        HostError::LogLost(key)
    }

    async fn stop(&self, key: LogKey, forget: bool) -> Result<(), HostError> {
        if self.registry.get(key.group).is_some_and(|group| group.replica().key() == key)
            && let Some(group) = self.registry.remove(key.group)
        {
            group.shutdown().await;
        }
        if !forget {
            return Ok(());
        }
        let (files, wal) = (Arc::clone(&self.shard_deps.files), self.shard_deps.wal.clone());
        let started = Arc::clone(&self.started);
        let inside = Arc::clone(&files);
        let removed = files.offload(move || {
            if let Some(wal) = wal {
                wal.remove(key).map_err(|e| e.to_string())?;
            }
            inside.remove(key).map_err(|e| e.to_string())?;
            started.lock().remove(key).map(|_| ()).map_err(|e| e.to_string())
        });
        let failed = |detail| HostError::Failed(Reason::Internal { detail }.into());
        removed.await.map_err(failed)
    }
}

impl ReplicaHost for Host {
    fn start_replica(&self, start: StartReplica) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move { self.start(&start).await })
    }

    fn stop_replica(&self, key: LogKey, forget: bool) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(self.stop(key, forget))
    }

    fn running(&self) -> BTreeSet<LogKey> {
        self.registry.all().into_iter().map(|(_, group)| group.replica().key()).collect()
    }

    fn initialize(
        &self,
        key: LogKey,
        members: Vec<(ReplicaId, NodeId)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.registry.get(key.group) {
                Some(group) if group.replica().key() == key => {
                    group.replica().initialize(&members).await
                }
                _ => Err(Reason::NotReady.into()),
            }
        })
    }

    fn leading(&self) -> BTreeMap<LogKey, Leadership> {
        let groups = self.registry.all().into_iter().map(|(_, group)| group);
        let leading = groups.filter_map(|group| {
            let replica = group.replica();
            let leader = replica.leader().filter(|_| replica.is_leader())?;
            let behind = replica.voters_behind().into_iter();
            let caught_up = behind.filter(|(_, lag)| *lag <= CAUGHT_UP_ENTRIES_MAX);
            let caught_up = caught_up.map(|(id, _)| id).collect();
            Some((replica.key(), Leadership { term: leader.term, caught_up }))
        });
        leading.collect()
    }

    fn hand_over(
        &self,
        key: LogKey,
        to: ReplicaId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.registry.get(key.group) {
                Some(group) if group.replica().key() == key => {
                    group.replica().hand_over_to(Some(to), deadline).await
                }
                _ => Ok(()),
            }
        })
    }
}

impl ControllerHost for Host {
    fn open(
        &self,
        replica: ReplicaId,
    ) -> BoxFuture<'static, Result<Replica<ClusterStateMachine>, Error>> {
        let key = LogKey { group: GroupId::CONTROLLER, replica };
        let machine = ClusterStateMachine::default();
        let (deps, node, started) =
            (self.control_deps.clone(), self.node, Arc::clone(&self.started));
        let internal = |detail: String| Error::from(Reason::Internal { detail });
        Box::pin(async move {
            // The same guard as for shards: a founder whose log is gone must not vote (INV-2).
            let before = Arc::clone(&started);
            let ran = deps.files.offload(move || before.lock().contains(key)).await;
            let files = Arc::clone(&deps.files);
            let replica = Replica::start(key, node, machine, ran, deps).await;
            let replica = replica.map_err(|e| internal(e.to_string()))?;
            let noted = files.offload(move || started.lock().insert(key)).await;
            noted.map_err(|e| internal(e.to_string()))?;
            Ok(replica)
        })
    }
}

/// The part of a status that every replica has.
fn replica_status<M: StateMachine>(replica: &Replica<M>) -> ReplicaStatus {
    let progress = replica.progress();
    let key = replica.key();
    ReplicaStatus {
        group: key.group,
        replica: key.replica,
        role: progress.role.to_owned(),
        leader: replica.leader().map(|leader| leader.node),
        term: progress.term,
        last_index: progress.last_index,
        committed_index: progress.committed_index,
        applied_index: progress.applied_index,
        keys: 0,
        bytes: 0,
        bytes_max: 0,
        evictions: 0,
        expirations: 0,
        digest: format!("{:016x}", replica.with_machine(StateMachine::digest)),
        log_bytes: progress.log_bytes,
        snapshot_index: progress.snapshot_index,
    }
}

impl StatusSource for Host {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        let controller = self.controller_replica();
        let mut all: Vec<_> = controller.iter().map(replica_status).collect();
        for (_, group) in self.registry.all() {
            let stats = group.replica().with_machine(crate::core::machine::Machine::stats);
            let status = replica_status(group.replica());
            all.push(ReplicaStatus {
                keys: stats.keys,
                bytes: stats.bytes,
                bytes_max: stats.bytes_max,
                evictions: stats.evictions,
                expirations: stats.expirations,
                ..status
            });
        }
        all
    }

    fn not_ready_because(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.standing.get().map(|standing| standing.borrow().clone()) {
            None => reasons.push("the node is starting".to_owned()),
            Some(Standing::Registered { .. }) => {}
            Some(Standing::Forming { waiting_for }) => {
                reasons.push(format!("the cluster is forming, waiting for {waiting_for}"));
            }
            Some(Standing::Joining) => reasons.push("the node is registering".to_owned()),
            Some(Standing::StoreLost { known }) => reasons.push(format!(
                "this node's store is not the one the cluster knows ({known:032x}): its logs are gone"
            )),
            Some(Standing::Failed { problem }) => reasons.push(problem),
        }
        for (key, why) in self.lost.lock().iter() {
            reasons.push(format!("replica {key} is lost: {why}"));
        }
        // Whoever restarts nodes one after another waits for this one to be a full voter again.
        let still = |group: GroupId| format!("{group} restarted just now and does not vote yet");
        if self.controller_replica().is_some_and(|replica| replica.keeps_still()) {
            reasons.push(still(GroupId::CONTROLLER));
        }
        for (group, running) in self.registry.all() {
            if running.replica().keeps_still() {
                reasons.push(still(group));
            }
            if running.replica().leader().is_none() {
                reasons.push(format!("{group} has no leader as far as this node knows"));
            }
        }
        reasons
    }
}
