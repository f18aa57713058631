//! A service that is a map, and fails or waits when told to; and the doors over it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raftcache::core::table::{NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use raftcache::front::pb::cache_service_client::CacheServiceClient;
use raftcache::front::{DoorHandle, FrontLimits, serve_grpc, serve_http};
use raftcache::service::{Execute, NodeStatus, Operation, ReplicaStatus, Request, Response};
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use raftcache::types::{
    Answer, Command, Condition, Error, Expiry, Found, Freshness, Generation, GroupId, NodeId,
    Query, Reason, ReplicaId, Reply, RoutingEpoch, SLOTS, ShardId, Value, Version,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A map with a script.
pub struct Fake {
    entries: Mutex<Entries>,
    /// Errors by key.
    pub failures: Mutex<HashMap<Bytes, Error>>,
    /// Every request that came in.
    pub seen: Mutex<Vec<(Request, Duration)>>,
    pub ready: AtomicBool,
    /// Operations on keys that start with `gate` wait for a permit.
    pub gate: Semaphore,
    pub running: AtomicUsize,
    pub running_peak: AtomicUsize,
    pub table: Mutex<Arc<RoutingTable>>,
}

#[derive(Default)]
struct Entries {
    map: HashMap<Bytes, (Value, Version, Option<u64>)>,
    version: u64,
}

impl Entries {
    fn current(&self, key: &Bytes) -> Option<Version> {
        self.map.get(key).map(|entry| entry.1)
    }

    fn holds(&self, key: &Bytes, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::IfAbsent => self.current(key).is_none(),
            Condition::IfPresent => self.current(key).is_some(),
            Condition::IfVersion(version) => self.current(key) == Some(version),
        }
    }

    fn apply(&mut self, operation: Operation) -> Response {
        match operation {
            Operation::Write(Command::Set(set)) => {
                let current = self.current(&set.key);
                if !self.holds(&set.key, set.condition) {
                    return Response::Written(Reply::ConditionFailed { current });
                }
                self.version += 1;
                let version = Version(self.version);
                let ttl_ms = match set.expiry {
                    Expiry::AfterMs(ms) => Some(ms),
                    Expiry::Keep => self.map.get(&set.key).and_then(|entry| entry.2),
                    Expiry::AtMs(_) | Expiry::Never => None,
                };
                self.map.insert(set.key, (set.value, version, ttl_ms));
                Response::Written(Reply::Set { version })
            }
            Operation::Write(Command::Delete(delete)) => {
                let current = self.current(&delete.key);
                if !self.holds(&delete.key, delete.condition) {
                    return Response::Written(Reply::ConditionFailed { current });
                }
                Response::Written(match self.map.remove(&delete.key) {
                    Some((_, version, _)) => Reply::Deleted { version },
                    None => Reply::NotFound,
                })
            }
            Operation::Read { query: Query::Get { key }, .. } => {
                let found = self.map.get(&key).map(|(value, version, ttl_ms)| Found {
                    value: value.clone(),
                    version: *version,
                    ttl_ms: *ttl_ms,
                });
                let freshness = Freshness { term: 2, index: self.version, ..Freshness::default() };
                Response::Read { answer: Answer::Value(found), freshness }
            }
            other => panic!("no door asks for {other:?} yet"),
        }
    }
}

impl Fake {
    pub fn new() -> Arc<Self> {
        Arc::new(Fake {
            entries: Mutex::default(),
            failures: Mutex::default(),
            seen: Mutex::default(),
            ready: AtomicBool::new(true),
            gate: Semaphore::new(0),
            running: AtomicUsize::new(0),
            running_peak: AtomicUsize::new(0),
            table: Mutex::new(Arc::new(table())),
        })
    }

    pub fn fail(&self, key: &'static str, error: impl Into<Error>) {
        self.failures.lock().insert(Bytes::from_static(key.as_bytes()), error.into());
    }

    async fn run(&self, request: Request) -> Result<Response, Error> {
        let key = request.operation.key().expect("doors ask for one key").clone();
        if let Some(error) = self.failures.lock().get(&key) {
            return Err(error.clone());
        }
        if key.starts_with(b"gate") {
            self.gate.acquire().await.expect("never closed").forget();
        }
        assert!(!key.starts_with(b"panic"), "injected");
        if key.starts_with(b"stuck") {
            tokio::time::sleep_until(request.deadline).await;
            return Err(Reason::DeadlineAfterPropose.into());
        }
        // Keys finish in another order than they came.
        let turns = key.iter().fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add((*b).into()));
        for _ in 0..turns % 7 {
            tokio::task::yield_now().await;
        }
        Ok(self.entries.lock().apply(request.operation))
    }
}

