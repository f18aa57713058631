//! Bytes of the records that the engines keep. Append only, guarded by golden bytes.
//!
//! ```text
//! key    group u32 BE, replica u64 BE                  the head of a log
//!        group u32 BE, replica u64 BE, seq u64 BE      one record of a log
//!        0xffffffff, batch u64 BE                      what one batch wrote (manifest)
//! value  crc32c u32 LE over the key and the rest, format u8, body
//! ```
//!
//! sled keeps them under these keys; raft-engine, which has numbers for keys, signs with them.
//!
//! The key is under the checksum, so that a value found under another key is damage as well.

use bytes::{BufMut, Bytes, BytesMut};

use super::log_image::LogImage;
use super::wal::{LogRecord, WalOp};
use crate::types::wire::{self, get_bytes, get_u8, get_varint, put_bytes, put_varint};
use crate::types::{GroupId, LogKey, ReplicaId};

const FORMAT: u8 = 1;
/// Bytes of a log key, which is also the key of the log's head.
pub(super) const LOG_KEY_BYTES: usize = 12;
/// First bytes of a manifest's key: a group number nobody has (groups are `u16` shards plus one).
pub(super) const MANIFEST_PREFIX: [u8; 4] = [0xff; 4];

/// Why a value cannot be trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("checksum does not match")]
    Checksum,
    #[error("format {0} is unknown")]
    Format(u8),
    #[error("key of {0} bytes")]
    Key(usize),
    #[error(transparent)]
    Wire(#[from] wire::Error),
}

/// What a log was when its oldest records were deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Sequence number of the first record that is still there (or of the next, if none is).
    pub(super) first_seq: u64,
    pub(super) purged: Option<(u64, Bytes)>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
}

/// Logs that one batch wrote, each with the sequence number of its last record; 0: removed.
pub(super) type Manifest = Vec<(LogKey, u64)>;

pub(super) fn log_key(key: LogKey) -> [u8; LOG_KEY_BYTES] {
    let mut out = [0; LOG_KEY_BYTES];
    out[..4].copy_from_slice(&key.group.0.to_be_bytes());
    out[4..].copy_from_slice(&key.replica.0.to_be_bytes());
    out
}

pub(super) fn record_key(key: LogKey, seq: u64) -> [u8; LOG_KEY_BYTES + 8] {
    let mut out = [0; LOG_KEY_BYTES + 8];
    out[..LOG_KEY_BYTES].copy_from_slice(&log_key(key));
    out[LOG_KEY_BYTES..].copy_from_slice(&seq.to_be_bytes());
    out
}

pub(super) fn manifest_key(batch: u64) -> [u8; LOG_KEY_BYTES] {
    let mut out = [0xff; LOG_KEY_BYTES];
    out[4..].copy_from_slice(&batch.to_be_bytes());
    out
}

fn array<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], Error> {
    key.get(at..at + N).and_then(|s| s.try_into().ok()).ok_or(Error::Key(key.len()))
}

/// The log that a head's or record's key belongs to.
pub(super) fn log_of(key: &[u8]) -> Result<LogKey, Error> {
    Ok(LogKey {
        group: GroupId(u32::from_be_bytes(array(key, 0)?)),
        replica: ReplicaId(u64::from_be_bytes(array(key, 4)?)),
    })
}

/// Sequence number in a record's key, `None` if it is a head's.
pub(super) fn seq_of(key: &[u8]) -> Result<Option<u64>, Error> {
    match key.len() {
        LOG_KEY_BYTES => Ok(None),
        20 => Ok(Some(u64::from_be_bytes(array(key, LOG_KEY_BYTES)?))),
        other => Err(Error::Key(other)),
    }
}

/// Batch number in a manifest's key.
pub(super) fn batch_of(key: &[u8]) -> Result<u64, Error> {
    if key.len() == LOG_KEY_BYTES {
        Ok(u64::from_be_bytes(array(key, 4)?))
    } else {
        Err(Error::Key(key.len()))
    }
}

pub(super) fn seal(key: &[u8], write_body: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32_le(0);
    out.put_u8(FORMAT);
    write_body(&mut out);
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out.into()
}

pub(super) fn unseal(key: &[u8], value: &[u8]) -> Result<Bytes, Error> {
    let mut input = Bytes::copy_from_slice(value);
    let crc = wire::get_u32(&mut input, "checksum")?;
    if crc != crc32c::crc32c_append(crc32c::crc32c(key), &input) {
        return Err(Error::Checksum);
    }
    match get_u8(&mut input, "format")? {
        FORMAT => Ok(input),
        other => Err(Error::Format(other)),
    }
}

