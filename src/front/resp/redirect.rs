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
