//! Round trips, golden bytes, garbage.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::{
    Command, Condition, Delete, Expiry, Found, GetOrLease, GroupId, Leased, NodeId, Reason,
    Refusal, RequestId, SLOTS, Scan, Set, ShardId, Slot, Value, ValueKind, Version,
};

fn set(session: u128) -> Write {
    Write {
        request_id: Some(RequestId { session, sequence: 3 }.into()),
        command: Command::Set(Set {
            key: Bytes::from_static(b"k"),
            value: Value { data: Bytes::from_static(b"v"), kind: ValueKind::Text },
            expiry: Expiry::AfterMs(5),
            condition: Condition::IfVersion(Version(9)),
        }),
    }
}

/// One of each reason, in the order of their tags.
fn reasons() -> Vec<Reason> {
    let (shard, detail) = (ShardId(300), || "d".to_owned());
    vec![
        Reason::InvalidArgument { field: "key", problem: detail() },
        Reason::NotLeader { group: GroupId::of_shard(shard), leader: Some(NodeId(7)) },
        Reason::NotLeader { group: GroupId::of_shard(shard), leader: None },
        Reason::NotOwner { epoch: RoutingEpoch(5) },
        Reason::NoLeader { group: GroupId::of_shard(shard) },
        Reason::NotReady,
        Reason::ResourceExhausted { what: "group queue", limit: 6 },
        Reason::Stopping,
        Reason::DeadlineBeforePropose,
        Reason::DeadlineAfterPropose,
        Reason::Lost { detail: detail() },
        Reason::ReadFailed { detail: detail() },
        Reason::TooStale { age_ms: 1, staleness_ms_max: 2 },
        Reason::SessionExpired,
        Reason::TooLarge { bytes: 1, bytes_max: 2 },
        Reason::Internal { detail: detail() },
        Reason::StorageFailed { detail: detail() },
        Reason::NotInteger,
        Reason::Overflow,
        Reason::NotFloat,
        Reason::NotFinite,
        Reason::ReplyTooLarge { bytes: 1, bytes_max: 2 },
        Reason::CrossShard { shards: 3 },
        Reason::WrongKind,
        Reason::OutdatedToken,
        Reason::NoQuorum { group: GroupId::of_shard(shard), silent_ms: 2_000 },
    ]
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Set { version: Version(1) },
        Reply::Deleted { version: Version(u64::MAX) },
        Reply::NotFound,
        Reply::ConditionFailed { current: None },
        Reply::ConditionFailed { current: Some(Version(2)) },
        Reply::Done,
        Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(3) }),
        Reply::Refused(Refusal::TooLarge { bytes: 4, bytes_max: 5 }),
        Reply::Refused(Refusal::SessionExpired),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_reason_keeps_its_fields_and_its_outcome() {
    for reason in reasons() {
        for retry_after in [None, Some(Duration::from_millis(250))] {
            let error = Failure { reason: reason.clone(), retry_after };
            let response =
                Response { epoch: RoutingEpoch(1), results: Results::Failed(error.clone()) };
            let decoded = Response::decode(response.encode()).unwrap();
            assert_eq!(decoded, response);
            let Results::Failed(back) = decoded.results else { unreachable!() };
            assert_eq!((back.outcome(), back.retryable()), (error.outcome(), error.retryable()));
        }
    }
}

#[test]
fn a_name_this_version_does_not_know_stays_readable() {
    let decode = |reason: Reason| {
        let response = Response { epoch: RoutingEpoch(1), results: Results::Failed(reason.into()) };
        match Response::decode(response.encode()).unwrap().results {
            Results::Failed(error) => error.reason,
            other => panic!("{other:?}"),
        }
    };
    let argument = Reason::InvalidArgument { field: "colour", problem: "too red".to_owned() };
    let text = argument.to_string();
    assert!(decode(argument).to_string().ends_with(&text));
    let limit = decode(Reason::ResourceExhausted { what: "patience", limit: 3 });
    assert!(matches!(limit, Reason::ResourceExhausted { limit: 3, .. }), "{limit}");
}

