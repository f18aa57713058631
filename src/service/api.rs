//! The one request type all doors build, and what they get back.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::cluster::alarms::{AckAlarms, Alarm};
use crate::core::table::RoutingTable;
use crate::types::clock::Instant;
use crate::types::{
    Answer, Command, Consistency, Error, Freshness, GetOrLease, GroupId, Leased, Named, NodeId,
    Query, Reason, ReplicaId, Reply, ShardId, Step, Watch,
};

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Identity under which it may be retried; doors without one leave it out and the node makes
    /// its own for its internal retries.
    pub request_id: Option<Named>,
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
    /// Write a key.
    Write(Command),
    /// Read a key, or what is in one slot.
    Read {
        /// What to read.
        query: Query,
        /// How fresh.
        consistency: Consistency,
    },
    /// Several of them.
    Multi(Multi),
    /// Some of all keys.
    Scan(ScanRequest),
    /// How many keys are alive, each shard at its own moment.
    Size {
        /// How fresh.
        consistency: Consistency,
    },
    /// Remove every key, each shard at its own moment.
    Flush,
    /// Read a key, or get the right to fill it (`Command::Fill`).
    GetOrLease(GetOrLease),
}

/// Several operations as one request.
///
/// Not atomic: they are split by shard and the shards work at the same time. What belongs to one
/// shard is done in order, at one moment if there is a write among it and it does not touch more of large
/// values than one entry may (`TRANSACTION_WORK_BYTES_MAX`). Each operation has its own result.
///
/// Atomic: all keys must belong to one shard (`Reason::CrossShard` otherwise); see
/// `types::Transaction`.
#[derive(Clone, Debug, Default)]
pub struct Multi {
    /// The operations.
    pub steps: Vec<Step>,
    /// One transaction or nothing.
    pub atomic: bool,
    /// Keys that must be as they were; only with `atomic`.
    pub watches: Vec<Watch>,
    /// How fresh reads are of shards that nothing is written to; the others are linearizable.
    pub consistency: Consistency,
}

/// A stretch of a walk over all keys. See docs/adr/0010.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// 0 to begin, then what the last answer said.
    pub cursor: u64,
    /// Keys to look at in a shard, 1..=`limits.scan_keys_max`: a hint of how many to answer.
    pub count: u32,
    /// Glob pattern that keys must match.
    pub pattern: Option<Bytes>,
    /// How fresh.
    pub consistency: Consistency,
}

impl Operation {
    /// The key it works on; `None` if it is not about one key.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Operation::Write(command) => command.key(),
            Operation::Read { query, .. } => query.key(),
            Operation::GetOrLease(ask) => Some(&ask.key),
            Operation::Multi(_)
            | Operation::Scan(_)
            | Operation::Size { .. }
            | Operation::Flush => None,
        }
    }

    /// How many operations it counts for at the limits of the node.
    pub fn weight(&self) -> usize {
        match self {
            Operation::Multi(multi) => multi.steps.len().max(1),
            _ => 1,
        }
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Operation::Write(command) => command.payload_bytes(),
            Operation::Read { query, .. } => query.key().map_or(0, Bytes::len),
            Operation::Multi(multi) => {
                let watched = multi.watches.iter().map(|watch| watch.key.len());
                watched.chain(multi.steps.iter().map(Step::payload_bytes)).sum()
            }
            Operation::Scan(scan) => scan.pattern.as_ref().map_or(0, Bytes::len),
            Operation::GetOrLease(ask) => ask.key.len(),
            Operation::Size { .. } | Operation::Flush => 0,
        }
    }

    /// Whether it leaves everything as it is: an answer that is not given then costs its caller nothing
    /// but the question.
    pub fn only_reads(&self) -> bool {
        match self {
            Operation::Read { .. }
            | Operation::Scan(_)
            | Operation::Size { .. }
            | Operation::GetOrLease(_) => true,
            Operation::Multi(multi) => multi.steps.iter().all(|step| matches!(step, Step::Read(_))),
            Operation::Write(_) | Operation::Flush => false,
        }
    }

    /// Name for metrics and spans.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Write(command) => command.name(),
            Operation::Read { query, .. } => query.name(),
            Operation::Multi(Multi { atomic: false, .. }) => "multi",
            Operation::Multi(Multi { atomic: true, .. }) => "transaction",
            Operation::Scan(_) => "scan",
            Operation::Size { .. } => "size",
            Operation::Flush => "flush",
            Operation::GetOrLease(_) => "get_or_lease",
        }
    }
}

