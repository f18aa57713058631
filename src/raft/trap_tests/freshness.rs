//! The age that a follower claims for what it shows.

use std::time::Duration;

use crate::raft::countermeasure::{Countermeasure, take_out};
use crate::raft::testkit::{Cluster, Options, get, put};
use crate::types::clock::now;
use crate::types::{Consistency, Reason};

/// A follower hears its leader for a minute, restarts under its old id, hears it again, and is cut
/// off. Says for how long after that it serves reads that are to be at most a second old.
async fn served_after_a_restart(seed: u64) -> Duration {
    let mut cluster = Cluster::with(Options { seed, wal: true, ..Options::default() }).await;
    let (leader, group) = cluster.leader(&[]).await;
    put(&group, "k", "1").await.unwrap();
    cluster.wait_equal().await;
    let follower = cluster.others(leader)[0];
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.crash(follower).await;
    cluster.start_node(follower, true).await.unwrap();
    let age_of = |cluster: &Cluster| cluster.groups[&follower].replica().age_ms();
    cluster.until("it knows its age again", |cluster| age_of(cluster).is_some()).await;
    cluster.isolate(follower);
    let (cut, mut served) = (now(), Duration::ZERO);
    let bounded = Consistency::Bounded { staleness_ms_max: 1_000 };
    while now() - cut < Duration::from_secs(20) {
        match get(&cluster.groups[&follower], "k", bounded).await {
            Ok(_) => served = now() - cut,
            Err(error) => assert!(matches!(error.reason, Reason::TooStale { .. }), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_restarted_claims_no_age_of_its_earlier_life() {
    for seed in 1..4 {
        let served = served_after_a_restart(seed).await;
        assert!(
            served <= Duration::from_secs(1),
            "served for {served:?} after the cut (seed {seed})"
        );
        assert!(served > Duration::from_millis(300), "served for {served:?} only (seed {seed})");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_life_in_the_echo_it_claims_to_be_fresh() {
    let _out = take_out(Countermeasure::EchoOfThisLife);
    let served = served_after_a_restart(1).await;
    assert!(served > Duration::from_secs(5), "served for {served:?}; if not, it is not needed");
}
