//! A node is killed, or stands still, while clients read and write.

use std::collections::BTreeMap;
use std::time::Duration;

use raftcache::types::ShardId;

use crate::harness::{ProcessCluster, Shape};
use crate::load::{BRIEF, Load, Seen, patience};
use crate::turn;

/// Every shard takes writes again within this, and what `patience` adds.
const WRITABLE: Duration = Duration::from_secs(3);
const KEYS: usize = 96;

/// Position of the node that leads most shards, and how many those are.
async fn leads_most(cluster: &ProcessCluster) -> (usize, usize) {
    let mut leads = Vec::new();
    for at in cluster.up() {
        let replicas = cluster.status(at).await.status.replicas;
        let shards = replicas.iter().filter(|r| r.group.shard().is_some() && r.role == "leader");
        leads.push((shards.count(), at));
    }
    let (count, at) = leads.into_iter().max().unwrap();
    (at, count)
}

fn report(what: &str, led: usize, shards: &BTreeMap<ShardId, Duration>, calm: Duration) {
    let slowest = shards.iter().max_by_key(|(_, first)| **first).unwrap();
    println!("{what}, it led {led} of {} shards; writable again, ms: {:?}", shards.len(), {
        shards.values().map(Duration::as_millis).collect::<Vec<_>>()
    });
    let limit = patience(WRITABLE, calm);
    println!("  slowest: {} after {:?} of {limit:?}", slowest.0, slowest.1);
    assert!(*slowest.1 < limit, "{} was not writable for {:?}", slowest.0, slowest.1);
}

fn print(what: &str, seen: &Seen) {
    let Seen { writes, reads, gap, failures, .. } = seen;
    println!(
        "{what}: {writes} writes and {reads} reads, longest gap {gap:?}, failed: {failures:#?}"
    );
}

/// Kills the node that leads most and checks what clients see of it.
async fn kill_one(cluster: &mut ProcessCluster, shape: Shape) -> usize {
    let load = Load::start(cluster, "kill", KEYS, (shape.shards, BRIEF)).await;
    let calm = load.calm(10).await;
    let (victim, led) = leads_most(cluster).await;
    load.mark();
    cluster.kill(victim);
    let shards = load.writable_again().await;
    report(&format!("{}: node {} killed", shape.durability, victim + 1), led, &shards, calm);
    load.acknowledged(20).await;
    print("killed", &load.finish(cluster).await);
    victim
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_log_a_killed_node_loses_nothing_and_catches_up() {
    let _turn = turn().await;
    killed_and_paused(Shape::new("wal")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_log_on_raft_engine_a_killed_node_loses_nothing_and_catches_up() {
    let _turn = turn().await;
    let shape = Shape { flags: &["--set", "wal.engine=raft-engine"], ..Shape::new("wal") };
    killed_and_paused(shape).await;
}

async fn killed_and_paused(shape: Shape) {
    let mut cluster = ProcessCluster::start(shape).await;
    let victim = kill_one(&mut cluster, shape).await;

    let load = Load::start(&cluster, "return", KEYS, (shape.shards, BRIEF)).await;
    load.mark();
    cluster.launch(victim);
    cluster.ready(victim).await;
    load.acknowledged(5).await;
    let seen = load.finish(&cluster).await;
    print("it returned", &seen);
    cluster.converged().await;

    let load = Load::start(&cluster, "pause", KEYS, (shape.shards, BRIEF)).await;
    let calm = load.calm(10).await;
    let (victim, led) = leads_most(&cluster).await;
    load.mark();
    cluster.process(victim).signal("STOP");
    let shards = load.writable_again().await;
    report(&format!("node {} stands still", victim + 1), led, &shards, calm);
    // Long enough for several elections; what follows waits for a condition again.
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.process(victim).signal("CONT");
    cluster.all_ready().await;
    load.acknowledged(10).await;
    print("it went on", &load.finish(&cluster).await);
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_a_killed_node_loses_nothing_while_a_majority_lives() {
    let _turn = turn().await;
    let shape = Shape::new("memory");
    let mut cluster = ProcessCluster::start(shape).await;
    kill_one(&mut cluster, shape).await;
    cluster.converged().await;
}
