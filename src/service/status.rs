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

/// Puts a node's status together.
pub(super) fn assemble<G: Clone>(
    node: NodeId,
    table: &RoutingTable,
    registry: &Registry<G>,
    stopping: bool,
    source: &dyn StatusSource,
) -> NodeStatus {
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
    NodeStatus {
        node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: not_ready_because.is_empty(),
        not_ready_because,
        warnings: source.warnings(),
        durability: source.durability().to_owned(),
        replicas: source.replicas(),
    }
}
