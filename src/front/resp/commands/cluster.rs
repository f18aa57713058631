//! `CLUSTER`: which node leads which slots.
//!
//! Cluster clients know nodes as masters, which serve slots, and replicas of one master each. Here a
//! node leads some shards and follows others, so every node that leads anything is shown as the master
//! of the slots it leads. In `CLUSTER SLOTS` a node is shown as a replica only if it leads nothing: clients
//! that keep one role a node would otherwise take a master for a replica.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::integer;
use crate::codec::resp::value::RespValue;
use crate::core::keyspace::{slot_position, slot_position_last};
use crate::core::slot::slot_of;
use crate::core::table::RoutingTable;
use crate::front::resp::dispatch::Turn;
use crate::front::resp::fault::fault;
use crate::front::resp::pending::odd;
use crate::front::resp::plan::Plan;
use crate::front::resp::redirect::address;
use crate::front::resp::serve::Resp;
use crate::front::resp::session::Session;
use crate::front::resp::table::Command;
use crate::service::{Execute, Operation, Response};
use crate::types::limits::SCAN_KEYS_MAX;
use crate::types::{Answer, Consistency, Error, NodeId, Query, SLOTS, Scan, ShardId, Slot};

pub(super) fn run<S: Execute>(
    resp: &Resp<S>,
    session: &mut Session,
    command: &Command,
    args: &[Bytes],
) -> Turn {
    if matches!(command.name, "cluster|slots" | "cluster|shards" | "cluster|nodes") {
        session.asked_slots = true;
    }
    let map = || Map::of(resp);
    Turn::Reply(match command.name {
        "cluster|slots" => map().slots(),
        "cluster|shards" => map().shards(),
        "cluster|nodes" => RespValue::Verbatim(map().nodes()),
        "cluster|info" => RespValue::Verbatim(map().info()),
        "cluster|myid" => RespValue::text(map().id(resp.options.node)),
        "cluster|keyslot" => {
            let key = args.get(2).map(|key| i64::from(slot_of(key).0));
            RespValue::Integer(key.unwrap_or(0))
        }
        "cluster|countkeysinslot" => return count_keys(args),
        "cluster|getkeysinslot" => return get_keys(args),
        name => RespValue::error(format!("ERR '{name}' is not served here")),
    })
}

fn slot(word: Option<&Bytes>) -> Result<Option<Slot>, RespValue> {
    let number = word.map_or(Ok(-1), integer)?;
    Ok(u16::try_from(number).ok().filter(|slot| *slot < SLOTS).map(Slot))
}

fn count_keys(args: &[Bytes]) -> Turn {
    let slot = match slot(args.get(2)) {
        Ok(Some(slot)) => slot,
        Ok(None) => return Turn::error("ERR Invalid slot"),
        Err(error) => return Turn::Reply(error),
    };
    let render = |result: Result<Response, Error>| match result {
        Ok(Response::Read { answer: Answer::Size(keys), .. }) => {
            RespValue::Integer(i64::try_from(keys).unwrap_or(i64::MAX))
        }
        other => odd(other),
    };
    read(Query::Size { slot: Some(slot) }, render)
}

fn get_keys(args: &[Bytes]) -> Turn {
    let (slot, count) = match (slot(args.get(2)), args.get(3).map_or(Ok(-1), integer)) {
        (Ok(Some(slot)), Ok(count @ 0..)) => (slot, count),
        (Ok(_), Ok(_)) => return Turn::error("ERR Invalid slot or number of keys"),
        (Err(error), _) | (_, Err(error)) => return Turn::Reply(error),
    };
    let Some(keys_max) = u32::try_from(count).ok().filter(|count| *count > 0) else {
        return Turn::Reply(RespValue::Array(Vec::new()));
    };
    let (first, last) = (slot_position(slot), slot_position_last(slot));
    let keys_max = keys_max.min(SCAN_KEYS_MAX);
    let render = move |result: Result<Response, Error>| match result {
        Ok(Response::Read { answer: Answer::Keys(keys), .. }) => {
            let keys = keys.keys.into_iter().take(keys_max as usize);
            RespValue::Array(keys.map(RespValue::Bulk).collect())
        }
        Ok(_) => odd(result),
        Err(error) => fault(&error),
    };
    read(Query::Scan(Scan { first, last, keys_max, pattern: None }), render)
}

