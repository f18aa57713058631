//! What a node says of itself.

use super::api::{NodeStatus, ReplicaStatus};
use super::registry::Registry;
use crate::core::table::RoutingTable;
use crate::types::{GroupId, NodeId};

/// What the service cannot know by itself.
pub trait StatusSource: Send + Sync + 'static {
    /// Replicas running here, the controller's included.
    fn replicas(&self) -> Vec<ReplicaStatus>;

    /// Further reasons why the node is not ready (start-up guards, a failed disk), empty if none.
    fn not_ready_because(&self) -> Vec<String>;

    /// Shards without a replica on this node that it does not reach.
    fn out_of_reach(&self) -> std::collections::BTreeSet<GroupId> {
        std::collections::BTreeSet::new()
    }

    /// Other nodes of the cluster, and how many of them are connected.
    fn peers(&self) -> (usize, usize) {
        (0, 0)
    }

    /// What an operator should see to although the node serves.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Durability of the shards, as the configuration names it; empty if that is not known.
    fn durability(&self) -> &'static str;

    /// Why replicas that belong here do not run: the disk does not let them.
    fn storage_problem(&self) -> Option<String> {
        None
    }
}

/// Why a node does not serve requests for every shard; empty if it does.
pub(super) fn not_ready_because<G: Clone>(
    node: NodeId,
    table: &RoutingTable,
    registry: &Registry<G>,
    stopping: bool,
    source: &dyn StatusSource,
) -> Vec<String> {
    let mut not_ready_because = source.not_ready_because();
    if stopping {
        not_ready_because.push("the node is stopping".to_owned());
    }
    if table.slots.is_empty() {
        not_ready_because.push("the cluster has not formed yet".to_owned());
    }
    for (shard, placement) in &table.shards {
        let here = placement.replicas.iter().find(|replica| replica.node == node);
        let Some(here) = here.filter(|_| !registry.contains(GroupId::of_shard(*shard))) else {
            continue;
        };
        not_ready_because.push(match table.lost.contains(&here.replica) {
            true => format!("the replica of {shard} is lost: another has to take its place"),
            false => format!("the replica of {shard} does not run yet"),
        });
    }
    not_ready_because
}

/// Puts a node's status together.
pub(super) fn assemble(
    node: NodeId,
    not_ready_because: Vec<String>,
    source: &dyn StatusSource,
) -> NodeStatus {
    let (peers, peers_connected) = source.peers();
    NodeStatus {
        node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: not_ready_because.is_empty(),
        not_ready_because,
        warnings: source.warnings(),
        durability: source.durability().to_owned(),
        peers,
        peers_connected,
        replicas: source.replicas(),
    }
}
