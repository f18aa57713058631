//! Fields that commands and queries share. Lengths have the bounds of `types::limits` at both ends.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::types::wire::{Error, get_bytes, get_u8, get_varint, put_bytes, put_varint};
use crate::types::{Condition, Expiry, Value, ValueKind, Version};

const KIND_BYTES: u8 = 0;
const KIND_TEXT: u8 = 1;

const EXPIRY_NEVER: u8 = 0;
const EXPIRY_AFTER_MS: u8 = 1;
const EXPIRY_AT_MS: u8 = 2;
const EXPIRY_KEEP: u8 = 3;

const CONDITION_ALWAYS: u8 = 0;
const CONDITION_IF_ABSENT: u8 = 1;
const CONDITION_IF_PRESENT: u8 = 2;
const CONDITION_IF_VERSION: u8 = 3;

pub(super) fn put_bounded(out: &mut BytesMut, bytes: &[u8], max: usize) {
    assert!(bytes.len() <= max, "{} bytes where {max} can be read", bytes.len());
    put_bytes(out, bytes);
}

pub(super) fn get_bounded(
    input: &mut Bytes,
    what: &'static str,
    max: usize,
) -> Result<Bytes, Error> {
    let bytes = get_bytes(input, what)?;
    if bytes.len() <= max { Ok(bytes) } else { Err(Error::Malformed { what }) }
}

pub(super) fn put_key(out: &mut BytesMut, key: &[u8]) {
    put_bounded(out, key, KEY_BYTES_MAX);
}

pub(super) fn get_key(input: &mut Bytes) -> Result<Bytes, Error> {
    get_bounded(input, "key", KEY_BYTES_MAX)
}

pub(super) fn put_value(out: &mut BytesMut, value: &Value) {
    out.put_u8(match value.kind {
        ValueKind::Bytes => KIND_BYTES,
        ValueKind::Text => KIND_TEXT,
    });
    put_bounded(out, &value.data, VALUE_BYTES_MAX);
}

pub(super) fn get_value(input: &mut Bytes) -> Result<Value, Error> {
    let kind = match get_u8(input, "value kind")? {
        KIND_BYTES => ValueKind::Bytes,
        KIND_TEXT => ValueKind::Text,
        tag => return Err(Error::Tag { what: "value kind", tag: u64::from(tag) }),
    };
    Ok(Value { data: get_bounded(input, "value", VALUE_BYTES_MAX)?, kind })
}

pub(super) fn put_expiry(out: &mut BytesMut, expiry: Expiry) {
    match expiry {
        Expiry::Never => out.put_u8(EXPIRY_NEVER),
        Expiry::AfterMs(ms) => {
            out.put_u8(EXPIRY_AFTER_MS);
            put_varint(out, ms);
        }
        Expiry::AtMs(ms) => {
            out.put_u8(EXPIRY_AT_MS);
            put_varint(out, ms);
        }
        Expiry::Keep => out.put_u8(EXPIRY_KEEP),
    }
}

pub(super) fn get_expiry(input: &mut Bytes) -> Result<Expiry, Error> {
    Ok(match get_u8(input, "expiry")? {
        EXPIRY_NEVER => Expiry::Never,
        EXPIRY_AFTER_MS => Expiry::AfterMs(get_varint(input, "expiry")?),
        EXPIRY_AT_MS => Expiry::AtMs(get_varint(input, "expiry")?),
        EXPIRY_KEEP => Expiry::Keep,
        tag => return Err(Error::Tag { what: "expiry", tag: u64::from(tag) }),
    })
}

pub(super) fn put_condition(out: &mut BytesMut, condition: Condition) {
    match condition {
        Condition::Always => out.put_u8(CONDITION_ALWAYS),
        Condition::IfAbsent => out.put_u8(CONDITION_IF_ABSENT),
        Condition::IfPresent => out.put_u8(CONDITION_IF_PRESENT),
        Condition::IfVersion(version) => {
            out.put_u8(CONDITION_IF_VERSION);
            put_varint(out, version.0);
        }
    }
}

pub(super) fn get_condition(input: &mut Bytes) -> Result<Condition, Error> {
    Ok(match get_u8(input, "condition")? {
        CONDITION_ALWAYS => Condition::Always,
        CONDITION_IF_ABSENT => Condition::IfAbsent,
        CONDITION_IF_PRESENT => Condition::IfPresent,
        CONDITION_IF_VERSION => Condition::IfVersion(Version(get_varint(input, "version")?)),
        tag => return Err(Error::Tag { what: "condition", tag: u64::from(tag) }),
    })
}
