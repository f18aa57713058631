//! A group of three over the simulated network, under virtual time.

use std::time::Duration;

use super::settings::RaftSettings;
use super::testkit::{Cluster, GROUP, get, set, soon};
use crate::types::clock::now;
use crate::types::{Consistency, Expiry, Reason, Reply};

#[tokio::test(start_paused = true)]
async fn set_and_get() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let replies = leader.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    assert!(matches!(replies[..], [Reply::Set { .. }]));
    let read = get(&leader, "a", Consistency::Linearizable).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"1"[..]));
    cluster.wait_equal().await;
    assert_eq!(cluster.metrics.digest_mismatches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_follower_refuses_and_hints() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, _) = cluster.leader(&[]).await;
    let (_, follower) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
    follower.replica().leader_changed(None).await;
    let error = follower.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap_err();
    assert_eq!(error.reason, Reason::NotLeader { group: GROUP, leader: Some(node) });
    let error = get(follower, "a", Consistency::Linearizable).await.unwrap_err();
    assert_eq!(error.reason, Reason::NotLeader { group: GROUP, leader: Some(node) });
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_serves_no_stale_read() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, old_group) = cluster.leader(&[]).await;
    old_group.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| *n != old).collect();
    cluster.network.partition(&[&[old], &others]);
    let (_, new) = cluster.leader(&[old]).await;
    new.write(vec![set("a", "2", Expiry::Never)], soon()).await.unwrap();
    assert!(old_group.replica().is_leader(), "the old leader has not noticed");
    let stale = get(&old_group, "a", Consistency::Linearizable).await;
    assert!(stale.is_err(), "a leader without a quorum answered {stale:?}");
    let write = old_group.write(vec![set("a", "3", Expiry::Never)], soon()).await.unwrap_err();
    // openraft stops calling itself leader once its lease is over; before, the write is proposed.
    let honest = matches!(
        write.reason,
        Reason::NotLeader { .. } | Reason::NoQuorum { .. } | Reason::DeadlineAfterPropose
    );
    assert!(honest, "INV-5: {write}");
    cluster.network.heal();
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn expiry_survives_a_slow_successor() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, group) = cluster.leader(&[]).await;
    for (node, clock) in &cluster.clocks {
        if *node != old {
            clock.jump(-10_000);
        }
    }
    group.write(vec![set("a", "1", Expiry::AfterMs(1_000))], soon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(get(&group, "a", Consistency::Linearizable).await.unwrap(), None);
    cluster.network.unregister(old);
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| *n != old).collect();
    cluster.network.partition(&[&[old], &others]);
    let (_, new) = cluster.leader(&[old]).await;
    assert_eq!(get(&new, "a", Consistency::Linearizable).await.unwrap(), None, "INV-4");
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_follower_catches_up_by_log_and_by_snapshot() {
    for by_snapshot in [false, true] {
        let cluster = Cluster::start(RaftSettings::default(), 8 << 20).await;
        let (node, leader) = cluster.leader(&[]).await;
        let (lost, _) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
        let others: Vec<_> = cluster.groups.keys().copied().filter(|n| n != lost).collect();
        cluster.network.partition(&[&[*lost], &others]);
        for i in 0..200 {
            let key = format!("key-{i}");
            leader.write(vec![set(&key, &"v".repeat(2_000), Expiry::Never)], soon()).await.unwrap();
        }
        if by_snapshot {
            leader.replica().snapshot_now(soon()).await.unwrap();
            leader.replica().purge_to_snapshot().await.unwrap();
            leader.write(vec![set("after", "x", Expiry::Never)], soon()).await.unwrap();
        }
        cluster.network.heal();
        cluster.wait_equal().await;
        let snapshot = cluster.groups[lost].replica().progress().snapshot_index;
        assert_eq!(snapshot > 0, by_snapshot, "caught up by snapshot {snapshot}");
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, group) = cluster.leader(&[]).await;
    group.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    let before = now();
    group.replica().hand_over(soon()).await.unwrap();
    let (new, _) = cluster.leader(&[]).await;
    assert_ne!(new, old);
    assert!(now() - before < Duration::from_millis(500), "no election time-out was waited for");
}

#[tokio::test(start_paused = true)]
async fn followers_know_their_age() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    leader.write(vec![set("a", "1", Expiry::Never)], soon()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cut, follower) = cluster.groups.iter().find(|(n, _)| **n != node).unwrap();
    let bounded = Consistency::Bounded { staleness_ms_max: 1_000 };
    assert_eq!(get(follower, "a", bounded).await.unwrap().as_deref(), Some(&b"1"[..]));
    let others: Vec<_> = cluster.groups.keys().copied().filter(|n| n != cut).collect();
    cluster.network.partition(&[&[*cut], &others]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let error = get(follower, "a", bounded).await.unwrap_err();
    assert!(matches!(error.reason, Reason::TooStale { age_ms: 3_000.., .. }), "{error}");
    assert!(get(follower, "a", Consistency::Stale).await.unwrap().is_some());
}
