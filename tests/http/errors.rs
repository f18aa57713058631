//! Every error as a caller sees it, and what a call brings along: time, trace.

use std::time::Duration;

use raftcache::front::FrontLimits;
use raftcache::front::http::problem::status_of;
use raftcache::service::{Operation, Response};
use raftcache::types::{
    Consistency, Error, GroupId, NodeId, Outcome, Reason, Reply, RoutingEpoch, ShardId,
};
use serde_json::json;

use crate::caller::JSON;
use crate::scripted::Door;

/// One of each; `tests/docs.rs` holds its own list to the source.
pub fn reasons() -> Vec<Reason> {
    let (group, detail) = (GroupId::of_shard(ShardId(3)), "seen".to_owned());
    vec![
        Reason::InvalidArgument { field: "key", problem: "is empty".to_owned() },
        Reason::NotLeader { group, leader: Some(NodeId(2)) },
        Reason::NotOwner { epoch: RoutingEpoch(4) },
        Reason::NoLeader { group },
        Reason::NoQuorum { group, silent_ms: 2_000 },
        Reason::NotReady,
        Reason::ResourceExhausted { what: "queue", limit: 7 },
        Reason::Stopping,
        Reason::DeadlineBeforePropose,
        Reason::DeadlineAfterPropose,
        Reason::Lost { detail: detail.clone() },
        Reason::ReadFailed { detail: detail.clone() },
        Reason::TooStale { age_ms: 9, staleness_ms_max: 5 },
        Reason::SessionExpired,
        Reason::TooLarge { bytes: 9, bytes_max: 5 },
        Reason::StorageFailed { detail: detail.clone() },
        Reason::NotInteger,
        Reason::Overflow,
        Reason::NotFloat,
        Reason::NotFinite,
        Reason::ReplyTooLarge { bytes: 9, bytes_max: 5 },
        Reason::CrossShard { shards: 2 },
        Reason::WrongKind,
        Reason::OutdatedToken,
        Reason::Internal { detail },
    ]
}

#[tokio::test]
async fn every_reason_reaches_the_caller_as_a_problem() {
    let door = Door::open(FrontLimits::default()).await;
    for reason in reasons() {
        let error = Error { reason: reason.clone(), retry_after: None };
        let status = status_of(&reason).as_u16();
        // A batch may meet each of them.
        let batch = json!({ "operations": [{ "op": "set", "key": "k", "value": 1 }] }).to_string();
        door.script(Some(Err(error.clone())));
        let http = match status {
            // Not of a batch, or of an operation within one: the document has it for others.
            409 => door.http.call("POST", "/cache/k/increment", &[], "").await,
            _ => door.http.call("POST", "/cache/batch", &[JSON], batch.clone()).await,
        };
        http.is(status, reason.name());
        let problem = http.json();
        assert_eq!(problem["detail"], reason.to_string());
        assert_eq!(problem["retryable"], reason.retryable());
        let unknown = reason.outcome() == Outcome::Unknown;
        assert_eq!(problem["outcome"] == "unknown", unknown);
        // What a proxy may send on to another node was surely not applied.
        assert!(status != 503 || !unknown);
        let hinted = status == 503 && reason.retryable();
        assert_eq!(http.header("retry-after"), if hinted { "1" } else { "" }, "{reason:?}");
        // The same, within a batch.
        door.script(Some(Ok(Response::Multi(vec![Err(error)]))));
        let results = door.http.call("POST", "/cache/batch", &[JSON], batch).await.json();
        assert_eq!(results["results"][0], problem);
    }
    door.close().await;
}

