//! A disk that takes no snapshot, or has little room, does not take its replicas down.

use std::io::ErrorKind;
use std::time::Duration;

use crate::raft::settings::RaftSettings;
use crate::raft::testkit::{Cluster, Options, get, put, soon};
use crate::types::clock::now;
use crate::types::limits::{WHAT_DISK_ROOM, WHAT_LOG_WITHOUT_SNAPSHOT};
use crate::types::{Consistency, NodeId, Outcome, Reason};

async fn cluster(settings: RaftSettings) -> Cluster {
    Cluster::with(Options { settings, bytes_max: 8 << 20, wal: true, ..Options::default() }).await
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_written_is_given_up_and_tried_again() {
    let small = RaftSettings { snapshot_log_bytes: 200_000, ..RaftSettings::default() };
    let cluster = cluster(small).await;
    let (leader, group) = cluster.leader(&[]).await;
    let files = cluster.nodes[&leader].files.clone();
    files.set_failing(Some(ErrorKind::StorageFull));
    // More log than starts a snapshot: the compactor meets the disk, again and again.
    for i in 0..30 {
        put(&group, &format!("key-{}", i % 3), &"v".repeat(10_000)).await.unwrap();
    }
    let errors = || cluster.metrics.storage_errors.with_label_values(&["snapshot"]).get();
    cluster.until("a snapshot is given up twice", |_| errors() >= 2).await;
    let progress = group.replica().progress();
    assert_eq!((progress.role, progress.snapshot_index), ("leader", 0), "it lives, and leads");
    assert_eq!(
        get(&group, "key-1", Consistency::Linearizable).await.unwrap().unwrap().len(),
        10_000
    );
    assert!(files.paths().is_empty(), "half-written files: {:?}", files.paths());

    // The log grows to its bound; then writes are refused by name, at once, and reads go on.
    let refused = loop {
        let began = now();
        if let Err(error) = put(&group, "key-0", &"v".repeat(10_000)).await {
            assert!(now() - began < Duration::from_millis(100), "it hung for {:?}", now() - began);
            break error;
        }
    };
    let Reason::ResourceExhausted { what, limit } = refused.reason else { panic!("{refused}") };
    assert_eq!((what, limit), (WHAT_LOG_WITHOUT_SNAPSHOT, 400_000));
    get(&group, "key-1", Consistency::Linearizable).await.unwrap();

    files.set_failing(None);
    cluster.until("a snapshot is written", |_| group.replica().progress().snapshot_index > 0).await;
    cluster
        .until("the log is short again", |_| group.replica().progress().log_bytes < 200_000)
        .await;
    put(&group, "key-0", "after").await.unwrap();
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn little_room_moves_the_leadership_to_those_who_want_it_and_else_refuses_writes() {
    let cluster = cluster(RaftSettings::default()).await;
    let (first, group) = cluster.leader(&[]).await;
    put(&group, "k", "v").await.unwrap();
    let tell = async |node: NodeId, room: Option<u64>| {
        cluster.groups[&node].replica().see_room(room, true, soon()).await;
    };
    tell(first, Some(77)).await;
    let (second, group) = cluster.leader(&[first]).await;
    put(&group, "k", "second").await.unwrap();
    // It refuses to take over, and the leader does not even ask.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let behind: Vec<_> = group.replica().voters_behind().into_iter().map(|(id, _)| id.0).collect();
    assert!(!behind.contains(&first.0) && behind.len() == 1, "{behind:?}");

    for node in cluster.others(second) {
        tell(node, Some(77)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    tell(second, Some(77)).await;
    assert!(group.replica().is_leader(), "there is nobody to take over");
    let error = put(&group, "k", "refused").await.unwrap_err();
    assert_eq!(error.reason, Reason::ResourceExhausted { what: WHAT_DISK_ROOM, limit: 77 });
    assert_eq!(error.outcome(), Outcome::Rejected);
    assert!(error.retry_after.is_some());
    let shown = get(&group, "k", Consistency::Linearizable).await.unwrap();
    assert_eq!(shown.as_deref(), Some(&b"second"[..]));

    // When it is cut off, one of the reluctant leads all the same: reads must go on.
    cluster.isolate(second);
    let leads = |node: &NodeId| cluster.groups[node].replica().is_leader();
    let began = now();
    while !cluster.others(second).iter().any(leads) {
        assert!(now() - began < Duration::from_secs(60), "nobody campaigns");
        for node in cluster.others(second) {
            tell(node, Some(77)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (third, _) = cluster.leader(&[second]).await;
    cluster.network.heal();
    for node in [first, second, third] {
        tell(node, None).await;
    }
    let (_, group) = cluster.leader(&[]).await;
    put(&group, "k", "after").await.unwrap();
    cluster.wait_equal().await;
}
