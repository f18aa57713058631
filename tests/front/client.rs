//! The command line's side.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::client::shell::{Set, Target, run_del, run_get, run_set};
use raftcache::client::{DeleteOptions, Expiry, GetOptions, Only, SetOptions};
use raftcache::front::alarms::{Ack, run_ack, run_list};
use raftcache::front::cluster::{ClusterStatus, HttpTarget, run_status};
use raftcache::types::{NodeId, Reason, ShardId};

use crate::fake::Doors;

const PATIENCE: Duration = Duration::from_secs(5);

fn target(doors: &Doors, json: bool) -> Target {
    let addrs = vec![doors.grpc_addr.to_string()];
    Target { addrs, timeout: Duration::from_secs(10), json }
}

fn set(value: &[u8]) -> Set {
    let options = SetOptions::default();
    Set { key: "k".to_owned(), value: value.to_vec(), as_bytes: false, options }
}

fn same(a: ExitCode, b: ExitCode) -> bool {
    // `ExitCode` can only be compared by what it prints.
    format!("{a:?}") == format!("{b:?}")
}

/// What a command wrote, and whether it said yes.
macro_rules! run {
    ($command:ident($($option:expr),*)) => {{
        let mut out = Vec::new();
        let code = $command($($option,)* &mut out).await.unwrap();
        (out, same(code, ExitCode::SUCCESS))
    }};
}

#[tokio::test]
async fn set_get_and_del_speak_plainly_and_by_exit_code() {
    let doors = Doors::open().await;
    doors.lead_here();
    let (plain, json) = (target(&doors, false), target(&doors, true));
    let any = GetOptions::default;
    assert_eq!(run!(run_get(&plain, "k", any())), (b"".to_vec(), false));
    assert_eq!(run!(run_set(&plain, set(b"hello"))), (b"OK version 1\n".to_vec(), true));
    assert_eq!(run!(run_get(&plain, "k", any())), (b"hello\n".to_vec(), true));

    let options = SetOptions { only: Only::IfAbsent, ..SetOptions::default() };
    let refused = b"not applied: the key has version 1\n".to_vec();
    assert_eq!(run!(run_set(&plain, Set { options, ..set(b"x") })), (refused, false));

    let text = Set { as_bytes: true, ..set(b"text") };
    assert_eq!(run!(run_set(&plain, text)).0, b"OK version 2\n");
    let (shown, _) = run!(run_get(&json, "k", any()));
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["value_bytes"], serde_json::json!(b"text"), "bytes, though it is UTF-8");

    let expiry = Expiry::After(Duration::from_secs(60));
    let options = SetOptions { expiry, ..SetOptions::default() };
    let brief = Set { options, ..set(&[0xff, 0, 1]) };
    assert_eq!(run!(run_set(&plain, brief)).0, b"OK version 3\n");
    assert_eq!(run!(run_get(&plain, "k", any())), (vec![0xff, 0, 1], true));
    let (shown, _) = run!(run_get(&json, "k", any()));
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["value_bytes"], serde_json::json!([255, 0, 1]));
    assert_eq!(shown["ttl_ms"], 60_000);

    let version = |version| DeleteOptions { only: Only::IfVersion(version) };
    let kept = b"not applied: the key has version 3\n".to_vec();
    assert_eq!(run!(run_del(&plain, "k", version(1))), (kept, false));
    let deleted = b"deleted version 3\n".to_vec();
    assert_eq!(run!(run_del(&plain, "k", DeleteOptions::default())), (deleted, true));
    let absent = b"not applied: the key is absent\n".to_vec();
    assert_eq!(run!(run_del(&plain, "k", DeleteOptions::default())), (absent, false));
    doors.close().await;
}

#[tokio::test]
async fn errors_say_the_outcome() {
    let doors = Doors::open().await;
    doors.lead_here();
    let mut out = Vec::new();
    let target = target(&doors, false);
    doors.fake.fail("k", Reason::Lost { detail: "cut".to_owned() });
    let error = run_set(&target, set(b"v"), &mut out).await.unwrap_err().to_string();
    assert!(error.starts_with("lost: ") && error.contains("may have been applied"), "{error}");
    let group = raftcache::types::GroupId::of_shard(ShardId(0));
    doors.fake.fail("k", Reason::NoLeader { group });
    let error = run_set(&target, set(b"v"), &mut out).await.unwrap_err().to_string();
    assert!(error.starts_with("no_leader: ") && error.contains("(not applied)"), "{error}");

    doors.close().await;
    let error = run_get(&target, "k", GetOptions::default(), &mut out).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("no seed of {} answers", target.addrs[0])), "{said}");
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
    let options = |json| HttpTarget {
        http_addr: doors.http_addr.to_string(),
        timeout: Duration::from_secs(20),
        json,
    };
    let (json, healthy) = run!(run_status(&options(true)));
    assert!(!healthy);
    let status: ClusterStatus = serde_json::from_slice(&json).unwrap();
    assert_eq!(status.nodes.len(), 2);
    assert!(status.nodes[0].status.is_some());
    let error = status.nodes[1].error.as_deref().unwrap();
    assert!(error.starts_with(&format!("cannot ask {silent}")), "{error}");

    edit(&|table| {
        table.nodes.remove(&NodeId(2));
    });
    let (text, healthy) = run!(run_status(&options(false)));
    assert!(healthy);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("epoch 5\n"), "{text}");
    assert!(text.contains("\n0      1    16384  1       2     7"), "{text}");

    doors.fake.ready.store(false, Ordering::SeqCst);
    assert!(!run!(run_status(&options(false))).1);
    let mut gone = options(false);
    gone.http_addr = silent;
    assert!(run_status(&gone, &mut Vec::new()).await.is_err());
    doors.close().await;
}

#[tokio::test]
async fn alarms_are_listed_by_exit_code_and_a_refusal_is_told() {
    let doors = Doors::open().await;
    let options =
        |json| HttpTarget { http_addr: doors.http_addr.to_string(), timeout: PATIENCE, json };
    let (text, none) = run!(run_list(&options(false)));
    assert_eq!((String::from_utf8(text).unwrap().as_str(), none), ("no alarm is active\n", true));

    let alarm = serde_json::json!({
        "id": 7, "kind": "majority_lost", "shard": 0, "generation_before": 1, "generation": 2,
        "replicas": [], "first_unix_ms": 0, "last_unix_ms": 0, "count": 1
    });
    let alarms = serde_json::json!({ "last_id": 7, "active": [alarm.clone()] });
    let alarms = serde_json::from_value(alarms).unwrap();
    Arc::make_mut(&mut doors.fake.table.lock()).alarms = alarms;
    let (text, none) = run!(run_list(&options(false)));
    let text = String::from_utf8(text).unwrap();
    assert!(!none && text.contains("\n7      majority_lost  1970-01-01T00:00:00Z"), "{text}");
    let (json, none) = run!(run_list(&options(true)));
    let page: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((none, page), (false, serde_json::json!({ "alarms": [alarm] })));

    let ack = Ack { ids: vec![7], all: false };
    let error = run_ack(&options(false), &ack, &mut Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("(rejected)"), "{error}");
    doors.close().await;
}
