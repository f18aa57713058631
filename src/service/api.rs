//! The one request type all doors build, and what they get back.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::core::table::RoutingTable;
use crate::types::clock::Instant;
use crate::types::{
    Consistency, Delete, Error, Found, Freshness, GroupId, NodeId, Query, ReplicaId, Reply,
    RequestId, Set,
};

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Identity under which it may be retried; doors without one leave it out and the node makes
    /// its own for its internal retries.
    pub request_id: Option<RequestId>,
    /// When it came in, as far back as its door can tell: what passed since is waiting.
    pub arrived: Instant,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Under which id logs follow it on every node it passes; 0 if nobody follows it.
    pub trace: u128,
}

/// What a client may ask for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Set a key.
    Set(Set),
    /// Delete a key.
    Delete(Delete),
    /// Read a key.
    Get {
        /// Which key.
        query: Query,
        /// How fresh.
        consistency: Consistency,
    },
}

impl Operation {
    /// The key it works on.
    pub fn key(&self) -> &bytes::Bytes {
        match self {
            Operation::Set(set) => &set.key,
            Operation::Delete(delete) => &delete.key,
            Operation::Get { query, .. } => &query.key,
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        let value = match self {
            Operation::Set(set) => set.value.data.len(),
            Operation::Delete(_) | Operation::Get { .. } => 0,
        };
        self.key().len() + value
    }

    /// Name for metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Set(_) => "set",
            Operation::Delete(_) => "delete",
            Operation::Get { .. } => "get",
        }
    }
}

/// What a client gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// Of a write. Never `Reply::Refused`: refusals come back as `Error`.
    Written(Reply),
    /// Of a read.
    Read {
        /// The value, if there is one.
        found: Option<Found>,
        /// What state it shows.
        freshness: Freshness,
    },
}

/// The one entry of all doors. A door holds no semantics.
pub trait Execute: Send + Sync + 'static {
    /// Runs one operation to its end or its deadline.
    fn execute(&self, request: Request) -> impl Future<Output = Result<Response, Error>> + Send;

    /// What this node knows of itself and the cluster.
    fn status(&self) -> NodeStatus;

    /// The routing table this node holds.
    fn table(&self) -> std::sync::Arc<RoutingTable>;
}

/// What a node knows; the JSON of `/status` and `raftcache status --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeId,
    /// Version of the software.
    pub version: String,
    /// Serves requests: the cluster has formed, every local replica runs, not stopping.
    pub ready: bool,
    /// Why it is not ready, empty if it is.
    pub not_ready_because: Vec<String>,
    /// What an operator should see to although the node serves.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Replicas running here.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica of this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its group.
    pub group: GroupId,
    /// Its id.
    pub replica: ReplicaId,
    /// "leader", "follower", "candidate", "learner" or "stopped".
    pub role: String,
    /// Node that leads the group, if known.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Last log index.
    pub last_index: u64,
    /// Committed index, if known.
    pub committed_index: u64,
    /// Applied index.
    pub applied_index: u64,
    /// Cache entries held.
    pub keys: u64,
    /// Logical bytes held.
    pub bytes: u64,
    /// Limit of logical bytes.
    pub bytes_max: u64,
    /// Cache entries evicted since this replica started.
    #[serde(default)]
    pub evictions: u64,
    /// Cache entries expired and reaped since this replica started.
    #[serde(default)]
    pub expirations: u64,
    /// Digest of the machine at the applied index.
    pub digest: String,
    /// Bytes of log kept in memory.
    pub log_bytes: u64,
    /// Index of the last snapshot.
    pub snapshot_index: u64,
}
