//! Generated from `proto/peer.proto`, and the few rules of its sizes.
#![allow(missing_docs, clippy::all, clippy::disallowed_methods, unused_qualifications)]

use crate::types::limits::FRAME_BYTES_MAX;

tonic::include_proto!("raftcache.peer.v1");

/// Most bytes a frame takes beside its payload: five tags, four varints, two lengths.
pub const FRAME_OVERHEAD_BYTES: usize = 48;

/// Largest message, encoded: one largest frame, or several that fit together.
pub const PEER_MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 4 * 1024;

impl Hello {
    /// Of `node`, which belongs to `cluster_id`; 0 if it knows none.
    pub fn of(node: u64, protocol: u32, cluster_id: u128) -> Self {
        let (cluster_high, cluster_low) = ((cluster_id >> 64) as u64, cluster_id as u64);
        Hello { node, protocol, cluster_high, cluster_low }
    }

    /// The cluster it names; 0 for none.
    pub fn cluster_id(&self) -> u128 {
        u128::from(self.cluster_high) << 64 | u128::from(self.cluster_low)
    }
}

impl Frame {
    /// An upper bound of the frame's encoded size, bytes.
    pub fn size_bytes(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::transport::{FrameKind, PROTOCOL_VERSION};

    /// A change of these bytes needs a new protocol version.
    #[test]
    fn golden_bytes() {
        assert_eq!(PROTOCOL_VERSION, 3);
        let payload = Bytes::from_static(b"ab");
        let frame = |status: Status| Frame {
            id: 300,
            group: 7,
            kind: FrameKind::Forward.tag(),
            status: status.into(),
            payload: payload.clone(),
        };
        let hello = Some(Hello::of(2, PROTOCOL_VERSION, 0));
        let message = PeerMessage { hello, frames: vec![frame(Status::Failed)] };
        let expected =
            b"\x0a\x04\x08\x02\x10\x03\x12\x0d\x08\xac\x02\x10\x07\x18\x06\x20\x03\x2a\x02ab";
        assert_eq!(message.encode_to_vec(), expected);
        assert_eq!(PeerMessage::decode(&expected[..]).unwrap(), message);
        let hello = Hello::of(2, PROTOCOL_VERSION, 5 << 64 | 6);
        let expected = b"\x08\x02\x10\x03\x19\x05\0\0\0\0\0\0\0\x21\x06\0\0\0\0\0\0\0";
        assert_eq!((hello.encode_to_vec(), hello.cluster_id()), (expected.to_vec(), 5 << 64 | 6));
        let tags = [Status::Request, Status::Answer, Status::Refused, Status::Failed];
        assert_eq!(tags.map(i32::from), [0, 1, 2, 3]);
    }

    #[test]
    fn kinds_keep_their_tags() {
        use FrameKind::*;
        let kinds = [
            Append,
            Vote,
            PreVote,
            TransferLeader,
            Snapshot,
            Forward,
            Hello,
            Control,
            Table,
            Status,
        ];
        for (tag, kind) in (1..).zip(kinds) {
            assert_eq!(kind.tag(), tag);
            assert_eq!(FrameKind::from_tag(tag), Some(kind));
        }
        assert_eq!(FrameKind::from_tag(0), None);
        assert_eq!(FrameKind::from_tag(11), None);
        assert_eq!(FrameKind::from_tag(u32::MAX), None);
    }

    #[test]
    fn overhead_covers_the_largest_numbers() {
        let payload = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        let frame =
            Frame { id: u64::MAX, group: u32::MAX, kind: u32::MAX, status: i32::MIN, payload };
        let size_bytes = frame.size_bytes();
        let message = PeerMessage { hello: None, frames: vec![frame] };
        assert!(message.encoded_len() <= size_bytes);
        assert!(size_bytes <= PEER_MESSAGE_BYTES_MAX);
    }
}