#[tokio::test]
async fn a_problem_says_where_the_leader_is_and_when_to_try_again() {
    let door = Door::open(FrontLimits::default()).await;
    let group = GroupId::of_shard(ShardId(0));
    let hint = async |leader: Option<u64>| {
        let reason = Reason::NotLeader { group, leader: leader.map(NodeId) };
        door.script(Some(Err(reason.into())));
        door.http.get("/cache/k").await.json()["leader"].clone()
    };
    assert_eq!(hint(Some(2)).await, json!({ "node": 2, "http_address": "10.0.0.2:8081" }));
    assert_eq!(hint(Some(7)).await, json!({ "node": 7 }));
    assert_eq!(hint(None).await, json!(null));
    let busy = Error::from(Reason::ResourceExhausted { what: "queue", limit: 7 });
    door.script(Some(Err(busy.retry_after(Duration::from_micros(1_000_500)))));
    let answer = door.http.get("/cache/k").await;
    answer.is(429, "resource_exhausted");
    assert_eq!(
        (answer.header("retry-after"), answer.json()["retry_after_ms"].clone()),
        ("2", json!(1_001))
    );
    let ready = door.http.get("/ready").await;
    assert_eq!(
        (ready.status, ready.json()["not_ready_because"][0].clone()),
        (503, json!("scripted"))
    );
    door.close().await;
}

#[tokio::test]
async fn an_answer_to_another_question_is_a_fault_of_the_node() {
    let door = Door::open(FrontLimits::default()).await;
    door.script(Some(Ok(Response::Size(1))));
    for (method, path) in [
        ("GET", "/cache/k"),
        ("PUT", "/cache/k"),
        ("DELETE", "/cache/k"),
        ("POST", "/cache/k/increment"),
        ("GET", "/cache"),
        ("DELETE", "/cache?confirm=flush"),
    ] {
        door.http.call(method, path, &[], "").await.is(500, "internal");
    }
    door.close().await;
}

#[tokio::test]
async fn a_call_brings_its_time_and_its_trace() {
    let limits = FrontLimits { deadline_ms_default: 11_000, ..FrontLimits::default() };
    let door = Door::open(limits).await;
    let last = || door.service.seen.lock().pop().unwrap();
    let left = async |timeout: Option<&str>| {
        let headers: Vec<(&str, &str)> =
            timeout.map(|t| ("request-timeout", t)).into_iter().collect();
        door.http.call("GET", "/cache/k", &headers, "").await.is(404, "not_found");
        last().1
    };
    // The lower bounds leave some seconds for a slow machine.
    let within = |time: Duration, ms: u64| {
        assert!(time <= Duration::from_millis(ms), "{time:?} {ms}");
        assert!(time > Duration::from_millis(ms.saturating_sub(8_000)), "{time:?} {ms}");
    };
    within(left(None).await, 11_000);
    within(left(Some("20.5")).await, 20_500);
    within(left(Some("9999999")).await, 60_000);
    for bad in ["soon", "-1", "", "5s"] {
        door.http
            .call("GET", "/cache/k", &[("request-timeout", bad)], "")
            .await
            .names("request-timeout");
    }
    door.http
        .call("GET", "/cache/k", &[("request-timeout", "0")], "")
        .await
        .is(408, "deadline_before_propose");
    assert!(door.service.seen.lock().is_empty(), "what is refused is not asked for");

    door.http.get("/cache/k?consistency=bounded&max_staleness=1.5").await;
    let Operation::Read { consistency, .. } = last().0.operation else { panic!("a read") };
    assert_eq!(consistency, Consistency::Bounded { staleness_ms_max: 1_500 });

    door.script(None);
    let stuck = door.http.call("DELETE", "/cache/k", &[("request-timeout", "0.1")], "").await;
    stuck.is(504, "deadline_after_propose");
    door.script(Some(Ok(Response::Written(Reply::NotFound))));
    door.http.delete("/cache/k").await.is(404, "not_found");
    // Calls are counted like those of any door.
    let count = |operation, outcome| {
        door.metrics.request_seconds.with_label_values(&[operation, outcome]).get_sample_count()
    };
    assert_eq!((count("delete", "unknown"), count("delete", "ok")), (1, 1));
    assert_eq!(count("get", "rejected"), 5);
    door.close().await;
}
