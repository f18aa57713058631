//! The controller's state machine: nodes, settings, and the routing table it publishes. Pure.

mod losses;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use self::alarms::{AckAlarms, RaiseAlarm};
pub use self::losses::ReportLost;
use super::placement::plan;
use super::ring;
use super::table::{Formed, NodeInfo, ReplicaPlacement, RoutingTable, ShardPlacement};
use crate::types::countermeasure::{Countermeasure, taken_out};
use crate::types::limits::{CONTROLLER_REPLICAS_MAX, SHARD_BYTES_MAX_FLOOR, SHARDS_MAX};
use crate::types::{Generation, NodeId, ReplicaId, RoutingEpoch, ShardId, wire};

pub mod alarms;

/// Version of the snapshot's encoding.
const SNAPSHOT_FORMAT: u8 = 1;
/// The same, and behind it the addresses for clients of Redis. Written where one is known, so that
/// nodes of the release before go on reading the snapshots of a cluster without.
const SNAPSHOT_FORMAT_RESP: u8 = 2;
/// Largest node id, so that replica ids counted on from node ids never overflow.
pub const NODE_ID_MAX: u64 = u32::MAX as u64;
/// Most replicas of a shard.
pub const SHARD_REPLICAS_MAX: u16 = 5;
/// Nodes the registry holds before it refuses more.
pub const NODES_MAX: usize = 256;

/// A change of cluster state. Encoded by `codec::cluster_record`, append only.
///
/// Invariant: applying a command again changes nothing, so one whose outcome is unknown may be
/// proposed again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterCommand {
    /// A node tells who and where it is, after each start.
    RegisterNode(RegisterNode),
    /// The cluster is formed; shards are placed once enough nodes have registered.
    Form(Form),
    /// Replicas are gone.
    ReportLost(ReportLost),
    /// A node tells what an operator must know.
    RaiseAlarm(RaiseAlarm),
    /// An operator has seen alarms.
    AckAlarms(AckAlarms),
}

/// A node tells who and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterNode {
    /// The node.
    pub node: NodeId,
    /// Its store, addresses and zone.
    pub info: NodeInfo,
    /// Its restart count: a late command of an earlier life is refused.
    pub incarnation: u64,
    /// Replicas of shards that ran on this node in earlier lives and whose logs are gone, as in
    /// `ReportLost`. In the same entry, so that no table shows this life beside them.
    pub lost: Vec<ReplicaId>,
}

/// First command of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    /// Name of the cluster, not 0.
    pub cluster_id: u128,
    /// The controller's first voters.
    pub founders: Vec<Founder>,
    /// Nodes that must be registered before shards are placed.
    pub nodes_min: u16,
    /// Number of shards.
    pub shards: u16,
    /// Replicas of a shard wanted; with fewer nodes there are as many as nodes.
    pub replicas: u16,
    /// Logical bytes of a shard.
    pub bytes_max: u64,
    /// Shards' hash seeds are drawn from it.
    pub seed: u64,
}

/// One of the controller's first voters. Its replica id is its node id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founder {
    /// The node.
    pub node: NodeId,
    /// The store that holds its log.
    pub store_id: u128,
}

impl Founder {
    /// Its replica of the controller.
    pub fn placement(&self) -> ReplicaPlacement {
        ReplicaPlacement { replica: ReplicaId(self.node.0), node: self.node }
    }
}

/// What applying a command answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterReply {
    /// Done, or done before.
    Done {
        /// Epoch that shows it.
        epoch: RoutingEpoch,
    },
    /// The cluster has not formed yet.
    NotFormed,
    /// The node id is registered with another store.
    StoreConflict {
        /// The store that is known.
        known: u128,
    },
    /// A later life of the node has registered.
    Superseded {
        /// Its restart count.
        incarnation: u64,
    },
    /// The cluster was formed under another name.
    OtherCluster {
        /// Its name.
        cluster_id: u128,
    },
    /// The command breaks a limit.
    Invalid {
        /// Field and limit.
        problem: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Settings {
    founders: Vec<Founder>,
    seed: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Index of the last command. Invariant: only grows.
    applied: u64,
    table: RoutingTable,
    /// Invariant: above every replica id ever handed out.
    next_replica: u64,
    incarnations: BTreeMap<NodeId, u64>,
    settings: Settings,
    /// Wall time of the leader that proposed the last command, milliseconds since 1970. For people
    /// to read: nothing is decided by it.
    unix_ms: u64,
}

/// The controller's state machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterMachine {
    state: State,
    /// `state.table` as last published. Invariant: equal to it between calls.
    published: Arc<RoutingTable>,
}

