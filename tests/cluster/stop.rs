//! A node leaves in order while clients read and write.

use std::time::Duration;

use crate::harness::{ProcessCluster, Shape};
use crate::load::{Load, PATIENT, patience};
use crate::turn;

/// Longest time that a key may not be written, and what `patience` adds. That leaderships are handed
/// over and not lost is checked by itself.
const GAP: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_order_is_hardly_noticed() {
    let _turn = turn().await;
    let shape = Shape::new("wal");
    let mut cluster = ProcessCluster::start(shape).await;
    let load = Load::start(&cluster, "stop", 96, (shape.shards, PATIENT)).await;
    let limit = patience(GAP, load.calm(10).await);
    for at in 0..shape.nodes {
        load.mark();
        let took = cluster.stop(at).await;
        // Nobody had the time to miss it: without a hand-over the others still believe in it.
        for other in cluster.up() {
            for replica in cluster.status(other).await.status.replicas {
                let led_elsewhere = replica.leader.is_some_and(|leader| leader.0 != at as u64 + 1);
                assert!(led_elsewhere, "{} was not handed over: {replica:?}", replica.group);
            }
        }
        load.acknowledged(5).await;
        let gap = load.gap();
        println!("node {} stopped in {took:?}, longest write gap {gap:?}", at + 1);
        let failures = load.failures();
        println!("  failed calls: {failures:#?}");
        println!("  gaps by shard: {:?}", load.gaps());
        assert!(gap < limit, "writes of a key stood still for {gap:?} of {limit:?}");
        let unknown = failures.keys().find(|name| name.contains("unknown"));
        assert_eq!(unknown, None, "an orderly stop leaves no outcome unknown");
        cluster.launch(at);
        cluster.ready(at).await;
    }
    let seen = load.finish(&cluster).await;
    println!("rolling restart under {} writes and {} reads", seen.writes, seen.reads);
    cluster.converged().await;
}
