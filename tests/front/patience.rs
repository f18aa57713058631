//! How long a door waits for its clients, and what one connection may ask for at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::front::activity::{Activity, Patience};
use raftcache::front::door::{Call, Door, Kind};
use raftcache::front::replies::Replies;
use raftcache::front::{FrontLimits, convert, pb, status};
use raftcache::types::Reason;
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::fake::{Doors, Fake, eventually};

fn closed(doors: &Doors, reason: &str) -> u64 {
    doors.metrics.connections_closed.with_label_values(&[reason]).get()
}

/// Waits until the node closes the connection.
async fn ends(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut rest)).await;
    // End of file or reset: both are an end.
    drop(read.expect("the node closes the connection"));
}

#[tokio::test]
async fn half_a_handshake_is_closed_at_both_doors() {
    let limits = FrontLimits { handshake_timeout_ms: 1_500, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let mut silent = vec![TcpStream::connect(doors.grpc_addr).await.unwrap()];
    let mut half = TcpStream::connect(doors.grpc_addr).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    silent.push(half);
    let mut half = TcpStream::connect(doors.http_addr).await.unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    silent.push(half);
    // One that has said what it wants stays.
    let mut client = doors.client().await;
    client.health(pb::HealthRequest {}).await.unwrap();
    for socket in silent {
        ends(socket).await;
    }
    assert_eq!(closed(&doors, "handshake"), 3);
    let open = || doors.metrics.connections.with_label_values(&["grpc"]).get();
    eventually("only the good one is left", || open() == 1).await;
    client.health(pb::HealthRequest {}).await.unwrap();
    doors.close().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_at_work_is_not() {
    let limits = FrontLimits { idle_timeout_ms: 1_500, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let mut idle = doors.client().await;
    idle.health(pb::HealthRequest {}).await.unwrap();
    let mut busy = doors.client().await;
    let key_form = Some(pb::get_request::KeyForm::Key("gate".to_owned()));
    let get = pb::GetRequest { key_form, ..pb::GetRequest::default() };
    let waits = raftcache::types::task::spawn("waits", async move { busy.get(get).await });
    eventually("it runs", || doors.fake.running.load(Ordering::SeqCst) == 1).await;
    eventually("the idle one is closed", || closed(&doors, "idle") == 1).await;
    let open = || doors.metrics.connections.with_label_values(&["grpc"]).get();
    eventually("one is left", || open() == 1).await;
    doors.fake.gate.add_permits(1);
    waits.await.unwrap().expect("no panic").unwrap();
    // The library connects again by itself.
    idle.health(pb::HealthRequest {}).await.unwrap();
    doors.close().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_dropped() {
    let limits = FrontLimits { stall_timeout_ms: 1_500, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let mut client = doors.client().await;
    let set = pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key("large".to_owned())),
        value_form: Some(pb::set_request::ValueForm::ValueBytes(vec![7; 1 << 20].into())),
        ..pb::SetRequest::default()
    };
    client.set(set).await.unwrap();
    // A stream of answers that is opened and not read: its window fills, nothing more is taken.
    let get = |id| {
        let key_form = Some(pb::get_request::KeyForm::Key("large".to_owned()));
        let get = pb::GetRequest { key_form, ..pb::GetRequest::default() };
        let operation = Some(pb::pipeline_request::Operation::Get(get));
        pb::PipelineRequest { id, operation, timeout: None }
    };
    let requests = tokio_stream::iter((0..64).map(get));
    let answers = client.pipeline(requests).await.unwrap();
    eventually("it is dropped", || closed(&doors, "stalled") == 1).await;
    drop(answers);
    doors.close().await;
}

/// What it did not take counts until it is taken, or nobody wants it any more.
#[tokio::test]
async fn a_connection_that_takes_no_answers_is_refused_more_and_others_are_not() {
    let limits = FrontLimits { connection_replies_bytes_max: 1 << 20, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let (mut greedy, mut modest) = (doors.client().await, doors.client().await);
    let key_form = || Some(pb::get_request::KeyForm::Key("large".to_owned()));
    let get = || pb::GetRequest { key_form: key_form(), ..pb::GetRequest::default() };
    let set = pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key("large".to_owned())),
        value_form: Some(pb::set_request::ValueForm::ValueBytes(vec![7; 1 << 20].into())),
        ..pb::SetRequest::default()
    };
    greedy.set(set).await.unwrap();
    let (requests, input) = tokio::sync::mpsc::channel(64);
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let answers = greedy.pipeline(input).await.unwrap();
    // The client library takes some of them by itself, as much as its window has room for.
    let mut refused = Vec::new();
    for id in 0..1_000 {
        let operation = Some(pb::pipeline_request::Operation::Get(get()));
        requests.send(pb::PipelineRequest { id, operation, timeout: None }).await.unwrap();
        match greedy.get(get()).await {
            Ok(_) => refused.clear(),
            Err(status) => refused.push(status),
        }
        if refused.len() == 5 {
            break;
        }
    }
    assert_eq!(refused.len(), 5, "there is no more room");
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("replies not taken on the connection"), "{status}");
        let detail = status::detail_of(&status).unwrap();
        assert_eq!(detail.outcome(), pb::error_detail::Outcome::Rejected);
        assert!(detail.retry_after.is_some());
    }
    let label = ["replies_bytes_of_the_connection"];
    assert!(doors.metrics.refused.with_label_values(&label).get() >= 5);
    modest.get(get()).await.unwrap();
    drop((answers, requests));
    let mut taken = greedy.get(get()).await;
    while let Err(status) = taken {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        taken = greedy.get(get()).await;
    }
    doors.close().await;
}

