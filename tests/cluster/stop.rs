//! A node leaves in order while clients read and write.

use std::time::Duration;

use crate::harness::{ProcessCluster, Shape};
use crate::load::Load;
use crate::turn;

/// Well under the shortest election time-out, 750 ms: leaderships are handed over, not lost.
const GAP: Duration = Duration::from_millis(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_order_is_hardly_noticed() {
    let _turn = turn().await;
    let shape = Shape::new("wal");
    let mut cluster = ProcessCluster::start(shape).await;
    let load = Load::start(&cluster, "stop", 96, shape.shards).await;
    for at in 0..shape.nodes {
        load.mark();
        let took = cluster.stop(at).await;
        load.acknowledged(5).await;
        let gap = load.gap();
        println!("node {} stopped in {took:?}, longest write gap {gap:?}", at + 1);
        let failures = load.failures();
        println!("  failed calls: {failures:#?}");
        println!("  gaps by shard: {:?}", load.gaps());
        assert!(gap < GAP, "writes of a key stood still for {gap:?}");
        let unknown = failures.keys().find(|name| name.contains("unknown"));
        assert_eq!(unknown, None, "an orderly stop leaves no outcome unknown");
        cluster.launch(at);
        cluster.ready(at).await;
    }
    let seen = load.finish(&cluster).await;
    println!("rolling restart under {} writes and {} reads", seen.writes, seen.reads);
    cluster.converged().await;
}
