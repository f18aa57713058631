//! Counters that are counted up while the nodes that lead them are killed: what the client retries is
//! applied once (INV-6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raftcache::client::Client;
use raftcache::types::clock::now;
use raftcache::types::task::spawn;

use crate::harness::{ProcessCluster, Shape};
use crate::leaders::client;
use crate::process::until;
use crate::turn;

const COUNTERS: usize = 12;
/// Counters that many writers share, and the writers of them all.
const SHARED: usize = 6;
const WRITERS: usize = 24;
const KILLS: usize = 4;

/// Kills, again and again, the node that leads the most, and brings it back. Work goes on before,
/// without it and afterwards, by the count of what is `done`.
pub async fn kill_leaders(cluster: &mut ProcessCluster, kills: usize, done: impl Fn() -> u64) {
    let more = async |what: &str, more: u64| {
        let goal = done() + more;
        let enough = async || (done() >= goal).then_some(());
        until(what, Duration::from_secs(60), enough).await;
    };
    more("increments before the first kill", 200).await;
    for round in 0..kills {
        let victim = leads_most(cluster).await;
        let started = now();
        cluster.kill(victim);
        more("increments without a node", 500).await;
        println!("round {round}: 500 increments after {:?}", now() - started);
        cluster.launch(victim);
        cluster.all_ready().await;
        more("increments with it back", 200).await;
    }
}

/// Position of the node that leads most shards.
pub async fn leads_most(cluster: &ProcessCluster) -> usize {
    let mut leads = Vec::new();
    for at in cluster.up() {
        let replicas = cluster.status(at).await.status.replicas;
        let led = replicas.iter().filter(|r| r.group.shard().is_some() && r.role == "leader");
        leads.push((led.count(), at));
    }
    leads.into_iter().max().unwrap().1
}

fn key(counter: usize) -> String {
    format!("counter:{counter}")
}

async fn number(client: &Client, counter: usize) -> (u64, u64) {
    let found = client.get(key(counter)).await.unwrap().expect("it was counted");
    let text = String::from_utf8(found.value.into_bytes().to_vec()).unwrap();
    (text.parse().unwrap(), found.version)
}

/// Counts one counter up by compare-and-set, as its only writer, until told to stop; how often. An
/// increment that was applied and is tried again as if it had not been would not hold its version.
async fn count(client: Client, counter: usize, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let mut version = client.set(key(counter), "0").await.unwrap().version;
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = (acknowledged + 1).to_string();
        let written = client.compare_and_set(key(counter), version, next).await;
        let written = written.unwrap_or_else(|error| panic!("{counter}: {error}"));
        assert!(written.applied, "{counter}: version {version} became {}", written.version);
        (acknowledged, version) = (acknowledged + 1, written.version);
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

fn shared_key(counter: usize) -> String {
    format!("shared:{counter}")
}

/// Counts a counter up that others count up too; how often.
async fn increment(
    client: Client,
    counter: usize,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut acknowledged = 0;
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let counted = client.increment(shared_key(counter), 1).await;
        let counted = counted.unwrap_or_else(|error| panic!("{counter}: {error}"));
        assert!(counted.value > last, "{counter}: {} after {last}", counted.value);
        last = counted.value;
        acknowledged += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_exact_while_their_leaders_are_killed() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("wal")).await;
    let client = client(&cluster, Duration::from_secs(40)).await;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let counters: Vec<_> = (0..COUNTERS)
        .map(|counter| {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            spawn("counter", count(client.clone(), counter, done, stop))
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            spawn("writer", increment(client.clone(), writer % SHARED, done, stop))
        })
        .collect();
    kill_leaders(&mut cluster, KILLS, || done.load(Ordering::Relaxed)).await;
    stop.store(true, Ordering::Relaxed);
    let mut sum = 0;
    for (counter, task) in counters.into_iter().enumerate() {
        let acknowledged = task.await.unwrap().expect("no increment failed");
        assert_eq!(number(&client, counter).await.0, acknowledged, "{}", key(counter));
        sum += acknowledged;
    }
    let mut counted = [0; SHARED];
    for (writer, task) in writers.into_iter().enumerate() {
        counted[writer % SHARED] += task.await.unwrap().expect("no increment failed");
    }
    for (counter, acknowledged) in counted.into_iter().enumerate() {
        let value = client.increment(shared_key(counter), 0).await.unwrap().value;
        assert_eq!(u64::try_from(value), Ok(acknowledged), "{}", shared_key(counter));
        sum += acknowledged;
    }
    println!("{sum} increments, each applied once; {:?}", client.stats());
    assert!(client.stats().retries > 0, "the kills were not felt: is this test awake?");
}
