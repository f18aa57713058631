//! The log format: a `Batch` as bytes, and the writes of a batch alone for forwarding between nodes.
//!
//! ```text
//! batch   = format u8 | stamp varint | touches (count varint, u32 each) | writes
//! writes  = count varint | write*
//! write   = flags u8 (1: has a request id) | [session u128 | sequence varint] | command
//! command = tag u8 | fields
//! ```
//!
//! Little-endian. Tags are append only: what was written once must be read for ever. Decoding
//! copies nothing: keys and values are slices of the input.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::limits::{BATCH_WRITES_MAX, TOUCHES_PENDING_MAX};
use crate::types::wire::{
    Error, finish, get_bytes, get_u8, get_u32, get_varint, put_bytes, put_varint,
};
use crate::types::{
    Batch, Command, Condition, Delete, Expiry, RequestId, Set, Value, ValueKind, Version, Write,
};

/// First byte of an encoded batch, and of encoded writes.
const FORMAT: u8 = 1;

const FLAG_REQUEST_ID: u8 = 1;

const COMMAND_SET: u8 = 1;
const COMMAND_DELETE: u8 = 2;
const COMMAND_TICK: u8 = 3;
const COMMAND_SET_LIMIT: u8 = 4;

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

/// Most bytes a write takes besides its key and value: flags, request id, tag, kind, expiry,
/// condition and two lengths.
const WRITE_OVERHEAD_BYTES: usize = 1 + 16 + 10 + 1 + 1 + 11 + 11 + 5 + 5;

/// Upper bound of the encoded size of a write, to bound batches by bytes.
pub fn write_bytes(write: &Write) -> usize {
    WRITE_OVERHEAD_BYTES
        + match &write.command {
            Command::Set(set) => set.key.len() + set.value.data.len(),
            Command::Delete(delete) => delete.key.len(),
            Command::Tick | Command::SetLimit { .. } => 0,
        }
}

fn writes_bytes(writes: &[Write]) -> usize {
    writes.iter().map(write_bytes).sum()
}

/// Encodes a batch.
///
/// # Panics
/// If it has more than `BATCH_WRITES_MAX` writes or `TOUCHES_PENDING_MAX` touches: it could be
/// logged and never read again.
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
/// If the bytes are none of its, or a count is over its bound.
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
/// If there are more than `BATCH_WRITES_MAX`.
pub fn encode_writes(writes: &[Write]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + writes_bytes(writes));
    out.put_u8(FORMAT);
    put_writes(&mut out, writes);
    out.freeze()
}

/// Decodes what `encode_writes` wrote.
///
/// # Errors
/// If the bytes are none of its, or there are more than `BATCH_WRITES_MAX` writes.
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
    assert!(writes.len() <= BATCH_WRITES_MAX, "writes of a batch are bounded");
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
    Ok(writes)
}

fn put_write(out: &mut BytesMut, write: &Write) {
    match write.request_id {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(FLAG_REQUEST_ID);
            out.put_u128_le(id.session);
            put_varint(out, id.sequence);
        }
    }
    match &write.command {
        Command::Set(set) => {
            out.put_u8(COMMAND_SET);
            put_bytes(out, &set.key);
            out.put_u8(match set.value.kind {
                ValueKind::Bytes => KIND_BYTES,
                ValueKind::Text => KIND_TEXT,
            });
            put_bytes(out, &set.value.data);
            put_expiry(out, set.expiry);
            put_condition(out, set.condition);
        }
        Command::Delete(delete) => {
            out.put_u8(COMMAND_DELETE);
            put_bytes(out, &delete.key);
            put_condition(out, delete.condition);
        }
        Command::Tick => out.put_u8(COMMAND_TICK),
        Command::SetLimit { bytes_max } => {
            out.put_u8(COMMAND_SET_LIMIT);
            put_varint(out, *bytes_max);
        }
    }
}

