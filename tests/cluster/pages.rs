//! What operators see: pages, metrics that move, the commands and their exit codes, the log.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::client::{client, get, set, within};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

fn raftcache(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftcache")).args(args).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Sum over all nodes of all samples of a metric.
async fn total(cluster: &ProcessCluster, name: &str) -> f64 {
    let mut sum = 0.0;
    for at in cluster.up() {
        let (code, page) = cluster.page(at, "/metrics").await;
        assert_eq!(code, 200);
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let named = samples.filter(|line| line.split(['{', ' ']).next() == Some(name));
        sum +=
            named.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_happens() {
    let _turn = turn().await;
    // Two shards of the smallest size, so that a few large values evict.
    let flags = &["--shard-bytes-max", "1048576"];
    let shape = Shape { shards: 2, flags, ..Shape::new("wal") };
    let mut cluster = ProcessCluster::prepare(shape);
    cluster.launch(0);
    until("a node that waits for the others", Duration::from_secs(20), async || {
        let (code, body) = cluster.page(0, "/ready").await;
        assert_ne!(code, 200, "{body}");
        let reasons = body.contains("not_ready_because") && body.contains("waiting for seeds");
        (code == 503 && reasons && cluster.page(0, "/health").await.0 == 200).then_some(())
    })
    .await;
    let degraded = raftcache(&["status", "--addr", &cluster.members[0].http]);
    assert_eq!(degraded.status.code(), Some(1), "{}", text(&degraded.stdout));
    cluster.launch(1);
    cluster.launch(2);
    cluster.all_ready().await;
    metrics_move(&cluster).await;
    commands(&cluster).await;
    cluster.kill(2);
    let degraded =
        raftcache(&["status", "--addr", &cluster.members[0].http, "--timeout-ms", "2000"]);
    assert_eq!(degraded.status.code(), Some(1), "a node is missing");
    for at in cluster.up() {
        let log = cluster.process(at).err();
        assert!(!log.is_empty());
        for line in log.lines() {
            let parsed: serde_json::Value = serde_json::from_str(line).expect(line);
            let fields = ["timestamp", "level", "message", "target"];
            assert!(fields.iter().all(|field| parsed[field].is_string()), "{line}");
        }
    }
}

async fn metrics_move(cluster: &ProcessCluster) {
    let names = [
        "cache_hits_total",
        "cache_misses_total",
        "cache_sets_total",
        "cache_evictions_total",
        "cache_expirations_total",
        "request_duration_seconds_count",
        "batch_writes_count",
        "wal_flush_seconds_count",
        "forwarded_requests_total",
    ];
    let mut before = Vec::new();
    for name in names {
        before.push(total(cluster, name).await);
    }
    let patience = Duration::from_secs(5);
    for i in 0..240 {
        let mut client = client(&cluster.members[i % 3].grpc);
        let large = set(&format!("large:{i}"), vec![7; 16 * 1024]);
        client.set(within(large, patience)).await.unwrap();
        let brief = raftcache::front::pb::SetRequest {
            expiry: Some(raftcache::front::pb::set_request::Expiry::Ttl(
                raftcache::front::pb::Ttl { seconds: 0, nanos: 1_000_000 },
            )),
            ..set(&format!("brief:{i}"), "soon gone")
        };
        client.set(within(brief, patience)).await.unwrap();
        client.get(within(get(&format!("large:{i}")), patience)).await.unwrap();
        client.get(within(get(&format!("nothing:{i}")), patience)).await.unwrap();
    }
    for (name, before) in names.into_iter().zip(before) {
        let after = total(cluster, name).await;
        println!("{name}: {before} -> {after}");
        assert!(after > before, "{name} stands at {after}");
    }
    assert_eq!(total(cluster, "shard_leader").await, 3.0, "two shards and the controller");
    assert!(total(cluster, "shard_term").await >= 9.0);
    assert!(total(cluster, "shard_applied_index").await > 480.0);
    assert!(total(cluster, "active_connections").await >= 1.0, "this very page");
    assert_eq!(total(cluster, "digest_mismatches_total").await, 0.0);
    assert_eq!(total(cluster, "task_panics_total").await, 0.0);
    until("no replica lags", Duration::from_secs(10), async || {
        (total(cluster, "shard_apply_lag").await == 0.0).then_some(())
    })
    .await;
}

async fn commands(cluster: &ProcessCluster) {
    let http = cluster.members[1].http.as_str();
    let status = raftcache(&["status", "--addr", http]);
    assert_eq!(status.status.code(), Some(0));
    let table = text(&status.stdout);
    for member in &cluster.members {
        assert!(table.contains(&member.grpc), "{table}");
    }
    assert!(table.contains("SHARD") && table.contains("LEADER"), "{table}");
    let json = raftcache(&["status", "--addr", http, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    assert!(json["nodes"].to_string().contains(r#""durability":"wal""#), "{json}");

    let run = |at: usize, args: &[&str]| {
        let addr = ["--addr", cluster.members[at].grpc.as_str()];
        let output = raftcache(&[args, &addr].concat());
        (output.status.code().unwrap(), text(&output.stdout))
    };
    assert_eq!(run(0, &["get", "greeting"]), (1, String::new()));
    assert_eq!(run(0, &["set", "greeting", "hello"]).0, 0);
    assert_eq!(run(1, &["get", "greeting"]), (0, "hello\n".to_owned()));
    assert_eq!(run(2, &["set", "greeting", "bye", "--if-absent"]).0, 1);
    assert_eq!(run(2, &["del", "greeting"]).0, 0);
    assert_eq!(run(0, &["del", "greeting"]).0, 1);
    let file = cluster.dir.path().join("bytes");
    file_round_trip(&file, run);
}

/// Bytes that are not text go in by a file and come out as they were.
fn file_round_trip(file: &Path, run: impl Fn(usize, &[&str]) -> (i32, String)) {
    std::fs::write(file, [0, 159, 146, 150]).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(run(1, &["set", "bytes", "--file", path]).0, 0);
    let (code, shown) = run(2, &["get", "bytes", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["value_bytes"]), (0, &serde_json::json!([0, 159, 146, 150])));
}
