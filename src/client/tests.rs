//! The client against nodes that do as they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Client, Consistency, Door, GetOptions, Options};
use crate::core::table::{NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use crate::front::{DoorHandle, FrontLimits, serve_grpc};
use crate::service::{Execute, NodeStatus, Operation, Request, Response};
use crate::types::clock::now;
use crate::types::metrics::Metrics;
use crate::types::{
    Answer, Command, Error, Found, Freshness, Generation, GroupId, NodeId, Outcome, Query, Reason,
    ReplicaId, Reply, RequestId, RoutingEpoch, SLOTS, ShardId, Value, Version,
};

/// What a node does with an operation, once.
#[derive(Clone, Debug)]
enum Act {
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

/// What all nodes share.
#[derive(Default)]
struct World {
    values: Mutex<HashMap<Bytes, (Value, u64)>>,
    /// First replies by request id, as shards remember them.
    replies: Mutex<HashMap<RequestId, Reply>>,
    applied: AtomicU64,
    leader: AtomicU64,
    table: Mutex<Arc<RoutingTable>>,
}

struct FakeNode {
    id: u64,
    world: Arc<World>,
    /// What happens to the next operations, the last first.
    script: Mutex<Vec<Act>>,
    served: AtomicU64,
}

impl World {
    fn apply(&self, request: &Request) -> Response {
        match &request.operation {
            Operation::Write(Command::Set(set)) => {
                let id = request.request_id.expect("the client sends one");
                let mut replies = self.replies.lock();
                let reply = replies.entry(id).or_insert_with(|| {
                    let version = self.applied.fetch_add(1, Ordering::SeqCst) + 1;
                    self.values.lock().insert(set.key.clone(), (set.value.clone(), version));
                    Reply::Set { version: Version(version) }
                });
                Response::Written(reply.clone())
            }
            Operation::Read { query: Query::Get { key }, .. } => {
                let found = self.values.lock().get(key).map(|(value, version)| Found {
                    value: value.clone(),
                    version: Version(*version),
                    ttl_ms: None,
                });
                let freshness = Freshness::default();
                Response::Read { answer: Answer::Value(found), freshness }
            }
            other => panic!("the tests do not ask for {other:?}"),
        }
    }
}

impl Execute for FakeNode {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        self.served.fetch_add(1, Ordering::SeqCst);
        let act = self.script.lock().pop();
        let lost = || Error::from(Reason::Lost { detail: "as told".to_owned() });
        match act {
            None => Ok(self.world.apply(&request)),
            Some(Act::Refuse(error)) => Err(error),
            Some(Act::DoAndLose) => {
                self.world.apply(&request);
                Err(lost())
            }
            Some(Act::Lose) => Err(lost()),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Late(after)) => {
                tokio::time::sleep(after).await;
                Ok(self.world.apply(&request))
            }
        }
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: NodeId(self.id),
            version: "test".to_owned(),
            ready: true,
            not_ready_because: Vec::new(),
            warnings: Vec::new(),
            durability: String::new(),
            replicas: Vec::new(),
        }
    }

    fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.world.table.lock())
    }

    fn leader(&self, _: ShardId) -> Option<NodeId> {
        Some(NodeId(self.world.leader.load(Ordering::SeqCst))).filter(|node| node.0 != 0)
    }
}

/// Three nodes that serve, one shard, led by node 1.
struct Nodes {
    world: Arc<World>,
    nodes: Vec<Arc<FakeNode>>,
    addrs: Vec<String>,
    stop: Vec<(CancellationToken, Option<DoorHandle>)>,
}