impl Execute for Fake {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        let left = request.deadline.saturating_duration_since(now());
        self.seen.lock().push((request.clone(), left));
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_peak.fetch_max(running, Ordering::SeqCst);
        let result = self.run(request).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn status(&self) -> NodeStatus {
        let ready = self.ready.load(Ordering::SeqCst);
        let replica = ReplicaStatus {
            group: GroupId::of_shard(ShardId(0)),
            replica: ReplicaId(11),
            role: "leader".to_owned(),
            leader: Some(NodeId(1)),
            has_quorum: true,
            quorum_age_ms: Some(120),
            term: 2,
            last_index: 9,
            committed_index: 9,
            applied_index: 7,
            keys: 3,
            bytes: 300,
            bytes_max: 1_000,
            evictions: 5,
            expirations: 6,
            digest: "d1".to_owned(),
            log_bytes: 40,
            snapshot_index: 0,
        };
        NodeStatus {
            node: NodeId(1),
            version: "0.1.0".to_owned(),
            ready,
            not_ready_because: if ready { vec![] } else { vec!["forming".to_owned()] },
            warnings: Vec::new(),
            durability: "memory".to_owned(),
            peers: 2,
            peers_connected: 1,
            replicas: vec![replica],
        }
    }

    fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.table.lock())
    }

    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        (shard == ShardId(0)).then_some(NodeId(1))
    }
}

fn table() -> RoutingTable {
    let info = |port: u16| NodeInfo {
        store_id: 1,
        peer_addr: format!("127.0.0.1:{}", port + 1_000),
        grpc_addr: format!("127.0.0.1:{port}"),
        http_addr: format!("127.0.0.1:{}", port + 1),
        zone: "a".to_owned(),
        resp_addr: String::new(),
    };
    let placement = ShardPlacement {
        generation: Generation(1),
        bytes_max: 1_000,
        hash_seed: 0,
        replicas: vec![ReplicaPlacement { replica: ReplicaId(11), node: NodeId(1) }],
    };
    RoutingTable {
        epoch: RoutingEpoch(5),
        cluster_id: 0xabc,
        slots: vec![ShardId(0); usize::from(SLOTS)],
        shards: [(ShardId(0), placement)].into(),
        nodes: [(NodeId(1), info(8_080)), (NodeId(2), info(8_082))].into(),
        ..RoutingTable::default()
    }
}

/// Both doors on ports of the system's choice.
pub struct Doors {
    pub fake: Arc<Fake>,
    pub metrics: Arc<Metrics>,
    pub grpc_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub cancel: CancellationToken,
    pub grpc: DoorHandle,
    pub http: DoorHandle,
}

impl Doors {
    pub async fn open() -> Self {
        Doors::open_with(FrontLimits::default()).await
    }

    pub async fn open_with(limits: FrontLimits) -> Self {
        let (fake, metrics, cancel) = (Fake::new(), Metrics::new(), CancellationToken::new());
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_addr, http_addr) = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        let service = || Arc::clone(&fake);
        Doors {
            grpc: serve_grpc(grpc, service(), limits, &metrics, cancel.clone()),
            http: serve_http(http, service(), limits, &metrics, cancel.clone()),
            fake,
            metrics,
            grpc_addr,
            http_addr,
            cancel,
        }
    }

    /// Gives the node that leads the address of this gRPC door.
    pub fn lead_here(&self) {
        let mut table = self.fake.table.lock();
        let node = Arc::make_mut(&mut table).nodes.get_mut(&NodeId(1)).unwrap();
        node.grpc_addr = self.grpc_addr.to_string();
    }

    pub async fn client(&self) -> CacheServiceClient<Channel> {
        CacheServiceClient::connect(format!("http://{}", self.grpc_addr)).await.unwrap()
    }

    /// Stops both doors and waits for them.
    pub async fn close(self) {
        self.cancel.cancel();
        self.grpc.await.unwrap().expect("the door did not panic").unwrap();
        self.http.await.unwrap().expect("the door did not panic").unwrap();
    }
}

/// Waits until `condition` holds, for ten seconds at most.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = now() + Duration::from_secs(60);
    while !condition() {
        assert!(now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
