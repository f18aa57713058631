//! Restarts: a blank log under an old id, and a voter that forgot the leader's lease.

use std::time::Duration;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::replica::StartError;
use crate::raft::settings::RaftSettings;
use crate::raft::testkit::{Cluster, Options, get, put};
use crate::types::clock::now;
use crate::types::{Consistency, NodeId};

const SEEDS: std::ops::Range<u64> = 1..9;

async fn durable(seed: u64) -> Cluster {
    Cluster::with(Options { seed, wal: true, ..Options::default() }).await
}

/// A write is acknowledged by the leader and `amnesiac`; `cut_off` has never heard of it.
async fn write_to_two(cluster: &Cluster) -> (NodeId, NodeId, NodeId) {
    let (leader, group) = cluster.leader(&[]).await;
    let others = cluster.others(leader);
    put(&group, "before", "1").await.unwrap();
    cluster.wait_equal().await;
    let (amnesiac, cut_off) = (others[0], others[1]);
    cluster.isolate(cut_off);
    put(&group, "acknowledged", "1").await.unwrap();
    (leader, amnesiac, cut_off)
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_log_is_gone_does_not_run_under_its_old_id() {
    for seed in SEEDS {
        let mut cluster = durable(seed).await;
        let (_, amnesiac, _) = write_to_two(&cluster).await;
        cluster.crash(amnesiac).await;
        cluster.nodes[&amnesiac].disk.wipe();
        let started = cluster.start_node(amnesiac, true).await;
        assert!(matches!(started, Err(StartError::LogLost(_))), "seed {seed}: {started:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_keeps_its_log_keeps_what_was_acknowledged() {
    for seed in SEEDS {
        let mut cluster = durable(seed).await;
        let (leader, voter, _) = write_to_two(&cluster).await;
        cluster.crash(voter).await;
        cluster.start_node(voter, true).await.unwrap();
        cluster.network.heal();
        cluster.isolate(leader);
        let (_, group) = cluster.leader(&[leader]).await;
        let read = get(&group, "acknowledged", Consistency::Linearizable).await.unwrap();
        assert!(read.is_some(), "INV-2, seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blank_restart_under_the_old_id_loses_acknowledged_writes() {
    let mut lost = 0;
    for seed in SEEDS {
        let mut cluster = durable(seed).await;
        let (leader, amnesiac, _) = write_to_two(&cluster).await;
        cluster.crash(amnesiac).await;
        cluster.nodes[&amnesiac].disk.wipe();
        // The check is taken out: nobody remembers that this id has been in use.
        cluster.start_node(amnesiac, false).await.unwrap();
        cluster.network.heal();
        cluster.isolate(leader);
        let (_, group) = cluster.leader(&[leader]).await;
        let read = get(&group, "acknowledged", Consistency::Linearizable).await.unwrap();
        lost += u64::from(read.is_none());
    }
    assert!(lost > 0, "without the check acknowledged writes are lost; if not, it is not needed");
}

/// The old leader is cut off and a voter restarts within its lease. Returns a stale lease read and
/// how long after the restart it was seen.
async fn restart_inside_the_lease(seed: u64) -> Option<Duration> {
    let settings = RaftSettings { lease_reads: true, ..RaftSettings::default() };
    let mut cluster =
        Cluster::with(Options { seed, wal: true, settings, ..Options::default() }).await;
    let (old, old_group) = cluster.leader(&[]).await;
    put(&old_group, "k", "old").await.unwrap();
    cluster.wait_equal().await;
    // Both voters restart at the very moment the leader is cut off: neither knows of the lease.
    let voters = cluster.others(old);
    cluster.isolate(old);
    for voter in &voters {
        cluster.crash(*voter).await;
    }
    for voter in &voters {
        cluster.start_node(*voter, true).await.unwrap();
    }
    let restarted = now();
    let mut written = false;
    while now() - restarted < Duration::from_secs(4) {
        for voter in &voters {
            let group = &cluster.groups[voter];
            if !written && group.replica().is_leader() {
                written = put(group, "k", "new").await.is_ok();
            }
        }
        if written {
            let read = get(&old_group, "k", Consistency::Lease).await;
            if matches!(&read, Ok(Some(value)) if value == "old") {
                return Some(now() - restarted);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(written, "the restarted voters elect a leader in the end (seed {seed})");
    None
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_restarts_keeps_the_lease_it_forgot() {
    for seed in SEEDS {
        let stale = restart_inside_the_lease(seed).await;
        assert_eq!(stale, None, "stale lease read that long after the restart (seed {seed})");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_guard_lease_reads_go_stale() {
    let _out = take_out(Countermeasure::RestartGuard);
    let mut stale = 0;
    for seed in SEEDS {
        stale += u64::from(restart_inside_the_lease(seed).await.is_some());
    }
    assert!(stale > 0, "without the guard lease reads go stale; if not, it is not needed");
}
