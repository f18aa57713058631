//! Queries as bytes: a part of the log format (in transactions) and of the frames between nodes. Tags
//! are append only.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{get_bounded, get_key, put_bounded, put_key};
use crate::types::limits::PATTERN_BYTES_MAX;
use crate::types::wire::{Error, get_u8, get_u64, get_varint, put_varint};
use crate::types::{Query, SLOTS, Scan, Slot};

const QUERY_GET: u8 = 1;
const QUERY_INSPECT: u8 = 2;
const QUERY_GET_RANGE: u8 = 3;
const QUERY_SCAN: u8 = 4;
const QUERY_SIZE: u8 = 5;

/// Upper bound of the encoded size of a query.
pub fn query_bytes(query: &Query) -> usize {
    match query {
        Query::Get { key } | Query::Inspect { key } => 1 + 5 + key.len(),
        Query::GetRange { key, .. } => 1 + 5 + key.len() + 16,
        Query::Scan(scan) => 1 + 15 + 6 + scan.pattern.as_ref().map_or(0, Bytes::len),
        Query::Size { .. } => 4,
    }
}

/// Appends a query.
///
/// # Panics
/// If it is past a limit.
pub fn put_query(out: &mut BytesMut, query: &Query) {
    match query {
        Query::Get { key } => {
            out.put_u8(QUERY_GET);
            put_key(out, key);
        }
        Query::Inspect { key } => {
            out.put_u8(QUERY_INSPECT);
            put_key(out, key);
        }
        Query::GetRange { key, start, end } => {
            out.put_u8(QUERY_GET_RANGE);
            put_key(out, key);
            out.put_i64_le(*start);
            out.put_i64_le(*end);
        }
        Query::Scan(scan) => {
            out.put_u8(QUERY_SCAN);
            [scan.first, scan.last, scan.keys_max]
                .into_iter()
                .for_each(|n| put_varint(out, u64::from(n)));
            out.put_u8(u8::from(scan.pattern.is_some()));
            if let Some(pattern) = &scan.pattern {
                put_bounded(out, pattern, PATTERN_BYTES_MAX);
            }
        }
        Query::Size { slot } => {
            out.put_u8(QUERY_SIZE);
            // One more than the slot: 0 is for none.
            put_varint(out, slot.map_or(0, |slot| u64::from(slot.0) + 1));
        }
    }
}

/// Reads a query; its key shares the input's buffer.
///
/// # Errors
/// If the bytes are none, or past a limit.
pub fn get_query(input: &mut Bytes) -> Result<Query, Error> {
    Ok(match get_u8(input, "query")? {
        QUERY_GET => Query::Get { key: get_key(input)? },
        QUERY_INSPECT => Query::Inspect { key: get_key(input)? },
        QUERY_GET_RANGE => Query::GetRange {
            key: get_key(input)?,
            start: get_u64(input, "start")?.cast_signed(),
            end: get_u64(input, "end")?.cast_signed(),
        },
        QUERY_SCAN => Query::Scan(Scan {
            first: get_u32_varint(input)?,
            last: get_u32_varint(input)?,
            keys_max: get_u32_varint(input)?,
            pattern: match get_u8(input, "pattern")? {
                0 => None,
                1 => Some(get_bounded(input, "pattern", PATTERN_BYTES_MAX)?),
                tag => return Err(Error::Tag { what: "pattern", tag: u64::from(tag) }),
            },
        }),
        QUERY_SIZE => Query::Size {
            slot: match get_varint(input, "slot")? {
                0 => None,
                slot if slot <= u64::from(SLOTS) => Some(Slot((slot - 1) as u16)),
                _ => return Err(Error::Malformed { what: "slot" }),
            },
        },
        tag => return Err(Error::Tag { what: "query", tag: u64::from(tag) }),
    })
}

fn get_u32_varint(input: &mut Bytes) -> Result<u32, Error> {
    let what = "scan";
    u32::try_from(get_varint(input, what)?).map_err(|_| Error::Malformed { what })
}
