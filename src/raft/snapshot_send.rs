//! Sends a snapshot file in chunks, a few in flight: the receiver's answers are the back-pressure.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use openraft::errors::{NetworkError, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;

use super::frame_codec::{addressed, decode};
use super::network::NetworkContext;
use super::runtime::random_u64;
use super::state_store::encode_meta;
use super::types::{SnapshotMeta, TypeConfig, Vote};
use crate::storage::snapshot_files::{SnapshotFile, SnapshotFiles};
use crate::transport::{self, FrameKind};
use crate::types::clock::now;
use crate::types::limits::SNAPSHOT_CHUNKS_IN_FLIGHT_MAX;
use crate::types::{NodeId, ReplicaId, wire};

/// Longest wait for the answer to a chunk: a lost one is noticed long before the transfer's end,
/// whose answer comes after the snapshot is installed.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);

const BEGIN: u8 = 0;
const CHUNK: u8 = 1;
const END: u8 = 2;

/// One frame of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotFrame {
    /// Starts a transfer.
    Begin {
        /// Vote of the sending leader.
        vote: Vote,
        /// Encoded metadata.
        meta: Bytes,
    },
    /// The next chunk.
    Chunk(Bytes),
    /// All chunks were sent: install.
    End,
}

/// Encodes a frame of transfer `id`, the `sequence`-th.
pub fn encode_frame(id: u64, sequence: u64, frame: &SnapshotFrame) -> Bytes {
    let body = match frame {
        SnapshotFrame::Begin { meta, .. } => meta.len(),
        SnapshotFrame::Chunk(chunk) => chunk.len(),
        SnapshotFrame::End => 0,
    };
    let mut out = BytesMut::with_capacity(64 + body);
    out.put_u64_le(id);
    wire::put_varint(&mut out, sequence);
    match frame {
        SnapshotFrame::Begin { vote, meta } => {
            out.put_u8(BEGIN);
            super::entry_codec::put_vote(&mut out, vote);
            out.put_slice(meta);
        }
        SnapshotFrame::Chunk(chunk) => {
            out.put_u8(CHUNK);
            out.put_slice(chunk);
        }
        SnapshotFrame::End => out.put_u8(END),
    }
    out.freeze()
}

/// Decodes a frame: transfer id, sequence and content.
pub fn decode_frame(mut input: Bytes) -> Result<(u64, u64, SnapshotFrame), wire::Error> {
    let id = wire::get_u64(&mut input, "transfer id")?;
    let sequence = wire::get_varint(&mut input, "transfer sequence")?;
    let frame = match wire::get_u8(&mut input, "snapshot frame")? {
        BEGIN => {
            let vote = super::entry_codec::get_vote(&mut input)?;
            SnapshotFrame::Begin { vote, meta: input }
        }
        CHUNK => SnapshotFrame::Chunk(input),
        END => {
            wire::finish(&input, "snapshot end")?;
            SnapshotFrame::End
        }
        tag => return Err(wire::Error::Tag { what: "snapshot frame", tag: tag.into() }),
    };
    Ok((id, sequence, frame))
}

type Streaming<T> = Result<T, StreamingError<TypeConfig>>;

fn lost(error: &transport::Error) -> StreamingError<TypeConfig> {
    StreamingError::Unreachable(Unreachable::new(error))
}

/// Sends a stored snapshot and waits until the peer has installed or refused it.
pub async fn send_snapshot(
    context: NetworkContext,
    to: (NodeId, ReplicaId),
    vote: Vote,
    meta: &SnapshotMeta,
    file: SnapshotFile,
    timeout: Duration,
) -> Streaming<SnapshotResponse<TypeConfig>> {
    let mut transfer = Transfer { context, to, id: random_u64(), sequence: 0, timeout };
    let mut in_flight: VecDeque<BoxFuture<'static, Result<Bytes, transport::Error>>> =
        VecDeque::new();
    in_flight.push_back(transfer.send(&SnapshotFrame::Begin { vote, meta: encode_meta(meta) }));
    let mut file = Some(file);
    while let Some(reader) = file.take() {
        let (chunk, reader) = read_chunk(&transfer.context.files, reader).await.map_err(|e| {
            // A damaged file surfaces as a failed transfer; the log says which.
            tracing::error!(group = %transfer.context.group, error = %e, "snapshot not readable");
            StreamingError::Network(NetworkError::new(&e))
        })?;
        let Some(chunk) = chunk else { break };
        file = Some(reader);
        in_flight.push_back(transfer.send(&SnapshotFrame::Chunk(chunk)));
        while in_flight.len() >= SNAPSHOT_CHUNKS_IN_FLIGHT_MAX
            && let Some(answer) = in_flight.pop_front()
        {
            answer.await.map_err(|e| lost(&e))?;
        }
    }
    for answer in in_flight {
        answer.await.map_err(|e| lost(&e))?;
    }
    let answer = transfer.send(&SnapshotFrame::End).await.map_err(|e| lost(&e))?;
    decode(&answer, "snapshot response")
        .map_err(|e| StreamingError::Unreachable(Unreachable::new(&e)))
}

async fn read_chunk(
    files: &SnapshotFiles,
    mut reader: SnapshotFile,
) -> io::Result<(Option<Bytes>, SnapshotFile)> {
    files.offload(move || Ok((reader.next_chunk()?, reader))).await
}

struct Transfer {
    context: NetworkContext,
    to: (NodeId, ReplicaId),
    id: u64,
    sequence: u64,
    timeout: Duration,
}

impl Transfer {
    fn send(
        &mut self,
        frame: &SnapshotFrame,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        let (node, replica) = self.to;
        let payload = addressed(replica, &encode_frame(self.id, self.sequence, frame));
        self.sequence += 1;
        let timeout = match frame {
            SnapshotFrame::Begin { .. } | SnapshotFrame::Chunk(_) => {
                CHUNK_TIMEOUT.min(self.timeout)
            }
            SnapshotFrame::End => self.timeout,
        };
        let deadline = now() + timeout;
        let group = self.context.group;
        self.context.transport.call(node, group, FrameKind::Snapshot, payload, deadline)
    }
}
