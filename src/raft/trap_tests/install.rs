//! A node loses power between the publication of a snapshot that it received and the end of what the
//! log does about it.

use std::time::Duration;

use bytes::Bytes;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::replica::StartError;
use crate::raft::testkit::{Cluster, GROUP, Options, put, soon};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::types::{LogKey, NodeId, ReplicaId, task};

/// How long a flush takes: long enough to lose power in it.
const FLUSH: Duration = Duration::from_millis(100);

/// The old leader has entries that nobody else got; the new one's snapshot replaces them.
async fn published(seed: u64) -> (Cluster, NodeId) {
    let options = Options { seed, wal: true, flush_delay: FLUSH, ..Options::default() };
    let cluster = Cluster::with(options).await;
    let (old, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    cluster.isolate(old);
    // More entries than the new leader will have when it snapshots; their outcome stays unknown.
    let tail: Vec<_> = (0..12)
        .map(|_| {
            let replica = group.replica().clone();
            let propose = async move { replica.propose(Bytes::from_static(b"lost"), soon()).await };
            task::spawn("propose", propose)
        })
        .collect();
    let (_, new) = cluster.leader(&[old]).await;
    put(&new, "k", "2").await.unwrap();
    new.replica().snapshot_now(soon()).await.unwrap();
    new.replica().purge_to_snapshot().await.unwrap();
    let (theirs, ours) = (new.replica().progress(), group.replica().progress());
    assert!(ours.last_index > theirs.snapshot_index, "{ours:?} {theirs:?} (seed {seed})");
    for write in tail {
        assert!(write.await.unwrap().unwrap().is_err(), "nobody else has it");
    }
    cluster.network.heal();
    let key = LogKey { group: GROUP, replica: ReplicaId(old.0) };
    let files = SnapshotFiles::new(cluster.nodes[&old].files.clone(), "/snapshots").unwrap();
    cluster.until("it is published", |_| files.current(key).unwrap().is_some()).await;
    (cluster, old)
}

/// Power is lost `after` the publication, with nothing kept that was not flushed.
async fn crash_after(seed: u64, after: Duration) -> Result<(), StartError> {
    let (mut cluster, old) = published(seed).await;
    tokio::time::sleep(after).await;
    cluster.nodes[&old].disk.set_keep_unflushed(false);
    cluster.crash(old).await;
    cluster.start_node(old, true).await?;
    let (_, group) = cluster.leader(&[]).await;
    put(&group, "k", "3").await.unwrap();
    cluster.wait_equal().await;
    assert!(cluster.lost.subscribe().borrow().is_empty(), "it lacks nothing that it acknowledged");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn power_lost_after_a_snapshot_was_published_bricks_no_replica() {
    for (seed, after_ms) in [(1, 0), (2, 20), (3, 50), (4, 90), (5, 150), (6, 250)] {
        let started = crash_after(seed, Duration::from_millis(after_ms)).await;
        assert!(started.is_ok(), "{after_ms} ms after (seed {seed}): {started:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_contradicts_the_snapshot_beside_it_is_dropped() {
    // As an engine leaves it that lost the cut of the log with the power.
    let _out = take_out(Countermeasure::TruncateFirst);
    crash_after(1, Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_both_the_replica_cannot_start() {
    let _out = take_out(Countermeasure::FollowSnapshot);
    let started = crash_after(1, Duration::ZERO).await;
    assert!(
        matches!(started, Err(StartError::Recovery(_))),
        "if not, it is not needed: {started:?}"
    );
}
