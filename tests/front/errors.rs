//! Errors as clients see them: code, details, metadata; deadlines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use raftcache::core::table::RoutingTable;
use raftcache::front::door::{Call, Door, Kind};
use raftcache::front::grpc::head;
use raftcache::front::{FrontLimits, convert, pb, status};
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use raftcache::types::{Error, NodeId, Outcome, Reason, RoutingEpoch, ShardId};
use tonic::{Code, Request, Status};

use crate::fake::{Doors, Fake};

fn get(key: &str) -> pb::GetRequest {
    let key_form = Some(pb::get_request::KeyForm::Key(key.to_owned()));
    pb::GetRequest { key_form, ..pb::GetRequest::default() }
}

fn set(key: &str) -> pb::SetRequest {
    pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key(key.to_owned())),
        value_form: Some(pb::set_request::ValueForm::Value("v".to_owned())),
        ..pb::SetRequest::default()
    }
}

/// Every reason, with the code it must have.
fn reasons() -> Vec<(Reason, Code)> {
    let shard = ShardId(3);
    let detail = || "seen".to_owned();
    vec![
        (
            Reason::InvalidArgument { field: "key", problem: "is empty".to_owned() },
            Code::InvalidArgument,
        ),
        (
            Reason::NotLeader {
                group: raftcache::types::GroupId::of_shard(shard),
                leader: Some(NodeId(2)),
            },
            Code::Unavailable,
        ),
        (Reason::NotOwner { epoch: RoutingEpoch(4) }, Code::Unavailable),
        (Reason::NoLeader { group: raftcache::types::GroupId::of_shard(shard) }, Code::Unavailable),
        (
            Reason::NoQuorum {
                group: raftcache::types::GroupId::of_shard(shard),
                silent_ms: 2_000,
            },
            Code::Unavailable,
        ),
        (Reason::NotReady, Code::Unavailable),
        (Reason::ResourceExhausted { what: "queue", limit: 7 }, Code::ResourceExhausted),
        (Reason::Stopping, Code::Unavailable),
        (Reason::DeadlineBeforePropose, Code::DeadlineExceeded),
        (Reason::DeadlineAfterPropose, Code::DeadlineExceeded),
        (Reason::Lost { detail: detail() }, Code::Unknown),
        (Reason::ReadFailed { detail: detail() }, Code::Unavailable),
        (Reason::TooStale { age_ms: 9, staleness_ms_max: 5 }, Code::FailedPrecondition),
        (Reason::SessionExpired, Code::Aborted),
        (Reason::TooLarge { bytes: 9, bytes_max: 5 }, Code::InvalidArgument),
        (Reason::Internal { detail: detail() }, Code::Internal),
        (Reason::WrongKind, Code::FailedPrecondition),
        (Reason::OutdatedToken, Code::FailedPrecondition),
    ]
}

#[tokio::test]
async fn every_reason_reaches_the_client_with_code_detail_and_metadata() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    for (reason, code) in reasons() {
        let error =
            Error { reason: reason.clone(), retry_after: Some(Duration::from_micros(1_500)) };
        doors.fake.fail("f", error.clone());
        let status = client.set(set("f")).await.unwrap_err();
        assert_eq!(status.code(), code, "{reason:?}");
        assert_eq!(status.message(), reason.to_string());

        // As any client that knows google.rpc.Status reads it.
        let rpc = pb::RpcStatus::decode(status.details()).unwrap();
        assert_eq!((rpc.code, rpc.message.as_str()), (code as i32, status.message()));
        assert_eq!(rpc.details.len(), 1);
        assert_eq!(rpc.details[0].type_url, "type.googleapis.com/cache.ErrorDetail");
        let detail = pb::ErrorDetail::decode(rpc.details[0].value.clone()).unwrap();
        assert_eq!(status::detail_of(&status).as_ref(), Some(&detail));

        let (wire, word) = match reason.outcome() {
            Outcome::Rejected => (pb::error_detail::Outcome::Rejected, "rejected"),
            Outcome::Unknown => (pb::error_detail::Outcome::Unknown, "unknown"),
        };
        assert_eq!(detail.outcome(), wire);
        assert_eq!(detail.reason, reason.name());
        assert_eq!(detail.retryable, reason.retryable());
        assert_eq!(detail.retry_after, Some(pb::Ttl { seconds: 0, nanos: 2_000_000 }));
        let metadata = status.metadata();
        assert_eq!(metadata.get("raftcache-outcome").unwrap(), word);
        assert_eq!(metadata.get("raftcache-reason").unwrap(), reason.name());
        assert_eq!(metadata.get("retry-after-ms").unwrap(), "2");
        // What may have been applied must not be retried by a client on its own.
        assert!(code != Code::Unavailable || reason.outcome() == Outcome::Rejected);
    }
    doors.close().await;
}