impl Nodes {
    async fn start() -> Nodes {
        let world = Arc::new(World::default());
        world.leader.store(1, Ordering::SeqCst);
        let mut nodes = Nodes { world, nodes: vec![], addrs: vec![], stop: vec![] };
        for id in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            nodes.addrs.push(listener.local_addr().unwrap().to_string());
            let (world, script) = (Arc::clone(&nodes.world), Mutex::default());
            let node = Arc::new(FakeNode { id, world, script, served: AtomicU64::new(0) });
            let cancel = CancellationToken::new();
            let (limits, metrics) = (FrontLimits::default(), Metrics::new());
            let door = serve_grpc(listener, Arc::clone(&node), limits, &metrics, cancel.clone());
            nodes.nodes.push(node);
            nodes.stop.push((cancel, Some(door)));
        }
        nodes.publish(1);
        nodes
    }

    fn publish(&self, epoch: u64) {
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
        *self.world.table.lock() = Arc::new(RoutingTable {
            epoch: RoutingEpoch(epoch),
            cluster_id: 7,
            slots: vec![ShardId(0); usize::from(SLOTS)],
            shards: [(ShardId(0), placement)].into(),
            nodes: (1..).map(NodeId).zip(self.addrs.iter().map(info)).collect(),
            ..RoutingTable::default()
        });
    }

    /// What happens to the next operations at a node, in order.
    fn script(&self, id: usize, mut acts: Vec<Act>) {
        acts.reverse();
        *self.nodes[id - 1].script.lock() = acts;
    }

    fn served(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.served.load(Ordering::SeqCst)).collect()
    }

    fn options(&self) -> Options {
        Options {
            attempt: Duration::from_millis(300),
            deadline: Duration::from_secs(10),
            // What refreshes the table in a test is what the test is about.
            refresh_every: Duration::from_secs(3_600),
            ..Options::new(self.addrs.clone())
        }
    }

    async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    /// Stops a node and waits until it is gone.
    async fn stop(&mut self, id: usize) {
        let (cancel, door) = &mut self.stop[id - 1];
        cancel.cancel();
        door.take().unwrap().await.unwrap().unwrap().unwrap();
    }
}

fn not_leader(leader: Option<u64>) -> Act {
    let group = GroupId::of_shard(ShardId(0));
    Act::Refuse(Reason::NotLeader { group, leader: leader.map(NodeId) }.into())
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + Duration::from_secs(10);
    while !condition() {
        assert!(now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn operations_go_straight_to_the_leader() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        nodes.world.leader.store(2, Ordering::SeqCst);
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        for i in 0..20 {
            let written = client.set(format!("k{i}"), "v").await.unwrap();
            assert!(written.applied);
        }
        let found = client.get("k3").await.unwrap().unwrap();
        assert_eq!((found.value.as_bytes(), found.version), (&b"v"[..], 4));
        assert_eq!(client.get("absent").await.unwrap(), None);
        assert_eq!(nodes.served(), [0, 22, 0], "{door:?}");
        assert_eq!(client.stats().retries, 0);
    }
}

#[tokio::test]
async fn a_hint_is_followed_and_remembered() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.script(1, vec![not_leader(Some(3))]);
    client.set("k", "v").await.unwrap();
    client.set("k", "w").await.unwrap();
    assert_eq!(nodes.served(), [1, 0, 2], "the second goes there at once");
}

#[tokio::test]
async fn a_retry_is_applied_once_and_gets_the_first_answer() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.script(1, vec![Act::DoAndLose, Act::DoAndLose]);
    let written = client.set("k", "v").await.unwrap();
    assert_eq!((written.applied, written.version), (true, 1));
    assert_eq!(nodes.world.applied.load(Ordering::SeqCst), 1);
    assert_eq!(client.stats().retries, 2);
}

#[tokio::test]
async fn an_outcome_is_unknown_as_soon_as_one_attempt_was() {
    let nodes = Nodes::start().await;
    let options = Options { attempts_max: 2, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let too_large = Reason::TooLarge { bytes: 2, bytes_max: 1 };
    nodes.script(1, vec![Act::DoAndLose, Act::Refuse(too_large.clone().into())]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.outcome, error.attempts), (Outcome::Unknown, 2), "{error}");
    nodes.script(1, vec![Act::Refuse(too_large.into())]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "too_large"));
    assert_eq!(error.field, "value");
    nodes.script(1, vec![Act::Lose, Act::Lose]);
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Rejected, "a read changes nothing: {error}");
}

