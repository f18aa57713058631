//! Round trips, golden bytes, garbage.

use proptest::prelude::*;

use super::*;

fn found(data: &'static [u8], ttl_ms: Option<u64>) -> Found {
    let value = Value { data: Bytes::from_static(data), kind: ValueKind::Text };
    Found { value, version: Version(300), ttl_ms }
}

/// One of each, in the order of their tags.
pub(crate) fn replies() -> Vec<Reply> {
    let version = Version(1);
    let meta = Meta {
        version,
        value_bytes: 2,
        kind: ValueKind::Bytes,
        ttl_ms: Some(3),
        deadline_ms: Some(4),
    };
    let keys = Keys { keys: vec![Bytes::from_static(b"k")], next: Some(u32::MAX) };
    vec![
        Reply::Set { version },
        Reply::Deleted { version: Version(u64::MAX) },
        Reply::NotFound,
        Reply::ConditionFailed { current: None },
        Reply::ConditionFailed { current: Some(Version(2)) },
        Reply::Done,
        Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(3) }),
        Reply::Refused(Refusal::TooLarge { bytes: 4, bytes_max: 5 }),
        Reply::Refused(Refusal::SessionExpired),
        Reply::Refused(Refusal::NotInteger),
        Reply::Refused(Refusal::Overflow),
        Reply::Refused(Refusal::NotFloat),
        Reply::Refused(Refusal::NotFinite),
        Reply::Refused(Refusal::ReplyTooLarge { bytes: 6, bytes_max: 7 }),
        Reply::Swapped { version, old: Some(Box::new(found(b"v", None))) },
        Reply::NotSwapped { current: None },
        Reply::Taken(Box::new(found(b"", Some(5)))),
        Reply::Got(Box::new(found(b"w", Some(0)))),
        Reply::Expires { version, deadline_ms: Some(9) },
        Reply::Integer { version, value: -2 },
        Reply::Float { version, text: "0.5".into() },
        Reply::Length { version, value_bytes: 7 },
        Reply::Transaction(vec![
            Reply::NotFound,
            Reply::Read(Box::new(Answer::Value(Some(found(b"x", None))))),
        ]),
        Reply::Aborted { watch: 1, current: Some(Version(2)) },
        Reply::Read(Box::new(Answer::Meta(Some(meta)))),
        Reply::Read(Box::new(Answer::Value(None))),
        Reply::Read(Box::new(Answer::Meta(None))),
        Reply::Read(Box::new(Answer::Keys(keys))),
        Reply::Read(Box::new(Answer::Size(300))),
        Reply::Refused(Refusal::WrongKind),
        Reply::Refused(Refusal::Locks { limit: 300 }),
        Reply::Refused(Refusal::OutdatedToken),
        Reply::Locked { token: version, deadline_ms: 300 },
        Reply::LockHeld { token: version, ttl_ms: 300 },
        Reply::NotHeld { current: Some(version) },
        Reply::NotHeld { current: None },
        Reply::Read(Box::new(Answer::WrongKind)),
        Reply::Refused(Refusal::TooMuchWork { bytes: 8, bytes_max: 9 }),
    ]
}

fn encoded(reply: &Reply) -> Bytes {
    let mut out = BytesMut::new();
    put_reply(&mut out, reply);
    out.freeze()
}

/// The bytes of peers and snapshots: append, never change.
#[test]
fn golden_bytes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let golden = [
        "0101",
        "02ffffffffffffffffff01",
        "03",
        "04",
        "0502",
        "06",
        "0703",
        "080405",
        "09",
        "0a",
        "0b",
        "0c",
        "0d",
        "0e0607",
        "0f0102ac02000176",
        "1000",
        "1102ac02010500",
        "1202ac0201000177",
        "13010109",
        "1401feffffffffffffff",
        "150103302e35",
        "160107",
        "170203190102ac02000178",
        "18010102",
        "1902010102010301 04",
        "190100",
        "190200",
        "190301ffffffff0f01016b",
        "1904ac02",
        "1a",
        "1bac02",
        "1c",
        "1d01ac02",
        "1e01ac02",
        "1f0101",
        "1f00",
        "1905",
        "200809",
    ];
    let replies = replies();
    assert_eq!(replies.len(), golden.len());
    for (reply, golden) in replies.iter().zip(golden) {
        assert_eq!(hex(&encoded(reply)), golden.replace(' ', ""), "{reply:?}");
    }
}

#[test]
fn replies_round_trip_and_no_prefix_decodes() {
    for reply in replies() {
        let bytes = encoded(&reply);
        let mut input = bytes.clone();
        assert_eq!(get_reply(&mut input), Ok(reply.clone()));
        assert!(input.is_empty());
        for cut in 0..bytes.len() {
            assert!(get_reply(&mut bytes.slice(..cut)).is_err(), "{reply:?} cut at {cut}");
        }
    }
}

#[test]
fn a_transaction_within_a_transaction_is_refused() {
    let nested = Reply::Transaction(vec![Reply::Transaction(Vec::new())]);
    assert!(get_reply(&mut encoded(&nested)).is_err());
    let many = vec![Reply::Done; TRANSACTION_OPERATIONS_MAX + 1];
    assert!(get_reply(&mut encoded(&Reply::Transaction(many))).is_err());
}

#[test]
fn a_detached_reply_keeps_no_buffer_alive() {
    for reply in replies() {
        let input = encoded(&reply);
        let mut decoded = get_reply(&mut input.clone()).unwrap();
        decoded.detach(usize::MAX);
        assert_eq!(decoded, reply);
        if !matches!(&reply, Reply::Read(answer) if matches!(answer.as_ref(), Answer::Keys(_))) {
            drop(reply);
            assert!(input.is_unique(), "{decoded:?}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0..36u8) {
        let mut input = vec![tag];
        input.extend(bytes);
        if let Ok(reply) = get_reply(&mut input.into()) {
            // What decodes can be encoded and decoded again.
            prop_assert_eq!(get_reply(&mut encoded(&reply)), Ok(reply));
        }
    }
}
