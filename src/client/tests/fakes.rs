//! Nodes that do as they are told: real doors before one real state machine a shard, without Raft.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use tokio_util::sync::CancellationToken;

use crate::client::{Client, Options};
use crate::core::machine::{Due, Machine, MachineConfig};
use crate::core::slot_set::SlotSet;
use crate::core::table::{NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use crate::front::{DoorHandle, FrontLimits, serve_grpc};
use crate::service::{
    Execute, LocalGroup, NodeStatus, Parts, Registry, ReplicaStatus, Request, Response, Service,
    StatusSource,
};
use crate::transport::{self, FrameKind, Transport};
use crate::types::clock::{Clock as _, Instant, SystemClock, now};
use crate::types::metrics::Metrics;
use crate::types::{
    Answer, Batch, Command, Consistency, Error, Freshness, Generation, GetOrLease, GroupId, Leased,
    NodeId, Query, Reason, ReplicaId, Reply, RequestId, RoutingEpoch, SLOTS, ShardId, Version,
    Write, watch,
};

/// Two, so that a batch can have parts; most tests put every slot into the first.
pub const SHARDS: u16 = 2;

/// An attempt at a node that hangs ends after this; one at a node that answers must not, however busy
/// the machine is.
pub const ATTEMPT: Duration = Duration::from_secs(2);

/// What a node does with an operation, once.
#[derive(Clone, Debug)]
pub enum Act {
    /// Refuses it.
    Refuse(Error),
    /// Does it, and says that it does not know.
    DoAndLose,
    /// Says that it does not know, and has not done it.
    Lose,
    /// Never answers.
    Hang,
    /// Answers this much later.
    Late(Duration),
}

/// What all replicas of a shard show.
struct State {
    machine: Machine,
    index: u64,
    /// Request ids of the writes so far: retries of one are one.
    ids: HashSet<RequestId>,
    /// Reads that may end in a fill, as they came in.
    leases: Vec<GetOrLease>,
    /// The right to fill, while someone has it.
    token: u64,
}

/// A group that always leads.
#[derive(Clone)]
struct Group {
    state: Arc<Mutex<State>>,
    filled: Arc<watch::Sender<()>>,
}

impl Group {
    fn new() -> Group {
        let owned = SlotSet::all();
        let config = MachineConfig { bytes_max: 1 << 24, hash_seed: 7, versions_from: 0, owned };
        let (machine, ids) = (Machine::new(config), HashSet::new());
        let state = State { machine, index: 0, ids, leases: Vec::new(), token: 0 };
        Group { state: Arc::new(Mutex::new(state)), filled: Arc::default() }
    }
}

impl State {
    fn apply(&mut self, mut writes: Vec<Write>) -> Vec<Reply> {
        for write in &mut writes {
            self.ids.extend(write.request_id.map(|once| once.id));
            if let Command::Fill(fill) = &mut write.command {
                fill.since = (fill.token == self.token).then_some(Version(self.index << 10));
                self.token = 0;
            }
        }
        self.index += 1;
        let batch = Batch { stamp_ms: SystemClock.wall_ms(), touches: Vec::new(), writes };
        let mut replies = Vec::new();
        self.machine.apply(self.index, &batch, &mut replies);
        replies
    }

    fn answers(&mut self, queries: &[Query]) -> Vec<Answer> {
        loop {
            let now_ms = SystemClock.wall_ms();
            let read = queries.iter().map(|query| self.machine.read(query, now_ms));
            match read.collect::<Result<Vec<Answer>, Due>>() {
                Ok(answers) => return answers,
                Err(Due(_)) => drop(self.apply(Vec::new())),
            }
        }
    }
}

impl LocalGroup for Group {
    async fn write(&self, writes: Vec<Write>, _: Instant) -> Result<Vec<Reply>, Error> {
        let replies = self.state.lock().apply(writes);
        self.filled.send_replace(());
        Ok(replies)
    }

    async fn read(
        &self,
        queries: Vec<Query>,
        _: Consistency,
        _: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        let mut state = self.state.lock();
        let answers = state.answers(&queries);
        let version = state.machine.last_version(state.index);
        Ok((answers, Freshness { term: 1, index: state.index, age_ms: 0, version }))
    }

    async fn get_or_lease(&self, ask: &GetOrLease, deadline: Instant) -> Result<Leased, Error> {
        let until = deadline.min(now() + Duration::from_millis(ask.wait_ms));
        let mut filled = self.filled.subscribe();
        self.state.lock().leases.push(ask.clone());
        loop {
            {
                let state = &mut *self.state.lock();
                let query = Query::Get { key: ask.key.clone() };
                if let Some(Answer::Value(Some(found))) = state.answers(&[query]).pop() {
                    return Ok(Leased::Hit(found));
                }
                if state.token == 0 {
                    state.token = 77;
                    return Ok(Leased::Fill { token: 77, token_ms: 10_000, found: None });
                }
            }
            tokio::select! { biased;
                changed = filled.changed() => changed.expect("the group lives"),
                () = tokio::time::sleep_until(until) => return Ok(Leased::Busy),
            }
        }
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId(1))
    }

    async fn leader_changed(&self, _: Option<NodeId>) -> Option<NodeId> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Nobody;

impl Transport for Nobody {
    fn call(
        &self,
        _: NodeId,
        _: GroupId,
        _: FrameKind,
        _: Bytes,
        _: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        unreachable!("every group is here")
    }

    fn is_connected(&self, _: NodeId) -> bool {
        false
    }

    fn set_address(&self, _: NodeId, _: &str) {}

    fn call_address(
        &self,
        _: &str,
        _: FrameKind,
        _: Bytes,
        _: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        unreachable!("every group is here")
    }
}

impl StatusSource for Nobody {
    fn replicas(&self) -> Vec<ReplicaStatus> {
        Vec::new()
    }

    fn not_ready_because(&self) -> Vec<String> {
        Vec::new()
    }

    fn durability(&self) -> &'static str {
        ""
    }
}

