//! One replica of one group: openraft, its log, its state machine, its frames.

use std::sync::Arc;

use bytes::Bytes;

use super::machine::{Applied, StateMachine};
use crate::transport::{FrameKind, Refusal};
use crate::types::clock::Instant;
use crate::types::{Error, LogKey, NodeId, ReplicaId};

/// One replica of one group. Cheap to clone.
pub struct Replica<M: StateMachine> {
    inner: Arc<std::marker::PhantomData<M>>,
}

impl<M: StateMachine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Replica { inner: Arc::clone(&self.inner) }
    }
}

/// Who leads a group, as this replica believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Term of the leadership.
    pub term: u64,
    /// Replica that leads.
    pub replica: ReplicaId,
    /// Node it lives on.
    pub node: NodeId,
}

impl<M: StateMachine> Replica<M> {
    /// Whose log this is.
    pub fn key(&self) -> LogKey {
        unimplemented!()
    }

    /// Makes these replicas the first members. Safe to call on several of them and again.
    pub async fn initialize(&self, members: &[(ReplicaId, NodeId)]) -> Result<(), Error> {
        let _ = members;
        unimplemented!()
    }

    /// True once the group has members.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        unimplemented!()
    }

    /// Proposes one payload and waits until it is applied here. Only on the leader, otherwise
    /// `NotLeader`. Outcomes follow INV-5.
    pub async fn propose(&self, payload: Bytes, deadline: Instant) -> Result<Applied, Error> {
        let _ = (payload, deadline);
        unimplemented!()
    }

    /// Read index: after it returns, the local machine shows at least every write acknowledged
    /// before the call. Only on the leader.
    pub async fn barrier(&self, deadline: Instant) -> Result<(), Error> {
        let _ = deadline;
        unimplemented!()
    }

    /// Looks at the machine as applied now. Keep it short: applies wait.
    pub fn with_machine<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        let _ = look;
        unimplemented!()
    }

    /// Leader as believed now.
    pub fn leader(&self) -> Option<Leader> {
        unimplemented!()
    }

    /// True if this replica leads and has committed an entry of its term.
    pub fn is_leader(&self) -> bool {
        unimplemented!()
    }

    /// Waits until the leader, as believed here, is not `seen` any more.
    pub async fn leader_changed(&self, seen: Option<Leader>) -> Option<Leader> {
        let _ = seen;
        unimplemented!()
    }

    /// Waits until more than `index` entries are applied; returns the applied index.
    pub async fn applied_past(&self, index: u64) -> u64 {
        let _ = index;
        unimplemented!()
    }

    /// Hands leadership to another voter and waits until it is gone from here.
    pub async fn hand_over(&self, deadline: Instant) -> Result<(), Error> {
        let _ = deadline;
        unimplemented!()
    }

    /// Serves a Raft frame (append, vote, pre-vote, transfer, snapshot) of a peer.
    pub async fn handle(
        &self,
        from: NodeId,
        kind: FrameKind,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let _ = (from, kind, payload);
        unimplemented!()
    }

    /// Stops the replica and awaits its tasks.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
