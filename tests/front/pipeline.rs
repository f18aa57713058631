//! Many operations on one stream.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::front::{FrontLimits, pb};
use raftcache::types::Reason;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::fake::{Doors, eventually};

fn set(id: u64, key: &str) -> pb::PipelineRequest {
    let set = pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key(key.to_owned())),
        value_form: Some(pb::set_request::ValueForm::Value(format!("value {id}"))),
        ..pb::SetRequest::default()
    };
    pb::PipelineRequest {
        id,
        operation: Some(pb::pipeline_request::Operation::Set(set)),
        timeout: None,
    }
}

fn get(id: u64, key: &str) -> pb::PipelineRequest {
    let key_form = Some(pb::get_request::KeyForm::Key(key.to_owned()));
    let get = pb::GetRequest { key_form, ..pb::GetRequest::default() };
    pb::PipelineRequest {
        id,
        operation: Some(pb::pipeline_request::Operation::Get(get)),
        timeout: None,
    }
}

struct Stream {
    requests: mpsc::Sender<pb::PipelineRequest>,
    replies: Streaming<pb::PipelineResponse>,
}

async fn open(doors: &Doors) -> Stream {
    let (requests, input) = mpsc::channel(64);
    let mut client = doors.client().await;
    let replies = client.pipeline(ReceiverStream::new(input)).await.unwrap().into_inner();
    Stream { requests, replies }
}

/// Sends all, closes, and collects every reply in the order it came.
async fn exchange(stream: Stream, all: Vec<pb::PipelineRequest>) -> Vec<pb::PipelineResponse> {
    let Stream { requests, mut replies } = stream;
    let send = async move {
        for request in all {
            requests.send(request).await.expect("the server reads");
        }
    };
    let receive = async move {
        let mut got = Vec::new();
        while let Some(reply) = replies.message().await.unwrap() {
            got.push(reply);
        }
        got
    };
    tokio::join!(send, receive).1
}