/// The wire format. A change here breaks rolling upgrades: add tags, never change them.
#[test]
fn golden_bytes() {
    let reads = Request {
        epoch: RoutingEpoch(300),
        batch: 2,
        deadline_ms: 1000,
        operations: Operations::Reads {
            consistency: Consistency::Bounded { staleness_ms_max: 7 },
            queries: vec![Query::Get { key: Bytes::from_static(b"ab") }],
        },
        traces: Vec::new(),
    };
    assert_eq!(hex(&reads.encode()), "01ac0202e80702030701026162");
    let followed = Request { traces: vec![0x0102 << 64 | 3], ..reads };
    let traces = "0101030000000000000002010000000000 00".replace(' ', "");
    assert_eq!(hex(&followed.encode()), format!("01ac0202e80702030701026162{traces}"));
    let results = Results::Writes(replies());
    let response = Response { epoch: RoutingEpoch(1), results };
    assert_eq!(hex(&response.encode()), "01010109010102ffffffffffffffffff010304050206070308040509");
    let value = Value { data: Bytes::from_static(b"v"), kind: ValueKind::Text };
    let some = Found { value, version: Version(9), ttl_ms: Some(5) };
    let freshness = Freshness { term: 1, index: 2, age_ms: 3, version: Version(4) };
    let results = Results::Reads {
        answers: vec![Answer::Value(None), Answer::Value(Some(some.clone()))],
        freshness,
    };
    let response = Response { epoch: RoutingEpoch(1), results };
    assert_eq!(hex(&response.encode()), "0101020102030402000209010501 76".replace(' ', ""));
    let answers = vec![Answer::Value(Some(some)), Answer::Size(7)];
    let response =
        Response { epoch: RoutingEpoch(1), results: Results::Reads { answers, freshness } };
    assert_eq!(hex(&response.encode()), "010104010203040201020901050176 0407".replace(' ', ""));
    let mixed =
        vec![Query::Get { key: Bytes::from_static(b"a") }, Query::Size { slot: Some(Slot(1)) }];
    let mixed = Request {
        operations: Operations::Reads { consistency: Consistency::Stale, queries: mixed },
        traces: Vec::new(),
        ..followed
    };
    assert_eq!(hex(&mixed.encode()), "01ac0202e8070304020101610502");
    let tags: Vec<u8> = reasons()
        .into_iter()
        .map(|reason| {
            let results = Results::Failed(reason.into());
            Response { epoch: RoutingEpoch(1), results }.encode()[4]
        })
        .collect();
    assert_eq!(
        tags,
        [
            1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
            24, 25
        ]
    );
}

/// The frames of `GetOrLease`: append, never change.
#[test]
fn golden_bytes_of_leases() {
    let key = Bytes::from_static(b"k");
    let ask = GetOrLease { key, wait_ms: 300, stale_ok: true, beta_milli: 1_000 };
    let request = Request {
        epoch: RoutingEpoch(1),
        batch: 2,
        deadline_ms: 3,
        operations: Operations::Lease(ask),
        traces: Vec::new(),
    };
    assert_eq!(hex(&request.encode()), "010102030401 6bac0201e807".replace(' ', ""));
    let golden = [
        "0101050102090105 0176",
        "010105020209010501760 7",
        "01010503 0500000000000000 06 00",
        "01010504",
    ];
    for (leased, golden) in leased().into_iter().zip(golden) {
        let results = Results::Leased(Box::new(leased));
        let response = Response { epoch: RoutingEpoch(1), results };
        assert_eq!(hex(&response.encode()), golden.replace(' ', ""), "{response:?}");
    }
}

fn leased() -> Vec<Leased> {
    let value = Value { data: Bytes::from_static(b"v"), kind: ValueKind::Text };
    let found = Found { value, version: Version(9), ttl_ms: Some(5) };
    vec![
        Leased::Hit(found.clone()),
        Leased::Stale { found: found.clone(), age_ms: 7 },
        Leased::Fill { token: 5, token_ms: 6, found: None },
        Leased::Busy,
        Leased::Fill { token: u64::MAX, token_ms: 6, found: Some(found) },
    ]
}

#[test]
fn a_list_that_claims_more_than_its_bytes_is_refused() {
    let mut out = BytesMut::from(&[FORMAT, 1, 1][..]);
    wire::put_varint(&mut out, u64::MAX / 2);
    assert_eq!(Response::decode(out.freeze()), Err(Error::Short { what: "forward.replies" }));
}

fn consistency() -> impl Strategy<Value = Consistency> {
    prop_oneof![
        Just(Consistency::Linearizable),
        Just(Consistency::Lease),
        Just(Consistency::Stale),
        any::<u64>().prop_map(|staleness_ms_max| Consistency::Bounded { staleness_ms_max }),
    ]
}

