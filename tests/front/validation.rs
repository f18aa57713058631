//! Bad input is refused by name of the field and its limit, and nothing reaches the service.

use bytes::Bytes;
use raftcache::front::{FrontLimits, convert, pb, status, validate};
use raftcache::service::Operation;
use raftcache::types::{Command, Condition, Consistency, Error, Expiry, Reason, Version};
use tonic::Code;

use crate::fake::Doors;

fn limits() -> FrontLimits {
    FrontLimits {
        key_bytes_max: 8,
        value_bytes_max: 16,
        ttl_ms_max: 10_000,
        ..FrontLimits::default()
    }
}

fn set() -> pb::SetRequest {
    pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key("k".to_owned())),
        value_form: Some(pb::set_request::ValueForm::Value("v".to_owned())),
        ..pb::SetRequest::default()
    }
}

fn get() -> pb::GetRequest {
    let key_form = Some(pb::get_request::KeyForm::Key("k".to_owned()));
    pb::GetRequest { key_form, ..pb::GetRequest::default() }
}

fn ttl(seconds: i64, nanos: i32) -> pb::Ttl {
    pb::Ttl { seconds, nanos }
}

fn with_ttl(seconds: i64, nanos: i32) -> pb::SetRequest {
    pb::SetRequest { expiry: Some(pb::set_request::Expiry::Ttl(ttl(seconds, nanos))), ..set() }
}

fn with_kind(kind: Option<pb::condition::Kind>) -> pb::SetRequest {
    pb::SetRequest { condition: Some(pb::Condition { kind }), ..set() }
}

fn with_session(session: &'static [u8]) -> pb::SetRequest {
    let id = pb::RequestId { session: Bytes::from_static(session), sequence: 1, sent: None };
    pb::SetRequest { request_id: Some(id), ..set() }
}

/// Bad sets: the field and a piece of the problem.
fn bad_sets() -> Vec<(pb::SetRequest, &'static str, &'static str)> {
    use pb::condition::Kind;
    use pb::set_request::{Expiry as E, KeyForm as K, ValueForm as V};
    let key = |form| pb::SetRequest { key_form: form, ..set() };
    let value = |form| pb::SetRequest { value_form: form, ..set() };
    let at = |ms| pb::SetRequest { expiry: Some(E::ExpireAtMs(ms)), ..set() };
    vec![
        (key(None), "key", "1 to 8"),
        (key(Some(K::Key(String::new()))), "key", "1 to 8"),
        (key(Some(K::KeyBytes(Bytes::new()))), "key", "1 to 8"),
        (key(Some(K::Key("123456789".to_owned()))), "key", "has 9 bytes; at most 8"),
        (key(Some(K::KeyBytes(Bytes::from_static(&[0; 9])))), "key", "at most 8"),
        (value(None), "value", "neither value nor value_bytes"),
        (value(Some(V::Value("x".repeat(17)))), "value", "has 17 bytes; at most 16"),
        (value(Some(V::ValueBytes(vec![0; 17].into()))), "value", "at most 16"),
        (with_ttl(0, 0), "ttl", "zero; 1 to 10000 ms"),
        (with_ttl(-1, 0), "ttl", "negative"),
        (with_ttl(0, -1), "ttl", "negative"),
        (with_ttl(1, 1_000_000_000), "ttl", "at most 999999999"),
        (with_ttl(10, 1), "ttl", "10001 ms; at most 10000"),
        (with_ttl(i64::MAX, 999_999_999), "ttl", "at most 10000"),
        (at(0), "expire_at_ms", "1 to 253402300799999"),
        (at(u64::MAX), "expire_at_ms", "1 to 253402300799999"),
        (with_kind(None), "condition", "unknown kind"),
        (with_kind(Some(Kind::IfAbsent(false))), "condition.if_absent", "must be true"),
        (with_kind(Some(Kind::IfPresent(false))), "condition.if_present", "must be true"),
        (with_kind(Some(Kind::IfVersion(0))), "condition.if_version", "start at 1"),
        (with_session(b""), "request_id.session", "has 0 bytes; exactly 16"),
        (with_session(&[1; 17]), "request_id.session", "has 17 bytes; exactly 16"),
        (with_session(&[0; 16]), "request_id.session", "all zero"),
    ]
}

fn bad_gets() -> Vec<(pb::GetRequest, &'static str, &'static str)> {
    let bounded = pb::Consistency::Bounded.into();
    let get_with =
        |consistency, max_staleness| pb::GetRequest { consistency, max_staleness, ..get() };
    vec![
        (pb::GetRequest::default(), "key", "is empty"),
        (get_with(4, None), "consistency", "4 is unknown; 0 to 3"),
        (get_with(-1, None), "consistency", "-1 is unknown"),
        (get_with(bounded, None), "max_staleness", "is required for BOUNDED"),
        (get_with(bounded, Some(ttl(-1, 0))), "max_staleness", "negative"),
        (get_with(0, Some(ttl(1, 0))), "max_staleness", "only allowed with BOUNDED"),
    ]
}