fn read(
    query: Query,
    render: impl FnOnce(Result<Response, Error>) -> RespValue + Send + 'static,
) -> Turn {
    let consistency = Consistency::Linearizable;
    let operation = Operation::Read { query, consistency };
    Turn::Plan(Plan::Operation { operation, render: Box::new(render) }, consistency)
}

/// Who leads what, as this node knows.
struct Map {
    table: std::sync::Arc<RoutingTable>,
    node: NodeId,
    /// Leader of each shard; where none is known, the replica that is preferred as one.
    leaders: BTreeMap<ShardId, NodeId>,
    /// Shards that nobody can serve: no majority of their replicas was heard of.
    lost: BTreeSet<ShardId>,
    /// Nodes that cannot be reached from here.
    away: BTreeSet<NodeId>,
}

impl Map {
    fn of<S: Execute>(resp: &Resp<S>) -> Map {
        let table = resp.door.table();
        let leader = |(shard, placement): (&ShardId, &crate::core::table::ShardPlacement)| {
            let preferred = placement.replicas.first().map(|replica| replica.node);
            let leader = resp.door.service.leader(*shard).or(preferred)?;
            table.nodes.contains_key(&leader).then_some((*shard, leader))
        };
        let leaders = table.shards.iter().filter_map(leader).collect();
        let service = &resp.door.service;
        let shards = table.shards.keys().copied();
        let lost = shards.filter(|shard| !service.has_quorum(*shard)).collect();
        let nodes = table.nodes.keys().copied();
        let away = nodes.filter(|node| !service.is_connected(*node)).collect();
        Map { leaders, lost, away, node: resp.options.node, table }
    }

