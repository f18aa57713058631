//! A node without its doors: replicas, controller, service, peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use super::handler::PeerHandler;
use super::host::Host;
use super::host_roles::ControlHost;
use super::{host_lost, leftovers, quorum_guard, storage_guard};
use crate::controller::{Controller, ControllerSettings, Driver, ReplicaHost};
use crate::core::cluster::alarms::{AckAlarms, Alarm};
use crate::core::table::NodeInfo;
use crate::raft::heartbeat::Heartbeats;
use crate::raft::lost_replicas::{LostReplica, LostReplicas, WHAT_SHORTENED};
use crate::raft::settings::RaftSettings;
use crate::raft::shard_group::ShardGroup;
use crate::service::{
    AlarmControl, Options, Parts, Registry, ReplicaStatus, Service, StatusSource,
};
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::shortened_replicas::ShortenedReplicas;
use crate::storage::snapshot_files::SnapshotFiles;
use crate::transport::Handler;
use crate::types::clock::{Instant, now};
use crate::types::metrics::Metrics;
use crate::types::watch;
use crate::types::{Error, NodeId, ReplicaId, RoutingEpoch, task};

/// What an operator chose for a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// This node.
    pub node: NodeId,
    /// Failure domain.
    pub zone: String,
    /// Address of the peer port, as other nodes reach it.
    pub peer_addr: String,
    /// Address of the gRPC port, as clients reach it.
    pub grpc_addr: String,
    /// Address of the HTTP port, as clients reach it.
    pub http_addr: String,
    /// Address of the port for clients of Redis, as they reach it.
    pub resp_addr: String,
    /// Peer addresses of the nodes that form the cluster.
    pub seeds: Vec<String>,
    /// Nodes that form the cluster.
    pub expected_nodes: usize,
    /// Shards of a new cluster.
    pub shards: u16,
    /// Replicas of a shard of a new cluster.
    pub replicas: u16,
    /// Logical bytes of a shard of a new cluster.
    pub shard_bytes_max: u64,
    /// Timing and sizes of the groups.
    pub raft: RaftSettings,
    /// Limits of the service.
    pub service: Options,
}

/// How long each part of a graceful stop may take.
#[derive(Clone, Copy, Debug)]
pub struct StopTimes {
    /// Not ready, but serving, so that load balancers notice.
    pub unready: Duration,
    /// Handing leaderships over; zero if there is nobody to hand them to.
    pub hand_over: Duration,
    /// Finishing requests in flight.
    pub drain: Duration,
}

/// Readiness of a node that is about to stop, before anything else says so.
struct Status {
    host: Arc<Host>,
    controller: Controller,
    leaving: Arc<AtomicBool>,
}

impl StatusSource for Status {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        self.host.replicas()
    }

    fn not_ready_because(&self) -> Vec<String> {
        let mut reasons = self.host.not_ready_because();
        // Forming and registering are in the host's reasons.
        if self.host.is_registered()
            && let Some(what) = self.controller.waiting_for()
        {
            reasons.push(format!("the shards are not placed, waiting for {what}"));
        }
        if self.leaving.load(Ordering::Relaxed) {
            reasons.push("the node is leaving".to_owned());
        }
        reasons
    }

    fn out_of_reach(&self) -> std::collections::BTreeSet<crate::types::GroupId> {
        self.host.out_of_reach()
    }

    fn peers(&self) -> (usize, usize) {
        self.host.peers()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.host.warnings();
        warnings.extend(self.controller.ignored_settings());
        warnings
    }

    fn durability(&self) -> &'static str {
        self.host.durability()
    }

    fn storage_problem(&self) -> Option<String> {
        self.host.storage_problem()
    }
}

/// The controller as the service reaches it.
struct Alarms(Controller);

