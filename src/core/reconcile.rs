//! diff: what this node should do so that it runs what the routing table places on it. Pure.

use std::collections::BTreeSet;

use super::table::{ReplicaPlacement, RoutingTable};
use crate::types::{Generation, GroupId, LogKey, NodeId, ShardId};

/// Everything needed to start one replica of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartReplica {
    /// Group and replica.
    pub key: LogKey,
    /// The shard served.
    pub shard: ShardId,
    /// Generation of the group.
    pub generation: Generation,
    /// All replicas, in order of preference for leadership.
    pub members: Vec<ReplicaPlacement>,
    /// Logical bytes the group holds when it is created.
    pub bytes_max: u64,
    /// Seed of the group's key hash when it is created.
    pub hash_seed: u64,
    /// True for the replica that makes the members known to the group: the one with the lowest id
    /// whose log is not lost. Making the same members known twice is safe.
    pub initializes: bool,
}

/// One step towards the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The replica is placed here and does not run.
    Start(StartReplica),
    /// The replica runs and is not placed here.
    Stop(LogKey),
}

/// What `node`, whose logs lie in `store_id`, should do. Stops come first, so that a group's new
/// replica never runs beside the old one.
///
/// A node with another store than the registered one has none of the logs the table speaks of: it
/// runs nothing (a blank restart loses acknowledged writes).
pub fn diff(
    table: &RoutingTable,
    node: NodeId,
    store_id: u128,
    running: &BTreeSet<LogKey>,
) -> Vec<Action> {
    let wanted = wanted(table, node, store_id);
    let stops = running
        .iter()
        .filter(|key| !wanted.iter().any(|start| start.key == **key))
        .map(|key| Action::Stop(*key));
    let starts = wanted.iter().filter(|start| !running.contains(&start.key)).cloned();
    stops.chain(starts.map(Action::Start)).collect()
}

/// Replicas of shards among `present`, which are on the disk of `node` in `store_id`, that the table
/// no longer places there. Their ids are never given again, and they are served no more.
///
/// What they left is kept (set aside), not deleted: that a table does not name a replica does not say
/// that its group can do without it. Only a record that its removal from the group was committed says
/// that; the table carries none yet. Those with such a record will be told apart here.
///
/// A replica that is lost but still placed here stays: the cluster has not replaced it yet. A table
/// without shards, or one that knows the node by another store, says nothing.
pub fn abandoned(
    table: &RoutingTable,
    node: NodeId,
    store_id: u128,
    present: &BTreeSet<LogKey>,
) -> Vec<LogKey> {
    if table.shards.is_empty() || table.nodes.get(&node).is_none_or(|n| n.store_id != store_id) {
        return Vec::new();
    }
    let placed = |key: &LogKey| {
        let placement = table.placement(key.group);
        let mut here = placement.iter().flat_map(|p| &p.replicas).filter(|r| r.node == node);
        here.any(|replica| replica.replica == key.replica)
    };
    let shards = present.iter().filter(|key| key.group != GroupId::CONTROLLER);
    shards.filter(|key| !placed(key)).copied().collect()
}

