//! F3: peer connections. Bytes and a group id, nothing more.
//!
//! The way of a call: [`tonic_peer`] -> [`link`] (queue) -> [`outbox`] (one message of all that is
//! queued) -> the peer's [`server`] and [`connection`] -> its [`Handler`] -> back over the same
//! stream -> [`dial`] (reader) -> [`link`] (the waiting caller). [`sim`] stands in for all of it
//! under virtual time.

pub mod connection;
pub mod cork;
pub mod dial;
pub mod link;
pub mod options;
pub mod outbox;
pub mod proto;
pub mod server;
pub mod sim;
mod sim_link;
mod step_back;
pub mod tonic_peer;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::types::clock::Instant;
use crate::types::{GroupId, NodeId};

/// What a frame asks for. Tags go over the wire, append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Raft append entries and heartbeats.
    Append = 1,
    /// Raft vote.
    Vote = 2,
    /// Raft pre-vote.
    PreVote = 3,
    /// Raft leadership transfer.
    TransferLeader = 4,
    /// One chunk of a snapshot.
    Snapshot = 5,
    /// Client operations for a group, forwarded to its leader's node.
    Forward = 6,
    /// Who are you: used to form the cluster (group is the controller).
    Hello = 7,
    /// Operations for the controller, forwarded to its leader's node.
    Control = 8,
    /// Fetch the routing table.
    Table = 9,
    /// Fetch a node's status (for `raftcache status` and the balancer).
    Status = 10,
}

impl FrameKind {
    /// The kind of a tag from the wire; `None` if this version knows none such.
    pub fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            1 => FrameKind::Append,
            2 => FrameKind::Vote,
            3 => FrameKind::PreVote,
            4 => FrameKind::TransferLeader,
            5 => FrameKind::Snapshot,
            6 => FrameKind::Forward,
            7 => FrameKind::Hello,
            8 => FrameKind::Control,
            9 => FrameKind::Table,
            10 => FrameKind::Status,
            _ => return None,
        })
    }

    /// The tag on the wire.
    pub fn tag(self) -> u32 {
        self as u32
    }
}

/// Why a call to a peer failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Surely not delivered: no address, no connection, queue full.
    #[error("peer {peer} is unreachable: {detail}")]
    Unreachable {
        /// The peer.
        peer: NodeId,
        /// What was seen.
        detail: String,
    },
    /// May have been delivered: the connection broke or the deadline passed after sending.
    #[error("no answer from peer {peer}: {detail}")]
    NoAnswer {
        /// The peer.
        peer: NodeId,
        /// What was seen.
        detail: String,
    },
    /// The peer's handler refused before doing anything (unknown group, shutting down).
    #[error("peer {peer} refused: {detail}")]
    Refused {
        /// The peer.
        peer: NodeId,
        /// Its words.
        detail: String,
    },
}

/// A peer's handler refuses a frame (unknown group, malformed, stopping): nothing was done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Version of the peer protocol: of `peer.proto` and of what the payloads hold. Nodes of unequal
/// versions do not talk.
pub const PROTOCOL_VERSION: u32 = 3;

/// Serves the frames of peers. `handle` is called in the order frames arrive on a connection; the
/// returned future is polled once before the next frame is handled, then runs concurrently. It is
/// dropped unfinished when the connection breaks: what must outlive the caller is not in it.
pub trait Handler: Send + Sync + 'static {
    /// The cluster this node belongs to; 0 while it knows none. Once it does, only nodes that name the
    /// same one are served anything but `Hello`.
    fn cluster_id(&self) -> u128 {
        0
    }

    /// Answers one frame.
    fn handle(
        &self,
        from: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>>;
}

/// Calls peers. One multiplexed, ordered connection for each ordered pair of nodes; frames queued
/// together travel together. Connections are kept and re-made with back-off; a call to a peer that
/// is known to be down fails at once.
pub trait Transport: Send + Sync + Debug + 'static {
    /// Sends a frame and waits for the answer until `deadline`. The frame is queued before the
    /// returned future is first polled, so calls made in order are delivered in order. Dropping
    /// the future withdraws a frame that was not yet sent.
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>>;

    /// The node knows its cluster, from now on and for ever: peers hear of it. A network that has one
    /// cluster only need not care.
    fn set_cluster(&self, cluster_id: u128) {
        let _ = cluster_id;
    }

    /// True while frames can flow to a peer and its answers come: a peer that does not give a sign of
    /// life for a second and a half is not connected.
    fn is_connected(&self, peer: NodeId) -> bool;

    /// Learns or changes a peer's address.
    fn set_address(&self, peer: NodeId, address: &str);

    /// Calls an address whose node id is not known yet (only for `Hello`).
    fn call_address(
        &self,
        address: &str,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, Error>>;
}

/// Shared handle.
pub type SharedTransport = Arc<dyn Transport>;

/// How a node of another cluster is named, to itself and in the log.
pub(crate) fn other_cluster(who: &str, theirs: u128, ours: u128) -> String {
    format!("{who} belongs to cluster {theirs:032x}, this node to {ours:032x}")
}

#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tonic_cluster_tests;
#[cfg(test)]
mod tonic_tests;
