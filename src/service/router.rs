//! From a key to the replica that can serve it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::sleep_until;

use super::local_group::LocalGroup;
use super::registry::Registry;
use super::unit::Route;
use crate::core::table::RoutingTable;
use crate::transport::SharedTransport;
use crate::types::clock::{Instant, now};
use crate::types::watch;
use crate::types::{GroupId, NodeId, RoutingEpoch, ShardId};

/// How long the local replica's word that there is no leader is trusted before other replicas are
/// asked: it may itself be cut off.
const LEADERLESS_MS_MAX: u64 = 250;

/// Where things are, as this node knows.
pub(super) struct Router<G> {
    node: NodeId,
    registry: Registry<G>,
    /// Knows which peers are connected.
    transport: SharedTransport,
    table: watch::Receiver<Arc<RoutingTable>>,
    /// Largest epoch seen in any answer; who fetches the table watches it.
    epoch_seen: Arc<watch::Sender<RoutingEpoch>>,
    /// Leaders of groups without a replica here, learned from answers.
    // parking_lot: a look-up in a map, never across an await.
    leaders: RwLock<BTreeMap<GroupId, NodeId>>,
}

/// A key's group, at the time of the look-up.
pub(super) struct Located<G> {
    pub(super) shard: ShardId,
    pub(super) group: GroupId,
    /// This node's replica, if it has one.
    pub(super) local: Option<G>,
    /// What a wait for changes begins from.
    pub(super) seen: Seen,
}

/// State of the node's knowledge at a look-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    epoch: RoutingEpoch,
    registry: u64,
}

/// Where to send an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The replica of this node.
    Local,
    /// The replica of another node.
    Remote(NodeId),
    /// Nobody is known who could serve it.
    Nowhere,
}

impl<G: LocalGroup> Located<G> {
    /// True if this node's replica heard of no majority for too long.
    pub(super) fn has_lost_quorum(&self) -> bool {
        self.local.as_ref().and_then(LocalGroup::lost_quorum).is_some()
    }
}

impl<G: LocalGroup> Router<G> {
    pub(super) fn new(
        node: NodeId,
        registry: Registry<G>,
        transport: SharedTransport,
        table: watch::Receiver<Arc<RoutingTable>>,
        epoch_seen: Arc<watch::Sender<RoutingEpoch>>,
    ) -> Self {
        Router { node, registry, transport, table, epoch_seen, leaders: RwLock::default() }
    }

    pub(super) fn registry(&self) -> &Registry<G> {
        &self.registry
    }

