//! Replies and answers as bytes: what sessions remember in a snapshot, what a peer answers, and what
//! the digest hashes. Tags are append only.

use bytes::{BufMut, Bytes, BytesMut};

use super::digest::{kind_of_tag, kind_tag};
use crate::types::limits::{SCAN_KEYS_MAX, TRANSACTION_OPERATIONS_MAX};
use crate::types::wire::{self, Error};
use crate::types::{
    Answer, Found, Keys, Meta, Refusal, Reply, RoutingEpoch, Value, ValueKind, Version,
};

const WHAT: &str = "reply";

/// Appends a reply.
pub fn put_reply(out: &mut BytesMut, reply: &Reply) {
    let tag = tag_of(reply);
    out.put_u8(tag);
    match reply {
        Reply::Set { version } | Reply::Deleted { version } => wire::put_varint(out, version.0),
        Reply::ConditionFailed { current } => put_version(out, *current),
        Reply::NotFound | Reply::Done => {}
        Reply::Refused(refusal) => put_refusal(out, refusal),
        Reply::Swapped { version, old } => {
            wire::put_varint(out, version.0);
            put_found(out, old.as_deref());
        }
        Reply::NotSwapped { current } => put_found(out, current.as_deref()),
        Reply::Taken(found) | Reply::Got(found) => put_found(out, Some(found)),
        Reply::Expires { version, deadline_ms } => {
            wire::put_varint(out, version.0);
            put_option(out, *deadline_ms);
        }
        Reply::Integer { version, value } => {
            wire::put_varint(out, version.0);
            out.put_i64_le(*value);
        }
        Reply::Float { version, text } => {
            wire::put_varint(out, version.0);
            wire::put_bytes(out, text.as_bytes());
        }
        Reply::Length { version, value_bytes } => {
            wire::put_varint(out, version.0);
            wire::put_varint(out, *value_bytes);
        }
        Reply::Transaction(replies) => {
            wire::put_varint(out, replies.len() as u64);
            replies.iter().for_each(|reply| put_reply(out, reply));
        }
        Reply::Aborted { watch, current } => {
            wire::put_varint(out, u64::from(*watch));
            put_option(out, current.map(|version| version.0));
        }
        Reply::Read(answer) => put_answer(out, answer),
        Reply::Locked { token, deadline_ms: ms } | Reply::LockHeld { token, ttl_ms: ms } => {
            wire::put_varint(out, token.0);
            wire::put_varint(out, *ms);
        }
        Reply::NotHeld { current } => put_option(out, current.map(|version| version.0)),
    }
}

/// Exhaustive on purpose: a new reply does not compile without a tag.
fn tag_of(reply: &Reply) -> u8 {
    match reply {
        Reply::Set { .. } => 1,
        Reply::Deleted { .. } => 2,
        Reply::NotFound => 3,
        Reply::ConditionFailed { current: None } => 4,
        Reply::ConditionFailed { current: Some(_) } => 5,
        Reply::Done => 6,
        Reply::Refused(Refusal::NotOwner { .. }) => 7,
        Reply::Refused(Refusal::TooLarge { .. }) => 8,
        Reply::Refused(Refusal::SessionExpired) => 9,
        Reply::Refused(Refusal::NotInteger) => 10,
        Reply::Refused(Refusal::Overflow) => 11,
        Reply::Refused(Refusal::NotFloat) => 12,
        Reply::Refused(Refusal::NotFinite) => 13,
        Reply::Refused(Refusal::ReplyTooLarge { .. }) => 14,
        Reply::Swapped { .. } => 15,
        Reply::NotSwapped { .. } => 16,
        Reply::Taken(_) => 17,
        Reply::Got(_) => 18,
        Reply::Expires { .. } => 19,
        Reply::Integer { .. } => 20,
        Reply::Float { .. } => 21,
        Reply::Length { .. } => 22,
        Reply::Transaction(_) => 23,
        Reply::Aborted { .. } => 24,
        Reply::Read(_) => 25,
        Reply::Refused(Refusal::WrongKind) => 26,
        Reply::Refused(Refusal::Locks { .. }) => 27,
        Reply::Refused(Refusal::OutdatedToken) => 28,
        Reply::Locked { .. } => 29,
        Reply::LockHeld { .. } => 30,
        Reply::NotHeld { .. } => 31,
        Reply::Refused(Refusal::TooMuchWork { .. }) => 32,
    }
}

