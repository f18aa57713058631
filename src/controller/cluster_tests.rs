//! Whole clusters form over the simulated network, with real controller replicas, under virtual
//! time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::founders::MemoryFounders;
use super::handle::{Controller, ControllerHost, ControllerSettings, Standing};
use crate::core::cluster::alarms::{AckAlarms, AlarmKind, RaiseAlarm};
use crate::core::cluster::{ClusterCommand, ClusterReply, RegisterNode};
use crate::core::table::{NodeInfo, ReplicaPlacement, RoutingTable};
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::heartbeat::Heartbeats;
use crate::raft::lost_replicas::LostReplicas;
use crate::raft::machine::StateMachine;
use crate::raft::replica::{Replica, ReplicaDeps};
use crate::raft::settings::RaftSettings;
use crate::storage::health::Reporter;
use crate::storage::sim_files::SimFiles;
use crate::storage::sim_wal::{SimDisk, SimWal};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::transport::sim::SimNetwork;
use crate::transport::{FrameKind, Handler, Refusal};
use crate::types::clock::{SimClock, now};
use crate::types::metrics::Metrics;
use crate::types::{Error, GroupId, LogKey, NodeId, Reason, ReplicaId, SLOTS, ShardId, task};

struct NodeHandler(Controller);

impl Handler for NodeHandler {
    fn handle(
        &self,
        from: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        assert_eq!(group, GroupId::CONTROLLER);
        let controller = self.0.clone();
        async move {
            match kind {
                FrameKind::Hello | FrameKind::Control | FrameKind::Table => {
                    controller.handle(from, kind, payload).await
                }
                _ => {
                    let replica = controller.replica();
                    let replica = replica.ok_or_else(|| Refusal("no replica".to_owned()))?;
                    replica.handle(from, kind, payload).await
                }
            }
        }
        .boxed()
    }
}

struct Host {
    node: NodeId,
    deps: ReplicaDeps,
}

impl ControllerHost for Host {
    fn open(
        &self,
        replica: ReplicaId,
    ) -> BoxFuture<'static, Result<Replica<ClusterStateMachine>, Error>> {
        let (node, deps) = (self.node, self.deps.clone());
        let key = LogKey { group: GroupId::CONTROLLER, replica };
        async move {
            Replica::start(key, node, ClusterStateMachine::default(), false, deps)
                .await
                .map_err(|error| Reason::Internal { detail: error.to_string() }.into())
        }
        .boxed()
    }
}

/// What survives a crash of a node.
struct Store {
    store_id: u128,
    disk: Arc<SimDisk>,
    files: Arc<SimFiles>,
    founders: Arc<MemoryFounders>,
    incarnation: u64,
}

impl Store {
    fn new(store_id: u128, seed: u64) -> Self {
        let founders = Arc::new(MemoryFounders::default());
        let (disk, files) = (SimDisk::new(seed), SimFiles::new(seed));
        Store { store_id, disk, files, founders, incarnation: 0 }
    }
}

struct World {
    network: SimNetwork,
    stores: BTreeMap<u64, Store>,
    up: BTreeMap<u64, (Controller, CancellationToken, tokio::task::JoinHandle<Option<()>>)>,
    seeds: Vec<String>,
}

impl World {
    fn new(nodes: u64) -> Self {
        crate::raft::runtime::seed_thread(11);
        let store = |node: u64| (node, Store::new(u128::from(node) * 100, node));
        World {
            network: SimNetwork::new(11),
            stores: (1..=nodes).map(store).collect(),
            up: BTreeMap::new(),
            seeds: (1..=nodes).map(|node| format!("n{node}")).collect(),
        }
    }

    fn start(&mut self, id: u64) {
        let (node, cancel) = (NodeId(id), CancellationToken::new());
        let store = self.stores.get_mut(&id).unwrap();
        store.incarnation += 1;
        let raft = RaftSettings::default();
        let beat = Duration::from_millis(raft.heartbeat_ms);
        let deps = ReplicaDeps {
            transport: self.network.transport(node),
            wal: Some(SimWal::new(Arc::clone(&store.disk), Duration::from_millis(1))),
            files: Arc::new(SnapshotFiles::new(store.files.clone(), "/snapshots").unwrap()),
            storage: Reporter::unwatched(Metrics::new()),
            lost: LostReplicas::default(),
            heartbeats: Heartbeats::start(beat, cancel.clone()),
            settings: raft,
            metrics: Metrics::new(),
        };
        let settings = ControllerSettings {
            node,
            info: NodeInfo {
                store_id: store.store_id,
                peer_addr: format!("n{id}"),
                grpc_addr: format!("n{id}:grpc"),
                http_addr: format!("n{id}:http"),
                zone: format!("z{id}"),
                resp_addr: String::new(),
            },
            incarnation: store.incarnation,
            lost: Vec::new(),
            seeds: self.seeds.clone(),
            expected_nodes: 0,
            shards: 16,
            replicas: 3,
            bytes_max: 1 << 20,
            seed: 5,
            clock: SimClock::new(1_700_000_000_000),
        };
        let transport = self.network.transport(node);
        let host = Arc::new(Host { node, deps });
        let founders = Arc::clone(&store.founders) as Arc<dyn super::FoundersStore>;
        let controller =
            Controller::open(settings, transport, host, founders, cancel.clone()).unwrap();
        self.network.register(node, Arc::new(NodeHandler(controller.clone())));
        let run = task::spawn("controller", controller.clone().run());
        self.up.insert(id, (controller, cancel, run));
    }

