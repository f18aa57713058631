//! Whether a command is answered here or its client sent to another node
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "MOVED Redirection").

use bytes::Bytes;

use super::serve::Resp;
use super::session::Session;
use super::table::Command;
use crate::codec::resp::value::RespValue;
use crate::core::slot::slot_of;
use crate::core::table::{NodeInfo, RoutingTable};
use crate::service::Execute;
use crate::types::ShardId;

/// Redis's text where the keys of a command belong to several slots.
pub(super) const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// `MOVED` if the client wants to be told and another node leads the slot, `CROSSSLOT` if it wants to be
/// told and there are several slots; else `None`. Where no leader is known, or not how to reach it, the
/// command is served here: it waits for a leader and is forwarded.
pub(super) fn check<S: Execute>(
    resp: &Resp<S>,
    session: &Session,
    command: &Command,
    args: &[Bytes],
) -> Option<RespValue> {
    if !session.is_redirected() {
        return None;
    }
    let keys = command.keys(args);
    let slot = slot_of(keys.first()?);
    if keys.iter().any(|key| slot_of(key) != slot) {
        return Some(RespValue::error(CROSS_SLOT));
    }
    let table = resp.door.table();
    let shard = table.owner(slot)?;
    let leader = resp.door.service.leader(shard)?;
    if leader == resp.options.node {
        return None;
    }
    let reads = command.flags.contains(&"readonly");
    if reads && session.readonly && has_replica(&table, shard, resp) {
        return None;
    }
    let (host, port) = address(table.nodes.get(&leader)?)?;
    Some(RespValue::error(format!("MOVED {} {host}:{port}", slot.0)))
}

fn has_replica<S>(table: &RoutingTable, shard: ShardId, resp: &Resp<S>) -> bool {
    let placement = table.shards.get(&shard);
    placement.is_some_and(|p| p.replicas.iter().any(|r| r.node == resp.options.node))
}

/// Where clients of Redis reach a node. An IPv6 address has no brackets, as Redis prints it: what
/// follows the last colon is the port.
pub(super) fn address(info: &NodeInfo) -> Option<(&str, u16)> {
    let (host, port) = info.resp_addr.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{ask, door, session};
    use super::*;
    use crate::core::table::{ReplicaPlacement, ShardPlacement};
    use crate::front::FrontLimits;
    use crate::types::{Generation, NodeId, ReplicaId, SLOTS};

    /// As Redis prints an IPv6 address: without brackets, also before a port.
    #[tokio::test]
    async fn an_ipv6_address_has_no_brackets() {
        let resp = door(FrontLimits::default());
        let info = NodeInfo {
            store_id: 1,
            peer_addr: "[fd00::2]:9001".to_owned(),
            grpc_addr: String::new(),
            http_addr: String::new(),
            zone: String::new(),
            resp_addr: "[fd00::2]:7001".to_owned(),
        };
        let replicas = vec![ReplicaPlacement { node: NodeId(2), replica: ReplicaId(1) }];
        let generation = Generation::default();
        let placement = ShardPlacement { generation, bytes_max: 1, hash_seed: 1, replicas };
        *resp.door.service.table.lock() = RoutingTable {
            nodes: [(NodeId(2), info)].into(),
            shards: [(ShardId(0), placement)].into(),
            slots: vec![ShardId(0); usize::from(SLOTS)],
            ..RoutingTable::default()
        };
        let mut session = session(&resp);
        let slots = ask(&resp, &mut session, &["CLUSTER SLOTS"]).await;
        assert!(slots.contains("\r\n$7\r\nfd00::2\r\n:7001\r\n"), "{slots}");
        let nodes = ask(&resp, &mut session, &["CLUSTER NODES"]).await;
        assert!(nodes.contains(" fd00::2:7001@9001 master "), "{nodes}");
        let shards = ask(&resp, &mut session, &["CLUSTER SHARDS"]).await;
        assert!(shards.contains("$8\r\nendpoint\r\n$7\r\nfd00::2\r\n"), "{shards}");
        let moved = ask(&resp, &mut session, &["GET a"]).await;
        assert_eq!(moved, "-MOVED 15495 fd00::2:7001\r\n");
    }
}
