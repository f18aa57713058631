//! Fills and what `GetOrLease` asks and answers, as bytes: parts of the log format and of the frames
//! between nodes. Tags and field order are append only.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::fields::{get_expiry, get_key, get_value, put_expiry, put_key, put_value};
use crate::core::reply_record::{get_found, put_found};
use crate::types::wire::{Error, get_u8, get_u64, get_varint, put_varint};
use crate::types::{Fill, Found, GetOrLease, Leased, Version};

const LEASED_HIT: u8 = 1;
const LEASED_STALE: u8 = 2;
const LEASED_FILL: u8 = 3;
const LEASED_BUSY: u8 = 4;

/// Upper bound of the encoded size of a question.
pub(super) fn lease_bytes(ask: &GetOrLease) -> usize {
    5 + ask.key.len() + 10 + 1 + 5
}

fn put_option(out: &mut BytesMut, value: Option<u64>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put_varint(out, value);
    }
}

fn get_option(input: &mut Bytes, what: &'static str) -> Result<Option<u64>, Error> {
    Ok(if get_bool(input, what)? { Some(get_varint(input, what)?) } else { None })
}

fn get_bool(input: &mut Bytes, what: &'static str) -> Result<bool, Error> {
    match get_u8(input, what)? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(Error::Tag { what, tag: tag.into() }),
    }
}

/// Appends a fill.
pub(super) fn put_fill(out: &mut BytesMut, fill: &Fill) {
    let Fill { key, value, soft_ms, expiry, cost_ms, token, since } = fill;
    put_key(out, key);
    put_value(out, value);
    put_option(out, *soft_ms);
    put_expiry(out, *expiry);
    put_varint(out, *cost_ms);
    out.put_u64_le(*token);
    put_option(out, since.map(|since| since.0));
}

/// Reads a fill.
pub(super) fn get_fill(input: &mut Bytes) -> Result<Fill, Error> {
    Ok(Fill {
        key: get_key(input)?,
        value: get_value(input)?,
        soft_ms: get_option(input, "fill soft")?,
        expiry: get_expiry(input)?,
        cost_ms: get_varint(input, "fill cost")?,
        token: get_u64(input, "fill token")?,
        since: get_option(input, "fill since")?.map(Version),
    })
}

/// Appends a question.
pub(super) fn put_lease(out: &mut BytesMut, ask: &GetOrLease) {
    let GetOrLease { key, wait_ms, stale_ok, beta_milli } = ask;
    put_key(out, key);
    put_varint(out, *wait_ms);
    out.put_u8(u8::from(*stale_ok));
    put_varint(out, u64::from(*beta_milli));
}

/// Reads a question.
pub(super) fn get_lease(input: &mut Bytes) -> Result<GetOrLease, Error> {
    Ok(GetOrLease {
        key: get_key(input)?,
        wait_ms: get_varint(input, "lease wait")?,
        stale_ok: get_bool(input, "lease stale")?,
        beta_milli: u32::try_from(get_varint(input, "lease beta")?)
            .map_err(|_| Error::Malformed { what: "lease beta" })?,
    })
}

/// Appends an answer.
pub(super) fn put_leased(out: &mut BytesMut, leased: &Leased) {
    match leased {
        Leased::Hit(found) => {
            out.put_u8(LEASED_HIT);
            put_found(out, Some(found));
        }
        Leased::Stale { found, age_ms } => {
            out.put_u8(LEASED_STALE);
            put_found(out, Some(found));
            put_varint(out, *age_ms);
        }
        Leased::Fill { token, token_ms, found } => {
            out.put_u8(LEASED_FILL);
            out.put_u64_le(*token);
            put_varint(out, *token_ms);
            put_found(out, found.as_ref());
        }
        Leased::Busy => out.put_u8(LEASED_BUSY),
    }
}

/// Reads an answer.
pub(super) fn get_leased(input: &mut Bytes) -> Result<Leased, Error> {
    let some = |input: &mut Bytes| -> Result<Found, Error> {
        get_found(input)?.ok_or(Error::Malformed { what: "leased" })
    };
    Ok(match get_u8(input, "leased")? {
        LEASED_HIT => Leased::Hit(some(input)?),
        LEASED_STALE => {
            Leased::Stale { found: some(input)?, age_ms: get_varint(input, "leased age")? }
        }
        LEASED_FILL => {
            if input.remaining() < 8 {
                return Err(Error::Short { what: "leased token" });
            }
            Leased::Fill {
                token: input.get_u64_le(),
                token_ms: get_varint(input, "leased time")?,
                found: get_found(input)?,
            }
        }
        LEASED_BUSY => Leased::Busy,
        tag => return Err(Error::Tag { what: "leased", tag: tag.into() }),
    })
}
