//! `GET /admin/cluster/status`: the whole cluster as its nodes see it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;
use super::{Http, Shared};
use crate::core::cluster::alarms::Alarm;
use crate::front::cluster::{ClusterStatus, NodeReport, gather_from};
use crate::front::page::{NodeSummary, ShardSummary, StatusPage};
use crate::raft::delay::RETRY_AFTER;
use crate::service::{Execute, ReplicaStatus};
use crate::types::{Error, Generation, GroupId, NodeId, Reason, ReplicaId, RoutingEpoch, ShardId};

/// Callers that ask the other nodes at the same time; the next is refused.
pub(super) const GATHERS_MAX: usize = 8;
/// How long to wait for another node.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer.
#[derive(Debug, Serialize)]
struct Page {
    /// Every node answered and is ready, every shard has a leader, and no alarm is active.
    healthy: bool,
    cluster_id: String,
    epoch: RoutingEpoch,
    /// The node that answers.
    answered_by: NodeId,
    /// Keys in all shards, as their leaders count them.
    keys: u64,
    nodes: Vec<Node>,
    controller: Group,
    shards: Vec<Shard>,
    alarms: Vec<Alarm>,
}

#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    at: NodeSummary,
    /// What it said of itself; `error` if it said nothing.
    ready: bool,
    not_ready_because: Vec<String>,
    warnings: Vec<String>,
    version: Option<String>,
    error: Option<String>,
    /// Replicas it runs, the controller's included, and how many of them lead.
    replicas: usize,
    leads: usize,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: ShardId,
    generation: Generation,
    slots: usize,
    #[serde(flatten)]
    group: Group,
}

/// A group as its replicas see it.
#[derive(Debug, Serialize)]
struct Group {
    leader: Option<NodeId>,
    term: Option<u64>,
    keys: Option<u64>,
    bytes: Option<u64>,
    bytes_max: Option<u64>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    replica: ReplicaId,
    node: NodeId,
    /// "unknown" if its node did not answer or does not run it.
    role: String,
    applied_index: Option<u64>,
    /// Entries its leader has committed and it has not applied.
    lag: Option<u64>,
    digest: Option<String>,
}

pub(super) async fn page<S: Execute>(State(http): Shared<S>) -> Response {
    match http.cluster_status().await {
        Ok(page) => axum::Json(page).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl<S: Execute> Http<S> {
    async fn cluster_status(&self) -> Result<Page, Problem> {
        let Ok(_permit) = self.gathers.try_acquire() else {
            self.refused_gathers.inc();
            let (what, limit) = ("callers of the cluster's status", GATHERS_MAX as u64);
            let error = Error::from(Reason::ResourceExhausted { what, limit });
            return Err(self.problem(&error.retry_after(RETRY_AFTER)));
        };
        let service = &self.door.service;
        let own = StatusPage::new(service.status(), &service.table());
        let answered_by = own.status.node;
        Ok(Page::new(answered_by, &gather_from(own, NODE_TIMEOUT).await))
    }
}

type Known<'a> = BTreeMap<GroupId, Vec<(NodeId, &'a ReplicaStatus)>>;

impl Page {
    fn new(answered_by: NodeId, status: &ClusterStatus) -> Self {
        let mut known = Known::new();
        for report in &status.nodes {
            for replica in report.status.iter().flat_map(|status| &status.replicas) {
                known.entry(replica.group).or_default().push((report.node, replica));
            }
        }
        let table = &status.table;
        let shards: Vec<Shard> =
            table.shards.iter().map(|shard| Shard::new(shard, &known)).collect();
        let led = shards.iter().all(|shard| shard.group.leader.is_some());
        Page {
            healthy: status.healthy() && led && !shards.is_empty(),
            cluster_id: table.cluster_id.clone(),
            epoch: table.epoch,
            answered_by,
            keys: shards.iter().filter_map(|shard| shard.group.keys).sum(),
            nodes: table.nodes.iter().map(|node| Node::new(node, &status.nodes)).collect(),
            controller: Group::new(GroupId::CONTROLLER, &[], &known),
            shards,
            alarms: table.alarms.clone(),
        }
    }
}

impl Node {
    fn new(at: &NodeSummary, reports: &[NodeReport]) -> Self {
        let report = reports.iter().find(|report| report.node == at.node);
        let status = report.and_then(|report| report.status.as_ref());
        let replicas = status.map_or(&[][..], |status| &status.replicas);
        Node {
            at: at.clone(),
            ready: status.is_some_and(|status| status.ready),
            not_ready_because: status.map(|s| s.not_ready_because.clone()).unwrap_or_default(),
            warnings: status.map(|status| status.warnings.clone()).unwrap_or_default(),
            version: status.map(|status| status.version.clone()),
            error: report.and_then(|report| report.error.clone()),
            replicas: replicas.len(),
            leads: replicas.iter().filter(|replica| replica.role == "leader").count(),
        }
    }
}

impl Shard {
    fn new(shard: &ShardSummary, known: &Known<'_>) -> Self {
        let placed: Vec<_> = shard.replicas.iter().map(|r| (r.replica, r.node)).collect();
        Shard {
            shard: shard.shard,
            generation: shard.generation,
            slots: shard.slots,
            group: Group::new(GroupId::of_shard(shard.shard), &placed, known),
        }
    }
}

impl Group {
    /// `placed`: the replicas that should be; of the controller it is not told.
    fn new(group: GroupId, placed: &[(ReplicaId, NodeId)], known: &Known<'_>) -> Self {
        let seen = known.get(&group).map_or(&[][..], Vec::as_slice);
        // The one of the highest term: another may not have heard of it yet.
        let leader = seen.iter().filter(|(_, replica)| replica.role == "leader");
        let leader = leader.max_by_key(|(_, replica)| replica.term);
        let committed = leader.map(|(_, replica)| replica.committed_index);
        let missing = placed.iter().filter(|(id, _)| !seen.iter().any(|(_, r)| r.replica == *id));
        let missing = missing.map(|(replica, node)| Replica::unknown(*replica, *node));
        let seen = seen.iter().map(|(node, replica)| Replica::new(*node, replica, committed));
        let mut replicas: Vec<Replica> = seen.chain(missing).collect();
        replicas.sort_by_key(|replica| replica.replica);
        Group {
            leader: leader.map(|(node, _)| *node),
            term: leader.map(|(_, replica)| replica.term),
            keys: leader.map(|(_, replica)| replica.keys),
            bytes: leader.map(|(_, replica)| replica.bytes),
            bytes_max: leader.map(|(_, replica)| replica.bytes_max),
            replicas,
        }
    }
}

impl Replica {
    fn new(node: NodeId, status: &ReplicaStatus, committed: Option<u64>) -> Self {
        Replica {
            replica: status.replica,
            node,
            role: status.role.clone(),
            applied_index: Some(status.applied_index),
            lag: committed.map(|committed| committed.saturating_sub(status.applied_index)),
            digest: Some(status.digest.clone()),
        }
    }

    fn unknown(replica: ReplicaId, node: NodeId) -> Self {
        let role = "unknown".to_owned();
        Replica { replica, node, role, applied_index: None, lag: None, digest: None }
    }
}
