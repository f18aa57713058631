//! The routing table: which shard owns a slot, which replicas serve a shard, where nodes are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cluster::alarms::Alarms;
use crate::types::{Generation, GroupId, NodeId, ReplicaId, RoutingEpoch, SLOTS, ShardId, Slot};

/// What the controller publishes. Cheap to share behind an `Arc`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RoutingTable {
    /// Grows with every change.
    pub epoch: RoutingEpoch,
    /// Name of the cluster, drawn at random when it formed; 0 before.
    pub cluster_id: u128,
    /// Owner of each slot. Invariant: empty before the shards are placed, else `SLOTS` long and
    /// every owner is in `shards`.
    pub slots: Vec<ShardId>,
    /// Shards and their replicas.
    pub shards: BTreeMap<ShardId, ShardPlacement>,
    /// Known nodes.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// Replicas of the controller's own group.
    pub controller: Vec<ReplicaPlacement>,
    /// Replicas of `shards` whose log is gone. They must never run again under their id (see
    /// `ReplicaId`). When a majority of a shard is lost, fresh replicas take the place of all.
    pub lost: BTreeSet<ReplicaId>,
    /// How the cluster was formed.
    pub formed: Formed,
    /// What an operator has not acknowledged yet.
    pub alarms: Alarms,
}

/// Settings that count when a cluster is formed and not later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Formed {
    /// Nodes that had to register before shards were placed.
    pub nodes_min: u16,
    /// Number of shards.
    pub shards: u16,
    /// Replicas of a shard wanted.
    pub replicas: u16,
    /// Logical bytes of a shard.
    pub bytes_max: u64,
}

/// Where a shard lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardPlacement {
    /// Grows when the group had to start again empty (INV-7).
    pub generation: Generation,
    /// Logical bytes the group may hold when it is created; later changed only through its log.
    pub bytes_max: u64,
    /// Seed of the group's key hash, replicated state (xxh3 can be collided on purpose).
    pub hash_seed: u64,
    /// Replicas, in order of preference for leadership.
    pub replicas: Vec<ReplicaPlacement>,
}

/// One replica of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaPlacement {
    /// Raft identity, never used twice.
    pub replica: ReplicaId,
    /// Node it lives on.
    pub node: NodeId,
}

/// What is known of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Random name of the node's data directory: another one is another store, whose logs are gone.
    pub store_id: u128,
    /// Address of the peer port.
    pub peer_addr: String,
    /// Address of the gRPC port, as clients reach it.
    pub grpc_addr: String,
    /// Address of the HTTP port, as clients reach it.
    pub http_addr: String,
    /// Failure domain.
    pub zone: String,
    /// Address of the port for clients of Redis, as they reach it; empty if it is not known.
    /// Younger than the encodings of this record, which go on without it: who encodes a table
    /// appends `RoutingTable::resp_addrs`.
    #[serde(skip)]
    pub resp_addr: String,
}

impl RoutingTable {
    /// Owner of `slot`; `None` before the shards are placed.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.slots.get(usize::from(slot.0 % SLOTS)).copied()
    }

    /// Whether owners are complete and known. The machine keeps it so; what came from the network
    /// or the disk is checked with it.
    pub fn is_consistent(&self) -> bool {
        let placed = self.slots.is_empty() || self.slots.len() == usize::from(SLOTS);
        placed
            && self.alarms.is_consistent()
            && self.slots.iter().all(|owner| self.shards.contains_key(owner))
    }

    /// The addresses that the encoding of a table leaves out.
    pub fn resp_addrs(&self) -> BTreeMap<NodeId, String> {
        let known = self.nodes.iter().filter(|(_, info)| !info.resp_addr.is_empty());
        known.map(|(node, info)| (*node, info.resp_addr.clone())).collect()
    }

    /// Puts them back.
    pub fn set_resp_addrs(&mut self, addrs: BTreeMap<NodeId, String>) {
        for (node, addr) in addrs {
            if let Some(info) = self.nodes.get_mut(&node) {
                info.resp_addr = addr;
            }
        }
    }

    /// Placement of the shard behind `group`.
    pub fn placement(&self, group: GroupId) -> Option<&ShardPlacement> {
        self.shards.get(&group.shard()?)
    }
}
