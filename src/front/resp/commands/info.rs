//! `INFO`: the fields of Redis's that have a meaning here.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::connection::REDIS_VERSION;
use crate::codec::resp::value::RespValue;
use crate::front::resp::serve::Resp;
use crate::service::{Execute, NodeStatus};
use crate::types::clock::now;

type Fields = Vec<(&'static str, String)>;

/// Sections, in the order in which they are shown.
const SECTIONS: [&str; 8] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace"];

/// `INFO [section ...]`.
pub(super) fn info<S: Execute>(resp: &Resp<S>, args: &[Bytes]) -> RespValue {
    let asked = args.get(1..).unwrap_or_default();
    let all = asked.is_empty()
        || asked
            .iter()
            .any(|word| ["all", "default", "everything"].iter().any(|all| super::is(word, all)));
    let status = resp.door.service.status();
    let mut text = String::new();
    for section in SECTIONS {
        if !all && !asked.iter().any(|word| super::is(word, section)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let (first, rest) = section.split_at(1);
        text.push_str(&format!("# {}{rest}\r\n", first.to_ascii_uppercase()));
        for (name, value) in fields(resp, section, &status) {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
    }
    RespValue::Verbatim(text)
}

fn fields<S: Execute>(resp: &Resp<S>, section: &str, status: &NodeStatus) -> Fields {
    match section {
        "server" => server(resp, status),
        "clients" => vec![
            ("connected_clients", resp.clients.count().to_string()),
            ("maxclients", resp.door.limits.connections_max.to_string()),
            ("blocked_clients", "0".to_owned()),
        ],
        "memory" => memory(status),
        "persistence" => vec![
            ("loading", u8::from(!status.ready).to_string()),
            ("aof_enabled", u8::from(status.durability.starts_with("wal")).to_string()),
            ("raftcache_durability", status.durability.clone()),
        ],
        "stats" => stats(resp, status),
        "replication" => {
            let table = resp.door.table();
            let nodes = table.nodes.len();
            let copies = table.shards.values().map(|shard| shard.replicas.len()).min();
            vec![
                ("role", "master".to_owned()),
                ("connected_slaves", nodes.saturating_sub(1).to_string()),
                // Of the shard that has the fewest; a majority of them has a write before its answer.
                ("raftcache_replicas", copies.unwrap_or(0).to_string()),
            ]
        }
        "cluster" => vec![("cluster_enabled", "1".to_owned())],
        _ => keyspace(status),
    }
}

fn server<S>(resp: &Resp<S>, status: &NodeStatus) -> Fields {
    let uptime_s = (now() - resp.started).as_secs();
    vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("redis_mode", "cluster".to_owned()),
        ("raftcache_version", status.version.clone()),
        ("os", std::env::consts::OS.to_owned()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", resp.port.to_string()),
        ("uptime_in_seconds", uptime_s.to_string()),
        ("uptime_in_days", (uptime_s / 86_400).to_string()),
        ("node_id", status.node.0.to_string()),
    ]
}

fn memory(status: &NodeStatus) -> Fields {
    let used: u64 = status.replicas.iter().map(|replica| replica.bytes).sum();
    let max: u64 = status.replicas.iter().map(|replica| replica.bytes_max).sum();
    vec![
        ("used_memory", used.to_string()),
        ("maxmemory", max.to_string()),
        ("maxmemory_policy", "allkeys-lru".to_owned()),
    ]
}

fn stats<S>(resp: &Resp<S>, status: &NodeStatus) -> Fields {
    let evicted: u64 = status.replicas.iter().map(|replica| replica.evictions).sum();
    let expired: u64 = status.replicas.iter().map(|replica| replica.expirations).sum();
    vec![
        ("total_connections_received", resp.clients.total().to_string()),
        ("total_commands_processed", resp.clients.commands.load(Ordering::Relaxed).to_string()),
        ("expired_keys", expired.to_string()),
        ("evicted_keys", evicted.to_string()),
    ]
}

/// Keys of the shards that this node has replicas of, as they are here.
fn keyspace(status: &NodeStatus) -> Fields {
    let keys: u64 = status.replicas.iter().map(|replica| replica.keys).sum();
    match keys {
        0 => Vec::new(),
        keys => vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))],
    }
}