/// What a client gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// Of a write, of a flush (`Reply::Done`), and of an atomic request whose watched keys have
    /// changed (`Reply::Aborted`). Never `Reply::Refused`: refusals come back as `Error`.
    Written(Reply),
    /// Of a read.
    Read {
        /// What was found.
        answer: Answer,
        /// What state it shows; no log id for a read among writes.
        freshness: Freshness,
    },
    /// Of several: one for each, in order. None of them is a `Multi`.
    Multi(Vec<Result<Response, Error>>),
    /// Of a scan.
    Scanned {
        /// What to go on with; 0 at the end.
        cursor: u64,
        /// Keys found. A key may be found again when slots have moved between two calls.
        keys: Vec<Bytes>,
    },
    /// Keys alive in all shards.
    Size(u64),
    /// Of `GetOrLease`.
    Leased(Box<Leased>),
}

impl Response {
    /// Bytes of values and keys in it, those of several together.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Response::Written(reply) => reply.payload_bytes(),
            Response::Read { answer, .. } => answer.payload_bytes(),
            Response::Multi(all) => all.iter().flatten().map(Response::payload_bytes).sum(),
            Response::Scanned { keys, .. } => keys.iter().map(Bytes::len).sum(),
            Response::Size(_) => 0,
            Response::Leased(leased) => leased.payload_bytes(),
        }
    }
}

/// The one entry of all doors. A door holds no semantics.
pub trait Execute: Send + Sync + 'static {
    /// Runs one operation to its end or its deadline.
    fn execute(&self, request: Request) -> impl Future<Output = Result<Response, Error>> + Send;

    /// What this node knows of itself and the cluster.
    fn status(&self) -> NodeStatus;

    /// True if the node serves requests for every shard; what `status` says, for less.
    fn is_ready(&self) -> bool {
        self.status().ready
    }

    /// The routing table this node holds.
    fn table(&self) -> std::sync::Arc<RoutingTable>;

    /// Node that leads the shard, as this node believes; `None` if it knows of none.
    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        let _ = shard;
        None
    }

    /// Ends alarms, by whichever node leads the controller; answers those that are still active.
    /// Which are active is in `table`.
    fn acknowledge(
        &self,
        which: AckAlarms,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Alarm>, Error>> + Send {
        let _ = (which, deadline);
        std::future::ready(Err(Reason::NotReady.into()))
    }

    /// False if no majority of the shard's replicas was heard of for too long.
    fn has_quorum(&self, shard: ShardId) -> bool {
        let _ = shard;
        true
    }

    /// False if the other node cannot be reached now.
    fn is_connected(&self, node: NodeId) -> bool {
        let _ = node;
        true
    }
}

/// What a node knows; the JSON of `/status` and `raftcache status --json`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeId,
    /// Version of the software.
    pub version: String,
    /// Serves requests for every shard, by its own leader or by forwarding to one that has a quorum.
    pub ready: bool,
    /// Why it is not ready, empty if it is.
    pub not_ready_because: Vec<String>,
    /// What an operator should see to although the node serves.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Durability of the shards, as `durability` of the configuration names it; empty if unknown.
    #[serde(default)]
    pub durability: String,
    /// Other nodes of the cluster, and how many of them are connected.
    #[serde(default)]
    pub peers: usize,
    /// See `peers`.
    #[serde(default)]
    pub peers_connected: usize,
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
    /// "leader", "follower", "candidate", "learner" or "stopped". One without a quorum is no leader.
    pub role: String,
    /// Node that leads the group, if known. None without a quorum.
    pub leader: Option<NodeId>,
    /// A majority of the group was heard of lately.
    #[serde(default)]
    pub has_quorum: bool,
    /// Milliseconds since then; none if it never was.
    #[serde(default)]
    pub quorum_age_ms: Option<u64>,
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