/// What all nodes share.
pub struct World {
    groups: Vec<Group>,
    service: Service<Group>,
    /// Of shard 0; node 2 leads the other.
    pub leader: AtomicU64,
    table: watch::Sender<Arc<RoutingTable>>,
}

impl World {
    fn new() -> World {
        let groups: Vec<Group> = (0..SHARDS).map(|_| Group::new()).collect();
        let registry = Registry::default();
        for (shard, group) in (0..).map(ShardId).zip(&groups) {
            registry.insert(GroupId::of_shard(shard), group.clone());
        }
        let table = watch::Sender::new(Arc::default());
        let service = Service::new(Parts {
            node: NodeId(1),
            options: crate::service::Options::default(),
            registry,
            transport: Arc::new(Nobody),
            table: table.subscribe(),
            epoch_seen: Arc::default(),
            metrics: Metrics::new(),
            status: Arc::new(Nobody),
            alarms: Arc::new(crate::service::NoController),
            session_seed: 1 << 64,
        });
        World { groups, service, leader: AtomicU64::new(1), table }
    }

    /// Writes of the client so far; however often one came in, it is one.
    pub fn applied(&self) -> usize {
        self.groups.iter().map(|group| group.state.lock().ids.len()).sum()
    }

    /// Entries of both logs, retries as well.
    pub fn entries(&self) -> u64 {
        self.groups.iter().map(|group| group.state.lock().index).sum()
    }

    /// Waits that were asked for, milliseconds.
    pub fn waits(&self) -> Vec<u64> {
        let waits = |group: &Group| {
            group.state.lock().leases.iter().map(|ask| ask.wait_ms).collect::<Vec<u64>>()
        };
        self.groups.iter().flat_map(waits).collect()
    }
}

pub struct FakeNode {
    id: u64,
    world: Arc<World>,
    /// What happens to the next operations, the last first.
    script: Mutex<Vec<Act>>,
    served: AtomicU64,
    /// The table it goes on with, whatever the others know.
    pinned: Mutex<Option<Arc<RoutingTable>>>,
}

impl Execute for FakeNode {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        self.served.fetch_add(1, Ordering::SeqCst);
        let act = self.script.lock().pop();
        let lost = || Error::from(Reason::Lost { detail: "as told".to_owned() });
        let service = &self.world.service;
        match act {
            None => service.execute(request).await,
            Some(Act::Refuse(error)) => Err(error),
            Some(Act::DoAndLose) => {
                service.execute(request).await?;
                Err(lost())
            }
            Some(Act::Lose) => Err(lost()),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Late(after)) => {
                tokio::time::sleep(after).await;
                service.execute(request).await
            }
        }
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: NodeId(self.id),
            version: "test".to_owned(),
            ready: true,
            ..NodeStatus::default()
        }
    }

    fn table(&self) -> Arc<RoutingTable> {
        let pinned = self.pinned.lock().clone();
        pinned.unwrap_or_else(|| Arc::clone(&self.world.table.borrow()))
    }

    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        match shard {
            ShardId(0) => Some(NodeId(self.world.leader.load(Ordering::SeqCst))),
            _ => Some(NodeId(2)),
        }
        .filter(|node| node.0 != 0)
    }
}