#[tokio::test]
async fn a_node_that_hangs_costs_one_attempt_and_is_then_left_alone() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let options = Options { breaker_failures: 1, door, ..nodes.options() };
        let client = Client::connect(options).await.unwrap();
        nodes.script(1, vec![Act::Hang]);
        let started = now();
        client.set("k", "v").await.unwrap();
        assert!(now() - started >= Duration::from_millis(300), "the attempt's time");
        assert_eq!(nodes.served()[0], 1);
        client.set("k", "w").await.unwrap();
        assert_eq!(nodes.served()[0], 1, "left alone for a while: {door:?}");
        assert_eq!(nodes.world.applied.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_node_that_is_gone_costs_nothing_but_a_retry() {
    for door in [Door::Pipeline, Door::Unary] {
        let mut nodes = Nodes::start().await;
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        client.set("before", "v").await.unwrap();
        nodes.stop(1).await;
        nodes.world.leader.store(2, Ordering::SeqCst);
        let started = now();
        for i in 0..10 {
            client.set(format!("k{i}"), "v").await.unwrap();
        }
        assert!(now() - started < Duration::from_secs(2), "{:?}", now() - started);
        assert_eq!(nodes.world.applied.load(Ordering::SeqCst), 11, "{door:?}");
        let late = nodes.client().await;
        late.set("late", "v").await.expect("a seed that is gone is passed over");
    }
}

#[tokio::test]
async fn a_newer_epoch_brings_a_newer_table() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    assert_eq!(client.stats().epoch, 1);
    nodes.publish(2);
    nodes.world.leader.store(3, Ordering::SeqCst);
    client.set("k", "v").await.unwrap();
    eventually("the new table", || client.stats().epoch == 2).await;
    client.set("k", "w").await.unwrap();
    assert_eq!(nodes.served(), [1, 0, 1], "and the leader it names");
}

#[tokio::test]
async fn what_a_node_asks_for_is_waited_for() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    let full = Error::from(Reason::ResourceExhausted { what: "x", limit: 1 });
    let after = Duration::from_millis(200);
    nodes.script(1, vec![Act::Refuse(full.retry_after(after))]);
    let started = now();
    client.set("k", "v").await.unwrap();
    assert!(now() - started >= after, "{:?}", now() - started);
    assert_eq!(nodes.served(), [2, 0, 0], "the leader is asked again, nobody else");
}

#[tokio::test]
async fn a_slow_read_is_asked_for_twice_and_a_write_never() {
    let nodes = Nodes::start().await;
    let hedge_after = Some(Duration::from_millis(20));
    let client = Client::connect(Options { hedge_after, ..nodes.options() }).await.unwrap();
    client.set("k", "v").await.unwrap();
    nodes.script(1, vec![Act::Late(Duration::from_millis(250))]);
    let started = now();
    assert!(client.get("k").await.unwrap().is_some());
    assert!(now() - started < Duration::from_millis(200), "the second node was faster");
    assert_eq!(client.stats().hedges, 1);
    nodes.script(1, vec![Act::Late(Duration::from_millis(100))]);
    client.set("k", "w").await.unwrap();
    assert_eq!((client.stats().hedges, nodes.world.applied.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn stale_reads_are_spread_over_the_replicas() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    for _ in 0..30 {
        client.get_with("k", GetOptions { consistency: Consistency::Stale }).await.unwrap();
    }
    assert_eq!(nodes.served(), [10, 10, 10]);
}

#[tokio::test]
async fn the_deadline_holds_and_says_what_was_seen() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await.within(Duration::from_millis(150));
    let group = GroupId::of_shard(ShardId(0));
    nodes.script(1, vec![Act::Refuse(Reason::NoLeader { group }.into()); 1_000]);
    let started = now();
    let error = client.set("k", "v").await.unwrap_err();
    assert!(now() - started < Duration::from_secs(2));
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "no_leader"));
    assert!(error.message.contains("the deadline passed"), "{error}");
    assert!(error.attempts > 2);

    nodes.script(1, vec![Act::Hang]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown, "it may be under way: {error}");
}

#[tokio::test]
async fn more_callers_than_a_connection_takes_wait_for_their_turn() {
    let nodes = Nodes::start().await;
    let options = Options { connections: 1, in_flight_max: 4, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let sets = (0..500).map(|i| client.set(format!("k{i}"), "v"));
    for written in futures_util::future::join_all(sets).await {
        assert!(written.unwrap().applied);
    }
    assert_eq!(nodes.world.applied.load(Ordering::SeqCst), 500);
    assert_eq!(client.stats().retries, 0);
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once() {
    let options = Options::new(["127.0.0.1:1"]);
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "unreachable"));
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
    assert!(Client::connect(Options::new(["not an address"])).await.is_err());
}
