//! INV-3 while running, and the metrics that show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::codec::log_record::encode_batch;
use crate::raft::machine::StateMachine;
use crate::raft::testkit::{Cluster, Options, get, put, set};
use crate::types::{Batch, Consistency, Expiry, Reason};

#[tokio::test(start_paused = true)]
async fn a_replica_that_differs_stops_and_shows_nothing() {
    let cluster = Cluster::with(Options::default()).await;
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    let others = cluster.others(leader);
    let (wrong, right) = (cluster.groups[&others[0]].clone(), cluster.groups[&others[1]].clone());
    let forged = Batch { writes: vec![set("forged", "x", Expiry::Never)], ..Batch::default() };
    let payload: Bytes = encode_batch(&forged);
    wrong.replica().tamper(|machine| StateMachine::apply(machine, 1 << 40, payload)).unwrap();
    assert!(get(&wrong, "forged", Consistency::Stale).await.unwrap().is_some());
    for i in 0..200 {
        put(&group, &format!("key-{i}"), "v").await.unwrap();
    }
    cluster.until("the difference is noticed", |c| c.metrics.digest_mismatches.get() > 0).await;
    cluster.until("it stops", |_| wrong.replica().progress().role == "stopped").await;
    let bounded = Consistency::Bounded { staleness_ms_max: 60_000 };
    for consistency in [Consistency::Stale, bounded] {
        let error = get(&wrong, "forged", consistency).await.unwrap_err();
        assert_eq!(error.reason, Reason::Stopping, "{consistency:?}");
    }
    assert_eq!(cluster.metrics.digest_mismatches.get(), 1, "counted once");
    // The others go on, and agree.
    put(&group, "after", "1").await.unwrap();
    let replica = right.replica();
    cluster
        .until("the right one has it", |_| {
            replica.with_machine(|m| m.digest()) == group.replica().with_machine(|m| m.digest())
        })
        .await;
    assert_ne!(replica.progress().role, "stopped");
}

/// A reader that kept a borrow of openraft's metrics across an await would block their writer, and
/// with it the whole replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_metrics_never_stop_the_group() {
    let cluster = Cluster::with(Options::default()).await;
    let (_, group) = cluster.leader(&[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for group in cluster.groups.values() {
        let (stop, group) = (Arc::clone(&stop), group.clone());
        readers.push(crate::types::task::spawn("metrics reader", async move {
            let mut looks = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let replica = group.replica();
                let progress = replica.progress();
                assert!(progress.applied_index <= progress.last_index, "{progress:?}");
                let _ = (replica.voters_behind(), replica.age_ms(), replica.leader());
                looks += 1;
                tokio::task::yield_now().await;
            }
            looks
        }));
    }
    let writes = async {
        for i in 0..300 {
            put(&group, &format!("key-{}", i % 7), "v").await.unwrap();
        }
    };
    let watched = tokio::time::timeout(Duration::from_secs(60), writes).await;
    stop.store(true, Ordering::Relaxed);
    assert!(watched.is_ok(), "writes stand still while metrics are read");
    for reader in readers {
        assert!(reader.await.unwrap().expect("no panic") > 0);
    }
}
