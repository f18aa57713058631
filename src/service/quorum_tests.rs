//! What a caller is told when a replica has lost its quorum, and when only its leader is missing.

use std::time::Duration;

use super::fake::*;
use super::*;
use crate::types::clock::now;
use crate::types::*;

async fn refused(cluster: &Cluster, node: u64) -> Duration {
    let begun = now();
    for request in [set("a", 5_000), get("a", Consistency::Linearizable, 5_000)] {
        let error = cluster.node(node).execute(request).await.unwrap_err();
        assert_eq!(error.reason.name(), "no_quorum", "{error}");
        assert_eq!(error.outcome(), Outcome::Rejected, "INV-5");
    }
    now() - begun
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_cut_off_says_so_at_once() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
    cluster.lose_quorum(&[1]);
    cluster.net.down.lock().extend([NodeId(2), NodeId(3)]);
    assert_eq!(refused(&cluster, 1).await, Duration::ZERO);
    assert!(cluster.frames().is_empty(), "nobody can be asked: {:?}", cluster.frames());
}

/// Its own replica may be the only one that hears nobody.
#[tokio::test(start_paused = true)]
async fn others_that_are_connected_are_asked_first() {
    let cluster = Cluster::new(3, &[1, 2, 3], Some(2));
    cluster.lose_quorum(&[1]);
    cluster.node(1).execute(set("a", 5_000)).await.unwrap();
    cluster.lose_quorum(&[1, 2, 3]);
    let took = refused(&cluster, 1).await;
    assert!(took < Duration::from_millis(1_500), "both only after {took:?}");
}

/// A node without a replica asks those that are connected; one of them is not the last word.
#[tokio::test(start_paused = true)]
async fn a_node_without_a_replica_hears_it_from_the_others() {
    let cluster = Cluster::new(4, &[1, 2, 3], Some(2));
    cluster.lose_quorum(&[1]);
    cluster.node(4).execute(set("a", 5_000)).await.unwrap();
    cluster.lose_quorum(&[1, 2, 3]);
    cluster.net.down.lock().extend([NodeId(2), NodeId(3)]);
    let took = refused(&cluster, 4).await;
    assert!(took < Duration::from_millis(1_500), "both only after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_merely_missing_is_waited_for() {
    let cluster = Cluster::new(3, &[1, 2, 3], None);
    let begun = now();
    let error = cluster.node(1).execute(set("a", 3_000)).await.unwrap_err();
    assert_eq!(error.reason, Reason::NoLeader { group: GROUP });
    assert_eq!(now() - begun, Duration::from_millis(3_000));
    // One replica was late to hear of the election: the other says that it is under way.
    cluster.lose_quorum(&[1]);
    let (service, request) = (cluster.node(1), set("a", 5_000));
    let run = crate::types::task::spawn("test", async move { service.execute(request).await });
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!run.is_finished());
    cluster.lead(Some(3));
    run.await.unwrap().unwrap().unwrap();
}

/// What may have been proposed is never called rejected, and is settled when the quorum is back.
#[tokio::test(start_paused = true)]
async fn what_was_proposed_stays_unknown() {
    for back in [false, true] {
        let cluster = Cluster::new(3, &[1, 2, 3], Some(1));
        cluster.net.down.lock().extend([NodeId(2), NodeId(3)]);
        cluster.fault(Fault::LoseAfterApply);
        let (service, request) = (cluster.node(1), set("a", 5_000));
        let run = crate::types::task::spawn("test", async move { service.execute(request).await });
        while cluster.proposed_at().is_empty() {
            tokio::task::yield_now().await;
        }
        cluster.lose_quorum(&[1]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!run.is_finished());
        if back {
            cluster.lose_quorum(&[]);
            run.await.unwrap().unwrap().unwrap();
            assert_eq!(cluster.shard.state.lock().applied.len(), 1, "INV-6: once");
        } else {
            let error = run.await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        }
    }
}