fn get_write(input: &mut Bytes) -> Result<Write, Error> {
    let request_id = match get_u8(input, "write flags")? {
        0 => None,
        FLAG_REQUEST_ID if input.remaining() < 16 => return Err(Error::Short { what: "session" }),
        FLAG_REQUEST_ID => {
            let session = input.get_u128_le();
            Some(RequestId { session, sequence: get_varint(input, "sequence")? })
        }
        tag => return Err(Error::Tag { what: "write flags", tag: u64::from(tag) }),
    };
    let command = match get_u8(input, "command")? {
        COMMAND_SET => {
            let key = get_bytes(input, "key")?;
            let kind = match get_u8(input, "value kind")? {
                KIND_BYTES => ValueKind::Bytes,
                KIND_TEXT => ValueKind::Text,
                tag => return Err(Error::Tag { what: "value kind", tag: u64::from(tag) }),
            };
            let value = Value { data: get_bytes(input, "value")?, kind };
            let (expiry, condition) = (get_expiry(input)?, get_condition(input)?);
            Command::Set(Set { key, value, expiry, condition })
        }
        COMMAND_DELETE => Command::Delete(Delete {
            key: get_bytes(input, "key")?,
            condition: get_condition(input)?,
        }),
        COMMAND_TICK => Command::Tick,
        COMMAND_SET_LIMIT => Command::SetLimit { bytes_max: get_varint(input, "limit")? },
        tag => return Err(Error::Tag { what: "command", tag: u64::from(tag) }),
    };
    Ok(Write { request_id, command })
}