impl ClusterMachine {
    /// The table as applied.
    pub fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.published)
    }

    /// Applies the command of the entry at `index`, proposed when its leader's clock showed `unix_ms`.
    pub fn apply(&mut self, index: u64, unix_ms: u64, command: ClusterCommand) -> ClusterReply {
        assert!(index > self.state.applied, "entry {index} was applied before");
        self.state.applied = index;
        self.state.unix_ms = unix_ms;
        let before = self.state.table.clone();
        let refused = match command {
            ClusterCommand::RegisterNode(register) => self.register(register),
            ClusterCommand::Form(form) => self.form(form),
            ClusterCommand::ReportLost(report) => self.report_lost(&report),
            ClusterCommand::RaiseAlarm(raise) => self.raise(raise),
            ClusterCommand::AckAlarms(which) => self.acknowledge(which),
        };
        if refused.is_none() {
            self.place();
        }
        if self.state.table != before {
            assert!(refused.is_none(), "a refused command changes nothing");
            self.state.table.epoch.0 += 1;
            assert!(self.state.table.is_consistent(), "every slot has an owner that exists");
            self.published = Arc::new(self.state.table.clone());
        }
        refused.unwrap_or(ClusterReply::Done { epoch: self.published.epoch })
    }

    fn form(&mut self, form: Form) -> Option<ClusterReply> {
        let known = self.state.table.cluster_id;
        if known != 0 {
            let other = known != form.cluster_id;
            return other.then_some(ClusterReply::OtherCluster { cluster_id: known });
        }
        if let Err(problem) = form.check() {
            return Some(ClusterReply::Invalid { problem });
        }
        let table = &mut self.state.table;
        table.cluster_id = form.cluster_id;
        table.controller = form.founders.iter().map(Founder::placement).collect();
        let founders_max = form.founders.iter().map(|founder| founder.node.0).max();
        self.state.next_replica = founders_max.unwrap_or(0) + 1;
        table.formed = Formed {
            nodes_min: form.nodes_min,
            shards: form.shards,
            replicas: form.replicas,
            bytes_max: form.bytes_max,
        };
        self.state.settings = Settings { founders: form.founders, seed: form.seed };
        None
    }

    fn register(&mut self, register: RegisterNode) -> Option<ClusterReply> {
        let RegisterNode { node, info, incarnation, lost } = register;
        if self.state.table.cluster_id == 0 {
            return Some(ClusterReply::NotFormed);
        }
        if !(1..=NODE_ID_MAX).contains(&node.0) {
            let problem = format!("node: {} is not in 1..={NODE_ID_MAX}", node.0);
            return Some(ClusterReply::Invalid { problem });
        }
        if let Some(known) = self.store_of(node).filter(|known| *known != info.store_id) {
            return Some(ClusterReply::StoreConflict { known });
        }
        if let Err(problem) = self.check_lost(&lost) {
            return Some(ClusterReply::Invalid { problem });
        }
        let known = self.state.incarnations.get(&node).copied();
        match known {
            Some(known) if known > incarnation => {
                return Some(ClusterReply::Superseded { incarnation: known });
            }
            None if self.state.incarnations.len() >= NODES_MAX => {
                let problem = format!("node: the cluster has {NODES_MAX} nodes, the most");
                return Some(ClusterReply::Invalid { problem });
            }
            Some(_) | None => {}
        }
        self.state.incarnations.insert(node, incarnation);
        self.state.table.nodes.insert(node, info);
        if !lost.is_empty() && taken_out(Countermeasure::LostReplicaIds) {
            self.lose(&self.placed_on(node));
        }
        self.lose(&lost);
        None
    }

    /// The store that stands behind a node id. A founder's is known before it registers: its
    /// replica may have voted already, and another store under its id would forget that vote.
    fn store_of(&self, node: NodeId) -> Option<u128> {
        let registered = self.state.table.nodes.get(&node).map(|info| info.store_id);
        let founder = self.state.settings.founders.iter().find(|founder| founder.node == node);
        registered.or(founder.map(|founder| founder.store_id))
    }

    /// Places the shards, once, as soon as enough nodes are known.
    fn place(&mut self) {
        let settings = &self.state.settings;
        let table = &mut self.state.table;
        let formed = table.formed;
        let enough = table.nodes.len() >= usize::from(formed.nodes_min);
        if table.cluster_id == 0 || !table.shards.is_empty() || !enough || table.nodes.is_empty() {
            return;
        }
        let zones = table.nodes.iter().map(|(node, info)| (*node, info.zone.clone())).collect();
        let plan = plan(&zones, formed.shards, formed.replicas);
        for (shard, nodes) in (0..formed.shards).map(ShardId).zip(plan) {
            let mut replicas = Vec::with_capacity(nodes.len());
            for node in nodes {
                let replica = ReplicaId(self.state.next_replica);
                self.state.next_replica += 1;
                replicas.push(ReplicaPlacement { replica, node });
            }
            let placement = ShardPlacement {
                generation: Generation(1),
                bytes_max: formed.bytes_max,
                hash_seed: hash_seed(settings.seed, shard, Generation(1)),
                replicas,
            };
            table.shards.insert(shard, placement);
        }
        let shards: Vec<ShardId> = table.shards.keys().copied().collect();
        table.slots = ring::assign(&shards);
    }

    /// Hash of the replicated state (INV-3).
    pub fn digest(&self) -> u64 {
        xxh3_64(&self.encode_snapshot())
    }

    /// The whole state.
    pub fn encode_snapshot(&self) -> Bytes {
        let addrs = self.state.table.resp_addrs();
        let encoded = match addrs.is_empty() {
            true => postcard::to_stdvec(&(SNAPSHOT_FORMAT, &self.state)),
            false => postcard::to_stdvec(&(SNAPSHOT_FORMAT_RESP, &self.state, addrs)),
        };
        encoded.expect("plain data into a vector cannot fail").into()
    }

    /// Reads what `encode_snapshot` wrote.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, wire::Error> {
        const WHAT: &str = "cluster snapshot";
        let format = bytes.first().copied().ok_or(wire::Error::Short { what: WHAT })?;
        if ![SNAPSHOT_FORMAT, SNAPSHOT_FORMAT_RESP].contains(&format) {
            return Err(wire::Error::Tag { what: WHAT, tag: u64::from(format) });
        }
        let malformed = |_| wire::Error::Malformed { what: WHAT };
        let (mut state, mut rest) =
            postcard::take_from_bytes::<State>(&bytes[1..]).map_err(malformed)?;
        if format == SNAPSHOT_FORMAT_RESP {
            let (addrs, end) = postcard::take_from_bytes(rest).map_err(malformed)?;
            state.table.set_resp_addrs(addrs);
            rest = end;
        }
        if !rest.is_empty() || !state.table.is_consistent() {
            return Err(wire::Error::Malformed { what: WHAT });
        }
        Ok(ClusterMachine { published: Arc::new(state.table.clone()), state })
    }
}

