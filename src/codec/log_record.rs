//! The log format: a `Batch` as bytes, and the writes of a batch alone for forwarding between nodes.
//!
//! ```text
//! batch   = format u8 | stamp varint | touches (count varint, u32 each) | writes
//! writes  = count varint | write*
//! write   = flags u8 (1: has a request id; with it 2: of a caller, 4: of a part, 8: sent before)
//!           | [session u128 | sequence varint | [part varint] | [age varint]] | command
//! command = tag u8 | fields (`command_record`)
//! ```
//!
//! Little-endian. Tags are append only: what was written once must be read for ever. Decoding
//! copies nothing: keys and values are slices of the input.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::command_record::{command_bytes, get_command, put_command};
use crate::types::limits::{BATCH_WRITES_MAX, TOUCHES_PENDING_MAX};
use crate::types::wire::{Error, finish, get_u8, get_u32, get_varint, put_varint};
use crate::types::{Asker, Batch, Once, RequestId, Write, positions};

/// First byte of an encoded batch, and of encoded writes.
const FORMAT: u8 = 1;

const FLAG_REQUEST_ID: u8 = 1;
const FLAG_CALLER: u8 = 2;
const FLAG_PART: u8 = 4;
const FLAG_SENT_BEFORE: u8 = 8;
const FLAGS: u8 = FLAG_REQUEST_ID | FLAG_CALLER | FLAG_PART | FLAG_SENT_BEFORE;

/// Most bytes of a write besides its command: flags, request id, part and age.
const WRITE_OVERHEAD_BYTES: usize = 1 + 16 + 10 + 3 + 10;

/// Upper bound of the encoded size of a write, to bound batches by bytes.
pub fn write_bytes(write: &Write) -> usize {
    WRITE_OVERHEAD_BYTES + command_bytes(&write.command)
}

fn writes_bytes(writes: &[Write]) -> usize {
    writes.iter().map(write_bytes).sum()
}

/// Encodes a batch.
///
/// # Panics
/// If it has more than `BATCH_WRITES_MAX` writes (steps counted) or `TOUCHES_PENDING_MAX` touches, or
/// a command is past a limit: it could be logged and never read again.
pub fn encode_batch(batch: &Batch) -> Bytes {
    assert!(batch.touches.len() <= TOUCHES_PENDING_MAX, "touches of a batch are bounded");
    let len = 32 + 4 * batch.touches.len() + writes_bytes(&batch.writes);
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(FORMAT);
    put_varint(&mut out, batch.stamp_ms);
    put_varint(&mut out, batch.touches.len() as u64);
    for touch in &batch.touches {
        out.put_u32_le(*touch);
    }
    put_writes(&mut out, &batch.writes);
    out.freeze()
}

/// Decodes what `encode_batch` wrote.
///
/// # Errors
/// If the bytes are none of its, or a count or length is over its bound.
pub fn decode_batch(mut bytes: Bytes) -> Result<Batch, Error> {
    let input = &mut bytes;
    check_format(input)?;
    let stamp_ms = get_varint(input, "stamp")?;
    let count = get_count(input, "touches", TOUCHES_PENDING_MAX)?;
    let mut touches = Vec::with_capacity(count.min(input.remaining() / 4));
    for _ in 0..count {
        touches.push(get_u32(input, "touch")?);
    }
    let writes = get_writes(input)?;
    finish(input, "batch")?;
    Ok(Batch { stamp_ms, touches, writes })
}

/// Encodes writes alone.
///
/// # Panics
/// As `encode_batch`.
pub fn encode_writes(writes: &[Write]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + writes_bytes(writes));
    out.put_u8(FORMAT);
    put_writes(&mut out, writes);
    out.freeze()
}

/// Decodes what `encode_writes` wrote.
///
/// # Errors
/// If the bytes are none of its, or a count or length is over its bound.
pub fn decode_writes(mut bytes: Bytes) -> Result<Vec<Write>, Error> {
    check_format(&mut bytes)?;
    let writes = get_writes(&mut bytes)?;
    finish(&bytes, "writes")?;
    Ok(writes)
}

fn check_format(input: &mut Bytes) -> Result<(), Error> {
    match get_u8(input, "log format")? {
        FORMAT => Ok(()),
        tag => Err(Error::Tag { what: "log format", tag: u64::from(tag) }),
    }
}

fn get_count(input: &mut Bytes, what: &'static str, max: usize) -> Result<usize, Error> {
    match usize::try_from(get_varint(input, what)?) {
        Ok(count) if count <= max => Ok(count),
        _ => Err(Error::Malformed { what }),
    }
}

fn put_writes(out: &mut BytesMut, writes: &[Write]) {
    assert!(positions(writes) <= BATCH_WRITES_MAX, "writes of a batch are bounded");
    put_varint(out, writes.len() as u64);
    for write in writes {
        put_write(out, write);
    }
}

fn get_writes(input: &mut Bytes) -> Result<Vec<Write>, Error> {
    let count = get_count(input, "writes", BATCH_WRITES_MAX)?;
    // A write takes two bytes at least.
    let mut writes = Vec::with_capacity(count.min(input.remaining() / 2));
    for _ in 0..count {
        writes.push(get_write(input)?);
    }
    if positions(&writes) > BATCH_WRITES_MAX {
        return Err(Error::Malformed { what: "writes" });
    }
    Ok(writes)
}

fn put_write(out: &mut BytesMut, write: &Write) {
    match &write.request_id {
        None => out.put_u8(0),
        Some(once) => put_once(out, once),
    }
    put_command(out, &write.command);
}

fn put_once(out: &mut BytesMut, once: &Once) {
    let mut flags = FLAG_REQUEST_ID;
    if once.asker == Asker::Caller {
        flags |= FLAG_CALLER;
    }
    if once.part != 0 {
        flags |= FLAG_PART;
    }
    if once.age_ms_max.is_some() {
        flags |= FLAG_SENT_BEFORE;
    }
    out.put_u8(flags);
    out.put_u128_le(once.id.session);
    put_varint(out, once.id.sequence);
    if once.part != 0 {
        put_varint(out, once.part.into());
    }
    if let Some(age_ms) = once.age_ms_max {
        put_varint(out, age_ms);
    }
}

fn get_write(input: &mut Bytes) -> Result<Write, Error> {
    let request_id = match get_u8(input, "write flags")? {
        0 => None,
        flags if flags & FLAG_REQUEST_ID == 0 || flags & !FLAGS != 0 => {
            return Err(Error::Tag { what: "write flags", tag: u64::from(flags) });
        }
        flags => Some(get_once(flags, input)?),
    };
    Ok(Write { request_id, command: get_command(input)? })
}

fn get_once(flags: u8, input: &mut Bytes) -> Result<Once, Error> {
    if input.remaining() < 16 {
        return Err(Error::Short { what: "session" });
    }
    let session = input.get_u128_le();
    let id = RequestId { session, sequence: get_varint(input, "sequence")? };
    let part = match flags & FLAG_PART {
        0 => 0,
        // 0 is told by the flag alone: one write has one encoding.
        _ => match u16::try_from(get_varint(input, "part")?) {
            Ok(part) if part != 0 => part,
            _ => return Err(Error::Malformed { what: "part" }),
        },
    };
    let age_ms_max = match flags & FLAG_SENT_BEFORE {
        0 => None,
        _ => Some(get_varint(input, "age")?),
    };
    let asker = if flags & FLAG_CALLER == 0 { Asker::Node } else { Asker::Caller };
    Ok(Once { id, part, asker, age_ms_max })
}

#[cfg(test)]
#[path = "log_record_tests.rs"]
mod tests;
