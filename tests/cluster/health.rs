//! What the reports of a node say when a majority is gone, and that they say nothing of the kind when
//! a node is merely restarted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftcache::front::cluster::http_get;
use raftcache::types::clock::{Instant, now};
use raftcache::types::task::spawn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{client, set, within};
use crate::harness::{ProcessCluster, Shape};
use crate::load::{BRIEF, Load};
use crate::turn;

/// By the definition of "no quorum": `raft.election_ms_max` and 500 ms after the last sign of life of
/// a majority, which came before the fault.
const TOLD: Duration = Duration::from_secs(2);
/// A request of the test itself may take so much longer on a busy machine.
const SLACK: Duration = Duration::from_secs(1);
/// Longest that `/admin/cluster/status` waits for a node that does not answer.
const PAGE_WAITS: Duration = Duration::from_secs(2);
/// All nodes are ready again so long after the last start, twice as long on a busy machine.
const READY_AGAIN: Duration = Duration::from_secs(5);
/// How long is waited for a report that does not come.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The node that stays.
const SURVIVOR: usize = 0;

/// Reports of a node, and whether each says that there is no quorum.
async fn reports(cluster: &mut ProcessCluster) -> BTreeMap<&'static str, bool> {
    let at = SURVIVOR;
    let (code, ready) = cluster.page(at, "/ready").await;
    let status = cluster.status(at).await.status;
    let mut shards = status.replicas.iter().filter(|replica| replica.group.shard().is_some());
    let nobody_leads =
        shards.all(|replica| replica.role != "leader" && replica.leader.is_none()) && !status.ready;
    let metrics = cluster.page(at, "/metrics").await.1;
    let info = resp(&cluster.members[at].resp, &["CLUSTER", "INFO"]).await;
    let log = cluster.process(at).err();
    BTreeMap::from([
        ("/ready", code == 503 && ready.contains("no quorum")),
        ("gRPC health", serving(&cluster.members[at].grpc).await == ServingStatus::NotServing),
        ("/status", nobody_leads),
        ("CLUSTER INFO", info.contains("cluster_state:fail")),
        ("metrics: shard_leader", all_samples_are(&metrics, "shard_leader", "0", 17)),
        ("metrics: shard_has_quorum", all_samples_are(&metrics, "shard_has_quorum", "0", 17)),
        ("metrics: node_ready", all_samples_are(&metrics, "node_ready", "0", 1)),
        ("a WARN line", !lines(&log, "WARN", "no quorum").is_empty()),
    ])
}