fn put_expiry(out: &mut BytesMut, expiry: Expiry) {
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

fn get_expiry(input: &mut Bytes) -> Result<Expiry, Error> {
    Ok(match get_u8(input, "expiry")? {
        EXPIRY_NEVER => Expiry::Never,
        EXPIRY_AFTER_MS => Expiry::AfterMs(get_varint(input, "expiry")?),
        EXPIRY_AT_MS => Expiry::AtMs(get_varint(input, "expiry")?),
        EXPIRY_KEEP => Expiry::Keep,
        tag => return Err(Error::Tag { what: "expiry", tag: u64::from(tag) }),
    })
}

fn put_condition(out: &mut BytesMut, condition: Condition) {
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

fn get_condition(input: &mut Bytes) -> Result<Condition, Error> {
    Ok(match get_u8(input, "condition")? {
        CONDITION_ALWAYS => Condition::Always,
        CONDITION_IF_ABSENT => Condition::IfAbsent,
        CONDITION_IF_PRESENT => Condition::IfPresent,
        CONDITION_IF_VERSION => Condition::IfVersion(Version(get_varint(input, "version")?)),
        tag => return Err(Error::Tag { what: "condition", tag: u64::from(tag) }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    fn any_expiry() -> impl Strategy<Value = Expiry> {
        prop_oneof![
            Just(Expiry::Never),
            any::<u64>().prop_map(Expiry::AfterMs),
            any::<u64>().prop_map(Expiry::AtMs),
            Just(Expiry::Keep),
        ]
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::Always),
            Just(Condition::IfAbsent),
            Just(Condition::IfPresent),
            any::<u64>().prop_map(|v| Condition::IfVersion(Version(v))),
        ]
    }

    fn any_write() -> impl Strategy<Value = Write> {
        let kind = prop_oneof![Just(ValueKind::Bytes), Just(ValueKind::Text)];
        let set = (any_bytes(), any_bytes(), kind, any_expiry(), any_condition()).prop_map(
            |(key, data, kind, expiry, condition)| {
                Command::Set(Set { key, value: Value { data, kind }, expiry, condition })
            },
        );
        let delete = (any_bytes(), any_condition())
            .prop_map(|(key, condition)| Command::Delete(Delete { key, condition }));
        let limit = any::<u64>().prop_map(|bytes_max| Command::SetLimit { bytes_max });
        let command = prop_oneof![4 => set, 2 => delete, 1 => Just(Command::Tick), 1 => limit];
        let request_id = proptest::option::of((any::<u128>(), any::<u64>()))
            .prop_map(|id| id.map(|(session, sequence)| RequestId { session, sequence }));
        (request_id, command).prop_map(|(request_id, command)| Write { request_id, command })
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let touches = proptest::collection::vec(any::<u32>(), 0..20);
        (any::<u64>(), touches, proptest::collection::vec(any_write(), 0..20))
            .prop_map(|(stamp_ms, touches, writes)| Batch { stamp_ms, touches, writes })
    }

    proptest! {
        #[test]
        fn batches_round_trip(batch in any_batch()) {
            prop_assert_eq!(decode_batch(encode_batch(&batch)), Ok(batch.clone()));
            prop_assert_eq!(decode_writes(encode_writes(&batch.writes)), Ok(batch.writes));
        }

        #[test]
        fn write_bytes_is_an_upper_bound(write in any_write()) {
            let one = encode_writes(std::slice::from_ref(&write)).len();
            prop_assert!(one - encode_writes(&[]).len() <= write_bytes(&write));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut sound = vec![FORMAT];
            sound.extend(&bytes);
            let _ = (decode_batch(bytes.clone().into()), decode_batch(sound.clone().into()));
            let _ = (decode_writes(bytes.into()), decode_writes(sound.into()));
        }

        /// Every cut of a sound batch is seen: lengths and counts come before what they count.
        #[test]
        fn a_cut_batch_is_an_error(batch in any_batch(), at in any::<prop::sample::Index>()) {
            let whole = encode_batch(&batch);
            prop_assert!(decode_batch(whole.slice(..at.index(whole.len()))).is_err());
            let longer = [&whole[..], &[0]].concat();
            prop_assert!(decode_batch(longer.into()).is_err());
        }
    }

    /// The bytes of format 1. If this fails, old logs cannot be read: append, never change.
    #[test]
    fn golden_bytes() {
        let set = |key: &'static str, kind, expiry, condition| {
            let value = Value { data: Bytes::from_static(b"v"), kind };
            Command::Set(Set { key: Bytes::from_static(key.as_bytes()), value, expiry, condition })
        };
        let delete = Command::Delete(Delete {
            key: Bytes::from_static(b"d"),
            condition: Condition::IfVersion(Version(300)),
        });
        let commands = [
            set("a", ValueKind::Bytes, Expiry::Never, Condition::Always),
            set("b", ValueKind::Text, Expiry::AfterMs(200), Condition::IfAbsent),
            set("c", ValueKind::Bytes, Expiry::AtMs(1), Condition::IfPresent),
            set("e", ValueKind::Bytes, Expiry::Keep, Condition::Always),
            delete,
            Command::Tick,
            Command::SetLimit { bytes_max: 128 },
        ];
        let mut writes: Vec<_> =
            commands.into_iter().map(|command| Write { request_id: None, command }).collect();
        writes[0].request_id = Some(RequestId { session: 0x0102, sequence: 3 });
        let batch = Batch { stamp_ms: 1_000, touches: vec![0xdead_beef], writes };
        #[rustfmt::skip]
        let golden: &[u8] = &[
            1, 0xe8, 0x07, 1, 0xef, 0xbe, 0xad, 0xde, 7,
            1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, b'a', 0, 1, b'v', 0, 0,
            0, 1, 1, b'b', 1, 1, b'v', 1, 0xc8, 0x01, 1,
            0, 1, 1, b'c', 0, 1, b'v', 2, 1, 2,
            0, 1, 1, b'e', 0, 1, b'v', 3, 0,
            0, 2, 1, b'd', 3, 0xac, 0x02,
            0, 3,
            0, 4, 0x80, 0x01,
        ];
        assert_eq!(&encode_batch(&batch)[..], golden);
        assert_eq!(decode_batch(Bytes::from_static(golden)), Ok(batch));
    }

    #[test]
    fn decoding_copies_nothing() {
        let value = Value { data: Bytes::from(vec![7; 1000]), kind: ValueKind::Bytes };
        let (key, expiry) = (Bytes::from_static(b"k"), Expiry::Never);
        let command = Command::Set(Set { key, value, expiry, condition: Condition::Always });
        let encoded = encode_writes(&[Write { request_id: None, command }]);
        let range = encoded.as_ptr_range();
        let writes = decode_writes(encoded).unwrap();
        let Command::Set(set) = &writes[0].command else { panic!("a set was written") };
        assert!(range.contains(&set.value.data.as_ptr()) && range.contains(&set.key.as_ptr()));
    }

    #[test]
    fn counts_over_their_bounds_are_refused() {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        put_varint(&mut out, BATCH_WRITES_MAX as u64 + 1);
        for _ in 0..=BATCH_WRITES_MAX {
            out.put_slice(&[0, COMMAND_TICK]);
        }
        assert_eq!(decode_writes(out.freeze()), Err(Error::Malformed { what: "writes" }));
    }
}