    async fn kill(&mut self, id: u64) {
        let (_, cancel, run) = self.up.remove(&id).unwrap();
        self.network.unregister(NodeId(id));
        cancel.cancel();
        assert_eq!(run.await.unwrap(), Some(()), "the controller ends without a panic");
        self.stores[&id].disk.crash();
        self.stores[&id].files.crash();
    }

    fn controller(&self, id: u64) -> &Controller {
        &self.up[&id].0
    }

    async fn stands(&self, id: u64, met: impl Fn(&Standing) -> bool) {
        let mut standing = self.controller(id).standing();
        let found = tokio::time::timeout(Duration::from_secs(60), standing.wait_for(met)).await;
        let found = found.map(|standing| standing.map(|standing| standing.clone()));
        let now = self.controller(id).standing().borrow().clone();
        assert!(matches!(found, Ok(Ok(_))), "node {id} stands at {now:?}");
    }

    async fn registered(&self, id: u64) {
        self.stands(id, |standing| matches!(standing, Standing::Registered { .. })).await;
    }

    async fn placed(&self, id: u64) -> Arc<RoutingTable> {
        let mut tables = self.controller(id).table();
        let placed = tables.wait_for(|table| !table.slots.is_empty());
        let table = tokio::time::timeout(Duration::from_secs(60), placed).await;
        Arc::clone(&table.expect("placed within a minute").unwrap())
    }

    /// Formed, registered, placed, and everybody shows the same table.
    async fn formed(&self) -> Arc<RoutingTable> {
        let mut tables = Vec::new();
        for id in self.up.keys() {
            self.registered(*id).await;
            tables.push(self.placed(*id).await);
        }
        assert!(tables.windows(2).all(|pair| pair[0].shards == pair[1].shards));
        assert_eq!(tables[0].slots.len(), usize::from(SLOTS));
        tables.swap_remove(0)
    }

