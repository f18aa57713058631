//! A replica whose log is shorter than what it acknowledged: an old copy of its data directory was
//! put back.

use std::time::Duration;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::frame_codec::{addressed, encode};
use crate::raft::testkit::{Cluster, GROUP, Options, get, put, soon};
use crate::raft::types::{TypeConfig, Vote, log_id};
use crate::storage::sim_wal::DiskCopy;
use crate::transport::FrameKind;
use crate::types::clock::now;
use crate::types::{Consistency, LogKey, NodeId, Reason, ReplicaId};

/// Writes of which the copy knows nothing.
const LATER: usize = 20;

async fn durable(seed: u64) -> Cluster {
    Cluster::with(Options { seed, wal: true, ..Options::default() }).await
}

fn key_of(node: NodeId) -> LogKey {
    LogKey { group: GROUP, replica: ReplicaId(node.0) }
}

/// A follower is stopped, its disk copied, started; it acknowledges more, and is stopped again. Leader,
/// follower, the third, and the copy.
async fn copied(cluster: &mut Cluster) -> (NodeId, NodeId, NodeId, DiskCopy) {
    let (leader, group) = cluster.leader(&[]).await;
    let others = cluster.others(leader);
    let (follower, third) = (others[0], others[1]);
    put(&group, "before", "1").await.unwrap();
    cluster.wait_equal().await;
    cluster.crash(follower).await;
    let copy = cluster.nodes[&follower].disk.copy();
    cluster.start_node(follower, true).await.unwrap();
    for n in 0..LATER {
        put(&group, &format!("later-{n}"), "1").await.unwrap();
    }
    cluster.wait_equal().await;
    cluster.crash(follower).await;
    (leader, follower, third, copy)
}

/// The same, and the follower is started again on the copy. Leader, follower, and the third.
async fn restored(cluster: &mut Cluster) -> (NodeId, NodeId, NodeId) {
    let (leader, follower, third, copy) = copied(cluster).await;
    cluster.nodes[&follower].disk.put_back(copy);
    cluster.start_node(follower, true).await.unwrap();
    (leader, follower, third)
}

#[tokio::test(start_paused = true)]
async fn a_replica_on_an_old_copy_of_its_log_is_lost_and_the_others_go_on() {
    for seed in 1..5 {
        let mut cluster = durable(seed).await;
        let (leader, follower, third) = restored(&mut cluster).await;
        let group = cluster.groups[&leader].clone();
        let lost = cluster.groups[&follower].replica().clone();
        cluster.until("it is found out", |_| lost.is_shortened()).await;
        let listed = cluster.lost.subscribe().borrow().clone();
        assert_eq!(listed.keys().copied().collect::<Vec<_>>(), [key_of(follower)], "seed {seed}");
        let replica = &listed[&key_of(follower)];
        assert_eq!(replica.node, follower);
        assert!(replica.why.contains("shorter than what it acknowledged"), "{replica:?}");

        // Nobody had to restart, and nobody waits for it.
        let begin = now();
        for n in 0..LATER {
            put(&group, &format!("after-{n}"), "1").await.unwrap();
        }
        assert!(now() - begin < Duration::from_secs(1), "{LATER} writes in {:?}", now() - begin);
        assert!(group.replica().is_leader(), "the leader still leads (seed {seed})");
        assert_eq!(cluster.network.panics(), 0);

        // It is given no leadership, and shows nobody what it holds.
        let behind: Vec<_> =
            group.replica().voters_behind().into_iter().map(|(id, _)| id).collect();
        assert_eq!(behind, [ReplicaId(third.0)]);
        let to = Some(ReplicaId(follower.0));
        group.replica().hand_over_to(to, soon()).await.unwrap();
        assert!(group.replica().is_leader(), "handed to a lost replica (seed {seed})");
        let read = get(&cluster.groups[&follower], "before", Consistency::Stale).await;
        assert_eq!(read.unwrap_err().reason, Reason::Stopping);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_replica_helps_nobody_to_lead() {
    for seed in 1..5 {
        let mut cluster = durable(seed).await;
        let (leader, follower, third) = restored(&mut cluster).await;
        let lost = cluster.groups[&follower].replica().clone();
        cluster.until("it is found out", |_| lost.is_shortened()).await;
        // The third may lack what the lost one acknowledged: with its vote it would lead all the same.
        cluster.isolate(leader);
        let cut = now();
        while now() - cut < Duration::from_secs(20) {
            for node in [follower, third] {
                let replica = cluster.groups[&node].replica();
                assert!(!replica.is_leader(), "{node} leads after {:?} (seed {seed})", now() - cut);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let vote = Vote::new(99, ReplicaId(third.0));
        let request = openraft::raft::VoteRequest::<TypeConfig>::new(vote, Some(log_id(98, 1_000)));
        let frame = addressed(ReplicaId(follower.0), &encode(&request));
        let other =
            [FrameKind::Vote, FrameKind::PreVote, FrameKind::TransferLeader, FrameKind::Snapshot];
        for kind in other {
            let refusal = lost.handle(third, kind, frame.clone()).await.unwrap_err().0;
            assert!(refusal.contains("shorter than what it acknowledged"), "{kind:?}: {refusal}");
        }
        cluster.network.heal();
        let (_, group) = cluster.leader(&[]).await;
        put(&group, "healed", "1").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_led_before_remembers_what_was_acknowledged_to_it() {
    let mut cluster = durable(3).await;
    let (leader, follower, third, copy) = copied(&mut cluster).await;
    let group = cluster.groups[&leader].clone();
    // The leadership goes to the third and comes back: another term, another stream.
    let to = Some(ReplicaId(third.0));
    group.replica().hand_over_to(to, soon()).await.unwrap();
    let (_, successor) = cluster.leader(&[leader]).await;
    put(&successor, "between", "1").await.unwrap();
    successor.replica().hand_over_to(Some(ReplicaId(leader.0)), soon()).await.unwrap();
    cluster.leader(&[third]).await;
    cluster.nodes[&follower].disk.put_back(copy);
    cluster.start_node(follower, true).await.unwrap();
    let lost = cluster.groups[&follower].replica().clone();
    cluster.until("it is found out", |_| lost.is_shortened()).await;
    put(&group, "after", "1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_restarts_with_its_whole_log_is_not_lost() {
    for seed in 1..5 {
        let mut cluster = durable(seed).await;
        let (leader, group) = cluster.leader(&[]).await;
        let follower = cluster.others(leader)[0];
        for round in 0..4 {
            for n in 0..LATER {
                put(&group, &format!("{round}-{n}"), "1").await.unwrap();
            }
            cluster.crash(follower).await;
            put(&group, "meanwhile", "1").await.unwrap();
            cluster.start_node(follower, true).await.unwrap();
            cluster.wait_equal().await;
        }
        assert!(cluster.lost.subscribe().borrow().is_empty(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_check_a_replica_on_an_old_copy_stops_its_leader() {
    let _out = take_out(Countermeasure::ShortenedLog);
    let mut cluster = durable(1).await;
    let (leader, ..) = restored(&mut cluster).await;
    // openraft asserts in debug builds; in release builds it counts entries that are not there.
    let group = cluster.groups[&leader].clone();
    let begin = now();
    let error = loop {
        match put(&group, "k", "1").await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => break error,
        }
        assert!(now() - begin < Duration::from_secs(60), "it goes on; if so, this is not needed");
    };
    println!("{error}");
}
