//! A node that holds no replica of the controller, against scripted peers under virtual time.

use std::collections::BTreeMap;

use futures_util::FutureExt;

use super::*;
use crate::controller::founders::{Founders, MemoryFounders};
use crate::controller::messages::{Hello, TableAnswer, TableRequest};
use crate::core::table::Formed;
use crate::types::task;

/// What a scripted peer does with a frame; `None` keeps silent until the deadline.
type Script =
    Box<dyn Fn(NodeId, FrameKind, Bytes) -> Option<Result<Bytes, transport::Error>> + Send + Sync>;

/// Peers at the addresses "1", "2", ... answer as the script says.
pub(in crate::controller) struct Peers {
    script: Script,
    calls: Mutex<Vec<(NodeId, FrameKind)>>,
    addresses: Mutex<BTreeMap<NodeId, String>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    pub(in crate::controller) fn new(
        script: impl Fn(NodeId, FrameKind, Bytes) -> Option<Result<Bytes, transport::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        let script = Box::new(script);
        Arc::new(Peers { script, calls: Mutex::default(), addresses: Mutex::default() })
    }

    fn called(&self, kind: FrameKind) -> Vec<NodeId> {
        let calls = self.calls.lock();
        calls.iter().filter(|(_, other)| *other == kind).map(|(node, _)| *node).collect()
    }
}

impl transport::Transport for Peers {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        assert_eq!(group, GroupId::CONTROLLER);
        self.calls.lock().push((to, kind));
        match (self.script)(to, kind, payload) {
            Some(answer) => std::future::ready(answer).boxed(),
            None => async move {
                tokio::time::sleep_until(deadline).await;
                Err(transport::Error::NoAnswer { peer: to, detail: "deadline".to_owned() })
            }
            .boxed(),
        }
    }

    fn is_connected(&self, _peer: NodeId) -> bool {
        true
    }

    fn set_address(&self, peer: NodeId, address: &str) {
        self.addresses.lock().insert(peer, address.to_owned());
    }

    fn call_address(
        &self,
        address: &str,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        let peer = NodeId(address.parse().unwrap());
        self.call(peer, GroupId::CONTROLLER, kind, payload, deadline)
    }
}

/// These nodes hold no replica.
struct NoHost;

impl ControllerHost for NoHost {
    fn open(
        &self,
        replica: ReplicaId,
    ) -> BoxFuture<'static, Result<Replica<ClusterStateMachine>, Error>> {
        panic!("{replica} must not run here")
    }
}

fn info(node: u64) -> NodeInfo {
    NodeInfo {
        store_id: u128::from(node) * 100,
        peer_addr: node.to_string(),
        grpc_addr: String::new(),
        http_addr: String::new(),
        zone: String::new(),
        resp_addr: String::new(),
    }
}

fn founders() -> Founders {
    let founder = |node: u64| Founder { node: NodeId(node), store_id: u128::from(node) * 100 };
    Founders::of((1..=3).map(founder).collect()).unwrap()
}

fn settings(node: u64) -> ControllerSettings {
    ControllerSettings {
        node: NodeId(node),
        info: info(node),
        incarnation: 1,
        lost: Vec::new(),
        seeds: vec!["1".to_owned(), "2".to_owned(), "3".to_owned()],
        expected_nodes: 0,
        shards: 4,
        replicas: 3,
        bytes_max: 1 << 20,
        seed: 1,
        clock: crate::types::clock::SimClock::new(0),
    }
}

/// Node 9, which founded nothing, knowing the founders or not.
pub(in crate::controller) fn controller(peers: Arc<Peers>, settled: bool) -> Controller {
    let store = MemoryFounders::default();
    if settled {
        store.save(&founders()).unwrap();
    }
    let host = Arc::new(NoHost);
    Controller::open(settings(9), peers, host, Arc::new(store), CancellationToken::new()).unwrap()
}

fn table(epoch: u64) -> RoutingTable {
    RoutingTable {
        epoch: RoutingEpoch(epoch),
        cluster_id: founders().cluster_id(),
        controller: founders().members().iter().map(Founder::placement).collect(),
        nodes: (1..=3).map(|node| (NodeId(node), info(node))).collect(),
        ..RoutingTable::default()
    }
}

fn command() -> ClusterCommand {
    ClusterCommand::RegisterNode(crate::core::cluster::RegisterNode {
        node: NodeId(9),
        info: info(9),
        incarnation: 1,
        lost: Vec::new(),
    })
}

