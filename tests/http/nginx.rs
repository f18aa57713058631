//! Three processes behind `deploy/nginx.conf`: the commands of the README, a node that dies, and that
//! nothing is applied twice by being sent again.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raftcache::types::clock::now;
use raftcache::types::task::spawn;
use serde_json::json;

use crate::caller::{Caller, JSON};
use crate::harness::{ProcessCluster, Shape};
use crate::ports::free_ports;
use crate::process::until;
use crate::readme;

/// nginx; stopped when this is dropped.
struct Nginx {
    child: Child,
    addr: String,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// Over the nodes of `cluster`; `None`, and it is said loudly, where there is no nginx.
    fn start(cluster: &ProcessCluster) -> Option<Nginx> {
        let found = ["nginx", "/usr/sbin/nginx"]
            .into_iter()
            .find(|path| Command::new(path).arg("-v").stderr(Stdio::null()).status().is_ok());
        let Some(program) = found else {
            eprintln!(
                "SKIPPED: there is no nginx on this machine; deploy/nginx.conf is NOT tested"
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let addr = format!("127.0.0.1:{}", free_ports(1, 1)[0]);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx.conf");
        let mut text = std::fs::read_to_string(path).unwrap();
        let ports = ["127.0.0.1:8081", "127.0.0.1:8083", "127.0.0.1:8085"];
        let nodes = cluster.members.iter().map(|member| member.http.as_str());
        for (from, to) in ports.into_iter().zip(nodes).chain([("127.0.0.1:8000", addr.as_str())]) {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, text.replace("worker_processes auto", "worker_processes 2"))
            .unwrap();
        let prefix = format!("{}/", dir.path().display());
        let child = Command::new(program)
            .args(["-p", &prefix, "-c", config.to_str().unwrap(), "-g", "daemon off;"])
            .spawn()
            .unwrap();
        Some(Nginx { child, addr, _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers on SIGTERM, not on SIGKILL.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-s", "TERM", &pid]).status());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_balances_and_sends_again_only_what_is_safe() {
    let mut cluster = ProcessCluster::start(Shape { shards: 4, ..Shape::new("memory") }).await;
    let Some(nginx) = Nginx::start(&cluster) else { return };
    let http = Caller::of_proxy(nginx.addr.clone());
    until("nginx listens", Duration::from_secs(10), async || {
        std::net::TcpStream::connect(&nginx.addr).ok()
    })
    .await;
    readme::run(&nginx.addr).await;
    paths_and_sizes_pass(&http).await;
    let counters = Arc::new(Counters::default());
    let tasks: Vec<_> =
        (0..4).map(|i| spawn("counts", count(http.clone(), Arc::clone(&counters), i))).collect();
    let acknowledged = || counters.acknowledged.load(Ordering::SeqCst);
    until("it counts", Duration::from_secs(30), async || (acknowledged() > 100).then_some(()))
        .await;
    cluster.kill(2);
    let before = acknowledged();
    let more = || acknowledged() > before + 100;
    until("it goes on", Duration::from_secs(30), async || more().then_some(())).await;
    counters.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap().expect("no panic");
    }
    judge(&http, &counters).await;
    with_a_dead_node(&http).await;
}

/// A key of the longest length, slashes, and the node's own word on what is too large.
async fn paths_and_sizes_pass(http: &Caller) {
    let long = format!("/cache/{}", "%2f".repeat(4096));
    for path in ["/cache/a%2Fb%01%ff", "/cache/%2E%2E", long.as_str()] {
        assert_eq!(http.put(path, &json!({ "value": path })).await.status, 201, "{path}");
        assert_eq!(http.get(path).await.json()["value"], path);
    }
    // nginx takes no zero byte in a path; such keys go through batches.
    assert_eq!(http.get("/cache/%00").await.status, 400);
    let large = http.call("PUT", "/cache/large", &[], vec![7_u8; (1 << 20) + 1]).await;
    large.is(413, "body_too_large");
    let most = http.call("PUT", "/cache/large", &[], vec![7_u8; 1 << 20]).await;
    assert_eq!(most.status, 201);
    assert_eq!(http.call("GET", "/cache/large?raw", &[], "").await.body.len(), 1 << 20);
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    /// Increments under a key that were answered by an error: sent again until they were not.
    retried: AtomicU64,
    plain_acknowledged: AtomicU64,
    plain_unknown: AtomicU64,
}

/// Adds one under a key until it is acknowledged, and one without that is never sent again.
async fn count(http: Caller, counters: Arc<Counters>, task: u32) {
    let mut number = 0;
    while !counters.stop.load(Ordering::SeqCst) {
        number += 1;
        let key = format!("{task}-{number}");
        let headers = [JSON, ("idempotency-key", key.as_str())];
        loop {
            let sent =
                http.try_call("POST", "/cache/keyed/increment", &headers, Bytes::new()).await;
            if sent.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            counters.retried.fetch_add(1, Ordering::SeqCst);
        }
        counters.acknowledged.fetch_add(1, Ordering::SeqCst);
        let sent = http.try_call("POST", "/cache/plain/increment", &[], Bytes::new()).await;
        match sent.map_or(0, |answer| answer.status) {
            200 => _ = counters.plain_acknowledged.fetch_add(1, Ordering::SeqCst),
            // By what the node, or nginx, says: surely not applied.
            408 | 429 | 503 => {}
            0 | 500 | 502 | 504 => _ = counters.plain_unknown.fetch_add(1, Ordering::SeqCst),
            other => panic!("{other}"),
        }
    }
}

/// INV-5, INV-6: exact under keys; between acknowledged and acknowledged plus unknown without.
async fn judge(http: &Caller, counters: &Counters) {
    let value = async |key: &str| {
        let path = format!("/cache/{key}");
        until("a read", Duration::from_secs(30), async || {
            let answer = http.get(&path).await;
            (answer.status == 200).then(|| answer.json()["value"].as_u64().unwrap())
        })
        .await
    };
    let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (keyed, plain) = (value("keyed").await, value("plain").await);
    let (acknowledged, unknown) = (of(&counters.plain_acknowledged), of(&counters.plain_unknown));
    println!(
        "keyed: {keyed} of {} ({} sent again by the client); plain: {plain}, {acknowledged} acknowledged, {unknown} unknown",
        of(&counters.acknowledged),
        of(&counters.retried)
    );
    assert_eq!(keyed, of(&counters.acknowledged));
    assert!((acknowledged..=acknowledged + unknown).contains(&plain), "{plain}");
}

/// Nobody listens at one of three addresses: no caller sees it, with a key or without.
async fn with_a_dead_node(http: &Caller) {
    // Long enough for nginx to try it again several times.
    let started = now();
    let mut calls = 0;
    while now() - started < Duration::from_secs(5) {
        calls += 1;
        let put = http.put("/cache/dead", &json!({ "value": calls })).await;
        assert!(put.status == 200 || put.status == 201, "call {calls}: {put:?}");
        assert_eq!(http.get("/cache/dead").await.json()["value"], calls);
        assert_eq!(http.call("POST", "/cache/sum/increment", &[], "").await.json()["value"], calls);
    }
    println!("{calls} rounds with a dead node");
}
