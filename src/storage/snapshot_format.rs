//! Bytes of a snapshot file. Append only, guarded by golden bytes.
//!
//! ```text
//! file     header, chunk*, end, trailer
//! header   frame 1: magic, log key, name
//! chunk    frame 2: the chunk
//! end      frame 3: meta, what the reader must have seen
//! trailer  offset of the end frame u64 LE, crc32c of it u32 LE, magic
//! frame    kind u8, length u32 LE, crc32c u32 LE, payload
//! ```
//!
//! The checksum of a header or chunk goes on from the frame before, so that a frame that is left
//! out, doubled or moved fails; that of the end frame begins with the log key, so that the meta can
//! be trusted before the chunks are read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::wire::{self, get_bytes, get_u32, get_u64, get_varint, put_bytes, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

/// First and last bytes of a file; the last of them is the version.
pub(super) const MAGIC: [u8; 8] = *b"rcsnap\0\x01";
pub(super) const FRAME_HEAD_BYTES: usize = 9;
pub(super) const TRAILER_BYTES: usize = 20;
/// Longest chunk or meta that a reader believes in, bytes.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Chunk = 2,
    End = 3,
}

/// Content of the end frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) meta: Bytes,
    pub(super) chunks: u64,
    /// Bytes of all chunks.
    pub(super) bytes: u64,
    /// Running checksum after the last chunk.
    pub(super) chain: u32,
    /// xxh3 of all chunks' bytes.
    pub(super) hash: u64,
}

fn checksum(before: u32, kind: Kind, payload: &[u8]) -> u32 {
    let mut head = [kind as u8, 0, 0, 0, 0];
    head[1..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(before, &head), payload)
}

/// The frame's head and its checksum, which is `before` of the next.
pub(super) fn frame_head(kind: Kind, before: u32, payload: &[u8]) -> ([u8; 9], u32) {
    let crc = checksum(before, kind, payload);
    let mut head = [0; FRAME_HEAD_BYTES];
    head[0] = kind as u8;
    head[1..5].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[5..].copy_from_slice(&crc.to_le_bytes());
    (head, crc)
}

/// Kind, length and checksum of a frame as it claims.
pub(super) fn read_frame_head(head: [u8; 9]) -> Result<(Kind, usize, u32), wire::Error> {
    let mut input = &head[..];
    let kind = match input.get_u8() {
        1 => Kind::Header,
        2 => Kind::Chunk,
        3 => Kind::End,
        tag => return Err(wire::Error::Tag { what: "frame", tag: tag.into() }),
    };
    let len = input.get_u32_le() as usize;
    if len > PAYLOAD_BYTES_MAX {
        return Err(wire::Error::Malformed { what: "frame length" });
    }
    Ok((kind, len, input.get_u32_le()))
}

/// Fails unless `payload` has the checksum its head claims.
pub(super) fn check_payload(
    kind: Kind,
    before: u32,
    payload: &[u8],
    crc: u32,
) -> Result<(), wire::Error> {
    if checksum(before, kind, payload) == crc {
        Ok(())
    } else {
        Err(wire::Error::Malformed { what: "frame checksum" })
    }
}

/// Where the checksum of the end frame begins.
pub(super) fn end_seed(key: LogKey) -> u32 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&key.group.0.to_le_bytes());
    bytes[4..].copy_from_slice(&key.replica.0.to_le_bytes());
    crc32c::crc32c(&bytes)
}

pub(super) fn encode_header(key: LogKey, name: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    put_varint(&mut out, key.group.0.into());
    put_varint(&mut out, key.replica.0);
    put_bytes(&mut out, name.as_bytes());
    out.freeze()
}

pub(super) fn decode_header(mut input: Bytes) -> Result<(LogKey, String), wire::Error> {
    if input.len() < MAGIC.len() || input.split_to(MAGIC.len())[..] != MAGIC {
        return Err(wire::Error::Malformed { what: "magic" });
    }
    let group = u32::try_from(get_varint(&mut input, "group")?)
        .map_err(|_| wire::Error::Malformed { what: "group" })?;
    let replica = ReplicaId(get_varint(&mut input, "replica")?);
    let name = String::from_utf8(get_bytes(&mut input, "name")?.into())
        .map_err(|_| wire::Error::Malformed { what: "name" })?;
    wire::finish(&input, "header")?;
    Ok((LogKey { group: GroupId(group), replica }, name))
}

pub(super) fn encode_end(end: &End) -> Bytes {
    let mut out = BytesMut::new();
    put_bytes(&mut out, &end.meta);
    put_varint(&mut out, end.chunks);
    put_varint(&mut out, end.bytes);
    out.put_u32_le(end.chain);
    out.put_u64_le(end.hash);
    out.freeze()
}

pub(super) fn decode_end(mut input: Bytes) -> Result<End, wire::Error> {
    let end = End {
        meta: get_bytes(&mut input, "meta")?,
        chunks: get_varint(&mut input, "chunks")?,
        bytes: get_varint(&mut input, "bytes")?,
        chain: get_u32(&mut input, "chain")?,
        hash: get_u64(&mut input, "hash")?,
    };
    wire::finish(&input, "end")?;
    Ok(end)
}

pub(super) fn encode_trailer(end_offset: u64) -> [u8; TRAILER_BYTES] {
    let mut out = [0; TRAILER_BYTES];
    out[..8].copy_from_slice(&end_offset.to_le_bytes());
    out[8..12].copy_from_slice(&crc32c::crc32c(&end_offset.to_le_bytes()).to_le_bytes());
    out[12..].copy_from_slice(&MAGIC);
    out
}

pub(super) fn decode_trailer(trailer: [u8; TRAILER_BYTES]) -> Result<u64, wire::Error> {
    let offset = (&trailer[..8]).get_u64_le();
    if encode_trailer(offset) == trailer {
        Ok(offset)
    } else {
        Err(wire::Error::Malformed { what: "trailer" })
    }
}
