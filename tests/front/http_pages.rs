//! The admin pages, metrics, and the limit of connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use raftcache::front::page::StatusPage;
use raftcache::front::{FrontLimits, cluster, pb};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::fake::{Doors, eventually};

async fn page(doors: &Doors, path: &str) -> (u16, String) {
    let addr = doors.http_addr.to_string();
    let (code, body) = cluster::http_get(&addr, path, Duration::from_secs(60)).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn health_lives_while_ready_tells_the_reasons() {
    let doors = Doors::open().await;
    let health = json!({ "status": "ok", "node": 1, "version": "0.1.0" });
    let (code, text) = page(&doors, "/health").await;
    assert_eq!((code, parsed(&text)), (200, health.clone()));
    let (code, text) = page(&doors, "/ready").await;
    let body = json!({ "ready": true, "not_ready_because": [], "warnings": [] });
    assert_eq!((code, parsed(&text)), (200, body));

    doors.fake.ready.store(false, Ordering::SeqCst);
    let (code, text) = page(&doors, "/ready").await;
    let body = json!({ "ready": false, "not_ready_because": ["forming"], "warnings": [] });
    assert_eq!((code, parsed(&text)), (503, body));
    let (code, text) = page(&doors, "/health").await;
    assert_eq!((code, parsed(&text)), (200, health));
    assert_eq!(page(&doors, "/nothing").await.0, 404);
    doors.close().await;
}

#[tokio::test]
async fn status_has_the_node_and_the_table_in_short() {
    let doors = Doors::open().await;
    let (code, text) = page(&doors, "/status").await;
    assert_eq!(code, 200);
    let page: StatusPage = serde_json::from_str(&text).unwrap();
    assert_eq!(page.status.replicas[0].applied_index, 7);
    assert_eq!(page.table.epoch.0, 5);
    assert_eq!(page.table.cluster_id, format!("{:032x}", 0xabc));
    assert_eq!(page.table.nodes[1].grpc_addr, "127.0.0.1:8082");
    assert_eq!(page.table.shards[0].slots, 16_384);
    doors.close().await;
}

/// Value of the sample named `series`, labels included.
fn sample(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn metrics_count_requests_connections_and_show_shards() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    let set = |key: &str| pb::SetRequest {
        key_form: Some(pb::set_request::KeyForm::Key(key.to_owned())),
        value_form: Some(pb::set_request::ValueForm::Value("v".to_owned())),
        ..pb::SetRequest::default()
    };
    client.set(set("a")).await.unwrap();
    client.set(set("b")).await.unwrap();
    client.set(set("")).await.unwrap_err();
    let (code, text) = page(&doors, "/metrics").await;
    assert_eq!(code, 200);
    let count =
        |labels: &str| sample(&text, &format!("request_duration_seconds_count{{{labels}}}"));
    assert_eq!(count(r#"operation="set",outcome="ok""#), Some(2.0));
    assert_eq!(count(r#"operation="set",outcome="rejected""#), Some(1.0));
    assert_eq!(sample(&text, "requests_in_flight"), Some(0.0));
    assert_eq!(sample(&text, r#"active_connections{door="grpc"}"#), Some(1.0));
    assert_eq!(sample(&text, r#"shard_leader{shard="0"}"#), Some(1.0));
    assert_eq!(sample(&text, r#"shard_applied_index{shard="0"}"#), Some(7.0));
    assert_eq!(sample(&text, r#"shard_apply_lag{shard="0"}"#), Some(2.0));
    assert_eq!(sample(&text, r#"shard_keys{shard="0"}"#), Some(3.0));
    assert_eq!(sample(&text, r#"cache_evictions_total{shard="0"}"#), Some(5.0));
    assert_eq!(sample(&text, r#"cache_expirations_total{shard="0"}"#), Some(6.0));
    let again = page(&doors, "/metrics").await.1;
    assert_eq!(sample(&again, r#"cache_evictions_total{shard="0"}"#), Some(5.0));
    let panics = raftcache::types::task::panics();
    assert_eq!(sample(&text, "task_panics_total"), Some(panics as f64));
    drop(client);
    let open = || doors.metrics.connections.with_label_values(&["grpc"]).get();
    eventually("the connection is gone", || open() == 0).await;
    doors.close().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_is_counted_as_cancelled() {
    let doors = Doors::open().await;
    let mut client = doors.client().await;
    let key_form = Some(pb::get_request::KeyForm::Key("gate".to_owned()));
    let get = client.get(pb::GetRequest { key_form, ..pb::GetRequest::default() });
    let running = || doors.fake.running.load(Ordering::SeqCst) == 1;
    tokio::select! {
        biased;
        reply = get => panic!("{reply:?} came through a closed gate"),
        () = eventually("the request runs", running) => {}
    }
    let cancelled = doors.metrics.request_seconds.with_label_values(&["get", "cancelled"]);
    eventually("it is counted", || cancelled.get_sample_count() == 1).await;
    assert_eq!(doors.metrics.in_flight.get(), 0);
    doors.close().await;
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_at_once_and_room_is_reused() {
    let doors =
        Doors::open_with(FrontLimits { connections_max: 2, ..FrontLimits::default() }).await;
    let first = TcpStream::connect(doors.grpc_addr).await.unwrap();
    let _second = TcpStream::connect(doors.grpc_addr).await.unwrap();
    let open = || doors.metrics.connections.with_label_values(&["grpc"]).get();
    eventually("both are open", || open() == 2).await;
    let mut third = TcpStream::connect(doors.grpc_addr).await.unwrap();
    let mut byte = [0];
    // Closed without a byte; the system may say so as end of file or as reset.
    assert!(matches!(third.read(&mut byte).await, Ok(0) | Err(_)));
    assert_eq!(doors.metrics.refused.with_label_values(&["connections"]).get(), 1);
    drop(first);
    eventually("the first is gone", || open() == 1).await;
    let mut client = doors.client().await;
    client.health(pb::HealthRequest {}).await.unwrap();
    // The second never says a word; it does not hold up the end.
    tokio::time::timeout(Duration::from_secs(60), doors.close()).await.expect("the doors end");
}
