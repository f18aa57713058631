//! What cannot work is refused at once, by a message that names the key at fault.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{ProcessCluster, Shape};
use crate::ports::free_ports;
use crate::process::{Process, until};
use crate::turn;

const ENDS: Duration = Duration::from_secs(10);

fn one_node() -> Shape {
    Shape { nodes: 1, shards: 1, ..Shape::new("memory") }
}

/// Runs `serve` with these flags after those of a valid node; it must end badly and say all `said`.
async fn refused(flags: &[&str], said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let listen: Vec<String> =
        free_ports(4, 1).iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let data = data.to_str().unwrap();
    let valid = [
        ("--node-id", "1"),
        ("--data-dir", data),
        ("--grpc", &listen[0]),
        ("--http", &listen[1]),
        ("--peer", &listen[2]),
        ("--resp", &listen[3]),
        ("--expected-nodes", "1"),
        ("--replicas", "1"),
    ];
    // A flag may be given once only: those under test replace the valid ones.
    let valid = valid.iter().filter(|(flag, _)| !flags.contains(flag));
    let valid: Vec<&str> = valid.flat_map(|(flag, value)| [*flag, *value]).collect();
    let mut process =
        Process::start("refused", dir.path(), &[&["serve"], &valid[..], flags].concat());
    let status = process.exit(ENDS).await;
    assert!(!status.success(), "{flags:?}: {status}");
    for said in said {
        assert!(process.err().contains(said), "{flags:?}: {said:?} is not in\n{}", process.err());
    }
}

#[tokio::test]
async fn bad_values_and_unknown_keys_are_named() {
    let _turn = turn().await;
    refused(&["--set", "raft.hartbeat_ms=100"], &["hartbeat_ms"]).await;
    refused(&["--set", "raft.heartbeat_ms=soon"], &["raft.heartbeat_ms", "soon"]).await;
    refused(&["--set", "raft.heartbeat_ms=1"], &["raft.heartbeat_ms"]).await;
    refused(&["--node-id", "0"], &["node.id"]).await;
    refused(&["--shards", "0"], &["cluster.shards"]).await;
    refused(&["--replicas", "2"], &["cluster.replicas"]).await;
    refused(&["--durability", "forever"], &["durability", "forever"]).await;
    refused(&["--grpc", "nowhere"], &["listen.grpc", "--grpc"]).await;
    refused(&["--log-filter", "[["], &["log.filter"]).await;
    refused(&["--data-dir", "/proc/nowhere"], &["node.data_dir", "/proc/nowhere"]).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let _turn = turn().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, key) in [
        ("--grpc", "listen.grpc"),
        ("--http", "listen.http"),
        ("--peer", "listen.peer"),
        ("--resp", "listen.resp"),
    ] {
        refused(&[flag, &addr], &[key, &addr]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_has_one_user() {
    let _turn = turn().await;
    let cluster = ProcessCluster::start(one_node()).await;
    let data = cluster.dir.path().join("data1");
    refused(&["--data-dir", data.to_str().unwrap()], &["data1", "in use"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_one_id_do_not_form_a_cluster() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::prepare(Shape {
        flags: &["--node-id", "1"],
        shards: 1,
        ..Shape::new("memory")
    });
    (0..3).for_each(|at| cluster.launch(at));
    until("a page that names the id", Duration::from_secs(20), async || {
        let mut told = 0;
        for at in 0..3 {
            let (code, body) = cluster.page(at, "/ready").await;
            assert_ne!(code, 200, "node {at} is ready: {body}");
            told += usize::from(code == 503 && body.contains("node id n1 is used by two nodes"));
        }
        (told >= 2).then_some(())
    })
    .await;
}
