//! A cluster forms whatever the order in which its nodes start, and whoever dies meanwhile.

use std::time::Duration;

use raftcache::types::clock::now;

use crate::client::{client, get, set, value};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

fn small(durability: &'static str) -> Shape {
    Shape { shards: 4, ..Shape::new(durability) }
}

/// Why a node is not ready, as its page says.
async fn reasons(cluster: &ProcessCluster, at: usize) -> Option<String> {
    let (code, body) = cluster.page(at, "/ready").await;
    assert_ne!(code, 200, "node {} is ready without the others: {body}", at + 1);
    (code == 503).then_some(body)
}

/// Every node answers for every key, and the table is the same everywhere.
async fn serves(cluster: &ProcessCluster) {
    for i in 0..12 {
        let (key, count) = (format!("formed:{i}"), cluster.members.len());
        let (here, there) = (&cluster.members[i % count], &cluster.members[(i + 1) % count]);
        client(&here.grpc).set(set(&key, key.clone())).await.unwrap();
        let reply = client(&there.grpc).get(get(&key)).await.unwrap();
        assert_eq!(value(reply.into_inner()).unwrap(), key);
    }
    until("one table on all nodes", Duration::from_secs(10), async || {
        let mut tables = Vec::new();
        for at in cluster.up() {
            tables.push(cluster.status(at).await.table);
        }
        assert!(tables.iter().all(|table| table.cluster_id == tables[0].cluster_id));
        tables.iter().all(|table| *table == tables[0]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_whose_controller_log_is_gone_does_not_vote_again() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    cluster.kill(0);
    let log = cluster.data_dir(0).join("controller");
    std::fs::remove_dir_all(&log).unwrap();
    cluster.launch(0);
    // Blank, and under its old id: it must say so and keep out (INV-2), whatever else it learns.
    let said = until("a refusal", Duration::from_secs(20), async || {
        let (code, body) = cluster.page(0, "/ready").await;
        (code == 503 && body.contains("is gone")).then_some(body)
    })
    .await;
    println!("the node says: {said}");
    let status = cluster.status(0).await.status;
    let controller = raftcache::types::GroupId::CONTROLLER;
    assert!(status.replicas.iter().all(|replica| replica.group != controller), "{status:?}");
    for at in [1, 2] {
        cluster.ready(at).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_start_in_any_order() {
    let _turn = turn().await;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut cluster = ProcessCluster::prepare(small("memory"));
        for at in order {
            // The nodes before this one are up and say that they wait.
            for earlier in cluster.up() {
                let within = Duration::from_secs(20);
                let said = until("a reason", within, async || reasons(&cluster, earlier).await);
                let said = said.await;
                assert!(said.contains("waiting for"), "the page names what it waits for");
            }
            cluster.launch(at);
        }
        let started = now();
        cluster.all_ready().await;
        println!("order {order:?}: ready {:?} after the last start", now() - started);
        serves(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_while_the_cluster_forms_only_delays_it() {
    let _turn = turn().await;
    // After how many milliseconds which node dies: before, while and after founders are told.
    for (after_ms, victim) in [(150, 0), (400, 1), (700, 0), (1_100, 2)] {
        let mut cluster = ProcessCluster::prepare(small("wal"));
        (0..3).for_each(|at| cluster.launch(at));
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        cluster.kill(victim);
        cluster.launch(victim);
        let started = now();
        cluster.all_ready().await;
        println!(
            "node {} killed after {after_ms} ms: ready {:?} later",
            victim + 1,
            now() - started
        );
        serves(&cluster).await;
        cluster.converged().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster_and_keeps_its_data() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape { nodes: 1, ..small("wal") }).await;
    serves(&cluster).await;
    cluster.kill(0);
    cluster.launch(0);
    cluster.ready(0).await;
    let reply = client(&cluster.members[0].grpc).get(get("formed:7")).await.unwrap();
    assert_eq!(value(reply.into_inner()).unwrap(), "formed:7");
    cluster.stop(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_killed_comes_back_with_its_data() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    serves(&cluster).await;
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.launch(at));
    let started = now();
    cluster.all_ready().await;
    println!("all killed and started again: ready after {:?}", now() - started);
    for i in 0..12 {
        let key = format!("formed:{i}");
        let reply = client(&cluster.members[i % 3].grpc).get(get(&key)).await.unwrap();
        assert_eq!(value(reply.into_inner()).unwrap(), key);
    }
    cluster.converged().await;
}
