//! openraft's type parameters, chosen once.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use super::machine::Applied;
use super::runtime::SeededRuntime;
use crate::types::{NodeId, ReplicaId};

/// Payload of a normal entry: encoded once by the proposer, the same bytes in every log and frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload(pub Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a membership says of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReplicaNode {
    /// Node the replica lives on; the transport knows its address.
    pub node: NodeId,
}

openraft::declare_raft_types!(
    /// One leader a term, as in the Raft paper: a log id is (term, index).
    pub TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = ReplicaId,
        Node = ReplicaNode,
        Term = u64,
        LeaderId = LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = SeededRuntime,
);

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// A log id from its parts.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, ReplicaId(0)).to_committed(), index)
}

/// Term of a log id.
pub fn term_of(id: &LogId) -> u64 {
    *id.leader_id
}
