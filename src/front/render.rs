//! The status of a cluster as aligned text. Pure.

use std::fmt::Write as _;

use super::cluster::{ClusterStatus, NodeReport};
use super::page::{NodeSummary, ShardSummary};
use crate::service::ReplicaStatus;
use crate::types::{GroupId, NodeId};

/// Renders nodes and shards, each as a table.
pub fn cluster(status: &ClusterStatus) -> String {
    let table = &status.table;
    let formed = if table.epoch.0 == 0 { " (not formed)" } else { "" };
    let mut text = format!("cluster {} epoch {}{formed}\n\n", table.cluster_id, table.epoch.0);
    let nodes = table.nodes.iter().map(|node| node_row(node, report(status, node.node)));
    let head = ["NODE", "READY", "ZONE", "GRPC", "HTTP", "PEER", "VERSION", "NOTE"];
    text.push_str(&aligned(&head, nodes.collect()));
    text.push('\n');
    let shards = table.shards.iter().map(|shard| shard_row(shard, status));
    let head = [
        "SHARD", "GEN", "SLOTS", "LEADER", "TERM", "APPLIED", "KEYS", "BYTES", "LIMIT", "LAG",
        "REPLICAS",
    ];
    text.push_str(&aligned(&head, shards.collect()));
    text
}

fn report(status: &ClusterStatus, node: NodeId) -> Option<&NodeReport> {
    status.nodes.iter().find(|report| report.node == node)
}

fn node_row(node: &NodeSummary, report: Option<&NodeReport>) -> Vec<String> {
    let (ready, version, note) = match report {
        Some(NodeReport { status: Some(status), .. }) => {
            let ready = if status.ready { "yes" } else { "no" };
            let notes = status.not_ready_because.iter().chain(&status.warnings).cloned();
            (ready, status.version.clone(), notes.collect::<Vec<_>>().join("; "))
        }
        Some(NodeReport { error: Some(error), .. }) => ("?", "-".to_owned(), error.clone()),
        Some(_) | None => ("?", "-".to_owned(), "not asked".to_owned()),
    };
    vec![
        node.node.0.to_string(),
        ready.to_owned(),
        or_dash(&node.zone),
        or_dash(&node.grpc_addr),
        or_dash(&node.http_addr),
        or_dash(&node.peer_addr),
        version,
        note,
    ]
}

fn shard_row(shard: &ShardSummary, status: &ClusterStatus) -> Vec<String> {
    let group = GroupId::of_shard(shard.shard);
    let replicas: Vec<(NodeId, &ReplicaStatus)> = status
        .nodes
        .iter()
        .filter_map(|report| Some((report.node, report.status.as_ref()?)))
        .flat_map(|(node, status)| status.replicas.iter().map(move |replica| (node, replica)))
        .filter(|(_, replica)| replica.group == group)
        .collect();
    // An old leader may not know yet that it was replaced: the highest term is right.
    let leader = replicas.iter().filter(|(_, r)| r.role == "leader").max_by_key(|(_, r)| r.term);
    let mut row =
        vec![shard.shard.0.to_string(), shard.generation.0.to_string(), shard.slots.to_string()];
    match leader {
        Some((node, r)) => {
            row.push(node.0.to_string());
            let numbers = [r.term, r.applied_index, r.keys, r.bytes, r.bytes_max];
            row.extend(numbers.map(|n| n.to_string()));
        }
        None => row.extend(["none", "-", "-", "-", "-", "-"].map(str::to_owned)),
    }
    row.push(lag(shard, &replicas, leader.map(|(_, r)| *r)));
    row.push(placed(shard, &replicas, leader.map(|(_, r)| *r)));
    row
}

/// Entries that the replica furthest behind has not applied of those its leader has logged.
fn lag(
    shard: &ShardSummary,
    replicas: &[(NodeId, &ReplicaStatus)],
    leader: Option<&ReplicaStatus>,
) -> String {
    let Some(leader) = leader else { return "-".to_owned() };
    let lags = shard.replicas.iter().map(|placed| {
        let running = replicas.iter().find(|(_, r)| r.replica == placed.replica);
        running.map(|(_, r)| leader.last_index.saturating_sub(r.applied_index))
    });
    match lags.collect::<Option<Vec<u64>>>() {
        Some(lags) => lags.into_iter().max().unwrap_or(0).to_string(),
        None => "?".to_owned(),
    }
}

/// Every replica as `node:replica`, with `*` at the leader, `+` at a learner and `!` where none
/// runs or answers.
fn placed(
    shard: &ShardSummary,
    replicas: &[(NodeId, &ReplicaStatus)],
    leader: Option<&ReplicaStatus>,
) -> String {
    let names = shard.replicas.iter().map(|placed| {
        let running = replicas.iter().find(|(_, r)| r.replica == placed.replica);
        let mark = match running.map(|(_, r)| r.role.as_str()) {
            _ if leader.is_some_and(|leader| leader.replica == placed.replica) => "*",
            Some("learner") => "+",
            Some("stopped") | None => "!",
            Some(_) => "",
        };
        format!("{}:{}{mark}", placed.node.0, placed.replica.0)
    });
    names.collect::<Vec<_>>().join(" ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Columns as wide as their widest cell, two spaces apart, no space at the end of a line.
fn aligned(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| {
        lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            write!(row, "{cell:width$}  ").expect("a String takes everything");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "render_test.rs"]
mod tests;
