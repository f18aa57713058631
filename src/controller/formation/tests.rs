//! Formation of whole clusters: nodes as pure state machines, every order of starts and kills.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::core::table::NodeInfo;
use crate::types::RoutingEpoch;
use crate::types::limits::CONTROLLER_REPLICAS_MAX;

/// A node's data directory: survives a kill, not a wipe.
#[derive(Clone, Debug)]
struct Disk {
    store_id: u128,
    founders: Option<Founders>,
    /// It ran the controller's replica from this disk.
    ran: bool,
}

/// Nodes 1..=n, seeds "1".."n"; a node that is down answers nothing.
struct World {
    disks: BTreeMap<u64, Disk>,
    up: BTreeMap<u64, Formation>,
    seeds: Vec<String>,
    expected: usize,
    next_store: u128,
    /// Every list that was decided by some node.
    decided: Vec<Founders>,
    /// Nodes that ran a replica, by the cluster they ran it for.
    ran: BTreeMap<u128, BTreeSet<u64>>,
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The node dies between deciding or being told, and saving.
    BeforeSave,
    /// The node dies after saving, before its replica runs.
    AfterSave,
}

impl World {
    fn new(nodes: u64) -> Self {
        let disk =
            |node: u64| Disk { store_id: u128::from(node) * 100, founders: None, ran: false };
        World {
            disks: (1..=nodes).map(|node| (node, disk(node))).collect(),
            up: BTreeMap::new(),
            seeds: (1..=nodes).map(|node| node.to_string()).collect(),
            expected: usize::try_from(nodes).unwrap(),
            next_store: 10_000,
            decided: Vec::new(),
            ran: BTreeMap::new(),
            fault: None,
        }
    }

    fn start(&mut self, node: u64) {
        let disk = self.disks[&node].clone();
        let me = Founder { node: NodeId(node), store_id: disk.store_id };
        let formation = Formation::new(me, self.seeds.clone(), self.expected, disk.founders);
        self.up.insert(node, formation);
    }

    fn kill(&mut self, node: u64) {
        self.up.remove(&node);
    }

    fn wipe(&mut self, node: u64) {
        self.kill(node);
        self.next_store += 1;
        let disk = Disk { store_id: self.next_store, founders: None, ran: false };
        self.disks.insert(node, disk);
    }

    fn hello(&self, node: u64) -> Hello {
        let formation = &self.up[&node];
        let info = NodeInfo {
            store_id: self.disks[&node].store_id,
            peer_addr: node.to_string(),
            grpc_addr: String::new(),
            http_addr: String::new(),
            zone: String::new(),
            resp_addr: String::new(),
        };
        let founders = formation.settled().cloned();
        Hello { node: NodeId(node), info, founders, epoch: RoutingEpoch(0) }
    }

    /// One round of `node`, as the shell performs it. True if anything was saved.
    fn round(&mut self, node: u64) -> bool {
        if !self.up.contains_key(&node) {
            return false;
        }
        self.up.get_mut(&node).unwrap().begin_round();
        for (at, seed) in self.up[&node].unanswered() {
            let peer: u64 = seed.parse().unwrap();
            if !self.up.contains_key(&peer) {
                continue;
            }
            let question = self.hello(node);
            self.up.get_mut(&peer).unwrap().called(&question);
            // Saved before it answers.
            if let Verdict::Adopt(founders) = self.up[&peer].verdict() {
                self.save(peer, founders);
            }
            if !self.up.contains_key(&node) {
                return false;
            }
            if self.up.contains_key(&peer) {
                let answer = self.hello(peer);
                self.up.get_mut(&node).unwrap().answered(at, &answer);
            }
        }
        match self.up[&node].verdict() {
            Verdict::Found(founders) => {
                self.decided.push(founders.clone());
                self.save(node, founders);
                true
            }
            Verdict::Adopt(founders) => {
                self.save(node, founders);
                true
            }
            Verdict::Run { .. } => {
                let disk = self.disks.get_mut(&node).unwrap();
                disk.ran = true;
                let cluster = disk.founders.as_ref().unwrap().cluster_id();
                self.ran.entry(cluster).or_default().insert(node);
                false
            }
            _ => false,
        }
    }

    fn save(&mut self, node: u64, founders: Founders) {
        let fault = self.fault.take_if(|(victim, _)| *victim == node).map(|(_, fault)| fault);
        if fault == Some(Fault::BeforeSave) {
            return self.kill(node);
        }
        self.disks.get_mut(&node).unwrap().founders = Some(founders.clone());
        if fault == Some(Fault::AfterSave) {
            return self.kill(node);
        }
        self.up.get_mut(&node).unwrap().settle(founders);
    }