/// Differs by shard and generation, so that keys collected against one group say nothing of another.
fn hash_seed(seed: u64, shard: ShardId, generation: Generation) -> u64 {
    let mut name = [0u8; 6];
    name[..2].copy_from_slice(&shard.0.to_le_bytes());
    name[2..].copy_from_slice(&generation.0.to_le_bytes());
    xxh3_64_with_seed(&name, seed)
}

impl Form {
    /// Checks the limits; the error names the field and the limit.
    pub fn check(&self) -> Result<(), String> {
        let nodes: Vec<u64> = self.founders.iter().map(|founder| founder.node.0).collect();
        if self.cluster_id == 0 {
            return Err("cluster_id: 0 means none".to_owned());
        }
        if !(1..=CONTROLLER_REPLICAS_MAX).contains(&nodes.len())
            || !nodes.is_sorted_by(|a, b| a < b)
            || !nodes.iter().all(|node| (1..=NODE_ID_MAX).contains(node))
        {
            let problem = format!(
                "founders: {nodes:?} are not 1..={CONTROLLER_REPLICAS_MAX} ascending node ids in \
                 1..={NODE_ID_MAX}"
            );
            return Err(problem);
        }
        if usize::from(self.nodes_min) > NODES_MAX {
            return Err(format!("nodes_min: {} is more than {NODES_MAX}", self.nodes_min));
        }
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return Err(format!("shards: {} is not in 1..={SHARDS_MAX}", self.shards));
        }
        if !(1..=SHARD_REPLICAS_MAX).contains(&self.replicas) {
            return Err(format!("replicas: {} is not in 1..={SHARD_REPLICAS_MAX}", self.replicas));
        }
        if self.bytes_max < SHARD_BYTES_MAX_FLOOR {
            let problem =
                format!("bytes_max: {} is less than {SHARD_BYTES_MAX_FLOOR}", self.bytes_max);
            return Err(problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
