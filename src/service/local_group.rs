//! What the service asks of a group's replica on this node.

use std::future::Future;

use crate::raft::shard_group::ShardGroup;
use crate::types::clock::Instant;
use crate::types::{
    Answer, Consistency, Error, Freshness, GetOrLease, Leased, NodeId, Query, Reply, Write,
};

/// A group's replica on this node. Clones are handles to the same replica.
pub trait LocalGroup: Clone + Send + Sync + 'static {
    /// Proposes writes, in order, as one unit. Ends by `deadline`. One reply for each write.
    fn write(
        &self,
        writes: Vec<Write>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Reply>, Error>> + Send;

    /// Reads at a consistency. Ends by `deadline`. One answer for each query.
    fn read(
        &self,
        queries: Vec<Query>,
        consistency: Consistency,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Vec<Answer>, Freshness), Error>> + Send;

    /// Reads a key, or hands out the right to fill it, or waits for who has it. Ends by `deadline`.
    fn get_or_lease(
        &self,
        ask: &GetOrLease,
        deadline: Instant,
    ) -> impl Future<Output = Result<Leased, Error>> + Send;

    /// What callers are told if no majority of the group was heard of here for so long that they
    /// should not wait for one; nothing was proposed.
    fn lost_quorum(&self) -> Option<Error> {
        None
    }

    /// Node that leads the group, as believed here; none that has no quorum.
    fn leader(&self) -> Option<NodeId>;

    /// Waits until the leading node, as believed here, is not `seen` any more.
    fn leader_changed(&self, seen: Option<NodeId>) -> impl Future<Output = Option<NodeId>> + Send;
}

impl LocalGroup for ShardGroup {
    async fn write(&self, writes: Vec<Write>, deadline: Instant) -> Result<Vec<Reply>, Error> {
        ShardGroup::write(self, writes, deadline).await
    }

    async fn read(
        &self,
        queries: Vec<Query>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(Vec<Answer>, Freshness), Error> {
        ShardGroup::read(self, queries, consistency, deadline).await
    }

    async fn get_or_lease(&self, ask: &GetOrLease, deadline: Instant) -> Result<Leased, Error> {
        ShardGroup::get_or_lease(self, ask, deadline).await
    }

    fn lost_quorum(&self) -> Option<Error> {
        ShardGroup::lost_quorum(self)
    }

    fn leader(&self) -> Option<NodeId> {
        ShardGroup::leader(self)
    }

    async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        ShardGroup::leader_changed(self, seen).await
    }
}