    fn verdict(&self, node: u64) -> Verdict {
        self.up[&node].verdict()
    }

    /// Lets everybody talk until nothing changes.
    fn settle(&mut self) {
        for _ in 0..8 {
            for node in self.disks.keys().copied().collect::<Vec<_>>() {
                self.round(node);
            }
        }
    }

    /// There is at most one cluster, whatever happened.
    fn check_one_cluster(&self) {
        let saved: Vec<&Founders> =
            self.disks.values().filter_map(|disk| disk.founders.as_ref()).collect();
        assert!(saved.windows(2).all(|pair| pair[0] == pair[1]), "two clusters: {saved:?}");
        // A founder wiped before it told anyone may found again; but only one list ever has the
        // majority that acknowledges.
        let majority = self.expected.min(CONTROLLER_REPLICAS_MAX) / 2 + 1;
        let acknowledging = self.ran.values().filter(|nodes| nodes.len() >= majority).count();
        assert!(acknowledging <= 1, "two clusters acknowledge: {:?}", self.ran);
    }
}

fn permutations(items: &[u64]) -> Vec<Vec<u64>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in items.iter().enumerate() {
        let rest: Vec<u64> = [&items[..at], &items[at + 1..]].concat();
        for mut tail in permutations(&rest) {
            tail.insert(0, *first);
            all.push(tail);
        }
    }
    all
}

#[test]
fn every_order_of_starts_forms_one_cluster() {
    for order in permutations(&[1, 2, 3]) {
        let mut world = World::new(3);
        for node in order {
            world.start(node);
            // Everybody who is up talks before the next one starts.
            world.settle();
        }
        world.settle();
        world.check_one_cluster();
        assert_eq!(world.verdict(1), Verdict::Run { initialize: true });
        assert_eq!(world.verdict(2), Verdict::Run { initialize: false });
        assert_eq!(world.verdict(3), Verdict::Run { initialize: false });
        assert_eq!(world.decided.len(), 1, "one node decides, once");
    }
}

#[test]
fn a_node_killed_anywhere_resumes() {
    for order in permutations(&[1, 2, 3]) {
        for killed in 1..=3 {
            for fault in [Fault::BeforeSave, Fault::AfterSave] {
                let mut world = World::new(3);
                for node in &order {
                    world.start(*node);
                }
                world.fault = Some((killed, fault));
                for _ in 0..4 {
                    for node in &order {
                        world.round(*node);
                        world.check_one_cluster();
                    }
                }
                assert!(!world.up.contains_key(&killed), "the fault struck");
                world.start(killed);
                world.settle();
                world.check_one_cluster();
                for node in 1..=3 {
                    let initialize = node == 1;
                    assert_eq!(world.verdict(node), Verdict::Run { initialize }, "{order:?}");
                }
            }
        }
    }
}

#[test]
fn a_restart_of_all_goes_on_alone() {
    let mut world = World::new(3);
    (1..=3).for_each(|node| world.start(node));
    world.settle();
    for node in 1..=3 {
        world.kill(node);
    }
    // No seed answers; what was saved is enough.
    world.start(2);
    assert_eq!(world.verdict(2), Verdict::Run { initialize: false });
}

#[test]
fn a_founder_that_lost_its_disk_runs_nothing() {
    for wiped in 1..=3u64 {
        let mut world = World::new(3);
        (1..=3).for_each(|node| world.start(node));
        world.settle();
        world.wipe(wiped);
        world.start(wiped);
        world.settle();
        world.check_one_cluster();
        let known = u128::from(wiped) * 100;
        assert_eq!(world.verdict(wiped), Verdict::StoreLost { known });
        assert!(!world.disks[&wiped].ran, "a blank replica must not vote");
    }
}

#[test]
fn a_disk_lost_before_the_founding_is_no_loss() {
    let mut world = World::new(3);
    world.start(1);
    world.start(3);
    world.settle();
    world.wipe(3);
    world.start(3);
    world.start(2);
    world.settle();
    world.check_one_cluster();
    assert_eq!(world.verdict(3), Verdict::Run { initialize: false });
}

