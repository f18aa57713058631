//! The command line's side.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::front::client::{
    DelOptions, GetOptions, SetOptions, Target, run_del, run_get, run_set,
};
use raftcache::front::cluster::{ClusterStatus, StatusOptions, run_status};
use raftcache::front::pb;
use raftcache::types::{NodeId, Reason, ShardId};

use crate::fake::Doors;

fn target(doors: &Doors, json: bool) -> Target {
    Target { addr: doors.grpc_addr.to_string(), timeout: Duration::from_secs(5), json }
}

fn set(doors: &Doors, value: &[u8]) -> SetOptions {
    SetOptions {
        target: target(doors, false),
        key: "k".to_owned(),
        value: value.to_vec(),
        as_bytes: false,
        ttl: None,
        keep_ttl: false,
        condition: None,
    }
}

fn get(doors: &Doors, json: bool) -> GetOptions {
    GetOptions {
        target: target(doors, json),
        key: "k".to_owned(),
        consistency: pb::Consistency::Linearizable,
        max_staleness: None,
    }
}

fn same(a: ExitCode, b: ExitCode) -> bool {
    // `ExitCode` can only be compared by what it prints.
    format!("{a:?}") == format!("{b:?}")
}

/// What a command wrote, and whether it said yes.
macro_rules! run {
    ($command:expr, $options:expr) => {{
        let mut out = Vec::new();
        let code = $command($options, &mut out).await.unwrap();
        (out, same(code, ExitCode::SUCCESS))
    }};
}

#[tokio::test]
async fn set_get_and_del_speak_plainly_and_by_exit_code() {
    let doors = Doors::open().await;
    assert_eq!(run!(run_get, &get(&doors, false)), (b"".to_vec(), false));
    assert_eq!(run!(run_set, &set(&doors, b"hello")), (b"OK version 1\n".to_vec(), true));
    assert_eq!(run!(run_get, &get(&doors, false)), (b"hello\n".to_vec(), true));

    let mut options = set(&doors, b"x");
    options.condition = Some(pb::condition::Kind::IfAbsent(true));
    let refused = b"not applied: the key has version 1\n".to_vec();
    assert_eq!(run!(run_set, &options), (refused, false));

    let mut options = set(&doors, b"text");
    options.as_bytes = true;
    assert_eq!(run!(run_set, &options).0, b"OK version 2\n");
    let (json, _) = run!(run_get, &get(&doors, true));
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["value_bytes"], serde_json::json!(b"text"), "bytes, though it is UTF-8");

    let mut options = set(&doors, &[0xff, 0, 1]);
    options.ttl = Some(Duration::from_secs(60));
    assert_eq!(run!(run_set, &options).0, b"OK version 3\n");
    assert_eq!(run!(run_get, &get(&doors, false)), (vec![0xff, 0, 1], true));
    let (json, _) = run!(run_get, &get(&doors, true));
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["value_bytes"], serde_json::json!([255, 0, 1]));
    assert_eq!(json["ttl_ms"], 60_000);

    let del =
        |if_version| DelOptions { target: target(&doors, false), key: "k".to_owned(), if_version };
    let kept = b"not applied: the key has version 3\n".to_vec();
    assert_eq!(run!(run_del, &del(Some(1))), (kept, false));
    assert_eq!(run!(run_del, &del(None)), (b"deleted version 3\n".to_vec(), true));
    let absent = b"not applied: the key is absent\n".to_vec();
    assert_eq!(run!(run_del, &del(None)), (absent, false));
    doors.close().await;
}

#[tokio::test]
async fn errors_say_the_outcome_and_the_leader() {
    let doors = Doors::open().await;
    let mut out = Vec::new();
    doors.fake.fail("k", Reason::NotLeader { shard: ShardId(0), leader: Some(NodeId(2)) });
    let error = run_get(&get(&doors, false), &mut out).await.unwrap_err().to_string();
    assert!(error.contains("not applied; leader is node 2 at 127.0.0.1:8082"), "{error}");
    doors.fake.fail("k", Reason::Lost { detail: "cut".to_owned() });
    let error = run_set(&set(&doors, b"v"), &mut out).await.unwrap_err().to_string();
    assert!(error.starts_with("lost: ") && error.contains("may have been applied"), "{error}");

    let addr = doors.grpc_addr.to_string();
    let mut options = get(&doors, false);
    doors.close().await;
    options.target.addr = addr.clone();
    let error = run_get(&options, &mut out).await.unwrap_err().to_string();
    assert_eq!(error, format!("cannot connect to {addr}"));
    assert!(out.is_empty());
}

#[tokio::test]
async fn status_asks_every_node_and_reports_those_that_are_silent() {
    let doors = Doors::open().await;
    let silent = {
        // A port that nobody listens on.
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let edit = |change: &dyn Fn(&mut raftcache::core::table::RoutingTable)| {
        let mut table = doors.fake.table.lock();
        change(Arc::make_mut(&mut table));
    };
    edit(&|table| table.nodes.get_mut(&NodeId(2)).unwrap().http_addr = silent.clone());
    let options = |json| StatusOptions {
        http_addr: doors.http_addr.to_string(),
        timeout: Duration::from_secs(5),
        json,
    };
    let (json, healthy) = run!(run_status, &options(true));
    assert!(!healthy);
    let status: ClusterStatus = serde_json::from_slice(&json).unwrap();
    assert_eq!(status.nodes.len(), 2);
    assert!(status.nodes[0].status.is_some());
    let error = status.nodes[1].error.as_deref().unwrap();
    assert!(error.starts_with(&format!("cannot ask {silent}")), "{error}");

    edit(&|table| {
        table.nodes.remove(&NodeId(2));
    });
    let (text, healthy) = run!(run_status, &options(false));
    assert!(healthy);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("epoch 5\n"), "{text}");
    assert!(text.contains("\n0      1    16384  1       2     7"), "{text}");

    doors.fake.ready.store(false, Ordering::SeqCst);
    assert!(!run!(run_status, &options(false)).1);
    let mut gone = options(false);
    gone.http_addr = silent;
    assert!(run_status(&gone, &mut Vec::new()).await.is_err());
    doors.close().await;
}