impl AlarmControl for Alarms {
    fn acknowledge(
        &self,
        which: AckAlarms,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Vec<Alarm>, Error>> {
        let controller = self.0.clone();
        async move { controller.acknowledge(which, deadline).await }.boxed()
    }
}

/// A running node.
pub struct Node {
    service: Service<ShardGroup>,
    controller: Controller,
    host: Arc<Host>,
    handler: Arc<dyn Handler>,
    metrics: Arc<Metrics>,
    leaving: Arc<AtomicBool>,
    /// Ends the driver first.
    driver_cancel: CancellationToken,
    /// Then everything else.
    cancel: CancellationToken,
    driver: JoinHandle<Option<()>>,
    storage_guard: JoinHandle<Option<()>>,
    lost_replicas: JoinHandle<Option<()>>,
    quorum_guard: JoinHandle<Option<()>>,
    controller_task: JoinHandle<Option<()>>,
}

impl Node {
    /// Starts a node. It forms or joins its cluster by itself; `handler` must be served to peers.
    pub async fn start(settings: NodeSettings, environment: Environment) -> anyhow::Result<Self> {
        let (cancel, driver_cancel) = (CancellationToken::new(), CancellationToken::new());
        let metrics = Arc::clone(&environment.metrics);
        let registry = Registry::<ShardGroup>::default();
        let host = Arc::new(make_host(&settings, &environment, &registry, &cancel).await?);
        let controller = Controller::open(
            controller_settings(&settings, &environment, host.lost_before()),
            Arc::clone(&environment.transport),
            Arc::new(ControlHost(Arc::clone(&host))),
            Arc::clone(&environment.founders),
            cancel.clone(),
        )
        .context("cannot read who founded the cluster")?;
        // Set once, right here.
        let _ = host.table.set(controller.table());
        let _ = host.standing.set(controller.standing());
        let leaving = Arc::new(AtomicBool::new(false));
        let epoch_seen = Arc::new(watch::Sender::new(RoutingEpoch(0)));
        let service = Service::new(Parts {
            node: settings.node,
            options: settings.service,
            registry: registry.clone(),
            transport: environment.transport,
            table: controller.table(),
            epoch_seen: Arc::clone(&epoch_seen),
            metrics: Arc::clone(&metrics),
            status: Arc::new(Status {
                host: Arc::clone(&host),
                controller: controller.clone(),
                leaving: Arc::clone(&leaving),
            }),
            alarms: Arc::new(Alarms(controller.clone())),
            session_seed: environment.session_seed,
        });
        let handler = Arc::new(PeerHandler {
            registry,
            service: service.clone(),
            controller: controller.clone(),
            host: Arc::clone(&host),
        });
        let replicas: Arc<dyn ReplicaHost> = host.clone();
        let driver = Driver::new(controller.clone(), replicas);
        let driver = task::spawn("driver", driver.run(driver_cancel.clone()));
        let guard = storage_guard::run(Arc::clone(&host), driver_cancel.clone());
        let storage_guard = task::spawn("storage guard", guard);
        let lost = host_lost::run(Arc::clone(&host), driver_cancel.clone());
        let lost_replicas = task::spawn("lost replicas", lost);
        let guard = quorum_guard::run(Arc::clone(&host), driver_cancel.clone());
        let quorum_guard = task::spawn("quorum guard", guard);
        task::spawn(
            "epochs",
            watch_epochs(epoch_seen.subscribe(), controller.clone(), cancel.clone()),
        );
        let controller_task = task::spawn("controller", controller.clone().run());
        Ok(Node {
            service,
            controller,
            host,
            handler,
            metrics,
            leaving,
            driver_cancel,
            cancel,
            driver,
            storage_guard,
            lost_replicas,
            quorum_guard,
            controller_task,
        })
    }

    /// What the doors call.
    pub fn service(&self) -> &Service<ShardGroup> {
        &self.service
    }

    /// What peers' frames go to.
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.handler)
    }

    /// The node's view of the cluster.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The node's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// First half of a graceful stop: not ready, leaderships handed over, requests finished. The
    /// doors must still be open, and are closed after it.
    pub async fn leave(&self, times: StopTimes) {
        self.leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(times.unready).await;
        self.driver_cancel.cancel();
        if !times.hand_over.is_zero() {
            self.hand_over(times.hand_over).await;
        }
        self.service.admission().stop();
        if tokio::time::timeout(times.drain, self.service.admission().drain()).await.is_err() {
            tracing::warn!("requests still in flight were given up");
        }
    }

    /// Hands every leadership to another node, all at once.
    async fn hand_over(&self, longest: Duration) {
        let deadline = now() + longest;
        let groups = self.service.registry().all();
        join_all(groups.iter().map(|(id, group)| async move {
            if let Err(error) = group.replica().hand_over(deadline).await {
                tracing::warn!(group = %id, %error, "leadership was not handed over");
            }
        }))
        .await;
        if let Some(replica) = self.host.controller_replica()
            && let Err(error) = replica.hand_over(deadline).await
        {
            tracing::warn!(%error, "the controller's leadership was not handed over");
        }
    }

    /// Second half: stops every task and replica, and awaits them.
    pub async fn stop(self) {
        self.driver_cancel.cancel();
        // A panicked task has been logged by its guard.
        let _ = self.driver.await;
        let _ = self.storage_guard.await;
        let _ = self.lost_replicas.await;
        let _ = self.quorum_guard.await;
        self.service.shutdown().await;
        self.host.stop_all(true).await;
        self.cancel.cancel();
        let _ = self.controller_task.await;
    }
}

