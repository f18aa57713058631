//! What the controller asks of the host: run these replicas, tell who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::host::{Host, disk_failed};
use crate::controller::balance::Leadership;
use crate::controller::{ControllerHost, HostError, ReplicaHost};
use crate::core::reconcile::StartReplica;
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::replica::{Replica, StartError};
use crate::types::clock::Instant;
use crate::types::{Error, GroupId, LogKey, NodeId, Reason, ReplicaId};

/// A follower that lacks no more entries than this may be handed the leadership.
const CAUGHT_UP_ENTRIES_MAX: u64 = 64;

impl ReplicaHost for Host {
    fn start_replica(&self, start: StartReplica) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move { self.start(&start).await })
    }

    fn stop_replica(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(self.stop(key))
    }

    fn set_aside(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(Host::set_aside(self, key))
    }

    fn may_start(&self) -> bool {
        !self.durable() || self.storage.health.stall().is_none()
    }

    fn present(&self) -> BoxFuture<'_, Result<BTreeSet<LogKey>, HostError>> {
        Box::pin(Host::present(self))
    }

    fn found_lost(&self) -> BTreeSet<LogKey> {
        let list = self.shortened.subscribe();
        let keys = list.borrow().keys().copied().collect::<Vec<_>>();
        keys.into_iter().filter(|key| key.group != GroupId::CONTROLLER).collect()
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

/// The host as the controller sees it.
pub(super) struct ControlHost(pub(super) Arc<Host>);

impl ControllerHost for ControlHost {
    fn open(
        &self,
        replica: ReplicaId,
    ) -> BoxFuture<'static, Result<Replica<ClusterStateMachine>, Error>> {
        let host = Arc::clone(&self.0);
        Box::pin(async move { host.open_controller(replica).await })
    }

    fn over(&self) -> BoxFuture<'static, ()> {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            let storage = host.control_storage.lock().clone();
            let failed = async {
                match storage {
                    Some(storage) => storage.over().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = failed => {}
                () = host.controller_shortened() => {}
            }
            // From here on it is shut down: no frame finds it, and no status shows it.
            *host.controller.lock() = None;
        })
    }
}

impl Host {
    async fn open_controller(
        &self,
        replica: ReplicaId,
    ) -> Result<Replica<ClusterStateMachine>, Error> {
        let mut health = self.storage.health.watch();
        // Cannot fail: the host keeps the sender alive.
        let _still_open = health.wait_for(|health| health.stall.is_none()).await.is_ok();
        let key = LogKey { group: GroupId::CONTROLLER, replica };
        if self.is_shortened(key) {
            // It never runs again under this id; the node follows the tables of its peers.
            return std::future::pending().await;
        }
        let deps = self.deps(Some(&self.storage.control_wal), &self.control_files)?;
        let storage = deps.storage.clone();
        *self.control_storage.lock() = Some(storage.clone());
        // The same guard as for shards: a founder whose log is gone must not vote (INV-2).
        let ran = self.ran_before(key).await;
        let machine = ClusterStateMachine::default();
        let replica = Replica::start(key, self.node, machine, ran, deps).await;
        let replica = replica.map_err(|error| match error {
            StartError::LogLost(_) => Reason::Internal { detail: error.to_string() }.into(),
            error if storage.is_over() => disk_failed(&error),
            error => Error::from(Reason::Internal { detail: error.to_string() }),
        })?;
        if let Err(error) = self.remember_started(key, &storage).await {
            replica.shutdown().await;
            return Err(error);
        }
        *self.controller.lock() = Some(replica.clone());
        Ok(replica)
    }
}