#[tokio::test]
async fn without_room_for_replies_a_write_is_refused_before_it_is_begun() {
    let (fake, metrics) = (Fake::new(), Metrics::new());
    let limits = FrontLimits { connection_replies_bytes_max: 1_000, ..FrontLimits::default() };
    let door = Door::new(Arc::clone(&fake), limits, &metrics);
    let share = Replies::new(&limits, &metrics).share();
    let activity = Activity::new(Patience::new(&limits, None), 8, Arc::clone(&share));
    let run = async || {
        let set = pb::SetRequest {
            key_form: Some(pb::set_request::KeyForm::Key("k".to_owned())),
            value_form: Some(pb::set_request::ValueForm::Value("v".to_owned())),
            ..pb::SetRequest::default()
        };
        let deadline = now() + Duration::from_secs(60);
        let call = Call { arrived: now(), deadline, trace: None, activity: Some(&activity) };
        door.run_reserved(Kind::Set, convert::set(&limits, set), call, None).await
    };
    let held = share.hold(1_000);
    let error = run().await.unwrap_err();
    let what = "bytes of replies not taken on the connection";
    assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 1_000 });
    assert!(fake.seen.lock().is_empty());
    drop(held);
    run().await.unwrap();
    assert_eq!(fake.seen.lock().len(), 1);
}

#[tokio::test]
async fn past_its_share_a_connection_is_refused_and_others_are_not() {
    let limits = FrontLimits { connection_in_flight_max: 2, ..FrontLimits::default() };
    let doors = Doors::open_with(limits).await;
    let (greedy, mut modest) = (doors.client().await, doors.client().await);
    let get = |key: &str| pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::Key(key.to_owned())),
        ..pb::GetRequest::default()
    };
    let waits: Vec<_> = (0..2)
        .map(|_| {
            let (mut client, get) = (greedy.clone(), get("gate"));
            raftcache::types::task::spawn("waits", async move { client.get(get).await })
        })
        .collect();
    eventually("both run", || doors.fake.running.load(Ordering::SeqCst) == 2).await;
    let refused = greedy.clone().get(get("k")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let detail = status::detail_of(&refused).unwrap();
    assert!(detail.retry_after.is_some());
    assert!(refused.message().contains("on the connection is at its limit of 2"), "{refused}");
    modest.get(get("k")).await.unwrap();
    doors.fake.gate.add_permits(2);
    for wait in waits {
        wait.await.unwrap().expect("no panic").unwrap();
    }
    greedy.clone().get(get("k")).await.unwrap();
    let label = ["requests_in_flight_on_the_connection"];
    assert_eq!(doors.metrics.refused.with_label_values(&label).get(), 1);
    doors.close().await;
}

#[tokio::test]
async fn a_request_that_panics_is_answered_and_costs_no_other() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    let get = |key: &str| pb::GetRequest {
        key_form: Some(pb::get_request::KeyForm::Key(key.to_owned())),
        ..pb::GetRequest::default()
    };
    let before = raftcache::types::task::panics();
    let failed = client.get(get("panic")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal);
    let detail = status::detail_of(&failed).unwrap();
    assert_eq!(detail.outcome(), pb::error_detail::Outcome::Unknown);
    assert!(raftcache::types::task::panics() > before, "it is counted");
    client.get(get("k")).await.unwrap();
    assert_eq!(doors.metrics.in_flight.get(), 0);
    doors.close().await;
}