fn operations() -> impl Strategy<Value = Operations> {
    let key = || proptest::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from);
    let delete = (key(), any::<Option<u128>>()).prop_map(|(key, session)| Write {
        request_id: session.map(|session| RequestId { session, sequence: 1 }.into()),
        command: Command::Delete(Delete { key, condition: Condition::Always }),
    });
    let write = prop_oneof![delete, any::<u128>().prop_map(set)];
    let query = prop_oneof![
        4 => key().prop_map(|key| Query::Get { key }),
        1 => (key(), any::<(i64, i64)>())
            .prop_map(|(key, (start, end))| Query::GetRange { key, start, end }),
        1 => key().prop_map(|key| Query::Inspect { key }),
        1 => (any::<(u32, u32, u32)>(), proptest::option::of(key())).prop_map(
            |((first, last, keys_max), pattern)| {
                Query::Scan(Scan { first, last, keys_max, pattern })
            }
        ),
        1 => proptest::option::of(0..SLOTS).prop_map(|slot| Query::Size { slot: slot.map(Slot) }),
    ];
    let queries = proptest::collection::vec(query, 1..20);
    let lease =
        (key(), any::<(u64, bool, u32)>()).prop_map(|(key, (wait_ms, stale_ok, beta_milli))| {
            Operations::Lease(GetOrLease { key, wait_ms, stale_ok, beta_milli })
        });
    prop_oneof![
        lease,
        proptest::collection::vec(write, 1..20).prop_map(Operations::Writes),
        (consistency(), queries)
            .prop_map(|(consistency, queries)| Operations::Reads { consistency, queries }),
    ]
}

fn results() -> impl Strategy<Value = Results> {
    let found = (any::<Vec<u8>>(), any::<bool>(), any::<u64>(), any::<Option<u64>>()).prop_map(
        |(data, text, version, ttl_ms)| {
            let kind = if text { ValueKind::Text } else { ValueKind::Bytes };
            Found { value: Value { data: data.into(), kind }, version: Version(version), ttl_ms }
        },
    );
    let found = proptest::collection::vec(proptest::option::of(found), 0..10);
    let reply = (0..replies().len()).prop_map(|index| replies()[index].clone());
    prop_oneof![
        proptest::collection::vec(reply, 0..20).prop_map(Results::Writes),
        (found, any::<(u64, u64, u64, u64)>()).prop_map(
            |(found, (term, index, age_ms, version))| {
                let answers = found.into_iter().map(Answer::Value).collect();
                let version = Version(version);
                Results::Reads { answers, freshness: Freshness { term, index, age_ms, version } }
            }
        ),
        (0..leased().len()).prop_map(|index| Results::Leased(Box::new(leased()[index].clone()))),
        (0..reasons().len()).prop_map(|index| Results::Failed(reasons()[index].clone().into())),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip_and_no_prefix_decodes(
        operations in operations(), epoch: u64, batch: u64, deadline_ms: u64, cut: usize,
        traces in proptest::collection::vec(any::<u128>(), 0..3),
    ) {
        let epoch = RoutingEpoch(epoch);
        let request = Request { epoch, batch, deadline_ms, operations, traces: Vec::new() };
        let bytes = request.encode();
        prop_assert!(Request::decode(bytes.slice(..cut % bytes.len())).is_err());
        prop_assert_eq!(Request::decode(bytes.clone()), Ok(request.clone()));
        // Trace ids come last and are optional: only a cut right before them decodes.
        let cut_max = bytes.len();
        let traced = Request { traces, ..request };
        let bytes = traced.encode();
        let cut = cut % bytes.len();
        prop_assert!(cut == cut_max || Request::decode(bytes.slice(..cut)).is_err());
        prop_assert_eq!(Request::decode(bytes), Ok(traced));
    }

    #[test]
    fn responses_round_trip_and_no_prefix_decodes(results in results(), epoch: u64, cut: usize) {
        let response = Response { epoch: RoutingEpoch(epoch), results };
        let bytes = response.encode();
        prop_assert!(Response::decode(bytes.slice(..cut % bytes.len())).is_err());
        prop_assert_eq!(Response::decode(bytes), Ok(response));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 1..7u8) {
        let mut input = vec![FORMAT, 1, tag];
        input.extend(&bytes);
        // Either result is right; what counts is that there is one.
        drop(Response::decode(input.clone().into()));
        input.insert(1, 1);
        input.insert(1, 1);
        drop(Request::decode(input.into()));
        drop(Request::decode(bytes.into()));
    }
}
