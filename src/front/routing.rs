//! The routing table as clients read it: `Routing` of `cache.proto`.

use bytes::Bytes;

use super::pb;
use crate::core::table::RoutingTable;
use crate::types::{NodeId, ShardId};

/// The answer to a client that holds the table of `known_epoch` (0: none). `leader` says who leads a
/// shard, as far as is known.
pub fn response(
    table: &RoutingTable,
    known_epoch: u64,
    leader: impl Fn(ShardId) -> Option<NodeId>,
) -> pb::RoutingResponse {
    let unchanged = table.epoch.0 != 0 && table.epoch.0 == known_epoch;
    let shards = table.shards.iter().map(|(shard, placement)| {
        let replicas = placement.replicas.iter().map(|replica| replica.node.0);
        pb::RoutingShard {
            shard_id: shard.0.into(),
            leader: leader(*shard).map_or(0, |node| node.0),
            replicas: if unchanged { Vec::new() } else { replicas.collect() },
            generation: placement.generation.0,
        }
    });
    let nodes = table.nodes.iter().map(|(id, info)| pb::RoutingNode {
        node_id: id.0,
        grpc_address: info.grpc_addr.clone(),
        http_address: info.http_addr.clone(),
        zone: info.zone.clone(),
    });
    pb::RoutingResponse {
        epoch: table.epoch.0,
        cluster_id: Bytes::copy_from_slice(&table.cluster_id.to_be_bytes()),
        unchanged,
        nodes: if unchanged { Vec::new() } else { nodes.collect() },
        shards: shards.collect(),
        slots: if unchanged { Vec::new() } else { ranges(&table.slots) },
    }
}

/// Neighbouring slots of one owner as one range.
fn ranges(slots: &[ShardId]) -> Vec<pb::RoutingSlots> {
    let mut ranges: Vec<pb::RoutingSlots> = Vec::new();
    for (slot, owner) in (0..).zip(slots) {
        match ranges.last_mut() {
            Some(range) if range.shard_id == u32::from(owner.0) => range.last = slot,
            _ => {
                let shard_id = owner.0.into();
                ranges.push(pb::RoutingSlots { first: slot, last: slot, shard_id });
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RoutingEpoch, SLOTS};

    #[test]
    fn ranges_cover_every_slot_once() {
        assert!(ranges(&[]).is_empty());
        let owners: Vec<_> = (0..SLOTS).map(|slot| ShardId(slot / 100 % 3)).collect();
        let mut next = 0;
        for range in ranges(&owners) {
            assert_eq!(range.first, next, "in order and without a gap");
            for slot in range.first..=range.last {
                assert_eq!(u32::from(owners[slot as usize].0), range.shard_id);
            }
            next = range.last + 1;
        }
        assert_eq!(next, u32::from(SLOTS));
    }

    /// Before the cluster has formed the epoch is 0, which is also what a client without a table says:
    /// it must not be told that it holds the table.
    #[test]
    fn unchanged_is_said_only_of_a_table() {
        let table = RoutingTable::default();
        assert!(!response(&table, 0, |_| None).unchanged);
        let table = RoutingTable { epoch: RoutingEpoch(3), ..RoutingTable::default() };
        assert!(response(&table, 3, |_| None).unchanged);
        assert!(!response(&table, 2, |_| None).unchanged);
        assert!(!response(&table, 4, |_| None).unchanged, "it may be that of another cluster");
    }
}