fn put_refusal(out: &mut BytesMut, refusal: &Refusal) {
    match refusal {
        Refusal::NotOwner { epoch } => wire::put_varint(out, epoch.0),
        Refusal::TooLarge { bytes, bytes_max }
        | Refusal::ReplyTooLarge { bytes, bytes_max }
        | Refusal::TooMuchWork { bytes, bytes_max } => {
            wire::put_varint(out, *bytes);
            wire::put_varint(out, *bytes_max);
        }
        Refusal::SessionExpired
        | Refusal::NotInteger
        | Refusal::Overflow
        | Refusal::NotFloat
        | Refusal::NotFinite
        | Refusal::WrongKind
        | Refusal::OutdatedToken => {}
        Refusal::Locks { limit } => wire::put_varint(out, *limit),
    }
}

/// The version of a failed condition, whose tag says whether there is one.
fn put_version(out: &mut BytesMut, version: Option<Version>) {
    if let Some(version) = version {
        wire::put_varint(out, version.0);
    }
}

/// Reads a reply. Values share the input's buffer (see `Reply::detach`).
///
/// # Errors
/// If the bytes are none, or a transaction stands within a transaction.
pub fn get_reply(input: &mut Bytes) -> Result<Reply, Error> {
    let tag = wire::get_u8(input, WHAT)?;
    get_reply_of(tag, input)
}

/// Reads a reply whose tag was read.
pub fn get_reply_of(tag: u8, input: &mut Bytes) -> Result<Reply, Error> {
    if tag != 23 {
        return get_plain(tag, input);
    }
    let count = get_count(input, TRANSACTION_OPERATIONS_MAX)?;
    let mut replies = Vec::with_capacity(count.min(input.len()));
    for _ in 0..count {
        let tag = wire::get_u8(input, WHAT)?;
        replies.push(get_plain(tag, input)?);
    }
    Ok(Reply::Transaction(replies))
}

fn get_plain(tag: u8, input: &mut Bytes) -> Result<Reply, Error> {
    let number = |input: &mut Bytes| wire::get_varint(input, WHAT);
    let version = |input: &mut Bytes| number(input).map(Version);
    Ok(match tag {
        1 => Reply::Set { version: version(input)? },
        2 => Reply::Deleted { version: version(input)? },
        3 => Reply::NotFound,
        4 => Reply::ConditionFailed { current: None },
        5 => Reply::ConditionFailed { current: Some(version(input)?) },
        6 => Reply::Done,
        7 => Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(number(input)?) }),
        8 => Reply::Refused(Refusal::TooLarge { bytes: number(input)?, bytes_max: number(input)? }),
        9 => Reply::Refused(Refusal::SessionExpired),
        10 => Reply::Refused(Refusal::NotInteger),
        11 => Reply::Refused(Refusal::Overflow),
        12 => Reply::Refused(Refusal::NotFloat),
        13 => Reply::Refused(Refusal::NotFinite),
        14 => Reply::Refused(Refusal::ReplyTooLarge {
            bytes: number(input)?,
            bytes_max: number(input)?,
        }),
        15 => Reply::Swapped { version: version(input)?, old: get_found(input)?.map(Box::new) },
        16 => Reply::NotSwapped { current: get_found(input)?.map(Box::new) },
        17 => Reply::Taken(Box::new(get_some(input)?)),
        18 => Reply::Got(Box::new(get_some(input)?)),
        19 => Reply::Expires { version: version(input)?, deadline_ms: get_option(input)? },
        20 => Reply::Integer {
            version: version(input)?,
            value: wire::get_u64(input, WHAT)?.cast_signed(),
        },
        21 => Reply::Float { version: version(input)?, text: get_text(input)? },
        22 => Reply::Length { version: version(input)?, value_bytes: number(input)? },
        24 => Reply::Aborted {
            watch: u32::try_from(number(input)?).map_err(|_| Error::Malformed { what: WHAT })?,
            current: get_option(input)?.map(Version),
        },
        25 => Reply::Read(Box::new(get_answer(input)?)),
        26 => Reply::Refused(Refusal::WrongKind),
        27 => Reply::Refused(Refusal::Locks { limit: number(input)? }),
        28 => Reply::Refused(Refusal::OutdatedToken),
        29 => Reply::Locked { token: version(input)?, deadline_ms: number(input)? },
        30 => Reply::LockHeld { token: version(input)?, ttl_ms: number(input)? },
        31 => Reply::NotHeld { current: get_option(input)?.map(Version) },
        32 => Reply::Refused(Refusal::TooMuchWork {
            bytes: number(input)?,
            bytes_max: number(input)?,
        }),
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    })
}

fn get_count(input: &mut Bytes, max: usize) -> Result<usize, Error> {
    match usize::try_from(wire::get_varint(input, WHAT)?) {
        Ok(count) if count <= max => Ok(count),
        _ => Err(Error::Malformed { what: WHAT }),
    }
}

fn get_text(input: &mut Bytes) -> Result<Box<str>, Error> {
    let bytes = wire::get_bytes(input, WHAT)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::Malformed { what: WHAT })?;
    Ok(text.into())
}