#[test]
fn one_node_and_five_nodes() {
    let mut world = World::new(1);
    world.start(1);
    world.settle();
    assert_eq!(world.verdict(1), Verdict::Run { initialize: true });
    assert_eq!(world.decided[0].members().len(), 1);

    let mut world = World::new(5);
    for node in [4, 2, 5, 1] {
        world.start(node);
        world.settle();
        assert!(world.decided.is_empty(), "3 has not answered");
    }
    world.start(3);
    world.settle();
    world.check_one_cluster();
    for node in 1..=5 {
        assert_eq!(world.verdict(node), Verdict::Run { initialize: node == 1 });
    }
}

#[test]
fn a_sixth_node_follows() {
    let mut world = World::new(6);
    (1..=6).for_each(|node| world.start(node));
    world.settle();
    world.check_one_cluster();
    assert_eq!(world.verdict(6), Verdict::Follow);
    assert_eq!(world.decided[0].members().len(), 5);
}

#[test]
fn a_late_node_joins_through_any_seed() {
    let mut world = World::new(3);
    (1..=3).for_each(|node| world.start(node));
    world.settle();
    world.kill(1);
    world.kill(3);
    world.disks.insert(7, Disk { store_id: 700, founders: None, ran: false });
    world.start(7);
    world.settle();
    world.check_one_cluster();
    assert_eq!(world.verdict(7), Verdict::Follow);
}

#[test]
fn a_seed_that_never_answers_keeps_everyone_waiting_and_is_named() {
    let mut world = World::new(3);
    world.start(1);
    world.start(2);
    world.settle();
    for node in 1..=2 {
        let missing = Missing::Seeds(vec!["3".to_owned()]);
        assert_eq!(world.verdict(node), Verdict::Wait(missing));
    }
    assert!(world.decided.is_empty());
}

#[test]
fn an_answer_of_an_earlier_round_does_not_count() {
    let mut world = World::new(2);
    world.start(1);
    world.start(2);
    let answer = world.hello(2);
    let one = world.up.get_mut(&1).unwrap();
    one.answered(1, &answer);
    one.begin_round();
    assert!(matches!(one.verdict(), Verdict::Wait(Missing::Seeds(_))));
}

#[test]
fn nodes_beyond_the_seeds_are_waited_for_when_expected() {
    let mut world = World::new(3);
    world.seeds = vec!["1".to_owned()];
    world.start(1);
    world.settle();
    assert_eq!(
        world.verdict(1),
        Verdict::Wait(Missing::Nodes { known: 1, expected: 3 }),
        "the seeds are all here, the others are not"
    );
    world.start(2);
    world.start(3);
    world.settle();
    world.check_one_cluster();
    assert_eq!(world.verdict(3), Verdict::Run { initialize: false });
}

#[test]
fn only_the_lowest_seed_founds_whoever_called() {
    // Seeds 3 and 4; 1 and 2 are in nobody's list. Each of them hears three nodes, and not the
    // same three: were the lowest of those to found, there would be two clusters.
    let mut world = World::new(4);
    world.seeds = vec!["3".to_owned(), "4".to_owned()];
    world.expected = 3;
    for node in 1..=4 {
        world.start(node);
    }
    for stranger in [1, 2] {
        for (at, seed) in [(0, 3), (1, 4)] {
            let answer = world.hello(seed);
            world.up.get_mut(&stranger).unwrap().answered(at, &answer);
        }
        assert_eq!(world.verdict(stranger), Verdict::Wait(Missing::Founder(NodeId(3))));
    }
    world.settle();
    world.check_one_cluster();
}

#[test]
fn two_nodes_with_one_id_both_fail() {
    let mut world = World::new(3);
    world.start(2);
    let twin_of_2 = Founder { node: NodeId(2), store_id: 999 };
    let mut twin = Formation::new(twin_of_2, world.seeds.clone(), 3, None);
    // The twin asks the seed where the real one answers; each sees the other.
    let mut question = world.hello(2);
    question.info.store_id = 999;
    question.info.peer_addr = "elsewhere".to_owned();
    let answer = world.hello(2);
    world.up.get_mut(&2).unwrap().called(&question);
    twin.answered(1, &answer);
    let duplicate =
        |address: &str| Error::DuplicateNode { node: NodeId(2), address: address.to_owned() };
    assert_eq!(world.verdict(2), Verdict::Failed(duplicate("elsewhere")));
    assert_eq!(twin.verdict(), Verdict::Failed(duplicate("2")));
}

