//! Our door before a service of one shard: a real state machine without the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use raftcache::core::machine::{Due, Machine, MachineConfig};
use raftcache::core::slot_set::SlotSet;
use raftcache::core::table::{NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use raftcache::front::resp::options::{Redirect, RespOptions};
use raftcache::front::resp::serve::serve_resp;
use raftcache::front::{DoorHandle, FrontLimits};
use raftcache::service::{
    LocalGroup, Options, Parts, Registry, ReplicaStatus, Service, StatusSource,
};
use raftcache::transport::{self, FrameKind, Transport};
use raftcache::types::clock::{Clock, Instant, SystemClock};
use raftcache::types::metrics::Metrics;
use raftcache::types::watch;
use raftcache::types::{
    Answer, Batch, Consistency, Error, Freshness, Generation, GetOrLease, GroupId, Leased, NodeId,
    Query, ReplicaId, Reply, RoutingEpoch, SLOTS, ShardId, Write,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const NODE: NodeId = NodeId(1);
const SHARD: ShardId = ShardId(0);
const BYTES_MAX: u64 = 256 << 20;

struct State {
    machine: Machine,
    index: u64,
}

/// The one replica of a group that always leads.
#[derive(Clone)]
struct Group(Arc<Mutex<State>>);

impl Group {
    fn new() -> Self {
        let config = MachineConfig {
            bytes_max: BYTES_MAX,
            hash_seed: 7,
            versions_from: 0,
            owned: SlotSet::all(),
        };
        Group(Arc::new(Mutex::new(State { machine: Machine::new(config), index: 0 })))
    }
}

fn now_ms() -> u64 {
    SystemClock.wall_ms()
}

impl State {
    fn apply(&mut self, writes: Vec<Write>) -> Vec<Reply> {
        self.index += 1;
        let batch = Batch { stamp_ms: now_ms(), touches: Vec::new(), writes };
        let mut replies = Vec::new();
        self.machine.apply(self.index, &batch, &mut replies);
        replies
    }
}

impl LocalGroup for Group {
    async fn write(&self, writes: Vec<Write>, _: Instant) -> Result<Vec<Reply>, Error> {
        Ok(self.0.lock().apply(writes))
    }

    async fn read(
        &self,
        queries: Vec<Query>,
        _: Consistency,
        _: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        let state = &mut *self.0.lock();
        let version = state.machine.last_version(state.index);
        let freshness = Freshness { term: 1, index: state.index, age_ms: 0, version };
        loop {
            let read = queries.iter().map(|query| state.machine.read(query, now_ms()));
            match read.collect::<Result<Vec<Answer>, Due>>() {
                Ok(answers) => return Ok((answers, freshness)),
                Err(Due(_)) => drop(state.apply(Vec::new())),
            }
        }
    }

    async fn get_or_lease(&self, _: &GetOrLease, _: Instant) -> Result<Leased, Error> {
        panic!("RESP has no command for it")
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NODE)
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
        unreachable!("there is no other node")
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
        unreachable!("there is no other node")
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
        "memory"
    }
}

fn table() -> RoutingTable {
    let replica = ReplicaPlacement { replica: ReplicaId(1), node: NODE };
    let (generation, hash_seed, replicas) = (Generation(1), 7, vec![replica]);
    let placement = ShardPlacement { generation, bytes_max: BYTES_MAX, hash_seed, replicas };
    RoutingTable {
        epoch: RoutingEpoch(1),
        cluster_id: 1,
        slots: vec![SHARD; usize::from(SLOTS)],
        shards: BTreeMap::from([(SHARD, placement)]),
        nodes: BTreeMap::<NodeId, NodeInfo>::new(),
        ..RoutingTable::default()
    }
}

/// A service with that one shard.
fn service(metrics: &Arc<Metrics>) -> Service<Group> {
    let registry = Registry::default();
    registry.insert(GroupId::of_shard(SHARD), Group::new());
    // The sender may go: the table stays as it is.
    let (_, table) = watch::channel(Arc::new(table()));
    Service::new(Parts {
        node: NODE,
        options: Options::default(),
        registry,
        transport: Arc::new(Nobody),
        table,
        epoch_seen: Arc::new(watch::Sender::new(RoutingEpoch(1))),
        metrics: Arc::clone(metrics),
        status: Arc::new(Nobody),
        alarms: Arc::new(raftcache::service::NoController),
        session_seed: 1 << 64,
    })
}

/// Our door, open until it is dropped.
pub struct Ours {
    pub port: u16,
    cancel: CancellationToken,
    _door: DoorHandle,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Opens it on a free port.
pub async fn serve() -> Ours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
    let service = Arc::new(service(&metrics));
    let options = RespOptions {
        node: NODE,
        redirect: Redirect::Forward,
        readonly_staleness_ms: 1_000,
        debug: false,
    };
    let limits = FrontLimits::default();
    let door = serve_resp(listener, service, limits, options, &metrics, cancel.clone());
    Ours { port, cancel, _door: door }
}