/// Three nodes that serve, every slot in one shard, led by node 1.
pub struct Nodes {
    pub world: Arc<World>,
    nodes: Vec<Arc<FakeNode>>,
    pub addrs: Vec<String>,
    stop: Vec<(CancellationToken, Option<DoorHandle>)>,
}

impl Nodes {
    pub async fn start() -> Nodes {
        let world = Arc::new(World::new());
        let mut nodes = Nodes { world, nodes: vec![], addrs: vec![], stop: vec![] };
        for id in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            nodes.addrs.push(listener.local_addr().unwrap().to_string());
            let (world, script) = (Arc::clone(&nodes.world), Mutex::default());
            let (served, pinned) = (AtomicU64::new(0), Mutex::default());
            let node = Arc::new(FakeNode { id, world, script, served, pinned });
            let cancel = CancellationToken::new();
            let (limits, metrics) = (FrontLimits::default(), Metrics::new());
            let door = serve_grpc(listener, Arc::clone(&node), limits, &metrics, cancel.clone());
            nodes.nodes.push(node);
            nodes.stop.push((cancel, Some(door)));
        }
        nodes.publish(1);
        nodes
    }

    pub fn publish(&self, epoch: u64) {
        self.publish_slots(epoch, vec![ShardId(0); usize::from(SLOTS)]);
    }

    /// Even slots belong to shard 0, odd ones to shard 1, which node 2 leads.
    pub fn publish_two_shards(&self, epoch: u64) {
        self.publish_slots(epoch, (0..SLOTS).map(|slot| ShardId(slot % SHARDS)).collect());
    }

    fn publish_slots(&self, epoch: u64, slots: Vec<ShardId>) {
        let info = |addr: &String| NodeInfo {
            store_id: 1,
            peer_addr: String::new(),
            grpc_addr: addr.clone(),
            http_addr: String::new(),
            zone: String::new(),
            resp_addr: String::new(),
        };
        let replica = |node| ReplicaPlacement { replica: ReplicaId(node), node: NodeId(node) };
        let placement = ShardPlacement {
            generation: Generation(1),
            bytes_max: 1_000,
            hash_seed: 0,
            replicas: (1..=3).map(replica).collect(),
        };
        let table = Arc::new(RoutingTable {
            epoch: RoutingEpoch(epoch),
            cluster_id: 7,
            slots,
            shards: (0..SHARDS).map(|shard| (ShardId(shard), placement.clone())).collect(),
            nodes: (1..).map(NodeId).zip(self.addrs.iter().map(info)).collect(),
            ..RoutingTable::default()
        });
        self.world.table.send_replace(table);
    }

    /// The node learns of no table from now on.
    pub fn pin(&self, id: usize) {
        let node = &self.nodes[id - 1];
        let table = node.table();
        *node.pinned.lock() = Some(table);
    }

    /// What happens to the next operations at a node, in order.
    pub fn script(&self, id: usize, mut acts: Vec<Act>) {
        acts.reverse();
        *self.nodes[id - 1].script.lock() = acts;
    }

    pub fn served(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.served.load(Ordering::SeqCst)).collect()
    }

    pub fn options(&self) -> Options {
        Options {
            attempt: ATTEMPT,
            deadline: Duration::from_secs(60),
            // What refreshes the table in a test is what the test is about.
            refresh_every: Duration::from_secs(3_600),
            ..Options::new(self.addrs.clone())
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    /// Stops a node and waits until it is gone.
    pub async fn stop(&mut self, id: usize) {
        let (cancel, door) = &mut self.stop[id - 1];
        cancel.cancel();
        door.take().unwrap().await.unwrap().unwrap().unwrap();
    }
}

pub fn not_leader(leader: Option<u64>) -> Act {
    let group = GroupId::of_shard(ShardId(0));
    Act::Refuse(Reason::NotLeader { group, leader: leader.map(NodeId) }.into())
}

pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + Duration::from_secs(60);
    while !condition() {
        assert!(now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
