//! Generated from `proto/peer.proto`, and the few rules of its sizes.
#![allow(missing_docs, clippy::all, clippy::disallowed_methods, unused_qualifications)]

use crate::types::limits::FRAME_BYTES_MAX;

tonic::include_proto!("raftcache.peer.v1");

/// Most bytes a frame takes beside its payload: five tags, four varints, two lengths.
pub const FRAME_OVERHEAD_BYTES: usize = 48;

/// Largest message, encoded: one largest frame, or several that fit together.
pub const PEER_MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 4 * 1024;

impl Frame {
    /// An upper bound of the frame's encoded size, bytes.
    pub fn size_bytes(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD_BYTES
    }
}