fn assert_invalid<T: std::fmt::Debug>(result: Result<T, Error>, field: &str, problem: &str) {
    match result {
        Err(Error { reason: Reason::InvalidArgument { field: f, problem: p }, .. }) => {
            assert_eq!(f, field);
            assert!(p.contains(problem), "{f}: {p:?} lacks {problem:?}");
        }
        other => panic!("{field} {problem}: {other:?}"),
    }
}

#[test]
fn every_bad_field_is_named_with_its_limit() {
    for (request, field, problem) in bad_sets() {
        assert_invalid(convert::set(&limits(), request), field, problem);
    }
    for (request, field, problem) in bad_gets() {
        assert_invalid(convert::get(&limits(), request), field, problem);
    }
    let delete = pb::DeleteRequest::default();
    assert_invalid(convert::delete(&limits(), delete), "key", "is empty");
    let delete = pb::DeleteRequest {
        key_form: Some(pb::delete_request::KeyForm::Key("k".to_owned())),
        condition: Some(pb::Condition { kind: Some(pb::condition::Kind::IfAbsent(true)) }),
        ..pb::DeleteRequest::default()
    };
    assert_invalid(convert::delete(&limits(), delete), "condition.if_absent", "for Delete");
}

#[test]
fn what_is_just_within_the_limits_is_taken() {
    let expiry = |request| match convert::set(&limits(), request) {
        Ok((Operation::Write(Command::Set(set)), _)) => set.expiry,
        other => panic!("{other:?}"),
    };
    assert_eq!(expiry(set()), Expiry::Never);
    assert_eq!(expiry(with_ttl(10, 0)), Expiry::AfterMs(10_000));
    // Rounded up: what is not zero must not become zero.
    assert_eq!(expiry(with_ttl(0, 1)), Expiry::AfterMs(1));
    assert_eq!(expiry(with_ttl(1, 500_000_001)), Expiry::AfterMs(1_501));
    let with = |expiry| pb::SetRequest { expiry: Some(expiry), ..set() };
    assert_eq!(expiry(with(pb::set_request::Expiry::KeepTtl(true))), Expiry::Keep);
    assert_eq!(expiry(with(pb::set_request::Expiry::KeepTtl(false))), Expiry::Never);
    assert_eq!(expiry(with(pb::set_request::Expiry::ExpireAtMs(1))), Expiry::AtMs(1));

    let condition = |kind| match convert::set(&limits(), with_kind(Some(kind))) {
        Ok((Operation::Write(Command::Set(set)), _)) => set.condition,
        other => panic!("{other:?}"),
    };
    assert_eq!(condition(pb::condition::Kind::IfAbsent(true)), Condition::IfAbsent);
    assert_eq!(condition(pb::condition::Kind::IfVersion(7)), Condition::IfVersion(Version(7)));

    let (_, id) = convert::set(&limits(), with_session(b"0123456789abcdef")).unwrap();
    let session = u128::from_be_bytes(*b"0123456789abcdef");
    assert_eq!(id.unwrap().id, raftcache::types::RequestId { session, sequence: 1 });
    let longest = Bytes::from_static(&[1; 8]);
    assert_eq!(validate::key(&limits(), longest.clone()), Ok(longest));
}

#[test]
fn consistencies_are_read_as_given() {
    let read = |wire: pb::Consistency, max_staleness| {
        let request = pb::GetRequest { consistency: wire.into(), max_staleness, ..get() };
        match convert::get(&limits(), request) {
            Ok((Operation::Read { consistency, .. }, None)) => consistency,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read(pb::Consistency::Linearizable, None), Consistency::Linearizable);
    assert_eq!(read(pb::Consistency::Lease, None), Consistency::Lease);
    assert_eq!(read(pb::Consistency::Stale, None), Consistency::Stale);
    let bounded = Consistency::Bounded { staleness_ms_max: 1_500 };
    assert_eq!(read(pb::Consistency::Bounded, Some(ttl(1, 500_000_000))), bounded);
}

#[tokio::test]
async fn bad_input_is_invalid_argument_over_the_wire_and_reaches_no_service() {
    let doors = Doors::open_with(limits()).await;
    let mut client = doors.client().await;
    for (request, field, problem) in bad_sets() {
        let status = client.set(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{}", status.message());
        assert!(status.message().contains(problem), "{}", status.message());
        let detail = status::detail_of(&status).unwrap();
        assert_eq!((detail.field.as_str(), detail.retryable), (field, false));
        assert_eq!(detail.outcome(), pb::error_detail::Outcome::Rejected);
    }
    for (request, field, _) in bad_gets() {
        let status = client.get(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
    }
    assert!(doors.fake.seen.lock().is_empty());
    doors.close().await;
}
