//! A data directory is replaced by an older copy of itself.

use std::path::Path;
use std::time::Duration;

use crate::client::{client, get, set, value, within};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

const KEYS: usize = 64;
/// The node whose directory is replaced; the others serve.
const RESTORED: usize = 1;
const CALL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const WHY: &str = "its log is shorter than what it acknowledged";

/// Writes all keys through a node; each must be acknowledged within `PATIENCE`.
async fn write_all(cluster: &ProcessCluster, at: usize, text: &str) {
    let mut client = client(&cluster.members[at].grpc);
    for n in 0..KEYS {
        until(&format!("key-{n} is written through node {}", at + 1), PATIENCE, async || {
            let key = format!("key-{n}");
            client.set(within(set(&key, text.to_owned()), CALL)).await.ok().map(drop)
        })
        .await;
    }
}

/// Every key is read through each of these nodes at the first attempt.
async fn all_served(cluster: &ProcessCluster, nodes: &[usize], text: &str) {
    for at in nodes {
        let mut client = client(&cluster.members[*at].grpc);
        for n in 0..KEYS {
            let read = client.get(within(get(&format!("key-{n}")), CALL)).await;
            let read = read.unwrap_or_else(|error| panic!("key-{n} at node {}: {error}", at + 1));
            assert_eq!(value(read.into_inner()).as_deref(), Some(text.as_bytes()), "key-{n}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// True if the page says so of a replica of a shard, not only of the controller's.
fn says_why(body: &str) -> bool {
    let shard = |text: &&str| text.starts_with("replica g") && !text.starts_with("replica g0-");
    body.split('"').filter(shard).any(|text| text.contains(WHY))
}

/// Waits until the node says why it is not ready.
async fn not_ready(cluster: &ProcessCluster) -> String {
    until("the node says why it is not ready", PATIENCE, async || {
        let (code, body) = cluster.page(RESTORED, "/ready").await;
        (code == 503 && says_why(&body)).then_some(body)
    })
    .await
}

fn shortened(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("replicas_shortened "));
    line.expect("the metric is there").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_a_data_directory_is_found_out_and_the_others_serve() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("wal")).await;
    write_all(&cluster, 0, "first").await;
    cluster.stop(RESTORED).await;
    let (data, old) = (cluster.data_dir(RESTORED), cluster.dir.path().join("copy"));
    copy(&data, &old);
    write_all(&cluster, 0, "second").await;
    cluster.launch(RESTORED);
    cluster.ready(RESTORED).await;
    write_all(&cluster, 0, "third").await;
    cluster.converged().await;

    cluster.stop(RESTORED).await;
    std::fs::rename(&data, cluster.dir.path().join("newer")).unwrap();
    copy(&old, &data);
    cluster.launch(RESTORED);
    println!("not ready: {}", not_ready(&cluster).await);
    let (_, metrics) = cluster.page(RESTORED, "/metrics").await;
    let replicas = shortened(&metrics);
    println!("{replicas} replicas lost");
    assert!(replicas > 0);
    let mut told = 0;
    for at in [0, 2] {
        assert_eq!(cluster.page(at, "/ready").await.0, 200, "node {} is ready", at + 1);
        let warnings = cluster.status(at).await.status.warnings;
        told += warnings.iter().filter(|warning| warning.contains(WHY)).count();
    }
    assert!(told > 0, "a leader tells of its follower");
    all_served(&cluster, &[0, 2], "third").await;
    write_all(&cluster, 2, "fourth").await;
    all_served(&cluster, &[0, RESTORED, 2], "fourth").await;

    // It stays out after another restart, whoever leads by then.
    cluster.kill(RESTORED);
    cluster.launch(RESTORED);
    not_ready(&cluster).await;
    write_all(&cluster, 0, "fifth").await;
    all_served(&cluster, &[0, 2], "fifth").await;
}
