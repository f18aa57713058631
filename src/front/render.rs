//! The status of a cluster as aligned text. Pure.

use std::fmt::Write as _;

use super::cluster::{ClusterStatus, NodeReport};
use super::page::{NodeSummary, ShardSummary};
use crate::core::cluster::alarms::Alarm;
use crate::service::ReplicaStatus;
use crate::types::{GroupId, NodeId};

/// Alarms that a status shows.
const STATUS_ALARMS_MAX: usize = 16;

/// Renders nodes, shards and alarms, each as a table.
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
    if !table.alarms.is_empty() {
        text.push('\n');
        text.push_str(&alarms(&table.alarms, STATUS_ALARMS_MAX));
    }
    text
}

/// Renders alarms as a table, at most so many.
pub fn alarms(active: &[Alarm], most: usize) -> String {
    if active.is_empty() {
        return "no alarm is active\n".to_owned();
    }
    let rows = active.iter().take(most).map(|alarm| {
        let (kind, told) = (alarm.kind.name().to_owned(), utc(alarm.last_unix_ms));
        vec![alarm.id.to_string(), kind, told, alarm.count.to_string(), alarm.to_string()]
    });
    let mut text = aligned(&["ALARM", "KIND", "TOLD", "TIMES", "WHAT"], rows.collect());
    if active.len() > most {
        let more = active.len() - most;
        writeln!(text, "and {more} more: raftcache alarm list").expect("a String takes everything");
    }
    text
}

/// Milliseconds since 1970 as a time of day in UTC (RFC 3339), to the second.
fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970, by years that begin in March
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + turn, month, day)
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
