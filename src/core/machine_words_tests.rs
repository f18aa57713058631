//! Logs of random commands for the property tests.

use bytes::Bytes;
use proptest::prelude::*;

use super::keyspace::Keyspace;
use super::machine_tests::SEED;
use crate::types::{
    Append, Asker, Batch, Command, Condition, CopyKey, Delete, Expire, ExpireCondition, Expiry,
    Fill, Increment, IncrementFloat, Lock, Once, Query, Renew, RequestId, Set, SetRange, Step,
    Transaction, Unlock, Value, ValueKind, Version, Watch, Write,
};

pub(super) fn key() -> impl Strategy<Value = String> {
    (0..16u8).prop_map(|k| format!("key-{k}"))
}

pub(super) fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
        1 => (0..40u64, 0..4u64).prop_map(|(i, p)| Condition::IfVersion(Version(i * 1024 + p))),
    ]
}

pub(super) fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        3 => Just(Expiry::Never),
        3 => (0..200u64).prop_map(Expiry::AfterMs),
        1 => (0..2000u64).prop_map(Expiry::AtMs),
        2 => Just(Expiry::Keep),
    ]
}

/// Text that often is a number, of many lengths.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![Just(ValueKind::Bytes), Just(ValueKind::Text)];
    let data = prop_oneof![
        6 => (0..300usize).prop_map(|len| vec![b'v'; len]),
        1 => (900..1100usize).prop_map(|len| vec![b'v'; len]),
        3 => (-50..50i64).prop_map(|n| n.to_string().into_bytes()),
        1 => Just(i64::MAX.to_string().into_bytes()),
        1 => Just(Vec::new()),
        1 => Just("é".into()),
    ];
    (data, kind).prop_map(|(data, kind)| Value { data: data.into(), kind })
}

pub(super) fn any_expire() -> impl Strategy<Value = Expire> {
    let condition = prop_oneof![
        4 => Just(ExpireCondition::Always),
        1 => Just(ExpireCondition::IfNone),
        1 => Just(ExpireCondition::IfSome),
        1 => Just(ExpireCondition::IfLater),
        1 => Just(ExpireCondition::IfEarlier),
        1 => Just(ExpireCondition::IfSomeAndEarlier),
    ];
    (key(), expiry(), condition).prop_map(|(key, expiry, condition)| Expire {
        key: key.into(),
        expiry,
        condition,
    })
}

/// A command about a lock or a fill, under versions that are right at times.
pub(super) fn of_locks() -> impl Strategy<Value = Command> {
    let key = || key().prop_map(Bytes::from);
    let owner = || prop_oneof![Just("a"), Just("bb")].prop_map(Bytes::from);
    let token = || (0..40u64, 0..4u64).prop_map(|(i, p)| Version(i * 1024 + p));
    let ttl = || 0..300u64;
    let lock = (key(), owner(), ttl(), 0..5u32).prop_map(|(key, owner, ttl_ms, locks_max)| {
        Command::Lock(Lock { key, owner, ttl_ms, locks_max })
    });
    let renew = (key(), owner(), token(), ttl()).prop_map(|(key, owner, token, ttl_ms)| {
        Command::Renew(Renew { key, owner, token, ttl_ms })
    });
    let unlock = (key(), owner(), token())
        .prop_map(|(key, owner, token)| Command::Unlock(Unlock { key, owner, token }));
    let since = proptest::option::weighted(0.9, token());
    let ends = expiry().prop_map(|expiry| match expiry {
        Expiry::Keep => Expiry::Never,
        other => other,
    });
    let times = (proptest::option::of(1..200u64), 0..9u64);
    let fill = (key(), value(), ends, times, since).prop_map(
        |(key, value, expiry, (soft_ms, cost_ms), since)| {
            Command::Fill(Fill { key, value, soft_ms, expiry, cost_ms, token: 1, since })
        },
    );
    prop_oneof![5 => lock, 2 => renew, 2 => unlock, 4 => fill]
}