/// Replicas the table places on `node`, by shard.
pub fn wanted(table: &RoutingTable, node: NodeId, store_id: u128) -> Vec<StartReplica> {
    if table.nodes.get(&node).is_none_or(|info| info.store_id != store_id) {
        return Vec::new();
    }
    let mut wanted = Vec::new();
    for (shard, placement) in &table.shards {
        let alive = placement.replicas.iter().map(|replica| replica.replica);
        let initializer = alive.filter(|replica| !table.lost.contains(replica)).min();
        for here in placement.replicas.iter().filter(|replica| replica.node == node) {
            if table.lost.contains(&here.replica) {
                continue;
            }
            wanted.push(StartReplica {
                key: LogKey { group: GroupId::of_shard(*shard), replica: here.replica },
                shard: *shard,
                generation: placement.generation,
                members: placement.replicas.clone(),
                bytes_max: placement.bytes_max,
                hash_seed: placement.hash_seed,
                initializes: initializer == Some(here.replica),
            });
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::table::{NodeInfo, ShardPlacement};
    use crate::types::ReplicaId;

    const STORE: u128 = 7;

    fn table(places: &[Vec<u64>], lost: &BTreeSet<u64>) -> RoutingTable {
        let info = |store_id| NodeInfo {
            store_id,
            peer_addr: String::new(),
            grpc_addr: String::new(),
            http_addr: String::new(),
            zone: String::new(),
            resp_addr: String::new(),
        };
        let mut next = 100;
        let mut shards = BTreeMap::new();
        for (shard, nodes) in (0u16..).zip(places) {
            let mut replicas = Vec::new();
            for node in nodes {
                next += 1;
                let node = NodeId(*node);
                replicas.push(ReplicaPlacement { replica: ReplicaId(next), node });
            }
            let placement =
                ShardPlacement { generation: Generation(1), bytes_max: 1, hash_seed: 2, replicas };
            shards.insert(ShardId(shard), placement);
        }
        RoutingTable {
            shards,
            nodes: (1..=3).map(|node| (NodeId(node), info(STORE))).collect(),
            lost: lost.iter().map(|replica| ReplicaId(*replica)).collect(),
            ..RoutingTable::default()
        }
    }

    fn perform(running: &mut BTreeSet<LogKey>, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Start(start) => assert!(running.insert(start.key), "started twice"),
                Action::Stop(key) => assert!(running.remove(key), "stopped but not running"),
            }
        }
    }

    proptest! {
        #[test]
        fn performing_the_diff_reaches_the_table(
            places in proptest::collection::vec(
                proptest::sample::subsequence(vec![1u64, 2, 3], 0..=3), 0..8),
            lost in proptest::collection::btree_set(100u64..124, 0..6),
            old in proptest::collection::btree_set((0u32..9, 100u64..124), 0..12),
            killed_after in 0usize..24,
        ) {
            let table = table(&places, &lost);
            let mut running: BTreeSet<LogKey> = old
                .into_iter()
                .map(|(group, replica)| LogKey {
                    group: GroupId(group),
                    replica: ReplicaId(replica),
                })
                .collect();
            // Killed anywhere, the next diff goes on from what runs.
            let actions = diff(&table, NodeId(1), STORE, &running);
            perform(&mut running, &actions[..killed_after.min(actions.len())]);
            let actions = diff(&table, NodeId(1), STORE, &running);
            perform(&mut running, &actions);
            prop_assert!(diff(&table, NodeId(1), STORE, &running).is_empty());
            let wanted: BTreeSet<LogKey> =
                wanted(&table, NodeId(1), STORE).iter().map(|start| start.key).collect();
            prop_assert_eq!(&running, &wanted);
            prop_assert!(running.iter().all(|key| !table.lost.contains(&key.replica)));
            let mine = places.iter().filter(|nodes| nodes.contains(&1)).count();
            let mine_lost = table
                .shards
                .values()
                .flat_map(|shard| &shard.replicas)
                .filter(|r| r.node == NodeId(1) && table.lost.contains(&r.replica))
                .count();
            prop_assert_eq!(running.len(), mine - mine_lost);
        }
    }

    #[test]
    fn another_store_or_an_unknown_node_runs_nothing() {
        let table = table(&[vec![1, 2, 3]], &BTreeSet::new());
        let key = LogKey { group: GroupId(1), replica: ReplicaId(101) };
        let running = BTreeSet::from([key]);
        assert_eq!(diff(&table, NodeId(1), 8, &running), vec![Action::Stop(key)]);
        assert_eq!(diff(&table, NodeId(9), STORE, &BTreeSet::new()), vec![]);
    }

    #[test]
    fn a_replica_that_got_a_fresh_id_stops_before_it_starts() {
        let table = table(&[vec![1, 2, 3]], &BTreeSet::new());
        let old = LogKey { group: GroupId(1), replica: ReplicaId(55) };
        let actions = diff(&table, NodeId(1), STORE, &BTreeSet::from([old]));
        assert_eq!(actions[0], Action::Stop(old));
        let Action::Start(start) = &actions[1] else { panic!("{actions:?}") };
        assert_eq!(start.key.replica, ReplicaId(101));
        assert_eq!(actions.len(), 2);
    }

    #[test]
    fn one_replica_initializes_and_not_a_lost_one() {
        let initializers = |table: &RoutingTable| -> Vec<ReplicaId> {
            (1..=3)
                .flat_map(|node| wanted(table, NodeId(node), STORE))
                .filter(|start| start.initializes)
                .map(|start| start.key.replica)
                .collect()
        };
        let mut table = table(&[vec![1, 2, 3]], &BTreeSet::new());
        assert_eq!(initializers(&table), [ReplicaId(101)]);
        table.lost.insert(ReplicaId(101));
        assert_eq!(initializers(&table), [ReplicaId(102)]);
    }
}