/// Tells the controller of newer epochs seen in answers, so that it fetches the table.
async fn watch_epochs(
    mut seen: watch::Receiver<RoutingEpoch>,
    controller: Controller,
    cancel: CancellationToken,
) {
    while let Some(Ok(())) = cancel.run_until_cancelled(seen.changed()).await {
        let epoch = *seen.borrow_and_update();
        controller.saw_epoch(controller.node(), epoch);
    }
}

async fn make_host(
    settings: &NodeSettings,
    environment: &Environment,
    registry: &Registry<ShardGroup>,
    cancel: &CancellationToken,
) -> anyhow::Result<Host> {
    let heartbeats =
        Heartbeats::start(Duration::from_millis(settings.raft.heartbeat_ms), cancel.clone());
    let storage = Arc::clone(&environment.storage);
    let (disk, dir) = (Arc::clone(&storage.disk), storage.data_dir.clone());
    let durable = storage.shard_wal.is_some();
    let stocked = Arc::clone(&storage);
    let opened = crate::storage::disk::offload(&storage.disk, move || {
        let shards = SnapshotFiles::new(Arc::clone(&disk), dir.join("snapshots"))?;
        let shards = if durable { shards } else { shards.without_sync() };
        let control = SnapshotFiles::new(Arc::clone(&disk), dir.join("controller-snapshots"))?;
        let noted = ShortenedReplicas::open(Arc::clone(&disk), &dir)?;
        let mut started = ReplicasStarted::open(disk, &dir)?;
        leftovers::take_stock(&stocked, &shards, &mut started)?;
        anyhow::Ok((shards, control, started, noted))
    });
    let (shard_files, control_files, started, noted) = opened.await?;
    let shortened = LostReplicas::default();
    for key in noted.keys() {
        shortened.tell(key, LostReplica { node: settings.node, why: WHAT_SHORTENED.to_owned() });
    }
    Ok(Host {
        node: settings.node,
        transport: Arc::clone(&environment.transport),
        heartbeats,
        settings: settings.raft.clone(),
        metrics: Arc::clone(&environment.metrics),
        storage,
        shard_files: Arc::new(shard_files),
        control_files: Arc::new(control_files),
        clock: Arc::clone(&environment.clock),
        registry: registry.clone(),
        started: Arc::new(parking_lot::Mutex::new(started)),
        controller: parking_lot::Mutex::default(),
        control_storage: parking_lot::Mutex::default(),
        closed: tokio::sync::Mutex::new(false),
        stalled: std::sync::atomic::AtomicUsize::new(0),
        lost: parking_lot::Mutex::default(),
        shortened,
        noted: Arc::new(parking_lot::Mutex::new(noted)),
        away: parking_lot::Mutex::default(),
        table: std::sync::OnceLock::new(),
        standing: std::sync::OnceLock::new(),
    })
}

fn controller_settings(
    settings: &NodeSettings,
    environment: &Environment,
    lost: Vec<ReplicaId>,
) -> ControllerSettings {
    ControllerSettings {
        node: settings.node,
        info: NodeInfo {
            store_id: environment.store_id,
            peer_addr: settings.peer_addr.clone(),
            grpc_addr: settings.grpc_addr.clone(),
            http_addr: settings.http_addr.clone(),
            zone: settings.zone.clone(),
            resp_addr: settings.resp_addr.clone(),
        },
        incarnation: environment.incarnation,
        lost,
        seeds: settings.seeds.clone(),
        expected_nodes: settings.expected_nodes,
        shards: settings.shards,
        replicas: settings.replicas,
        bytes_max: settings.shard_bytes_max,
        seed: environment.seed,
        clock: Arc::clone(&environment.clock),
    }
}
