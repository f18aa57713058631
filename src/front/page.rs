//! The JSON of `GET /ready`, and that of `GET /status`: what a node knows of itself, and the routing
//! table in short.

use serde::{Deserialize, Serialize};

use crate::core::cluster::alarms::Alarm;
use crate::core::table::{NodeInfo, ReplicaPlacement, RoutingTable};
use crate::service::NodeStatus;
use crate::types::{Generation, NodeId, RoutingEpoch, ShardId};

/// Answer of `GET /status`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusPage {
    /// The answering node.
    pub status: NodeStatus,
    /// The routing table it holds.
    pub table: TableSummary,
}

/// Answer of `GET /ready`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadyPage {
    /// The node takes requests.
    pub ready: bool,
    /// Why it does not; empty if it does.
    pub not_ready_because: Vec<String>,
    /// What an operator should know although it takes requests.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A routing table without its 16384 slots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableSummary {
    /// Version of the table.
    pub epoch: RoutingEpoch,
    /// Name of the cluster in hexadecimal; all zero before it formed.
    pub cluster_id: String,
    /// Nodes by id.
    pub nodes: Vec<NodeSummary>,
    /// Shards by id.
    pub shards: Vec<ShardSummary>,
    /// What an operator has not acknowledged yet, oldest first.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
}

/// Answer of `GET /admin/alarms` and `POST /admin/alarms/ack`; the JSON of `raftcache alarm --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlarmsPage {
    /// What an operator has not acknowledged yet, oldest first.
    pub alarms: Vec<Alarm>,
}

/// A node of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeSummary {
    /// The node.
    pub node: NodeId,
    /// Address of its gRPC port.
    pub grpc_addr: String,
    /// Address of its HTTP port.
    pub http_addr: String,
    /// Address of its peer port.
    pub peer_addr: String,
    /// Failure domain.
    pub zone: String,
}

/// A shard of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardSummary {
    /// The shard.
    pub shard: ShardId,
    /// How often its group started empty.
    pub generation: Generation,
    /// Slots it owns.
    pub slots: usize,
    /// Its replicas.
    pub replicas: Vec<ReplicaPlacement>,
}

impl StatusPage {
    /// The page of a node.
    pub fn new(status: NodeStatus, table: &RoutingTable) -> Self {
        StatusPage { status, table: TableSummary::new(table) }
    }
}

impl TableSummary {
    /// Sums up `table`.
    pub fn new(table: &RoutingTable) -> Self {
        let shards = table.shards.iter().map(|(shard, placement)| ShardSummary {
            shard: *shard,
            generation: placement.generation,
            slots: table.slots.iter().filter(|owner| *owner == shard).count(),
            replicas: placement.replicas.clone(),
        });
        TableSummary {
            epoch: table.epoch,
            cluster_id: format!("{:032x}", table.cluster_id),
            nodes: table.nodes.iter().map(|(node, info)| NodeSummary::new(*node, info)).collect(),
            shards: shards.collect(),
            alarms: table.alarms.active().to_vec(),
        }
    }
}

impl NodeSummary {
    fn new(node: NodeId, info: &NodeInfo) -> Self {
        NodeSummary {
            node,
            grpc_addr: info.grpc_addr.clone(),
            http_addr: info.http_addr.clone(),
            peer_addr: info.peer_addr.clone(),
            zone: info.zone.clone(),
        }
    }
}
