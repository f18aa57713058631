//! Round trips, golden bytes, garbage, bounds.

use proptest::prelude::*;

use super::*;
use crate::types::limits::*;

use crate::types::{
    Append, Command, Condition, CopyKey, Delete, Expire, ExpireCondition, Expiry, Fill, Increment,
    IncrementFloat, Lock, Query, Renew, Set, SetRange, Step, Transaction, Unlock, Value, ValueKind,
    Version, Watch,
};

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

fn any_value() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![Just(ValueKind::Bytes), Just(ValueKind::Text)];
    (any_bytes(), kind).prop_map(|(data, kind)| Value { data, kind })
}

fn any_expire() -> impl Strategy<Value = Expire> {
    let condition = prop_oneof![
        Just(ExpireCondition::Always),
        Just(ExpireCondition::IfNone),
        Just(ExpireCondition::IfSome),
        Just(ExpireCondition::IfLater),
        Just(ExpireCondition::IfEarlier),
        Just(ExpireCondition::IfSomeAndEarlier),
    ];
    (any_bytes(), any_expiry(), condition).prop_map(|(key, expiry, condition)| Expire {
        key,
        expiry,
        condition,
    })
}

fn any_of_locks() -> impl Strategy<Value = Command> {
    let owner = || proptest::collection::vec(any::<u8>(), 0..=64).prop_map(Bytes::from);
    let token = || any::<u64>().prop_map(Version);
    let lock = (any_bytes(), owner(), any::<u64>(), any::<u32>()).prop_map(
        |(key, owner, ttl_ms, locks_max)| Command::Lock(Lock { key, owner, ttl_ms, locks_max }),
    );
    let renew =
        (any_bytes(), owner(), token(), any::<u64>()).prop_map(|(key, owner, token, ttl_ms)| {
            Command::Renew(Renew { key, owner, token, ttl_ms })
        });
    let unlock = (any_bytes(), owner(), token())
        .prop_map(|(key, owner, token)| Command::Unlock(Unlock { key, owner, token }));
    let numbers = any::<(Option<u64>, u64, u64, Option<u64>)>();
    let fill = (any_bytes(), any_value(), any_expiry(), numbers).prop_map(
        |(key, value, expiry, (soft_ms, cost_ms, token, since))| {
            let since = since.map(Version);
            Command::Fill(Fill { key, value, soft_ms, expiry, cost_ms, token, since })
        },
    );
    prop_oneof![lock, renew, unlock, fill]
}

/// A command of one key.
fn any_keyed() -> impl Strategy<Value = Command> {
    let set = || {
        (any_bytes(), any_value(), any_expiry(), any_condition())
            .prop_map(|(key, value, expiry, condition)| Set { key, value, expiry, condition })
    };
    let delete =
        || (any_bytes(), any_condition()).prop_map(|(key, condition)| Delete { key, condition });
    let copy = || {
        (any_bytes(), any_bytes(), any_condition()).prop_map(|(key, to, condition)| CopyKey {
            key,
            to,
            condition,
        })
    };
    prop_oneof![
        4 => set().prop_map(Command::Set),
        2 => set().prop_map(Command::GetSet),
        2 => delete().prop_map(Command::Delete),
        1 => delete().prop_map(Command::GetDelete),
        1 => any_expire().prop_map(Command::Expire),
        1 => any_expire().prop_map(Command::GetExpire),
        1 => (any_bytes(), any::<i64>())
            .prop_map(|(key, delta)| Command::Increment(Increment { key, delta })),
        1 => (any_bytes(), any_bytes())
            .prop_map(|(key, delta)| Command::IncrementFloat(IncrementFloat { key, delta })),
        3 => any_of_locks(),
        1 => (any_bytes(), any_value())
            .prop_map(|(key, value)| Command::Append(Append { key, value })),
        1 => copy().prop_map(Command::Copy),
        1 => copy().prop_map(Command::Rename),
        1 => (any_bytes(), any::<u64>(), any_value())
            .prop_map(|(key, offset, value)| Command::SetRange(SetRange { key, offset, value })),
    ]
}

fn any_transaction() -> impl Strategy<Value = Command> {
    let watch = (any_bytes(), any::<Option<u64>>(), any::<bool>()).prop_map(
        |(key, version, since)| match (version, since) {
            (Some(version), true) => Watch::absent_since(key, Version(version)),
            (version, _) => Watch::of(key, version.map(Version)),
        },
    );
    let query = prop_oneof![
        any_bytes().prop_map(|key| Query::Get { key }),
        any_bytes().prop_map(|key| Query::Inspect { key }),
        (any_bytes(), any::<(i64, i64)>()).prop_map(|(key, (start, end))| Query::GetRange {
            key,
            start,
            end
        }),
    ];
    let step = prop_oneof![any_keyed().prop_map(Step::Write), query.prop_map(Step::Read)];
    (proptest::collection::vec(watch, 0..4), proptest::collection::vec(step, 0..6))
        .prop_map(|(watches, steps)| Command::Transaction(Transaction { watches, steps }))
}

