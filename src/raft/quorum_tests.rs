//! What a replica says of its quorum, under virtual time.

use std::time::Duration;

use super::settings::RaftSettings;
use super::shard_group::ShardGroup;
use super::testkit::{Cluster, get, put, set};
use crate::types::clock::now;
use crate::types::{Consistency, Error, Expiry, Outcome};

/// How often the test looks, and how exact a timer is.
const GRAIN: Duration = Duration::from_millis(20);
/// `raft.election_ms_max` and 500 ms: no majority heard for so long is no quorum.
const NO_QUORUM: Duration = Duration::from_millis(2_000);

fn refused(error: &Error) {
    assert_eq!(error.reason.name(), "no_quorum", "{error}");
    assert_eq!(error.outcome(), Outcome::Rejected, "INV-5: {error}");
}

/// Writes and reads are refused at once, and nobody is called a leader.
async fn says_no_quorum(group: &ShardGroup) {
    let before = now();
    refused(&put(group, "a", "2").await.unwrap_err());
    refused(&get(group, "a", Consistency::Linearizable).await.unwrap_err());
    refused(&get(group, "a", Consistency::Lease).await.unwrap_err());
    assert_eq!(now() - before, Duration::ZERO, "at once");
    assert_ne!(group.replica().progress().role, "leader");
    assert_eq!((group.leader(), group.replica().is_leader()), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_says_so_and_is_none_in_any_report() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    put(&leader, "a", "1").await.unwrap();
    let before = now();
    cluster.isolate(node);
    cluster.until("it is no leader any more", |_| !leader.replica().is_leader()).await;
    let after = now() - before;
    println!("told {after:?} after the cut");
    assert!(after > NO_QUORUM - Duration::from_millis(350), "{after:?}");
    assert!(after <= NO_QUORUM + GRAIN, "{after:?}");
    says_no_quorum(&leader).await;
    // It goes on trying: when its peers are back it follows the leader they elected.
    cluster.network.heal();
    cluster.until("it knows a leader", |_| leader.leader().is_some()).await;
    let (_, new) = cluster.leader(&[]).await;
    put(&new, "a", "3").await.unwrap();
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_replaced_goes_on_when_its_followers_are_back() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    put(&leader, "a", "1").await.unwrap();
    let others = cluster.others(node);
    cluster.network.partition(&[&[node], &[others[0]], &[others[1]]]);
    for group in cluster.groups.values() {
        cluster.until("the quorum is lost", |_| group.replica().has_lost_quorum()).await;
    }
    for group in cluster.groups.values() {
        says_no_quorum(group).await;
    }
    let before = now();
    cluster.network.heal();
    let (_, new) = cluster.leader(&[]).await;
    put(&new, "a", "3").await.unwrap();
    assert!(now() - before < Duration::from_secs(5));
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_follower_says_so() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    put(&leader, "a", "1").await.unwrap();
    cluster.wait_equal().await;
    let cut = cluster.others(node)[0];
    let follower = &cluster.groups[&cut];
    assert_eq!(follower.leader(), Some(node));
    let before = now();
    cluster.isolate(cut);
    cluster.until("the quorum is lost", |_| follower.replica().has_lost_quorum()).await;
    let after = now() - before;
    println!("told {after:?} after the cut");
    assert!(after > NO_QUORUM - Duration::from_millis(650), "{after:?}");
    assert!(after <= NO_QUORUM + GRAIN, "{after:?}");
    says_no_quorum(follower).await;
    // The others are not touched by it.
    assert_eq!(leader.leader(), Some(node));
    put(&leader, "a", "2").await.unwrap();
    cluster.network.heal();
    cluster.until("it knows the leader", |_| follower.leader().is_some()).await;
    cluster.wait_equal().await;
}

/// An election is no lost quorum: the voters hear of each other, and callers are told to wait.
#[tokio::test(start_paused = true)]
async fn an_election_is_no_lost_quorum() {
    for seed in 0..8 {
        let options = super::testkit::Options { seed, ..super::testkit::Options::default() };
        let cluster = Cluster::with(options).await;
        let (node, _) = cluster.leader(&[]).await;
        cluster.isolate(node);
        let others: Vec<_> = cluster.others(node).iter().map(|n| &cluster.groups[n]).collect();
        let deadline = now() + Duration::from_secs(10);
        while !others.iter().any(|group| group.replica().is_leader()) {
            assert!(now() < deadline, "nobody is elected (seed {seed})");
            for group in &others {
                let write = vec![set("a", "1", Expiry::Never)];
                let error = group.write(write, now() + Duration::from_millis(1)).await;
                if let Err(error) = error {
                    assert_ne!(error.reason.name(), "no_quorum", "seed {seed}: {error}");
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What is proposed stays `Unknown`; what waits behind it was not proposed and is told so at once,
/// not at its deadline (INV-5).
#[tokio::test(start_paused = true)]
async fn what_is_queued_behind_a_lost_quorum_is_refused_and_what_was_proposed_is_unknown() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    put(&leader, "a", "1").await.unwrap();
    cluster.isolate(node);
    let before = now();
    let write = |key: &str| {
        let (leader, write) = (leader.clone(), set(key, "2", Expiry::Never));
        async move { leader.write(vec![write], now() + Duration::from_secs(30)).await }
    };
    let proposed = crate::types::task::spawn("proposed", write("a"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let queued = write("b").await.unwrap_err();
    let after = now() - before;
    refused(&queued);
    assert!(after <= NO_QUORUM + Duration::from_secs(1), "only after {after:?}");
    let error = proposed.await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}