/// When the page of the whole cluster says so. It asks every node and waits up to `PAGE_WAITS` for one
/// that does not answer, so it is asked beside the others.
async fn whole_told(http: String, began: Instant) -> Duration {
    loop {
        let asked = now() - began;
        let page = http_get(&http, "/admin/cluster/status", GIVE_UP).await.unwrap().1;
        let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
        let mut shards = page["shards"].as_array().unwrap().iter();
        if page["healthy"] == false && shards.all(|shard| shard["leader"].is_null()) {
            return now() - began;
        }
        assert!(asked < GIVE_UP, "after {asked:?}: {page:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn lines<'a>(log: &'a str, level: &str, word: &str) -> Vec<&'a str> {
    let level = format!("\"level\":\"{level}\"");
    log.lines().filter(|line| line.contains(&level) && line.contains(word)).collect()
}

fn all_samples_are(page: &str, name: &str, value: &str, count: usize) -> bool {
    let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values: Vec<&str> = samples.filter_map(|line| line.rsplit(' ').next()).collect();
    values.len() == count && values.iter().all(|shown| *shown == value)
}

async fn serving(grpc: &str) -> ServingStatus {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let request = HealthCheckRequest { service: String::new() };
    health.check(request).await.unwrap().into_inner().status()
}

/// What a client of Redis is answered, as it comes: whole once it ends in a line break.
async fn resp(addr: &str, words: &[&str]) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let mut command = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| command += &format!("${}\r\n{word}\r\n", word.len()));
    socket.write_all(command.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n")
        || answer.starts_with(b"$") && answer.iter().filter(|b| **b == b'\n').count() < 3
    {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

/// Waits until every report says that there is no quorum, and prints when each did so first.
async fn all_told(cluster: &mut ProcessCluster, began: Instant) {
    let whole = whole_told(cluster.members[SURVIVOR].http.clone(), began);
    let (whole, ()) = tokio::join!(whole, each_told(cluster, began));
    println!("  /admin/cluster/status: {:.2} s", whole.as_secs_f64());
    // One that was asked for just before the quorum was lost, and the next.
    assert!(whole < TOLD + SLACK + 2 * PAGE_WAITS, "the page came after {whole:?}");
}

async fn each_told(cluster: &mut ProcessCluster, began: Instant) {
    let mut first = BTreeMap::new();
    loop {
        let seen = reports(cluster).await;
        let after = now() - began;
        for (name, _) in seen.iter().filter(|(_, told)| **told) {
            first.entry(*name).or_insert(after);
        }
        if seen.values().all(|told| *told) {
            break;
        }
        assert!(after < GIVE_UP, "after {after:?} not all say so: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, after) in &first {
        println!("  {name}: {:.2} s", after.as_secs_f64());
    }
    let slowest = first.values().max().unwrap();
    assert!(*slowest < TOLD + SLACK, "the last report came after {slowest:?}");
}

/// A request that cannot be served is refused at once, in the words of each protocol.
async fn refused_at_once(cluster: &ProcessCluster) {
    let member = &cluster.members[SURVIVOR];
    let patience = Duration::from_secs(5);
    let began = now();
    let refused = client(&member.grpc).set(within(set("k", "v"), patience)).await.unwrap_err();
    let grpc = now() - began;
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    let word = |key: &str| refused.metadata().get(key).unwrap().to_str().unwrap();
    assert_eq!((word("raftcache-reason"), word("raftcache-outcome")), ("no_quorum", "rejected"));
    let began = now();
    let (code, problem) = cluster.page(SURVIVOR, "/cache/k").await;
    let http = now() - began;
    assert!(
        code == 503 && problem.contains("no_quorum") && problem.contains("rejected"),
        "{problem}"
    );
    let began = now();
    let answer = resp(&member.resp, &["SET", "k", "v"]).await;
    let redis = now() - began;
    assert!(answer.starts_with("-CLUSTERDOWN ") && answer.contains("no quorum"), "{answer}");
    println!("  refused: gRPC after {grpc:?}, HTTP after {http:?}, RESP after {redis:?}");
    for took in [grpc, http, redis] {
        assert!(took < SLACK, "not at once: {took:?}");
    }
}

async fn back(cluster: &mut ProcessCluster) {
    let began = now();
    cluster.all_ready().await;
    let took = now() - began;
    println!("  all ready again {:.2} s after the last of them came back", took.as_secs_f64());
    assert!(took < 2 * READY_AGAIN, "not ready for {took:?}");
    // The node looks at its groups ten times a second: the line may follow the page.
    let (lost, over) = loop {
        let log = cluster.process(SURVIVOR).err();
        let owned = |found: Vec<&str>| found.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let over = owned(lines(&log, "INFO", "has a quorum again"));
        if !over.is_empty() || now() - began > 2 * GIVE_UP {
            break (owned(lines(&log, "WARN", "no quorum")), over);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(lost.len(), 1..=2) && over.len() == 1, "{lost:#?} {over:#?}");
    let info = resp(&cluster.members[SURVIVOR].resp, &["CLUSTER", "INFO"]).await;
    assert!(info.contains("cluster_state:ok"), "{info}");
    assert_eq!(serving(&cluster.members[SURVIVOR].grpc).await, ServingStatus::Serving);
    let kept = client(&cluster.members[SURVIVOR].grpc)
        .get(within(crate::client::get("kept"), Duration::from_secs(5)))
        .await
        .unwrap();
    assert_eq!(crate::client::value(kept.into_inner()).as_deref(), Some(&b"here"[..]));
}

async fn start() -> ProcessCluster {
    let cluster = ProcessCluster::start(Shape::new("wal")).await;
    let mut grpc = client(&cluster.members[SURVIVOR].grpc);
    grpc.set(within(set("kept", "here"), Duration::from_secs(5))).await.unwrap();
    assert_eq!(serving(&cluster.members[SURVIVOR].grpc).await, ServingStatus::Serving);
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_killed_and_every_report_of_the_third_says_so() {
    let _turn = turn().await;
    let mut cluster = start().await;
    let began = now();
    cluster.kill(1);
    cluster.kill(2);
    println!("two of three killed; the third says so, after the fault:");
    all_told(&mut cluster, began).await;
    refused_at_once(&cluster).await;
    let (code, _) = cluster.page(SURVIVOR, "/health").await;
    assert_eq!(code, 200, "the process itself is well: nobody should restart it");
    cluster.launch(1);
    cluster.launch(2);
    back(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_of_its_peers_says_so() {
    let _turn = turn().await;
    let mut cluster = start().await;
    let began = now();
    cluster.process(1).signal("STOP");
    cluster.process(2).signal("STOP");
    println!("the connections of two of three stand still; the third says so, after the fault:");
    all_told(&mut cluster, began).await;
    refused_at_once(&cluster).await;
    cluster.process(1).signal("CONT");
    cluster.process(2).signal("CONT");
    back(&mut cluster).await;
}

/// Asks a node every 20 ms whether it is ready, until it is told to stop; every answer that was not
/// "ready".
async fn not_ready(http: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut asked, mut bad) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let answer = http_get(&http, "/ready", Duration::from_secs(5)).await;
        asked += 1;
        match answer {
            Ok((200, _)) => {}
            Ok((code, body)) => bad.push(format!("{code} {}", String::from_utf8_lossy(&body))),
            Err(error) => bad.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (asked, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_not_touched_stay_ready_through_a_rolling_restart() {
    let _turn = turn().await;
    let shape = Shape::new("wal");
    let mut cluster = ProcessCluster::start(shape).await;
    for kill in [false, true] {
        for at in 0..shape.nodes {
            let stop = Arc::new(AtomicBool::new(false));
            let others = (0..shape.nodes).filter(|other| *other != at);
            let pollers: Vec<_> = others
                .map(|other| {
                    let http = cluster.members[other].http.clone();
                    spawn("readiness", not_ready(http, Arc::clone(&stop)))
                })
                .collect();
            if kill {
                cluster.kill(at);
            } else {
                cluster.stop(at).await;
            }
            cluster.launch(at);
            cluster.ready(at).await;
            cluster.converged().await;
            stop.store(true, Ordering::Relaxed);
            for poller in pollers {
                let (asked, bad) = poller.await.unwrap().expect("it does not panic");
                let how = if kill { "killed" } else { "stopped" };
                println!(
                    "node {} {how} and back: another was asked {asked} times, not ready {} times",
                    at + 1,
                    bad.len()
                );
                assert!(bad.is_empty() && asked > 10, "{bad:#?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_under_load_is_no_lost_quorum() {
    let _turn = turn().await;
    let shape = Shape::new("wal");
    let mut cluster = ProcessCluster::start(shape).await;
    let load = Load::start(&cluster, "elect", 96, (shape.shards, BRIEF)).await;
    for at in 0..shape.nodes {
        load.mark();
        cluster.kill(at);
        load.writable_again().await;
        load.acknowledged(5).await;
        let failures = load.failures();
        println!("node {} killed under load, failed calls: {failures:#?}", at + 1);
        let no_quorum = failures.keys().find(|name| name.contains("no_quorum"));
        assert_eq!(no_quorum, None, "an election was taken for a lost quorum");
        cluster.launch(at);
        cluster.ready(at).await;
    }
    load.finish(&cluster).await;
    cluster.converged().await;
}
