//! What this node answers its peers: hello, control, table.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout_at;

use super::handle::{ATTEMPT, Controller, propose_here};
use super::messages::{
    ControlAnswer, ControlRequest, Hello, TableAnswer, TableRequest, decode, encode,
};
use crate::core::table::RoutingTable;
use crate::transport::{FrameKind, Refusal};
use crate::types::clock::now;
use crate::types::{Error, NodeId, Outcome, Reason};

/// Longest a peer's table request is kept waiting for a newer table.
const TABLE_WAIT_MAX: Duration = Duration::from_secs(5);

impl Controller {
    /// Answers a peer's hello, control or table frame.
    ///
    /// # Errors
    /// The frame is malformed, of another kind, or of another cluster.
    pub async fn handle(
        &self,
        from: NodeId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        match kind {
            FrameKind::Hello => self.on_hello(&decode(&payload, "hello")?),
            FrameKind::Control => Ok(encode(&self.on_control(decode(&payload, "control")?).await)),
            FrameKind::Table => {
                let request: TableRequest = decode(&payload, "table request")?;
                self.saw_epoch(from, request.epoch);
                Ok(self.on_table(request).await.encode())
            }
            kind => Err(Refusal(format!("{kind:?} is not for the controller"))),
        }
    }

    fn on_hello(&self, hello: &Hello) -> Result<Bytes, Refusal> {
        self.check_hello(hello)?;
        self.inner.formation.lock().called(hello);
        // Persist, then reply: who told us may rely on it that we will not forget.
        self.adopt(false);
        self.inner.called.notify_one();
        self.learn(hello);
        Ok(encode(&self.hello()))
    }

    /// Refuses what cannot be true and what belongs to another cluster.
    pub(super) fn check_hello(&self, hello: &Hello) -> Result<(), Refusal> {
        let Some(theirs) = &hello.founders else { return Ok(()) };
        if !theirs.is_valid() {
            return Err(Refusal("hello: founders are malformed".to_owned()));
        }
        let formation = self.inner.formation.lock();
        match formation.settled() {
            Some(ours) if ours != theirs => Err(Refusal(format!(
                "{} belongs to cluster {:032x}, {} to {:032x}",
                hello.node,
                theirs.cluster_id(),
                self.node(),
                ours.cluster_id()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes address and epoch from a hello, unless the cluster knows that node by another store:
    /// an impostor must not draw its traffic.
    pub(super) fn learn(&self, hello: &Hello) {
        if hello.node == self.node() {
            return;
        }
        let table = Arc::clone(&self.inner.table.borrow());
        let known = table.nodes.get(&hello.node).map(|info| info.store_id).or_else(|| {
            let formation = self.inner.formation.lock();
            Some(formation.settled()?.get(hello.node)?.store_id)
        });
        if known.is_none_or(|store_id| store_id == hello.info.store_id) {
            self.inner.transport.set_address(hello.node, &hello.info.peer_addr);
        }
        self.saw_epoch(hello.node, hello.epoch);
    }

    /// What this node says of itself.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            node: self.node(),
            info: self.inner.settings.info.clone(),
            founders: self.inner.formation.lock().settled().cloned(),
            epoch: self.inner.table.borrow().epoch,
        }
    }

    async fn on_control(&self, request: ControlRequest) -> ControlAnswer {
        let Some(replica) = self.replica() else { return ControlAnswer::NotLeader(None) };
        if !replica.is_leader() {
            return ControlAnswer::NotLeader(replica.leader().map(|leader| leader.node));
        }
        let until = now() + ATTEMPT.min(Duration::from_millis(request.timeout_ms));
        match propose_here(&replica, request.command, until).await {
            Ok(reply) => ControlAnswer::Reply(reply),
            Err(Error { reason: Reason::NotLeader { leader, .. }, .. }) => {
                ControlAnswer::NotLeader(leader)
            }
            Err(error) => ControlAnswer::Failed {
                unknown: error.outcome() == Outcome::Unknown,
                detail: error.to_string(),
            },
        }
    }

    /// Answers when there is a newer table, or that there is none when the wait is over.
    async fn on_table(&self, request: TableRequest) -> TableAnswer {
        let until = now() + TABLE_WAIT_MAX.min(Duration::from_millis(request.wait_ms));
        let mut tables = self.inner.table.subscribe();
        let newer = |table: &Arc<RoutingTable>| table.epoch > request.epoch;
        let wait = async { tables.wait_for(newer).await.map(|table| RoutingTable::clone(&table)) };
        tokio::select! {
            biased;
            () = self.inner.cancel.cancelled() => TableAnswer { newer: None },
            found = timeout_at(until, wait) => {
                TableAnswer { newer: found.ok().and_then(Result::ok) }
            }
        }
    }
}