    async fn end(mut self) {
        for id in self.up.keys().copied().collect::<Vec<_>>() {
            self.kill(id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_three_and_five_nodes_form() {
    for (nodes, replicas) in [(1, 1), (3, 3), (5, 3)] {
        let mut world = World::new(nodes);
        (1..=nodes).for_each(|id| world.start(id));
        let table = world.formed().await;
        assert_eq!(table.nodes.len() as u64, nodes);
        assert!(table.shards.values().all(|shard| shard.replicas.len() == replicas));
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_start_late_and_die_half_way_form_one_cluster() {
    for late in 1..=3u64 {
        let mut world = World::new(3);
        for id in (1..=3).filter(|id| *id != late) {
            world.start(id);
        }
        let waiting = |standing: &Standing| match standing {
            Standing::Forming { waiting_for } => waiting_for.contains(&format!("n{late}")),
            _ => false,
        };
        let early = late % 3 + 1;
        world.stands(early, waiting).await;
        world.start(late);
        // The first founder dies as soon as one node knows the cluster.
        let known = |standing: &Standing| !matches!(standing, Standing::Forming { .. });
        world.stands(1, known).await;
        world.kill(1).await;
        world.start(1);
        world.formed().await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_cluster_keeps_its_table() {
    let mut world = World::new(3);
    (1..=3).for_each(|id| world.start(id));
    let before = world.formed().await;
    for id in 1..=3 {
        world.kill(id).await;
    }
    // A majority is enough.
    world.start(3);
    world.start(2);
    let after = world.formed().await;
    assert_eq!((after.cluster_id, &after.shards), (before.cluster_id, &before.shards));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_founder_only_follows_and_a_newcomer_joins() {
    let mut world = World::new(3);
    (1..=3).for_each(|id| world.start(id));
    let before = world.formed().await;

    world.kill(2).await;
    world.stores.insert(2, Store::new(222, 22));
    world.start(2);
    world.stands(2, |standing| *standing == Standing::StoreLost { known: 200 }).await;
    assert!(world.controller(2).replica().is_none(), "a blank replica must not vote");
    assert_eq!(world.placed(2).await.shards, before.shards);

    world.stores.insert(4, Store::new(400, 4));
    world.start(4);
    world.registered(4).await;
    let table = world.placed(4).await;
    assert_eq!(table.shards, before.shards);
    let mut tables = world.controller(2).table();
    let joined = tables.wait_for(|table| table.nodes.contains_key(&NodeId(4)));
    tokio::time::timeout(Duration::from_secs(60), joined).await.expect("heard of it").unwrap();
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn commands_find_the_next_leader_and_replicas_agree() {
    let mut world = World::new(3);
    (1..=3).for_each(|id| world.start(id));
    world.formed().await;
    let leads = |world: &World, id: u64| world.controller(id).replica().unwrap().is_leader();
    let leader = (1..=3).find(|id| leads(&world, *id)).unwrap();
    world.kill(leader).await;
    let other = leader % 3 + 1;
    let moved = NodeInfo {
        store_id: 700,
        peer_addr: "n7".to_owned(),
        grpc_addr: String::new(),
        http_addr: String::new(),
        zone: String::new(),
        resp_addr: String::new(),
    };
    let command = ClusterCommand::RegisterNode(RegisterNode {
        node: NodeId(7),
        info: moved,
        incarnation: 1,
        lost: Vec::new(),
    });
    let controller = world.controller(other);
    let reply = controller.propose(&command, now() + Duration::from_secs(30)).await.unwrap();
    let ClusterReply::Done { epoch } = reply else { panic!("{reply:?}") };

    world.start(leader);
    let mut digests = Vec::new();
    for id in 1..=3 {
        let mut tables = world.controller(id).table();
        let caught_up = tables.wait_for(|table| table.epoch >= epoch);
        let caught_up = tokio::time::timeout(Duration::from_secs(60), caught_up).await;
        assert!(caught_up.expect("caught up within a minute").unwrap().nodes.len() == 4);
        digests.push(world.controller(id).replica().unwrap().with_machine(|m| m.digest()));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "INV-3: {digests:?}");
    world.end().await;
}

/// Waits until a node shows alarms of these ids.
async fn shows(world: &World, id: u64, ids: &[u64]) -> Arc<RoutingTable> {
    let shown = |table: &RoutingTable| -> Vec<u64> {
        table.alarms.active().iter().map(|alarm| alarm.id).collect()
    };
    let mut tables = world.controller(id).table();
    let met = tables.wait_for(|table| shown(table) == ids);
    let met = tokio::time::timeout(Duration::from_secs(60), met).await;
    let met = met.map(|table| Arc::clone(&table.unwrap()));
    let now = shown(&world.controller(id).table().borrow());
    met.unwrap_or_else(|_| panic!("node {id} shows {now:?}, not {ids:?}"))
}

/// Any node takes an alarm and its end, one without a replica of the controller as well; neither a
/// new leader nor a restart of all forgets it.
#[tokio::test(start_paused = true)]
async fn alarms_are_everywhere_until_they_are_acknowledged() {
    let mut world = World::new(3);
    (1..=3).for_each(|id| world.start(id));
    world.formed().await;
    world.stores.insert(4, Store::new(400, 4));
    world.start(4);
    world.registered(4).await;
    let raise = |shard: u16| RaiseAlarm {
        kind: AlarmKind::ReplicaLost,
        shard: ShardId(shard),
        replica: ReplicaPlacement { replica: ReplicaId(9), node: NodeId(1) },
    };
    let soon = || now() + Duration::from_secs(30);
    for (id, shard) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
        world.controller(id).raise_alarm(raise(shard), soon()).await.unwrap();
    }
    for id in 1..=4 {
        let table = shows(&world, id, &[1, 2, 3, 4]).await;
        let at = table.alarms.active()[0].first_unix_ms;
        assert!(at >= 1_700_000_000_000, "by the clock of the leader: {at}");
    }
    let refused = world.controller(4).raise_alarm(raise(99), soon()).await.unwrap_err();
    assert!(matches!(refused.reason, Reason::InvalidArgument { field: "alarm", .. }), "{refused}");

    let leads = |world: &World, id: u64| world.controller(id).replica().unwrap().is_leader();
    let leader = (1..=3).find(|id| leads(&world, *id)).unwrap();
    world.kill(leader).await;
    let ids = AckAlarms::Ids(vec![1, 3]);
    let left = world.controller(4).acknowledge(ids, soon()).await.unwrap();
    assert_eq!(left.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [2, 4]);
    let never = AckAlarms::Ids(vec![2, 5]);
    let refused = world.controller(4).acknowledge(never, soon()).await.unwrap_err();
    assert!(matches!(refused.reason, Reason::InvalidArgument { field: "ids", .. }), "{refused}");
    world.start(leader);
    for id in 1..=4 {
        shows(&world, id, &[2, 4]).await;
    }

    for id in 1..=4 {
        world.kill(id).await;
    }
    (1..=4).for_each(|id| world.start(id));
    for id in 1..=4 {
        shows(&world, id, &[2, 4]).await;
    }
    assert_eq!(world.controller(2).acknowledge(AckAlarms::All, soon()).await, Ok(Vec::new()));
    for id in 1..=4 {
        shows(&world, id, &[]).await;
    }
    world.end().await;
}