#[tokio::test]
async fn the_leader_hint_has_its_address_from_the_table() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    let mut hint = async |leader: Option<u64>| {
        let leader = leader.map(NodeId);
        doors.fake.fail(
            "f",
            Reason::NotLeader { group: raftcache::types::GroupId::of_shard(ShardId(0)), leader },
        );
        let status = client.get(get("f")).await.unwrap_err();
        status::detail_of(&status).unwrap().leader
    };
    let known = pb::LeaderHint { node_id: 2, grpc_address: "127.0.0.1:8082".to_owned() };
    assert_eq!(hint(Some(2)).await, Some(known));
    let unknown = pb::LeaderHint { node_id: 77, grpc_address: String::new() };
    assert_eq!(hint(Some(77)).await, Some(unknown));
    assert_eq!(hint(None).await, None);
    doors.close().await;
}

#[tokio::test]
async fn a_deadline_is_taken_from_the_caller_and_bounded() {
    let limits = FrontLimits { deadline_ms_default: 11_000, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let mut client = doors.client().await;
    let mut left = async |timeout: Option<&'static str>| {
        let mut request = Request::new(get("k"));
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        client.get(request).await.unwrap();
        doors.fake.seen.lock().pop().unwrap().1
    };
    // The lower bounds leave some seconds for a slow machine.
    let within = |time: Duration, ms: u64| {
        assert!(time <= Duration::from_millis(ms), "{time:?} {ms}");
        assert!(time > Duration::from_millis(ms.saturating_sub(8_000)), "{time:?} {ms}");
    };
    within(left(None).await, 11_000);
    within(left(Some("20S")).await, 20_000);
    within(left(Some("99999999H")).await, 60_000);
    doors.close().await;
}

#[tokio::test]
async fn a_deadline_that_passes_says_what_may_have_happened() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    // The client library has a timer of its own, which wins on a machine that stands still for
    // longer than the margin; then ask again.
    let mut status = Status::cancelled("not asked");
    for _ in 0..500 {
        let mut request = Request::new(set("stuck"));
        request.set_timeout(Duration::from_millis(200));
        status = client.set(request).await.unwrap_err();
        if status.code() != Code::Cancelled {
            break;
        }
    }
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let detail = status::detail_of(&status).expect("the node's own answer, not the library's");
    assert_eq!(detail.outcome(), pb::error_detail::Outcome::Unknown);
    assert_eq!(detail.reason, "deadline_after_propose");

    let mut request = Request::new(set("k"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.set(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status::detail_of(&status).unwrap().field, "grpc-timeout");
    doors.close().await;
}

#[tokio::test]
async fn a_caller_that_does_not_wait_is_refused_before_its_message_is_read() {
    let (fake, metrics) = (Fake::new(), Metrics::new());
    let door = Door::new(Arc::clone(&fake), FrontLimits::default(), &metrics);
    let head = head(Arc::new(door));
    let asking = |timeout: &'static str| {
        let mut request = Request::new(());
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        head(request)
    };
    let status = asking("0m").unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let detail = status::detail_of(&status).unwrap();
    assert_eq!(detail.outcome(), pb::error_detail::Outcome::Rejected);
    assert_eq!(detail.reason, "deadline_before_propose");
    assert!(asking("1n").is_ok());
}

#[tokio::test]
async fn a_deadline_that_passed_on_the_way_is_rejected_without_asking_the_service() {
    let (fake, metrics) = (Fake::new(), Metrics::new());
    let limits = FrontLimits::default();
    let door = Door::new(Arc::clone(&fake), limits, &metrics);
    let checked = convert::set(&limits, set("k"));
    let call = Call { arrived: now(), deadline: now(), trace: None, activity: None };
    let error = door.run(Kind::Set, checked, call).await.unwrap_err();
    assert_eq!(error.reason, Reason::DeadlineBeforePropose);
    assert!(fake.seen.lock().is_empty());
}

#[tokio::test]
async fn a_message_past_the_limit_is_refused_with_both_sizes() {
    let limits = FrontLimits { message_bytes_max: 2_000, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let mut client = doors.client().await;
    let mut request = set("k");
    let value = Bytes::from(vec![7; 3_000]);
    request.value_form = Some(pb::set_request::ValueForm::ValueBytes(value));
    let status = client.set(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("2000 bytes"), "{}", status.message());
    assert!(doors.fake.seen.lock().is_empty());
    // The connection is still good.
    client.set(set("k")).await.unwrap();
    doors.close().await;
}

#[test]
fn a_foreign_status_has_no_detail() {
    assert_eq!(status::detail_of(&Status::unavailable("proxy")), None);
    let garbage = Status::with_details(Code::Unknown, "x", Bytes::from_static(&[0xff; 3]));
    assert_eq!(status::detail_of(&garbage), None);
    let ours = status::status(&Reason::NotReady.into(), &RoutingTable::default());
    assert_eq!(status::detail_of(&ours).unwrap().reason, "not_ready");
}