    pub(super) fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.table.borrow())
    }

    pub(super) fn epoch(&self) -> RoutingEpoch {
        self.table.borrow().epoch
    }

    /// The group that serves a slot or a shard. Before the shards are placed, what a wait for them
    /// begins from.
    pub(super) fn locate(&self, route: Route) -> Result<Located<G>, Seen> {
        let (owner, epoch) = {
            let table = self.table.borrow();
            let owner = match route {
                Route::Slot(slot) => table.owner(slot),
                Route::Shard(shard) => table.shards.contains_key(&shard).then_some(shard),
            };
            (owner, table.epoch)
        };
        let Some(shard) = owner else {
            return Err(Seen { epoch, registry: self.registry.change() });
        };
        let group = GroupId::of_shard(shard);
        let (local, registry) = self.registry.look(group);
        Ok(Located { shard, group, local, seen: Seen { epoch, registry } })
    }

    /// What a wait for a change of the table or of this node's groups begins from.
    pub(super) fn seen(&self) -> Seen {
        Seen { epoch: self.epoch(), registry: self.registry.change() }
    }

    /// Node that leads the group, as its replica here believes, or as answers told where there is none.
    pub(super) fn leader(&self, group: GroupId) -> Option<NodeId> {
        match self.registry.get(group) {
            Some(local) => local.leader(),
            None => self.leaders.read().get(&group).copied(),
        }
    }

    /// The replica to ask for what only the leader may serve. `avoid` is a node that just failed
    /// without a hint; `turn` moves on through the replicas where there is no better knowledge;
    /// `doubt_local` asks others although the local replica knows no leader.
    pub(super) fn to_leader(
        &self,
        at: &Located<G>,
        avoid: Option<NodeId>,
        turn: u32,
        doubt_local: bool,
    ) -> Target {
        let believed = match &at.local {
            Some(local) => local.leader(),
            None => self.leaders.read().get(&at.group).copied(),
        };
        match believed {
            Some(node) if node == self.node && at.local.is_some() => return Target::Local,
            Some(node) if node != self.node && Some(node) != avoid => return Target::Remote(node),
            None if self.is_alone(at) => return Target::Nowhere,
            None if at.local.is_some() && !doubt_local && !at.has_lost_quorum() => {
                return Target::Nowhere;
            }
            _ => {}
        }
        self.any_remote(at, avoid, turn).map_or(Target::Nowhere, Target::Remote)
    }

    /// True if this is the node itself, or one that is connected.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        node == self.node || self.transport.is_connected(node)
    }

    /// True if this node's replica has lost its quorum and no other node that holds one is connected.
    fn is_alone(&self, at: &Located<G>) -> bool {
        at.has_lost_quorum() && self.connected(at.group) == 0
    }

    /// Other nodes with a replica that are connected.
    fn connected(&self, group: GroupId) -> usize {
        let table = self.table.borrow();
        let replicas = table.placement(group).map_or(&[][..], |placed| &placed.replicas);
        let others = replicas.iter().map(|replica| replica.node).filter(|node| *node != self.node);
        others.filter(|node| self.transport.is_connected(*node)).count()
    }

    /// The replica to ask for what any replica may serve.
    pub(super) fn to_any(&self, at: &Located<G>, avoid: Option<NodeId>, turn: u32) -> Target {
        if at.local.is_some() && avoid != Some(self.node) {
            return Target::Local;
        }
        self.any_remote(at, avoid, turn).map_or(Target::Nowhere, Target::Remote)
    }

    /// The node a hint points at.
    pub(super) fn to_hint(&self, at: &Located<G>, hint: NodeId) -> Target {
        match (hint == self.node, &at.local) {
            (false, _) => Target::Remote(hint),
            (true, Some(_)) => Target::Local,
            (true, None) => Target::Nowhere,
        }
    }

    /// Another node with a replica: not `avoid`, unless it is the only one, and one that is connected
    /// if there is any.
    fn any_remote(&self, at: &Located<G>, avoid: Option<NodeId>, turn: u32) -> Option<NodeId> {
        let some_connected = self.connected(at.group) > 0;
        let table = self.table.borrow();
        let nodes = || {
            let replicas = table.placement(at.group).map_or(&[][..], |placed| &placed.replicas);
            let others = replicas.iter().map(|replica| replica.node).filter(|n| *n != self.node);
            others.filter(|node| !some_connected || self.transport.is_connected(*node))
        };
        let others = nodes().filter(|node| Some(*node) != avoid).count();
        if others == 0 {
            return nodes().next();
        }
        // Each node begins elsewhere, so that they do not all ask the same replica.
        let turn = self.node.0.wrapping_add(turn.into()) % others as u64;
        nodes().filter(|node| Some(*node) != avoid).nth(usize::try_from(turn).ok()?)
    }

    /// A node served what only a leader serves.
    pub(super) fn learn_leader(&self, group: GroupId, leader: NodeId) {
        // The common case changes nothing and takes no exclusive lock.
        if self.leaders.read().get(&group) != Some(&leader) {
            self.leaders.write().insert(group, leader);
        }
    }

    /// A node turned out not to lead.
    pub(super) fn forget_leader(&self, group: GroupId, node: NodeId) {
        if self.leaders.read().get(&group) == Some(&node) {
            self.leaders.write().remove(&group);
        }
    }

    /// Some answer carried this epoch.
    pub(super) fn learn_epoch(&self, epoch: RoutingEpoch) {
        if epoch <= *self.epoch_seen.borrow() {
            return;
        }
        self.epoch_seen.send_if_modified(|seen| {
            let newer = epoch > *seen;
            *seen = epoch.max(*seen);
            newer
        });
    }

    /// Waits until the table, this node's groups or the leader as believed here change, at most
    /// until `until`. True if something changed. `believed` is what the local replica said.
    pub(super) async fn changed(
        &self,
        at: Option<&Located<G>>,
        believed: Option<NodeId>,
        seen: Seen,
        until: Instant,
    ) -> bool {
        let mut tables = self.table.clone();
        let table_changed = async {
            // The sender lives as long as the node. At its end only the timer is left.
            if tables.wait_for(|table| table.epoch != seen.epoch).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let leader_changed = async {
            match at.and_then(|at| at.local.as_ref()) {
                Some(local) => local.leader_changed(believed).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = table_changed => true,
            () = self.registry.changed(seen.registry) => true,
            _ = leader_changed => true,
            () = sleep_until(until) => false,
        }
    }

    /// How long to trust the local replica's word that there is no leader.
    pub(super) fn leaderless_until(&self) -> Instant {
        now() + Duration::from_millis(LEADERLESS_MS_MAX)
    }
}