#[tokio::test]
async fn ten_thousand_operations_are_answered_once_each_out_of_order_and_bounded() {
    const COUNT: u64 = 10_000;
    let limits = FrontLimits { pipeline_in_flight_max: 64, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let sets = (0..COUNT).map(|id| set(id, &format!("key{id}"))).collect();
    let replies = exchange(open(&doors).await, sets).await;
    let order: Vec<u64> = replies.iter().map(|reply| reply.id).collect();
    assert!(!order.is_sorted(), "replies come as they finish");
    let mut ids = order;
    ids.sort_unstable();
    assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
    assert!(replies.iter().all(|reply| matches!(
        reply.result,
        Some(pb::pipeline_response::Result::Set(pb::SetResponse { applied: true, .. }))
    )));
    let peak = doors.fake.running_peak.load(Ordering::SeqCst);
    assert!((2..=64).contains(&peak), "{peak} ran at once");

    let gets = (0..COUNT).map(|id| get(id, &format!("key{id}"))).collect();
    let replies = exchange(open(&doors).await, gets).await;
    let values: BTreeMap<u64, String> = replies.into_iter().map(|r| (r.id, value_of(r))).collect();
    assert_eq!(values.len() as u64, COUNT);
    assert!(values.iter().all(|(id, value)| *value == format!("value {id}")));
    doors.close().await;
}

fn value_of(reply: pb::PipelineResponse) -> String {
    match reply.result {
        Some(pb::pipeline_response::Result::Get(pb::GetResponse {
            value_form: Some(pb::get_response::ValueForm::Value(text)),
            ..
        })) => text,
        other => panic!("{other:?}"),
    }
}

fn failure_of(reply: pb::PipelineResponse) -> pb::Failure {
    match reply.result {
        Some(pb::pipeline_response::Result::Failure(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_slow_operation_holds_back_nobody_and_failures_do_not_end_the_stream() {
    let doors = Doors::open().await;
    doors.fake.fail(
        "bad",
        Reason::NoLeader {
            group: raftcache::types::GroupId::of_shard(raftcache::types::ShardId(0)),
        },
    );
    let mut stream = open(&doors).await;
    let short = Some(pb::Ttl { seconds: 0, nanos: 50_000_000 });
    let requests = [
        set(1, "gate"),
        set(2, "bad"),
        set(3, ""),
        pb::PipelineRequest { id: 4, operation: None, timeout: None },
        pb::PipelineRequest { timeout: short, ..set(5, "stuck") },
        pb::PipelineRequest { timeout: Some(pb::Ttl { seconds: -1, nanos: 0 }), ..set(6, "k") },
        set(7, "good"),
    ];
    for request in requests {
        stream.requests.send(request).await.unwrap();
    }
    let mut replies = BTreeMap::new();
    while replies.len() < 6 {
        let reply = stream.replies.message().await.unwrap().unwrap();
        assert!(replies.insert(reply.id, reply).is_none());
    }
    assert!(!replies.contains_key(&1), "it still waits at the gate");
    let mut failure = |id: u64| {
        let failure = failure_of(replies.remove(&id).unwrap());
        let detail = failure.detail.unwrap();
        (Code::from_i32(failure.code), detail.reason, detail.field)
    };
    let of = |code, reason: &str, field: &str| (code, reason.to_owned(), field.to_owned());
    assert_eq!(failure(2), of(Code::Unavailable, "no_leader", ""));
    assert_eq!(failure(3), of(Code::InvalidArgument, "invalid_argument", "key"));
    assert_eq!(failure(4), of(Code::InvalidArgument, "invalid_argument", "operation"));
    assert_eq!(failure(5), of(Code::DeadlineExceeded, "deadline_after_propose", ""));
    assert_eq!(failure(6), of(Code::InvalidArgument, "invalid_argument", "timeout"));

    doors.fake.gate.add_permits(1);
    assert_eq!(stream.replies.message().await.unwrap().unwrap().id, 1);
    drop(stream.requests);
    assert_eq!(stream.replies.message().await.unwrap(), None);
    doors.close().await;
}

#[tokio::test]
async fn a_full_pipeline_stops_reading() {
    let limits = FrontLimits { pipeline_in_flight_max: 3, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let exchange = exchange(open(&doors).await, (0..200).map(|id| set(id, "gate")).collect());
    let release = async {
        eventually("a full pipeline", || doors.fake.running.load(Ordering::SeqCst) == 3).await;
        for _ in 0..200 {
            doors.fake.gate.add_permits(1);
            tokio::task::yield_now().await;
        }
    };
    let (replies, ()) = tokio::join!(exchange, release);
    assert_eq!(replies.len(), 200);
    assert_eq!(doors.fake.running_peak.load(Ordering::SeqCst), 3);
    doors.close().await;
}

#[tokio::test]
async fn large_values_fill_a_pipeline_by_their_bytes() {
    // Each request weighs more than four bytes of key and seven of value.
    let limits = FrontLimits { pipeline_bytes_max: 12, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let exchange = exchange(open(&doors).await, (0..50).map(|id| set(id, "gate")).collect());
    let release = async {
        eventually("a full pipeline", || doors.fake.running.load(Ordering::SeqCst) == 2).await;
        doors.fake.gate.add_permits(50);
    };
    let (replies, ()) = tokio::join!(exchange, release);
    assert_eq!(replies.len(), 50);
    assert_eq!(doors.fake.running_peak.load(Ordering::SeqCst), 2);
    doors.close().await;
}

#[tokio::test]
async fn a_stopping_node_finishes_what_it_took_and_says_that_it_stops() {
    let doors = Doors::open().await;
    let mut stream = open(&doors).await;
    stream.requests.send(set(1, "gate")).await.unwrap();
    eventually("the request runs", || doors.fake.running.load(Ordering::SeqCst) == 1).await;
    doors.cancel.cancel();
    assert!(!doors.grpc.is_finished());
    doors.fake.gate.add_permits(1);
    assert_eq!(stream.replies.message().await.unwrap().unwrap().id, 1);
    let end: Status = stream.replies.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(end.metadata().get("raftcache-reason").unwrap(), "stopping");
    tokio::time::timeout(Duration::from_secs(60), doors.close()).await.expect("the door ends");
}
