//! Follows the routing table: the local replica's as it is applied, or a peer's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::founders::Founders;
use super::handle::Controller;
use super::membership::{Backoff, HELLO_TIMEOUT, LOOK};
use super::messages::{TableAnswer, TableRequest, encode};
use crate::core::table::RoutingTable;
use crate::raft::cluster_machine::ClusterStateMachine;
use crate::raft::replica::Replica;
use crate::transport::FrameKind;
use crate::types::GroupId;
use crate::types::clock::now;

/// Longest a peer keeps a table request waiting.
const TABLE_WAIT: Duration = Duration::from_secs(4);

impl Controller {
    /// Publishes tables: the local replica's as it applies them, else those of peers.
    pub(super) async fn keep_table(&self) {
        let mut replicas = self.inner.replica.subscribe();
        let mut standing = self.standing();
        let mut rumours = self.inner.rumour.subscribe();
        let mut backoff = Backoff::default();
        let mut turn = 0;
        loop {
            let replica = replicas.borrow_and_update().clone();
            if let Some(replica) = replica {
                tokio::select! {
                    biased;
                    _ = replicas.changed() => {}
                    () = self.follow(&replica) => {}
                }
                continue;
            }
            rumours.mark_unchanged();
            standing.mark_unchanged();
            let step = async {
                match self.fetch(turn).await {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => {
                        tracing::debug!(error, "no table");
                        sleep(backoff.next()).await;
                    }
                }
                turn += 1;
            };
            tokio::select! {
                biased;
                _ = replicas.changed() => {}
                _ = rumours.changed() => {}
                _ = standing.changed() => {}
                () = step => {}
            }
        }
    }

    async fn follow(&self, replica: &Replica<ClusterStateMachine>) {
        let mut index = 0;
        loop {
            self.publish(replica.with_machine(ClusterStateMachine::table));
            let applied = replica.applied_past(index).await;
            if applied <= index {
                // The replica stopped.
                sleep(LOOK).await;
            }
            index = applied;
        }
    }

    /// Asks one peer for a newer table: by turns the one that spoke of it and one of those that
    /// hold the controller.
    pub(super) async fn fetch(&self, turn: usize) -> Result<(), String> {
        let epoch = self.inner.table.borrow().epoch;
        let rumour = *self.inner.rumour.borrow();
        let told = rumour.0 > epoch && rumour.1 != self.node() && turn.is_multiple_of(2);
        let peer = if told { Some(rumour.1) } else { self.some_peer(turn) };
        let peer = peer.ok_or("no peer is known")?;
        let wait_ms = u64::try_from(TABLE_WAIT.as_millis()).unwrap_or(u64::MAX);
        let request = encode(&TableRequest { epoch, wait_ms });
        let until = now() + TABLE_WAIT + HELLO_TIMEOUT;
        let call =
            self.inner.transport.call(peer, GroupId::CONTROLLER, FrameKind::Table, request, until);
        let answer = call.await.map_err(|error| error.to_string())?;
        let answer = TableAnswer::decode(&answer).map_err(|refusal| refusal.to_string())?;
        let Some(table) = answer.newer else { return Ok(()) };
        let ours = self.inner.formation.lock().settled().map(Founders::cluster_id);
        if !table.is_consistent() || Some(table.cluster_id) != ours {
            return Err(format!("{peer} sent a table that is not of this cluster"));
        }
        self.publish(Arc::new(table));
        Ok(())
    }

    fn publish(&self, table: Arc<RoutingTable>) {
        self.inner.table.send_if_modified(|known| {
            let newer = table.epoch > known.epoch;
            if newer {
                *known = table;
            }
            newer
        });
    }

    /// Gives the transport the registered addresses.
    pub(super) async fn keep_addresses(&self) {
        let mut tables = self.table();
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            for (node, info) in table.nodes.iter().filter(|(node, _)| **node != self.node()) {
                self.inner.transport.set_address(*node, &info.peer_addr);
            }
            if tables.changed().await.is_err() {
                return;
            }
        }
    }
}