/// A write of one key.
pub(super) fn keyed() -> impl Strategy<Value = Command> {
    let set =
        || {
            (key(), value(), expiry(), condition()).prop_map(|(key, value, expiry, condition)| {
                Set { key: key.into(), value, expiry, condition }
            })
        };
    let delete =
        || (key(), condition()).prop_map(|(key, condition)| Delete { key: key.into(), condition });
    let delta = prop_oneof![9 => -5..5i64, 1 => Just(i64::MAX)];
    let increment = (key(), delta).prop_map(|(key, delta)| Increment { key: key.into(), delta });
    let float = (key(), -40..40i32).prop_map(|(key, quarters)| {
        let delta = format!("{}", f64::from(quarters) / 4.0);
        IncrementFloat { key: key.into(), delta: delta.into() }
    });
    let copy = || {
        (key(), key(), condition()).prop_map(|(key, to, condition)| CopyKey {
            key: key.into(),
            to: to.into(),
            condition,
        })
    };
    prop_oneof![
        20 => set().prop_map(Command::Set),
        5 => set().prop_map(Command::GetSet),
        5 => delete().prop_map(Command::Delete),
        3 => delete().prop_map(Command::GetDelete),
        4 => any_expire().prop_map(Command::Expire),
        3 => any_expire().prop_map(Command::GetExpire),
        3 => copy().prop_map(Command::Copy),
        3 => copy().prop_map(Command::Rename),
        4 => increment.prop_map(Command::Increment),
        3 => float.prop_map(Command::IncrementFloat),
        12 => of_locks(),
        3 => (key(), value())
            .prop_map(|(key, value)| Command::Append(Append { key: key.into(), value })),
        3 => (key(), 0..400u64, value()).prop_map(|(key, offset, value)| {
            Command::SetRange(SetRange { key: key.into(), offset, value })
        }),
    ]
}

pub(super) fn query() -> impl Strategy<Value = Query> {
    let ends = || -20..20i64;
    prop_oneof![
        key().prop_map(|key| Query::Get { key: key.into() }),
        key().prop_map(|key| Query::Inspect { key: key.into() }),
        (key(), ends(), ends()).prop_map(|(key, start, end)| Query::GetRange {
            key: key.into(),
            start,
            end
        }),
    ]
}

pub(super) fn transaction() -> impl Strategy<Value = Command> {
    let version = prop_oneof![
        2 => Just(None),
        1 => (0..40u64, 0..4u64).prop_map(|(i, p)| Some(Version(i * 1024 + p))),
    ];
    let since = (0..40u64).prop_map(|index| Version(index * 1024 + 1023));
    let watch = prop_oneof![
        (key(), version).prop_map(|(key, version)| Watch::of(key.into(), version)),
        (key(), since).prop_map(|(key, since)| Watch::absent_since(key.into(), since)),
    ];
    let step = prop_oneof![3 => keyed().prop_map(Step::Write), 1 => query().prop_map(Step::Read)];
    (proptest::collection::vec(watch, 0..2), proptest::collection::vec(step, 0..6))
        .prop_map(|(watches, steps)| Command::Transaction(Transaction { watches, steps }))
}

pub(super) fn any_write() -> impl Strategy<Value = Write> {
    let asker = prop_oneof![Just(Asker::Node), Just(Asker::Caller)];
    let sent = prop_oneof![Just(None), Just(Some(0)), Just(Some(5_000)), Just(Some(120_000))];
    let once = (0..3u128, 0..40u64, 0..3u16, asker, sent).prop_map(
        |(session, sequence, part, asker, age_ms_max)| Once {
            id: RequestId { session, sequence },
            part,
            asker,
            age_ms_max,
        },
    );
    let request_id = proptest::option::weighted(0.3, once);
    let limit = (4..64u64).prop_map(|n| Command::SetLimit { bytes_max: n * 64 });
    let command = prop_oneof![
        60 => keyed(),
        6 => transaction(),
        1 => Just(Command::Tick),
        1 => limit,
        1 => Just(Command::Flush),
    ];
    (request_id, command).prop_map(|(request_id, command)| Write { request_id, command })
}

/// Stamps go up and down: leaders' clocks differ.
pub(super) fn any_batch() -> impl Strategy<Value = Batch> {
    let touches = proptest::collection::vec(key(), 0..4);
    (0..2000u64, touches, proptest::collection::vec(any_write(), 0..6)).prop_map(
        |(stamp_ms, touches, writes)| {
            let hashes = Keyspace::new(SEED);
            let touches = touches.iter().map(|key| hashes.hash_of(key.as_bytes())).collect();
            Batch { stamp_ms, touches, writes }
        },
    )
}

pub(super) fn any_log() -> impl Strategy<Value = Vec<Batch>> {
    proptest::collection::vec(any_batch(), 0..40)
}