#[test]
fn a_twin_cannot_stop_a_settled_node_but_fails_itself() {
    let mut world = World::new(3);
    (1..=3).for_each(|node| world.start(node));
    world.settle();
    let mut question = world.hello(2);
    question.info.store_id = 999;
    question.founders = None;
    let answer = world.hello(2);
    world.up.get_mut(&2).unwrap().called(&question);
    assert_eq!(world.verdict(2), Verdict::Run { initialize: false });
    let me = Founder { node: NodeId(2), store_id: 999 };
    let mut twin = Formation::new(me, world.seeds.clone(), 3, None);
    twin.answered(1, &answer);
    assert!(matches!(twin.verdict(), Verdict::Failed(Error::DuplicateNode { .. })));
}

#[test]
fn a_third_party_does_not_decide_between_twins() {
    let mut world = World::new(2);
    world.start(1);
    world.start(2);
    world.seeds.push("2b".to_owned());
    let mut twin = world.hello(2);
    twin.info.store_id = 999;
    let (self_answer, real) = (world.hello(1), world.hello(2));
    let me = Founder { node: NodeId(1), store_id: 100 };
    let mut one = Formation::new(me, world.seeds.clone(), 2, None);
    one.answered(0, &self_answer);
    one.answered(1, &real);
    one.answered(2, &twin);
    assert_eq!(one.verdict(), Verdict::Wait(Missing::Duplicate(NodeId(2))));
}

#[test]
fn seeds_of_two_clusters_are_an_error() {
    let hello_of = |store_id: u128| {
        let mut world = World::new(1);
        world.disks.get_mut(&1).unwrap().store_id = store_id;
        world.start(1);
        world.settle();
        world.hello(1)
    };
    let me = Founder { node: NodeId(9), store_id: 9 };
    let mut node = Formation::new(me, vec!["a".to_owned(), "b".to_owned()], 3, None);
    node.answered(0, &hello_of(1));
    assert!(matches!(node.verdict(), Verdict::Adopt(_)));
    node.answered(1, &hello_of(2));
    assert!(matches!(node.verdict(), Verdict::Failed(Error::TwoClusters { .. })));
}

#[derive(Clone, Debug)]
enum Event {
    Start(u64),
    Kill(u64),
    Wipe(u64),
    Round(u64),
    Fault(u64, Fault),
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || 1u64..=3;
    prop_oneof![
        4 => node().prop_map(Event::Start),
        1 => node().prop_map(Event::Kill),
        1 => node().prop_map(Event::Wipe),
        8 => node().prop_map(Event::Round),
        1 => node().prop_map(|n| Event::Fault(n, Fault::BeforeSave)),
        1 => node().prop_map(|n| Event::Fault(n, Fault::AfterSave)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Safety under kills and at most one wiped disk, then liveness once all are up.
    #[test]
    fn any_history_makes_at_most_one_cluster(
        events in proptest::collection::vec(any_event(), 0..60),
    ) {
        let mut world = World::new(3);
        let mut wiped = None;
        for event in events {
            match event {
                Event::Start(node) if !world.up.contains_key(&node) => world.start(node),
                Event::Start(_) => {}
                Event::Kill(node) => world.kill(node),
                Event::Wipe(node) => {
                    // With a majority of the disks gone nothing could remember the cluster.
                    if wiped.is_none_or(|before| before == node) {
                        wiped = Some(node);
                        world.wipe(node);
                    }
                }
                Event::Round(node) => {
                    world.round(node);
                }
                Event::Fault(node, fault) => {
                    world.fault = Some((node, fault));
                    world.round(node);
                    world.fault = None;
                }
            }
            let stores: BTreeMap<u64, u128> =
                world.disks.iter().map(|(node, disk)| (*node, disk.store_id)).collect();
            for (node, disk) in world.disks.iter().filter(|(_, disk)| disk.ran) {
                let founders = disk.founders.as_ref().unwrap();
                let mine = founders.get(NodeId(*node)).unwrap();
                prop_assert_eq!(mine.store_id, stores[node], "ran with a store nobody agreed to");
            }
        }
        for node in 1..=3 {
            if !world.up.contains_key(&node) {
                world.start(node);
            }
        }
        world.settle();
        world.check_one_cluster();
        for node in 1..=3 {
            let verdict = world.verdict(node);
            let lost = wiped == Some(node) && matches!(verdict, Verdict::StoreLost { .. });
            prop_assert!(lost || matches!(verdict, Verdict::Run { .. }), "{}: {:?}", node, verdict);
        }
    }
}
