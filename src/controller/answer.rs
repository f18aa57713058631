//! What this node answers its peers: hello, control, table.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout_at;

use super::founders::Founders;
use super::handle::{ATTEMPT, Controller};
use super::messages::{
    ControlAnswer, ControlRequest, Hello, TableAnswer, TableRequest, decode, encode,
};
use crate::core::table::RoutingTable;
use crate::transport::{FrameKind, Refusal, other_cluster};
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
        check_founders(hello)?;
        if let Some(theirs) = self.foreign(hello) {
            // It hears whose node this is, and no more is done with it.
            self.tell_foreign(hello, theirs);
            return Ok(encode(&self.hello()));
        }
        self.inner.formation.lock().called(hello);
        // Persist, then reply: who told us may rely on it that we will not forget.
        self.adopt(false);
        self.inner.called.notify_one();
        self.learn(hello);
        Ok(encode(&self.hello()))
    }

    /// The cluster of the sender, if that is another one than this node's.
    pub(super) fn foreign(&self, hello: &Hello) -> Option<u128> {
        let theirs = hello.founders.as_ref()?;
        let formation = self.inner.formation.lock();
        let other = formation.settled().is_some_and(|ours| ours != theirs);
        other.then(|| theirs.cluster_id())
    }

    /// A node of another cluster is told of by name, not more often than it helps.
    pub(super) fn tell_foreign(&self, hello: &Hello, theirs: u128) {
        if self.inner.foreign_told.allows(hello.node) {
            let (address, ours) = (&hello.info.peer_addr, self.cluster_id());
            let reason = other_cluster(&hello.node.to_string(), theirs, ours);
            tracing::warn!(address, reason, "a node of another cluster is refused");
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
        match self.propose_here(&replica, request.command, until).await {
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

/// Refuses founders that cannot be.
pub(super) fn check_founders(hello: &Hello) -> Result<(), Refusal> {
    match hello.founders.as_ref().is_none_or(Founders::is_valid) {
        true => Ok(()),
        false => Err(Refusal("hello: founders are malformed".to_owned())),
    }
}