fn put_option(out: &mut BytesMut, bytes: Option<&Bytes>) {
    out.put_u8(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

fn get_option(input: &mut Bytes, what: &'static str) -> Result<Option<Bytes>, wire::Error> {
    match get_u8(input, what)? {
        0 => Ok(None),
        1 => get_bytes(input, what).map(Some),
        tag => Err(wire::Error::Tag { what, tag: tag.into() }),
    }
}

fn put_op(out: &mut BytesMut, op: &WalOp) {
    match op {
        WalOp::Append(records) => {
            out.put_u8(1);
            put_varint(out, records.len() as u64);
            for record in records {
                put_varint(out, record.term);
                put_varint(out, record.index);
                put_bytes(out, &record.payload);
            }
        }
        WalOp::TruncateAfter(None) => out.put_u8(2),
        WalOp::TruncateAfter(Some(index)) => {
            out.put_u8(3);
            put_varint(out, *index);
        }
        WalOp::Purge { index, marker } => {
            out.put_u8(4);
            put_varint(out, *index);
            put_bytes(out, marker);
        }
        WalOp::Vote(vote) => {
            out.put_u8(5);
            put_bytes(out, vote);
        }
        WalOp::Committed(committed) => {
            out.put_u8(6);
            put_bytes(out, committed);
        }
    }
}

fn get_op(input: &mut Bytes) -> Result<WalOp, wire::Error> {
    Ok(match get_u8(input, "op")? {
        1 => {
            let count = get_varint(input, "entries")?;
            // Not reserved ahead: the count is not trusted further than the bytes that follow.
            let mut records = Vec::new();
            for _ in 0..count {
                let term = get_varint(input, "term")?;
                let index = get_varint(input, "index")?;
                let payload = get_bytes(input, "payload")?;
                records.push(LogRecord { term, index, payload });
            }
            WalOp::Append(records)
        }
        2 => WalOp::TruncateAfter(None),
        3 => WalOp::TruncateAfter(Some(get_varint(input, "truncate index")?)),
        4 => WalOp::Purge {
            index: get_varint(input, "purge index")?,
            marker: get_bytes(input, "purge marker")?,
        },
        5 => WalOp::Vote(get_bytes(input, "vote")?),
        6 => WalOp::Committed(get_bytes(input, "committed")?),
        tag => return Err(wire::Error::Tag { what: "op", tag: tag.into() }),
    })
}

/// Changes of one log that one batch wrote, in order.
pub(super) fn encode_record(key: &[u8], ops: &[WalOp]) -> Vec<u8> {
    seal(key, |out| ops.iter().for_each(|op| put_op(out, op)))
}

pub(super) fn decode_record(key: &[u8], value: &[u8]) -> Result<Vec<WalOp>, Error> {
    let mut input = unseal(key, value)?;
    let mut ops = Vec::new();
    while !input.is_empty() {
        ops.push(get_op(&mut input)?);
    }
    Ok(ops)
}

pub(super) fn encode_head(key: &[u8], head: &Head) -> Vec<u8> {
    seal(key, |out| {
        put_varint(out, head.first_seq);
        put_varint(out, head.purged.as_ref().map_or(0, |(index, _)| *index));
        put_option(out, head.purged.as_ref().map(|(_, marker)| marker));
        put_option(out, head.vote.as_ref());
        put_option(out, head.committed.as_ref());
    })
}

pub(super) fn decode_head(key: &[u8], value: &[u8]) -> Result<Head, Error> {
    let mut input = unseal(key, value)?;
    let first_seq = get_varint(&mut input, "first sequence number")?;
    let index = get_varint(&mut input, "purge index")?;
    let head = Head {
        first_seq,
        purged: get_option(&mut input, "purge marker")?.map(|marker| (index, marker)),
        vote: get_option(&mut input, "vote")?,
        committed: get_option(&mut input, "committed")?,
    };
    wire::finish(&input, "head")?;
    Ok(head)
}

pub(super) fn encode_manifest(key: &[u8], manifest: &Manifest) -> Vec<u8> {
    seal(key, |out| {
        for (log, last_seq) in manifest {
            put_varint(out, log.group.0.into());
            put_varint(out, log.replica.0);
            put_varint(out, *last_seq);
        }
    })
}

pub(super) fn decode_manifest(key: &[u8], value: &[u8]) -> Result<Manifest, Error> {
    let mut input = unseal(key, value)?;
    let mut manifest = Manifest::new();
    while !input.is_empty() {
        let group = u32::try_from(get_varint(&mut input, "group")?)
            .map_err(|_| wire::Error::Malformed { what: "group" })?;
        let replica = ReplicaId(get_varint(&mut input, "replica")?);
        let last_seq = get_varint(&mut input, "last sequence number")?;
        manifest.push((LogKey { group: GroupId(group), replica }, last_seq));
    }
    Ok(manifest)
}

impl From<Head> for LogImage {
    fn from(head: Head) -> Self {
        LogImage {
            vote: head.vote,
            committed: head.committed,
            purged: head.purged,
            ..LogImage::default()
        }
    }
}