    /// Ranges of slots, first and last, and who leads them.
    fn ranges(&self) -> Vec<(u16, u16, NodeId)> {
        let mut ranges: Vec<(u16, u16, NodeId)> = Vec::new();
        for (slot, owner) in (0..SLOTS).zip(&self.table.slots) {
            let Some(leader) = self.leaders.get(owner) else { continue };
            match ranges.last_mut() {
                Some((_, last, node)) if *node == *leader && *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot, *leader)),
            }
        }
        ranges
    }

    /// Forty digits, as Redis has them: the node's number and the name of its store.
    fn id(&self, node: NodeId) -> String {
        let store = self.table.nodes.get(&node).map_or(0, |info| info.store_id);
        format!("{:08x}{store:032x}", node.0)
    }

    /// Nodes that lead nothing.
    fn followers(&self) -> BTreeSet<NodeId> {
        let leading: BTreeSet<NodeId> = self.leaders.values().copied().collect();
        self.table.nodes.keys().copied().filter(|node| !leading.contains(node)).collect()
    }

    fn slots(&self) -> RespValue {
        let followers = self.followers();
        let replicas = |first: u16| {
            let owner = self.table.owner(Slot(first));
            let placement = owner.and_then(|shard| self.table.shards.get(&shard));
            let nodes = placement.map(|p| p.replicas.as_slice()).unwrap_or_default();
            nodes.iter().map(|r| r.node).filter(|node| followers.contains(node)).collect::<Vec<_>>()
        };
        let range = |(first, last, leader): (u16, u16, NodeId)| {
            let mut entry = vec![
                RespValue::Integer(i64::from(first)),
                RespValue::Integer(i64::from(last)),
                self.endpoint(leader)?,
            ];
            entry.extend(replicas(first).into_iter().filter_map(|node| self.endpoint(node)));
            Some(RespValue::Array(entry))
        };
        RespValue::Array(self.ranges().into_iter().filter_map(range).collect())
    }

    /// A node in `CLUSTER SLOTS`; `None` if it cannot be reached.
    fn endpoint(&self, node: NodeId) -> Option<RespValue> {
        let (host, port) = address(self.table.nodes.get(&node)?)?;
        Some(RespValue::Array(vec![
            RespValue::text(host),
            RespValue::Integer(i64::from(port)),
            RespValue::text(self.id(node)),
            RespValue::Array(Vec::new()),
        ]))
    }

    fn shards(&self) -> RespValue {
        let mut slots: BTreeMap<NodeId, Vec<RespValue>> =
            self.table.nodes.keys().map(|node| (*node, Vec::new())).collect();
        for (first, last, leader) in self.ranges() {
            let bounds = [first, last].map(|slot| RespValue::Integer(i64::from(slot)));
            slots.entry(leader).or_default().extend(bounds);
        }
        let pair = |key: &str, value| (RespValue::text(key), value);
        let shard = |(node, slots): (NodeId, Vec<RespValue>)| {
            let (host, port) = address(self.table.nodes.get(&node)?)?;
            let health = if self.away.contains(&node) { "fail" } else { "online" };
            let node = RespValue::Map(vec![
                pair("id", RespValue::text(self.id(node))),
                pair("port", RespValue::Integer(i64::from(port))),
                pair("ip", RespValue::text(host)),
                pair("endpoint", RespValue::text(host)),
                pair("role", RespValue::text("master")),
                pair("replication-offset", RespValue::Integer(0)),
                pair("health", RespValue::text(health)),
            ]);
            Some(RespValue::Map(vec![
                pair("slots", RespValue::Array(slots)),
                pair("nodes", RespValue::Array(vec![node])),
            ]))
        };
        RespValue::Array(slots.into_iter().filter_map(shard).collect())
    }

    fn nodes(&self) -> String {
        let mut slots: BTreeMap<NodeId, String> = BTreeMap::new();
        for (first, last, leader) in self.ranges() {
            let text = slots.entry(leader).or_default();
            text.push(' ');
            text.push_str(&first.to_string());
            if last > first {
                text.push('-');
                text.push_str(&last.to_string());
            }
        }
        let mut text = String::new();
        for (node, info) in &self.table.nodes {
            let Some((host, port)) = address(info) else { continue };
            let peer_port = info.peer_addr.rsplit_once(':').map_or("0", |(_, port)| port);
            let (flags, link) = match self.away.contains(node) {
                _ if *node == self.node => ("myself,master", "connected"),
                true => ("master,fail?", "disconnected"),
                false => ("master", "connected"),
            };
            let (id, epoch) = (self.id(*node), self.table.epoch.0);
            let slots = slots.get(node).map_or("", String::as_str);
            text.push_str(&format!(
                "{id} {host}:{port}@{peer_port} {flags} - 0 0 {epoch} {link}{slots}\n"
            ));
        }
        text
    }

    fn info(&self) -> String {
        let assigned = self.table.slots.len();
        let serves =
            |shard: &ShardId| self.leaders.contains_key(shard) && !self.lost.contains(shard);
        let served = self.table.slots.iter().filter(|owner| serves(owner)).count();
        let leading: BTreeSet<&NodeId> = self.leaders.values().collect();
        let state = if served == usize::from(SLOTS) { "ok" } else { "fail" };
        let fields = [
            ("cluster_enabled", "1".to_owned()),
            ("cluster_state", state.to_owned()),
            ("cluster_slots_assigned", assigned.to_string()),
            ("cluster_slots_ok", served.to_string()),
            ("cluster_slots_pfail", "0".to_owned()),
            ("cluster_slots_fail", (assigned - served).to_string()),
            ("cluster_known_nodes", self.table.nodes.len().to_string()),
            ("cluster_size", leading.len().to_string()),
            ("cluster_current_epoch", self.table.epoch.0.to_string()),
            ("cluster_my_epoch", self.table.epoch.0.to_string()),
        ];
        fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
    }
}
