//! INV-8: a shard group of three replicas in one process, with a limit of 64 MiB, is fed 1 GiB.
//!
//! Live bytes are counted exactly by the allocator; `docs/memory.md` has the formula asserted here.
//! Both tests take the lock `ALONE`, for the allocator counts the whole process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/shard.rs"]
mod shard;

mod feed;
mod wal_disk;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use raftcache::storage::sled_wal::{FlushMode, SledWal};
use raftcache::storage::wal::Wal;
use raftcache::types::NodeId;
use raftcache::types::clock::now;
use raftcache::types::metrics::Metrics;
use raftcache::types::task;

use feed::{Fed, Feed};
use shard::{Cluster, NODES, Plan};
use watch::{MIB, Peaks, disk_bytes, watch};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const LIMIT: u64 = 64 * MIB;

/// Largest log of a leader: twice what starts a snapshot (half of the limit), and what is on its
/// way. Followers may hold half as much again.
const LOG_MAX: u64 = LIMIT + 16 * MIB;

async fn fed(dir: &Path, wals: Vec<Arc<dyn Wal>>, bytes: u64) -> (Cluster, Fed, Peaks) {
    let plan = Plan { dir: Some(dir), wals, ..Plan::simulated(7, LIMIT) };
    let base = ALLOCATOR.current_usage() as u64;
    let cluster = Cluster::start(plan).await;
    let (node, leader) = cluster.leader(&[]).await;
    let watcher = watch(&cluster, dir, base);
    let hot = feed::hot_set(&leader, 2_000).await;
    let started = now();
    let readers = feed::read_hot(leader.clone(), hot.clone());

    let feed = Feed::new(leader.clone(), bytes);
    let cut = cluster.others(node)[0];
    let network = cluster.network.clone();
    let others: Vec<NodeId> = NODES.iter().copied().filter(|n| *n != cut).collect();
    let progress = feed.progress();
    // A follower is cut off for the second quarter of the feed and comes back by snapshot.
    let partition = task::spawn("partition", async move {
        progress.wait_for(bytes / 4).await;
        network.partition(&[&[cut], &others]);
        progress.wait_for(bytes / 2).await;
        network.heal();
    });
    let mut fed = feed.run().await;
    partition.await.unwrap();
    (fed.hot_reads, fed.hot_missed) = readers.stop().await;
    fed.hot_alive = feed::alive(&leader, &hot).await;
    let took = started.elapsed();
    cluster.wait_equal().await;
    assert_eq!(cluster.digest_mismatches(), 0, "INV-3");
    let peaks = watcher.stop().await;
    println!(
        "fed {} MiB in {} writes ({} refused and sent again), {:.1} s, {:.0} MiB/s",
        fed.bytes / MIB,
        fed.writes,
        fed.again,
        took.as_secs_f64(),
        (fed.bytes / MIB) as f64 / took.as_secs_f64()
    );
    println!(
        "hot set: {} of {} alive; {} reads, {} missed",
        fed.hot_alive,
        hot.len(),
        fed.hot_reads,
        fed.hot_missed
    );
    let (m, stats) = (&cluster.metrics[&node], leader.replica().with_machine(|m| m.stats()));
    println!(
        "touches a write {:.3}, share of log bytes {:.4} %; keys {}, evictions {}",
        m.touches.get() as f64 / fed.writes as f64,
        100.0 * m.touch_bytes.get() as f64 / m.batch_bytes.get() as f64,
        stats.keys,
        stats.evictions
    );
    peaks.print();
    for (node, group) in &cluster.groups {
        let p = group.replica().progress();
        println!(
            "n{}: snapshot at {}, last index {}, log {} KiB",
            node.0,
            p.snapshot_index,
            p.last_index,
            p.log_bytes / 1024
        );
    }
    let caught = cluster.groups[&cut].replica().progress();
    assert!(caught.snapshot_index > 0, "the follower that was cut off has a snapshot");
    (cluster, fed, peaks)
}

/// `engine`: bytes that one write-ahead log's engine may take.
fn check(fed: &Fed, peaks: &Peaks, hot: usize, engine: u64) {
    assert!(peaks.samples > 20, "sampled {} times", peaks.samples);
    assert!(peaks.logical <= LIMIT, "the limit holds at every sample: {}", peaks.logical);
    assert!(peaks.logical > LIMIT * 9 / 10, "the machine was filled");
    assert!(peaks.log_of_leader <= LOG_MAX, "log {} MiB", peaks.log_of_leader / MIB);
    assert!(peaks.log <= LOG_MAX + LIMIT / 2, "a follower's log {} MiB", peaks.log / MIB);
    assert!(peaks.live <= 3 * (peaks.formula() + engine), "{} MiB live", peaks.live / MIB);
    assert!(fed.hot_alive * 100 >= hot * 99, "the read-hot set survives: {}", fed.hot_alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_through_a_64_mib_shard_in_memory_durability() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (cluster, fed, peaks) = fed(dir.path(), Vec::new(), 1024 * MIB).await;
    check(&fed, &peaks, 2_000, 0);
    assert!(peaks.disk <= 3 * 2 * (LIMIT + 8 * MIB), "two snapshots a replica at most");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wal_is_purged_too() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let wals: Vec<Arc<dyn Wal>> = NODES
        .iter()
        .map(|node| {
            let path = dir.path().join(format!("wal-{}", node.0));
            let wal: Arc<dyn Wal> =
                SledWal::open(&path, Metrics::new(), FlushMode::Always).unwrap();
            wal
        })
        .collect();
    let (cluster, fed, peaks) = fed(dir.path(), wals.clone(), 160 * MIB).await;
    check(&fed, &peaks, 2_000, 96 * MIB);
    println!("disk at the end {} MiB", disk_bytes(dir.path()) / MIB);
    assert!(peaks.disk <= 3 * 10 * LIMIT, "disk {} MiB", peaks.disk / MIB);
    cluster.shutdown().await;
    tokio::time::timeout(
        Duration::from_secs(60),
        tokio::task::spawn_blocking(move || {
            for wal in wals {
                wal.close().unwrap();
            }
        }),
    )
    .await
    .unwrap()
    .unwrap();
}