fn put_option(out: &mut BytesMut, value: Option<u64>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        wire::put_varint(out, value);
    }
}

fn get_option(input: &mut Bytes) -> Result<Option<u64>, Error> {
    match wire::get_u8(input, WHAT)? {
        0 => Ok(None),
        1 => wire::get_varint(input, WHAT).map(Some),
        tag => Err(Error::Tag { what: WHAT, tag: tag.into() }),
    }
}

/// Appends what a read of one key found.
pub fn put_found(out: &mut BytesMut, found: Option<&Found>) {
    let Some(found) = found else { return out.put_u8(0) };
    out.put_u8(1 + kind_tag(found.value.kind));
    wire::put_varint(out, found.version.0);
    put_option(out, found.ttl_ms);
    wire::put_bytes(out, &found.value.data);
}

/// Reads what `put_found` wrote.
///
/// # Errors
/// If the bytes are none of its.
pub fn get_found(input: &mut Bytes) -> Result<Option<Found>, Error> {
    let Some(kind) = get_kind(input)? else { return Ok(None) };
    let version = Version(wire::get_varint(input, WHAT)?);
    let ttl_ms = get_option(input)?;
    let data = wire::get_bytes(input, WHAT)?;
    Ok(Some(Found { value: Value { data, kind }, version, ttl_ms }))
}

fn get_some(input: &mut Bytes) -> Result<Found, Error> {
    get_found(input)?.ok_or(Error::Malformed { what: WHAT })
}

/// 0 for nothing, else one more than the tag of the kind.
fn get_kind(input: &mut Bytes) -> Result<Option<ValueKind>, Error> {
    match wire::get_u8(input, WHAT)? {
        0 => Ok(None),
        tag => match kind_of_tag(tag - 1) {
            Some(kind) => Ok(Some(kind)),
            None => Err(Error::Tag { what: WHAT, tag: tag.into() }),
        },
    }
}

/// Appends the answer of a read.
pub fn put_answer(out: &mut BytesMut, answer: &Answer) {
    match answer {
        Answer::Value(found) => {
            out.put_u8(1);
            put_found(out, found.as_ref());
        }
        Answer::Meta(meta) => {
            out.put_u8(2);
            put_meta(out, meta.as_ref());
        }
        Answer::Keys(keys) => {
            out.put_u8(3);
            put_option(out, keys.next.map(u64::from));
            wire::put_varint(out, keys.keys.len() as u64);
            keys.keys.iter().for_each(|key| wire::put_bytes(out, key));
        }
        Answer::Size(keys) => {
            out.put_u8(4);
            wire::put_varint(out, *keys);
        }
        Answer::WrongKind => out.put_u8(5),
    }
}

/// Reads what `put_answer` wrote.
///
/// # Errors
/// If the bytes are none of its.
pub fn get_answer(input: &mut Bytes) -> Result<Answer, Error> {
    Ok(match wire::get_u8(input, WHAT)? {
        1 => Answer::Value(get_found(input)?),
        2 => Answer::Meta(get_meta(input)?),
        3 => Answer::Keys(get_keys(input)?),
        4 => Answer::Size(wire::get_varint(input, WHAT)?),
        5 => Answer::WrongKind,
        tag => return Err(Error::Tag { what: WHAT, tag: tag.into() }),
    })
}

fn put_meta(out: &mut BytesMut, meta: Option<&Meta>) {
    let Some(meta) = meta else { return out.put_u8(0) };
    out.put_u8(1 + kind_tag(meta.kind));
    wire::put_varint(out, meta.version.0);
    wire::put_varint(out, meta.value_bytes);
    put_option(out, meta.ttl_ms);
    put_option(out, meta.deadline_ms);
}

fn get_meta(input: &mut Bytes) -> Result<Option<Meta>, Error> {
    let Some(kind) = get_kind(input)? else { return Ok(None) };
    Ok(Some(Meta {
        kind,
        version: Version(wire::get_varint(input, WHAT)?),
        value_bytes: wire::get_varint(input, WHAT)?,
        ttl_ms: get_option(input)?,
        deadline_ms: get_option(input)?,
    }))
}

fn get_keys(input: &mut Bytes) -> Result<Keys, Error> {
    let next = match get_option(input)?.map(u32::try_from) {
        None => None,
        Some(Ok(next)) => Some(next),
        Some(Err(_)) => return Err(Error::Malformed { what: WHAT }),
    };
    // Keys that share the last position come together, so there may be a few more.
    let count = get_count(input, 2 * SCAN_KEYS_MAX as usize)?;
    let mut keys = Vec::with_capacity(count.min(input.len()));
    for _ in 0..count {
        keys.push(wire::get_bytes(input, WHAT)?);
    }
    Ok(Keys { keys, next })
}

#[cfg(test)]
#[path = "reply_record_tests.rs"]
mod tests;
