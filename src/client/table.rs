//! The routing table as a client holds it: pure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::pb;
use crate::types::{SLOTS, Slot};

/// One shard.
#[derive(Debug)]
struct Shard {
    /// Node that leads it as far as is known; 0 if it is not.
    leader: AtomicU64,
    /// Nodes with a replica, in order of preference for leadership.
    replicas: Vec<u64>,
}

/// Which node serves which slot.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// 0 if there is none yet.
    pub epoch: u64,
    /// Name of the cluster.
    pub cluster: Bytes,
    /// Place in `shards` by slot. Invariant: empty, or `SLOTS` long and every place exists.
    slots: Vec<u16>,
    shards: Vec<Shard>,
    ids: BTreeMap<u32, u16>,
    /// Addresses by node id.
    pub nodes: BTreeMap<u64, String>,
}

impl Table {
    /// Reads a whole table; `None`, with the reason, if it makes no sense: what came from the network
    /// is not trusted.
    pub fn read(response: pb::RoutingResponse) -> Result<Table, &'static str> {
        let mut table =
            Table { epoch: response.epoch, cluster: response.cluster_id, ..Table::default() };
        table.nodes = response
            .nodes
            .into_iter()
            .filter(|node| node.node_id != 0 && !node.grpc_address.is_empty())
            .map(|node| (node.node_id, node.grpc_address))
            .collect();
        for shard in response.shards {
            let at = u16::try_from(table.shards.len()).map_err(|_| "too many shards")?;
            if table.ids.insert(shard.shard_id, at).is_some() {
                return Err("a shard is there twice");
            }
            let leader = AtomicU64::new(shard.leader);
            table.shards.push(Shard { leader, replicas: shard.replicas });
        }
        if response.slots.is_empty() {
            return Ok(table);
        }
        for range in response.slots {
            let at = *table.ids.get(&range.shard_id).ok_or("a slot of an unknown shard")?;
            let next = table.slots.len();
            let last = range.last as usize;
            if range.first as usize != next || last < next || last >= usize::from(SLOTS) {
                return Err("ranges of slots have a gap");
            }
            table.slots.resize(last + 1, at);
        }
        if table.slots.len() != usize::from(SLOTS) {
            return Err("not every slot has an owner");
        }
        Ok(table)
    }

    /// Whether `response` says something newer than this table.
    pub fn is_older_than(&self, response: &pb::RoutingResponse) -> bool {
        // Epochs of two clusters cannot be compared: what a node says now is the truth then.
        response.cluster_id != self.cluster || response.epoch > self.epoch
    }

    /// Takes the leaders of an answer about this very table. A node that does not know changes
    /// nothing.
    pub fn take_leaders(&self, shards: &[pb::RoutingShard]) {
        for told in shards.iter().filter(|shard| shard.leader != 0) {
            if let Some(at) = self.ids.get(&told.shard_id) {
                self.shards[usize::from(*at)].leader.store(told.leader, Ordering::Relaxed);
            }
        }
    }

    fn shard(&self, slot: Slot) -> Option<&Shard> {
        self.shards.get(usize::from(self.shard_at(slot)?))
    }

    /// The shard of a slot, by its place in this table; `None` if that is not known.
    pub fn shard_at(&self, slot: Slot) -> Option<u16> {
        self.slots.get(usize::from(slot.0)).copied()
    }

    /// Who leads the shard of a slot; 0 if that is not known.
    pub fn leader(&self, slot: Slot) -> u64 {
        self.shard(slot).map_or(0, |shard| shard.leader.load(Ordering::Relaxed))
    }

    /// `node` leads the shard of this slot.
    pub fn leads(&self, slot: Slot, node: u64) {
        if let Some(shard) = self.shard(slot) {
            shard.leader.store(node, Ordering::Relaxed);
        }
    }

    /// `node` does not lead the shard of this slot, or does not answer.
    pub fn leads_not(&self, slot: Slot, node: u64) {
        if let Some(shard) = self.shard(slot) {
            // Another caller may have learnt of a new leader meanwhile; that stays.
            let _ = shard.leader.compare_exchange(node, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Nodes in the order in which to ask them: the leader first, unless any replica will do, then
    /// the replicas, then everyone else, who forward. `turn` decides where the replicas begin.
    pub fn candidates(&self, slot: Slot, any: bool, turn: usize) -> Vec<u64> {
        let mut found = Vec::with_capacity(self.nodes.len());
        let mut add = |node: u64| {
            if self.nodes.contains_key(&node) && !found.contains(&node) {
                found.push(node);
            }
        };
        if let Some(shard) = self.shard(slot) {
            if !any {
                add(shard.leader.load(Ordering::Relaxed));
            }
            let replicas = shard.replicas.len();
            (0..replicas).for_each(|i| add(shard.replicas[(turn + i) % replicas]));
        }
        let others: Vec<u64> = self.nodes.keys().copied().collect();
        (0..others.len()).for_each(|i| add(others[(turn + i) % others.len()]));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(epoch: u64) -> pb::RoutingResponse {
        let node = |node_id: u64| pb::RoutingNode {
            node_id,
            grpc_address: format!("n{node_id}:1"),
            ..pb::RoutingNode::default()
        };
        let shard = |shard_id: u32, leader: u64| pb::RoutingShard {
            shard_id,
            leader,
            replicas: vec![1, 2, 3],
            generation: 1,
        };
        let slots =
            |first: u32, last: u32, shard_id: u32| pb::RoutingSlots { first, last, shard_id };
        pb::RoutingResponse {
            epoch,
            cluster_id: Bytes::from_static(b"c"),
            nodes: (1..=4).map(node).collect(),
            shards: vec![shard(7, 2), shard(9, 0)],
            slots: vec![slots(0, 99, 9), slots(100, 16_383, 7)],
            ..pb::RoutingResponse::default()
        }
    }

    #[test]
    fn the_leader_comes_first_then_replicas_then_the_others() {
        let table = Table::read(response(3)).unwrap();
        assert_eq!(table.candidates(Slot(100), false, 0), [2, 1, 3, 4]);
        assert_eq!(table.candidates(Slot(16_383), true, 2), [3, 1, 2, 4]);
        assert_eq!(table.candidates(Slot(0), false, 1), [2, 3, 1, 4], "nobody leads it");
        table.leads(Slot(5), 3);
        assert_eq!(table.leader(Slot(99)), 3, "a shard has one leader for all its slots");
        table.leads_not(Slot(5), 1);
        assert_eq!(table.leader(Slot(5)), 3, "someone else does not lead: nothing new");
        table.leads_not(Slot(5), 3);
        assert_eq!(table.leader(Slot(5)), 0);
        assert!(Table::default().candidates(Slot(5), false, 0).is_empty());
    }

    #[test]
    fn newer_tables_and_other_clusters_replace_it() {
        let table = Table::read(response(3)).unwrap();
        assert!(!table.is_older_than(&response(3)) && !table.is_older_than(&response(2)));
        assert!(table.is_older_than(&response(4)));
        let other = pb::RoutingResponse { cluster_id: Bytes::from_static(b"d"), ..response(1) };
        assert!(table.is_older_than(&other));
        let silent = pb::RoutingShard { shard_id: 7, leader: 0, ..Default::default() };
        table.take_leaders(&[silent]);
        assert_eq!(table.leader(Slot(100)), 2, "who does not know changes nothing");
        let told = pb::RoutingShard { shard_id: 7, leader: 3, ..Default::default() };
        let unknown = pb::RoutingShard { shard_id: 1, leader: 3, ..Default::default() };
        table.take_leaders(&[told, unknown]);
        assert_eq!(table.leader(Slot(100)), 3);
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused() {
        let broken = |change: fn(&mut pb::RoutingResponse)| {
            let mut response = response(3);
            change(&mut response);
            Table::read(response).unwrap_err()
        };
        assert_eq!(broken(|r| r.slots.truncate(1)), "not every slot has an owner");
        assert_eq!(broken(|r| r.slots[1].first = 101), "ranges of slots have a gap");
        assert_eq!(broken(|r| r.slots[1].last = u32::MAX), "ranges of slots have a gap");
        assert_eq!(broken(|r| r.slots[0].shard_id = 1), "a slot of an unknown shard");
        assert_eq!(broken(|r| r.shards[0].shard_id = 9), "a shard is there twice");
        let formed = Table::read(pb::RoutingResponse::default()).unwrap();
        assert_eq!((formed.epoch, formed.slots.len()), (0, 0), "not formed yet is no mistake");
    }
}
