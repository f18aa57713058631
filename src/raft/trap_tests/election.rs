//! Elections: pre-vote keeps terms down, and leadership is handed over without waiting.

use std::time::Duration;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::testkit::{Cluster, Options, Tapped, put, soon};
use crate::transport::FrameKind;
use crate::types::NodeId;
use crate::types::clock::now;

const SEEDS: std::ops::Range<u64> = 1..7;

async fn seeded(seed: u64) -> Cluster {
    Cluster::with(Options { seed, ..Options::default() }).await
}

fn term(cluster: &Cluster, node: NodeId) -> u64 {
    cluster.groups[&node].replica().progress().term
}

/// A follower is cut off for a while. Returns its term before and after.
async fn cut_off_follower(cluster: &Cluster) -> (NodeId, NodeId, u64, u64) {
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    let follower = cluster.others(leader)[0];
    let before = term(cluster, follower);
    cluster.isolate(follower);
    // The time is the subject here: many election time-outs pass.
    tokio::time::sleep(Duration::from_secs(20)).await;
    (leader, follower, before, term(cluster, follower))
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_back_disturbs_nobody() {
    for seed in SEEDS {
        let cluster = seeded(seed).await;
        let (leader, follower, before, after) = cut_off_follower(&cluster).await;
        // It asked, nobody answered: a peer that cannot be reached has granted nothing.
        assert!(cluster.wires[&follower].calls(leader, FrameKind::PreVote).calls > 0);
        assert_eq!(before, after, "the term grew while it was cut off (seed {seed})");
        cluster.network.heal();
        let group = &cluster.groups[&leader];
        put(group, "k", "2").await.unwrap();
        cluster.wait_equal().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(group.replica().is_leader(), "the leader was deposed (seed {seed})");
        assert_eq!(term(&cluster, leader), before, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pre_vote_that_grants_unasked_inflates_the_term() {
    let _out = take_out(Countermeasure::PreVote);
    for seed in SEEDS {
        let cluster = seeded(seed).await;
        let (_, _, before, after) = cut_off_follower(&cluster).await;
        assert!(after > before + 3, "from term {before} to {after} only (seed {seed})");
    }
}

/// Virtual time from asking for it until another replica leads.
async fn hand_over_time(seed: u64) -> Duration {
    let cluster = seeded(seed).await;
    let (old, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    let before = now();
    // Without the countermeasure it gives up at its deadline; the time until a leader counts.
    let _ = group.replica().hand_over(now() + Duration::from_secs(20)).await;
    cluster.leader(&[old]).await;
    now() - before
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_without_an_election_timeout() {
    for seed in SEEDS {
        let took = hand_over_time(seed).await;
        assert!(took < Duration::from_millis(200), "took {took:?} (seed {seed})");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_request_an_election_timeout_passes() {
    let _out = take_out(Countermeasure::TransferLeader);
    for seed in SEEDS {
        let took = hand_over_time(seed).await;
        assert!(took > Duration::from_millis(700), "took {took:?} (seed {seed})");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_whose_request_is_lost_does_not_stop_the_group() {
    for seed in SEEDS {
        let cluster = seeded(seed).await;
        let (leader, group) = cluster.leader(&[]).await;
        put(&group, "k", "1").await.unwrap();
        cluster.wires[&leader].tap(|_, kind, _| match kind {
            FrameKind::TransferLeader => Tapped::Lose,
            _ => Tapped::Pass,
        });
        let before = now();
        let _ = group.replica().hand_over(soon()).await;
        loop {
            let (_, group) = cluster.leader(&[]).await;
            if put(&group, "k", "2").await.is_ok() {
                break;
            }
        }
        let took = now() - before;
        assert!(took < Duration::from_secs(12), "took {took:?} (seed {seed})");
    }
}