fn reply(reply: &ClusterReply) -> Option<Result<Bytes, transport::Error>> {
    Some(Ok(encode(&ControlAnswer::Reply(cluster_record::encode_reply(reply)))))
}

fn not_leader_answer(leader: Option<u64>) -> Option<Result<Bytes, transport::Error>> {
    Some(Ok(encode(&ControlAnswer::NotLeader(leader.map(NodeId)))))
}

const DONE: ClusterReply = ClusterReply::Done { epoch: RoutingEpoch(7) };

#[tokio::test(start_paused = true)]
async fn a_proposal_follows_hints_to_the_leader() {
    let peers = Peers::new(|to, _, _| match to.0 {
        3 => reply(&DONE),
        2 => not_leader_answer(Some(3)),
        _ => not_leader_answer(Some(2)),
    });
    let controller = controller(Arc::clone(&peers), true);
    let start = now();
    let answer = controller.propose(&command(), start + ATTEMPT).await;
    assert_eq!(answer, Ok(DONE));
    assert_eq!(peers.called(FrameKind::Control), [NodeId(1), NodeId(2), NodeId(3)]);
    assert_eq!(now(), start, "hints are followed at once");
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_hints_does_not_spin() {
    let peers = Peers::new(|to, _, _| not_leader_answer(Some(to.0 % 3 + 1)));
    let controller = controller(Arc::clone(&peers), true);
    let error = controller.propose(&command(), now() + ATTEMPT).await.unwrap_err();
    assert_eq!(error.reason, Reason::DeadlineBeforePropose);
    let calls = peers.called(FrameKind::Control).len();
    assert!((10..100).contains(&calls), "{calls} calls in two seconds");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_applied_is_unknown_and_what_cannot_is_rejected() {
    let unreachable = Peers::new(|peer, _, _| {
        Some(Err(transport::Error::Unreachable { peer, detail: String::new() }))
    });
    let deadline = now() + Duration::from_secs(5);
    let error = controller(unreachable, true).propose(&command(), deadline).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Rejected);
    assert!(now() >= deadline);

    let one_silent = Peers::new(|peer, _, _| match peer.0 {
        1 => None,
        _ => Some(Err(transport::Error::Refused { peer, detail: String::new() })),
    });
    let deadline = now() + Duration::from_secs(5);
    let error = controller(one_silent, true).propose(&command(), deadline).await.unwrap_err();
    assert_eq!(error.reason, Reason::DeadlineAfterPropose);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_left_for_the_next() {
    let peers = Peers::new(|to, _, _| if to.0 == 2 { reply(&DONE) } else { None });
    let answer = controller(peers, true).propose(&command(), now() + ATTEMPT * 3).await;
    assert_eq!(answer, Ok(DONE));
}

fn hello_answer(node: u64, settled: bool) -> Option<Result<Bytes, transport::Error>> {
    let founders = settled.then(founders);
    let hello = Hello { node: NodeId(node), info: info(node), founders, epoch: RoutingEpoch(3) };
    Some(Ok(encode(&hello)))
}

/// A formed cluster of which node 3 is down and node 2 leads the controller.
fn formed(to: NodeId, kind: FrameKind, payload: &[u8], register: &ClusterReply) -> Script0 {
    match (to.0, kind) {
        (3, _) => Some(Err(transport::Error::Unreachable { peer: to, detail: String::new() })),
        (node, FrameKind::Hello) => hello_answer(node, true),
        (2, FrameKind::Control) => reply(register),
        (_, FrameKind::Control) => not_leader_answer(Some(2)),
        (_, FrameKind::Table) => {
            let request: TableRequest = decode(payload, "table").unwrap();
            let newer = (request.epoch < RoutingEpoch(8)).then(|| table(8));
            newer.map(|table| Ok(TableAnswer { newer: Some(table) }.encode()))
        }
        _ => panic!("{kind:?}"),
    }
}

type Script0 = Option<Result<Bytes, transport::Error>>;

#[tokio::test(start_paused = true)]
async fn a_late_node_joins_registers_and_follows_the_table() {
    let peers = Peers::new(|to, kind, payload| formed(to, kind, &payload, &DONE));
    let controller = controller(Arc::clone(&peers), false);
    let (mut standing, mut tables) = (controller.standing(), controller.table());
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.clone().run());
    let registered = Standing::Registered { epoch: RoutingEpoch(7) };
    standing.wait_for(|standing| *standing == registered).await.unwrap();
    tables.wait_for(|table| table.epoch == RoutingEpoch(8)).await.unwrap();
    assert_eq!(controller.inner.founders.load().unwrap(), Some(founders()));
    let addresses = peers.addresses.lock().clone();
    assert_eq!(addresses.get(&NodeId(3)).map(String::as_str), Some("3"), "from the table");
    cancel.cancel();
    assert_eq!(running.await.unwrap(), Some(()), "no panic, and it ends");
}

/// Every seed but those that keep silent belongs to another cluster.
fn elsewhere(silent: u64) -> Arc<Peers> {
    Peers::new(move |to, kind, _| match kind {
        FrameKind::Hello if to.0 != silent => {
            let founders = Founders::of(vec![Founder { node: NodeId(1), store_id: 4 }]);
            let hello = Hello { node: to, info: info(to.0), founders, epoch: RoutingEpoch(3) };
            Some(Ok(encode(&hello)))
        }
        _ => Some(Err(transport::Error::Unreachable { peer: to, detail: String::new() })),
    })
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_seeds_all_belong_to_another_cluster_is_refused() {
    let controller = controller(elsewhere(9), true);
    let mut standing = controller.standing();
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.clone().run());
    let refused = |standing: &Standing| match standing {
        Standing::Refused { problem } => Some(problem.clone()),
        _ => None,
    };
    let found = standing.wait_for(|standing| refused(standing).is_some());
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    let problem = refused(&found.expect("refused in time").unwrap()).unwrap();
    let other = Founders::of(vec![Founder { node: NodeId(1), store_id: 4 }]).unwrap();
    for named in [founders().cluster_id(), other.cluster_id()] {
        assert!(problem.contains(&format!("{named:032x}")), "{problem}");
    }
    assert!(!problem.contains('\n') && problem.contains("node.data_dir"), "{problem}");
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_of_a_data_directory_is_refused() {
    let superseded = ClusterReply::Superseded { incarnation: 7 };
    let peers = Peers::new(move |to, kind, payload| formed(to, kind, &payload, &superseded));
    let controller = controller(peers, false);
    let mut standing = controller.standing();
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.run());
    let refused = |standing: &Standing| match standing {
        Standing::Refused { problem } => problem.contains("start 7 of node 9"),
        _ => false,
    };
    standing.wait_for(refused).await.unwrap();
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_keeps_silent_leaves_hope_and_the_wait_names_all() {
    let controller = controller(elsewhere(2), true);
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.clone().run());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let waiting_for = controller.waiting_for().expect("it waits");
    assert!(matches!(&*controller.standing().borrow(), Standing::Joining { .. }));
    for named in ["the controller's leader", "\"2\"] do not answer", "seed 1 is n1 of another"] {
        assert!(waiting_for.contains(named), "{named} in {waiting_for}");
    }
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn settings_that_differ_from_those_of_the_cluster_are_named_with_both() {
    let controller = controller(Peers::new(|_, _, _| None), true);
    assert_eq!(controller.ignored_settings(), [""; 0], "nothing is known yet");
    let formed = Formed { nodes_min: 3, shards: 4, replicas: 3, bytes_max: 1 << 20 };
    controller.inner.table.send_replace(Arc::new(RoutingTable { formed, ..table(4) }));
    assert_eq!(controller.ignored_settings(), [""; 0]);
    let formed = Formed { nodes_min: 5, shards: 16, replicas: 5, bytes_max: 1 << 21 };
    controller.inner.table.send_replace(Arc::new(RoutingTable { formed, ..table(5) }));
    let told = controller.ignored_settings();
    let keys =
        ["expected_nodes is 3", "shards is 4", "replicas is 3", "shard_bytes_max is 1048576"];
    assert_eq!(told.len(), keys.len());
    for (text, key) in told.iter().zip(keys) {
        assert!(text.starts_with(&format!("cluster.{key} here and is ignored")), "{text}");
    }
    assert!(told[1].ends_with("the cluster was formed with 16"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_store_only_follows() {
    let conflict = ClusterReply::StoreConflict { known: 5 };
    let peers = Peers::new(move |to, kind, payload| formed(to, kind, &payload, &conflict));
    let controller = controller(peers, false);
    let (mut standing, mut tables) = (controller.standing(), controller.table());
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.run());
    let lost = Standing::StoreLost { known: 5 };
    standing.wait_for(|standing| *standing == lost).await.unwrap();
    tables.wait_for(|table| table.epoch == RoutingEpoch(8)).await.unwrap();
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rumour_of_a_newer_epoch_is_followed_to_its_source() {
    let peers = Peers::new(|to, kind, _| match (to.0, kind) {
        (7, FrameKind::Table) => Some(Ok(TableAnswer { newer: Some(table(20)) }.encode())),
        (_, FrameKind::Hello) => hello_answer(to.0, true),
        // The others keep the request until its deadline.
        _ => None,
    });
    let controller = controller(peers, true);
    let mut tables = controller.table();
    let cancel = controller.inner.cancel.clone();
    let running = task::spawn("controller", controller.clone().run());
    tokio::task::yield_now().await;
    controller.saw_epoch(NodeId(7), RoutingEpoch(20));
    tables.wait_for(|table| table.epoch == RoutingEpoch(20)).await.unwrap();
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_table_of_another_cluster_is_not_taken() {
    let peers = Peers::new(|_, _, _| {
        let newer = Some(RoutingTable { cluster_id: 1, ..table(20) });
        Some(Ok(TableAnswer { newer }.encode()))
    });
    let controller = controller(peers, true);
    assert!(controller.fetch(0).await.is_err());
    assert_eq!(controller.table().borrow().epoch, RoutingEpoch(0));
}

#[tokio::test(start_paused = true)]
async fn a_table_request_waits_for_a_newer_table() {
    let controller = controller(Peers::new(|_, _, _| None), true);
    controller.inner.table.send_replace(Arc::new(table(4)));
    let ask = |epoch| {
        let request = TableRequest { epoch: RoutingEpoch(epoch), wait_ms: 1_000 };
        controller.handle(NodeId(1), FrameKind::Table, encode(&request))
    };
    let answer = |bytes: Bytes| TableAnswer::decode(&bytes).unwrap().newer;
    assert_eq!(answer(ask(3).await.unwrap()), Some(table(4)));

    let start = now();
    assert_eq!(answer(ask(4).await.unwrap()), None);
    assert_eq!(now() - start, Duration::from_secs(1));

    let (bytes, ()) = tokio::join!(ask(4), async {
        tokio::task::yield_now().await;
        controller.inner.table.send_replace(Arc::new(table(5)));
    });
    assert_eq!(answer(bytes.unwrap()), Some(table(5)));
    assert_eq!(now() - start, Duration::from_secs(1), "answered at once");
}

#[tokio::test(start_paused = true)]
async fn hellos_are_checked() {
    let peers = Peers::new(|_, _, _| None);
    let controller = controller(Arc::clone(&peers), true);
    let hello = |node, founders| Hello { node, info: info(2), founders, epoch: RoutingEpoch(0) };
    let say = |hello: Hello| controller.handle(hello.node, FrameKind::Hello, encode(&hello));

    let answer = say(hello(NodeId(2), None)).await.unwrap();
    let answer: Hello = decode(&answer, "hello").unwrap();
    assert_eq!((answer.node, answer.founders), (NodeId(9), Some(founders())));
    assert_eq!(peers.addresses.lock().get(&NodeId(2)).map(String::as_str), Some("2"));

    let mut impostor = hello(NodeId(3), None);
    impostor.info.peer_addr = "evil".to_owned();
    say(impostor).await.unwrap();
    assert_eq!(peers.addresses.lock().get(&NodeId(3)), None, "store 200 is not that of node 3");

    let other = Founders::of(vec![Founder { node: NodeId(2), store_id: 4 }]);
    let mut foreign = hello(NodeId(7), other);
    foreign.info.peer_addr = "7".to_owned();
    let answer: Hello = decode(&say(foreign).await.unwrap(), "hello").unwrap();
    assert_eq!(answer.founders, Some(founders()), "a node of another cluster hears whose this is");
    assert_eq!(peers.addresses.lock().get(&NodeId(7)), None, "and no more is done with it");
    let garbage = Bytes::from_static(&[0xff; 3]);
    assert!(controller.handle(NodeId(2), FrameKind::Hello, garbage).await.is_err());
    let control = encode(&ControlRequest { timeout_ms: 1, command: Bytes::new() });
    let answer = controller.handle(NodeId(2), FrameKind::Control, control).await.unwrap();
    assert_eq!(decode(&answer, "control"), Ok(ControlAnswer::NotLeader(None)));
    assert!(controller.handle(NodeId(2), FrameKind::Vote, Bytes::new()).await.is_err());
}