fn any_write() -> impl Strategy<Value = Write> {
    let limit = any::<u64>().prop_map(|bytes_max| Command::SetLimit { bytes_max });
    let command = prop_oneof![
        12 => any_keyed(),
        3 => any_transaction(),
        1 => Just(Command::Tick),
        1 => limit,
        1 => Just(Command::Flush),
    ];
    let once = (any::<(u128, u64)>(), any::<u16>(), any::<bool>(), any::<Option<u64>>()).prop_map(
        |((session, sequence), part, caller, age_ms_max)| {
            let asker = if caller { Asker::Caller } else { Asker::Node };
            Once { id: RequestId { session, sequence }, part, asker, age_ms_max }
        },
    );
    let request_id = proptest::option::of(once);
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
    let id = RequestId { session: 0x0102, sequence: 3 };
    writes[0].request_id = Some(id.into());
    let (asker, age_ms_max) = (Asker::Caller, Some(300));
    writes[5].request_id = Some(Once { id, part: 2, asker, age_ms_max });
    let batch = Batch { stamp_ms: 1_000, touches: vec![0xdead_beef], writes };
    #[rustfmt::skip]
    let golden: &[u8] = &[
        1, 0xe8, 0x07, 1, 0xef, 0xbe, 0xad, 0xde, 7,
        1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, b'a', 0, 1, b'v', 0, 0,
        0, 1, 1, b'b', 1, 1, b'v', 1, 0xc8, 0x01, 1,
        0, 1, 1, b'c', 0, 1, b'v', 2, 1, 2,
        0, 1, 1, b'e', 0, 1, b'v', 3, 0,
        0, 2, 1, b'd', 3, 0xac, 0x02,
        15, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0xac, 0x02, 3,
        0, 4, 0x80, 0x01,
    ];
    assert_eq!(&encode_batch(&batch)[..], golden);
    assert_eq!(decode_batch(Bytes::from_static(golden)), Ok(batch));
}

/// The bytes of what came later. If this fails, old logs cannot be read: append, never change.
#[test]
fn golden_bytes_of_later_commands() {
    let (key, value) = (Bytes::from_static(b"k"), || Value {
        data: Bytes::from_static(b"v"),
        kind: ValueKind::Text,
    });
    let set = Set {
        key: key.clone(),
        value: value(),
        expiry: Expiry::Keep,
        condition: Condition::IfPresent,
    };
    let delete = Delete { key: key.clone(), condition: Condition::Always };
    let expire = |expiry, condition| Expire { key: key.clone(), expiry, condition };
    let transaction = Transaction {
        watches: vec![Watch::of(key.clone(), None), Watch::of(key.clone(), Some(Version(300)))],
        steps: vec![
            Step::Write(Command::Increment(Increment { key: key.clone(), delta: 1 })),
            Step::Read(Query::Get { key: key.clone() }),
            Step::Read(Query::Inspect { key: key.clone() }),
            Step::Read(Query::GetRange { key: key.clone(), start: 0, end: -1 }),
        ],
    };
    let copy = |condition| CopyKey { key: key.clone(), to: Bytes::from_static(b"t"), condition };
    let increment_float = IncrementFloat { key: key.clone(), delta: Bytes::from_static(b".5") };
    let golden = [
        (Command::GetSet(set), "05016b0101760302"),
        (Command::GetDelete(delete), "06016b00"),
        (Command::Expire(expire(Expiry::AfterMs(5), ExpireCondition::IfNone)), "07016b010501"),
        (
            Command::GetExpire(expire(Expiry::Never, ExpireCondition::IfSomeAndEarlier)),
            "08016b0005",
        ),
        (Command::Increment(Increment { key: key.clone(), delta: -2 }), "09016bfeffffffffffffff"),
        (Command::IncrementFloat(increment_float), "0a016b022e35"),
        (Command::Append(Append { key: key.clone(), value: value() }), "0b016b010176"),
        (
            Command::SetRange(SetRange { key: key.clone(), offset: 300, value: value() }),
            "0c016bac02010176",
        ),
        (
            Command::Transaction(transaction),
            "0d02016b00016b01ac0204\
             0109016b0100000000000000\
             0201016b0202016b\
             0203016b0000000000000000ffffffffffffffff",
        ),
        (Command::Flush, "0e"),
        (Command::Copy(copy(Condition::Always)), "18016b017400"),
        (Command::Rename(copy(Condition::IfAbsent)), "19016b017401"),
    ];
    check_golden(&golden);
}

