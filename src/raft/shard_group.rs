//! A shard's group on this node: batcher, read barrier, touches and log time around a replica.

use crate::types::clock::Instant;
use crate::types::{Consistency, Error, Found, Freshness, NodeId, Query, Reply, Write};

/// A shard's replica on this node, with its queues. Cheap to clone.
#[derive(Clone)]
pub struct ShardGroup {}

impl ShardGroup {
    /// Proposes writes, in order, in one entry with whatever else is queued. Only on the leader,
    /// otherwise `NotLeader` with a hint. One reply for each write.
    pub async fn write(&self, writes: Vec<Write>, deadline: Instant) -> Result<Vec<Reply>, Error> {
        let _ = (writes, deadline);
        unimplemented!()
    }

    /// Reads keys at a consistency. `Linearizable` and `Lease` only on the leader.
    pub async fn read(
        &self,
        queries: Vec<Query>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(Vec<Option<Found>>, Freshness), Error> {
        let _ = (queries, consistency, deadline);
        unimplemented!()
    }

    /// Node that leads the group, as believed here.
    pub fn leader(&self) -> Option<NodeId> {
        unimplemented!()
    }

    /// Waits until the leading node, as believed here, is not `seen` any more.
    pub async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        let _ = seen;
        unimplemented!()
    }
}
