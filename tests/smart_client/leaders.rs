//! Operations go to leaders, whoever they are, and with a node down.

use std::time::Duration;

use raftcache::client::{Client, Consistency, GetOptions, Options};
use raftcache::types::clock::now;

use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

/// Operations that nodes have handed on to others so far, over all nodes that run.
async fn forwarded(cluster: &ProcessCluster) -> f64 {
    let mut sum = 0.0;
    for at in cluster.up() {
        let (code, page) = cluster.page(at, "/metrics").await;
        assert_eq!(code, 200);
        let of = |line: &str| line.rsplit_once(' ').and_then(|(_, n)| n.parse::<f64>().ok());
        let ours =
            |line: &&str| !line.starts_with('#') && line.contains("forwarded_requests_total");
        let lines: Vec<&str> = page.lines().filter(ours).collect();
        assert!(!lines.is_empty(), "the metric is there");
        sum += lines.into_iter().filter_map(of).sum::<f64>();
    }
    sum
}

pub async fn client(cluster: &ProcessCluster, deadline: Duration) -> Client {
    let seeds = cluster.members.iter().map(|member| member.grpc.clone());
    let options = Options { deadline, ..Options::new(seeds) };
    Client::connect(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_forwards_what_the_client_sends() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("memory")).await;
    let client = client(&cluster, Duration::from_secs(10)).await;
    // Leaders may still move just after the start; the client learns of it by looking again.
    until("a round of operations without forwarding", Duration::from_secs(60), async || {
        let before = forwarded(&cluster).await;
        for i in 0..200 {
            assert!(client.set(format!("k{i}"), "v").await.unwrap().applied);
            assert!(client.get(format!("k{i}")).await.unwrap().is_some());
        }
        let more = forwarded(&cluster).await - before;
        println!("{more} of 400 operations were forwarded");
        (more == 0.0).then_some(())
    })
    .await;
    assert_eq!(client.stats().retries, 0, "nothing was wrong");

    cluster.kill(0);
    let started = now();
    for i in 0..200 {
        assert!(client.set(format!("k{i}"), "w").await.unwrap().applied, "k{i}");
    }
    println!("200 writes right after a kill took {:?}; {:?}", now() - started, client.stats());
    for i in 0..200 {
        let found = client.get(format!("k{i}")).await.unwrap().unwrap();
        assert_eq!(found.value.as_bytes(), b"w");
    }
    let consistency = Consistency::Bounded(Duration::from_secs(5));
    let read = client.get_with("k1", GetOptions { consistency }).await.unwrap();
    assert!(read.age <= Duration::from_secs(5) && read.found.is_some());

    let late = Client::connect(Options::new([
        cluster.members[0].grpc.clone(),
        cluster.members[1].grpc.clone(),
    ]));
    let late = late.await.expect("one seed of two is enough");
    assert!(late.get("k1").await.unwrap().is_some());
}