fn check_golden(golden: &[(Command, &str)]) {
    for (command, hex) in golden {
        let write = Write { request_id: None, command: command.clone() };
        let bytes = encode_writes(std::slice::from_ref(&write));
        let found: String = bytes[3..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, *hex, "{write:?}");
        assert_eq!(decode_writes(bytes), Ok(vec![write]));
    }
}

#[test]
fn golden_bytes_of_locks_and_fills() {
    let (key, owner, token) = (Bytes::from_static(b"k"), || Bytes::from_static(b"o"), Version(300));
    let value = Value { data: Bytes::from_static(b"v"), kind: ValueKind::Text };
    let golden = [
        (
            Command::Lock(Lock { key: key.clone(), owner: owner(), ttl_ms: 300, locks_max: 5 }),
            "0f016b016fac0205",
        ),
        (
            Command::Renew(Renew { key: key.clone(), owner: owner(), token, ttl_ms: 5 }),
            "10016b016fac0205",
        ),
        (Command::Unlock(Unlock { key: key.clone(), owner: owner(), token }), "11016b016fac02"),
        (
            Command::Fill(Fill {
                key,
                value,
                soft_ms: Some(300),
                expiry: Expiry::AfterMs(5),
                cost_ms: 7,
                token: 9,
                since: Some(token),
            }),
            "12016b01017601ac02010507090000000000000001ac02",
        ),
    ];
    check_golden(&golden);
}

fn put(key: usize, value: usize) -> Command {
    Command::Set(Set {
        key: vec![b'k'; key].into(),
        value: Value { data: vec![b'v'; value].into(), kind: ValueKind::Bytes },
        expiry: Expiry::Never,
        condition: Condition::Always,
    })
}

/// Both ends know the same bounds: what could not be read is not written.
#[test]
fn lengths_over_their_bounds_are_refused_at_both_ends() {
    let encode = |command: Command| encode_writes(&[Write { request_id: None, command }]);
    let largest = encode(put(KEY_BYTES_MAX, VALUE_BYTES_MAX));
    assert!(decode_writes(largest).is_ok());
    for command in [
        put(KEY_BYTES_MAX + 1, 0),
        put(1, VALUE_BYTES_MAX + 1),
        Command::IncrementFloat(IncrementFloat {
            key: Bytes::from_static(b"k"),
            delta: vec![b'1'; FLOAT_BYTES_MAX + 1].into(),
        }),
        Command::Transaction(Transaction {
            watches: Vec::new(),
            steps: vec![Step::Write(put(1, 1)); TRANSACTION_OPERATIONS_MAX + 1],
        }),
        Command::Transaction(Transaction {
            watches: Vec::new(),
            steps: vec![Step::Write(Command::Transaction(Transaction::default()))],
        }),
    ] {
        let name = command.name();
        let encoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| encode(command)));
        assert!(encoded.is_err(), "{name} was written");
    }
    // The same, written by nobody: a key and a value of one byte more than the bound.
    for (key, value) in [(KEY_BYTES_MAX + 1, 0), (1, VALUE_BYTES_MAX + 1)] {
        let mut out = BytesMut::from(&[FORMAT, 1, 0, 1][..]);
        put_varint(&mut out, key as u64);
        out.put_bytes(b'k', key);
        out.put_u8(0);
        put_varint(&mut out, value as u64);
        out.put_bytes(b'v', value);
        out.put_slice(&[0, 0]);
        assert!(matches!(decode_writes(out.freeze()), Err(Error::Malformed { .. })));
    }
    for nested in [[1, 13], [1, 3], [1, 14]] {
        let mut out = BytesMut::from(&[FORMAT, 1, 0, 13, 0, 1][..]);
        out.put_slice(&nested);
        out.put_slice(&[0, 0]);
        assert!(decode_writes(out.freeze()).is_err(), "{nested:?} in a transaction");
    }
}

/// Steps give versions: they count as operations of the batch.
#[test]
fn steps_count_towards_the_bound_of_a_batch() {
    let steps = vec![Step::Write(put(1, 1)); BATCH_WRITES_MAX / 2];
    let transaction = Command::Transaction(Transaction { watches: Vec::new(), steps });
    let write = Write { request_id: None, command: transaction };
    let two = encode_writes(&[write.clone(), write]);
    assert_eq!(decode_writes(two.clone()).map(|writes| positions(&writes)), Ok(BATCH_WRITES_MAX));
    let mut three = BytesMut::from(&[FORMAT, 3][..]);
    three.put_slice(&two[2..]);
    three.put_slice(&[0, 3]);
    assert_eq!(decode_writes(three.freeze()), Err(Error::Malformed { what: "writes" }));
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
        out.put_slice(&[0, 3]);
    }
    assert_eq!(decode_writes(out.freeze()), Err(Error::Malformed { what: "writes" }));
}
