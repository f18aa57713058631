//! Data directories that are lost, that would be dropped, or that belong elsewhere.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use raftcache::types::clock::now;

use crate::client::{client, get, set, value};
use crate::harness::{ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

const SOON: Duration = Duration::from_secs(60);
const KEYS: usize = 12;

fn small(durability: &'static str) -> Shape {
    Shape { shards: 4, ..Shape::new(durability) }
}

async fn write(cluster: &ProcessCluster) {
    for i in 0..KEYS {
        let key = format!("kept:{i}");
        client(&cluster.members[i % 3].grpc).set(set(&key, key.clone())).await.unwrap();
    }
}

async fn read(cluster: &ProcessCluster) {
    for i in 0..KEYS {
        let key = format!("kept:{i}");
        let reply = client(&cluster.members[(i + 1) % 3].grpc).get(get(&key)).await.unwrap();
        assert_eq!(value(reply.into_inner()).expect("the key is there"), key);
    }
}

/// Shards' replicas that run on a node.
async fn replicas(cluster: &ProcessCluster, at: usize) -> usize {
    let replicas = cluster.status(at).await.status.replicas;
    replicas.iter().filter(|replica| replica.group.shard().is_some()).count()
}

/// What `raftcache store list` says of a directory.
fn listed(dir: &Path) -> serde_json::Value {
    let out = Command::new(env!("CARGO_BIN_EXE_raftcache"))
        .args(["store", "list", "--json", "--data-dir"])
        .arg(dir)
        .env_clear()
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Waits for the end of a node that is to refuse; gives the lines that say why.
async fn refuses(cluster: &mut ProcessCluster, at: usize) -> Vec<String> {
    let status = cluster.process(at).exit(SOON).await;
    assert!(!status.success(), "{status}");
    let said = cluster.process(at).err();
    // The next life appends.
    std::fs::write(cluster.process(at).err_path(), "").unwrap();
    cluster.running[at] = None;
    said.lines().filter(|line| line.starts_with("Error: ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_memory_nodes_that_come_back_one_by_one_all_serve_again() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("memory")).await;
    (0..3).for_each(|at| cluster.kill(at));
    cluster.launch(0);
    cluster.launch(1);
    // The two that are back have lost the majority of every shard, and place replicas on the third.
    until("a new generation", SOON, async || {
        let placed = |table: &raftcache::front::page::TableSummary| {
            table.shards.len() == 4 && table.shards.iter().all(|shard| shard.generation.0 == 2)
        };
        let (code, _) = cluster.page(1, "/status").await;
        (code == 200 && placed(&cluster.status(1).await.table)).then_some(())
    })
    .await;
    cluster.launch(2);
    let started = now();
    cluster.all_ready().await;
    println!("ready {:?} after the third was back", now() - started);
    for at in 0..3 {
        assert_eq!(replicas(&cluster, at).await, 4, "node {}", at + 1);
    }
    write(&cluster).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_not_dropped_without_the_flag_and_are_kept_with_it() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    write(&cluster).await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
    for at in 0..3 {
        cluster.launch_with(at, &["--durability", "memory"]);
        let said = refuses(&mut cluster, at).await;
        assert_eq!(said.len(), 1, "one line: {said:?}");
        for named in ["--discard-logs", "wal.discard_logs", "4 replicas", "node.data_dir"] {
            assert!(said[0].contains(named), "{named} in {said:?}");
        }
    }
    (0..3).for_each(|at| cluster.launch(at));
    cluster.all_ready().await;
    read(&cluster).await;

    cluster.stop(2).await;
    cluster.launch_with(2, &["--durability", "memory", "--discard-logs"]);
    until("the node says that it kept them", SOON, async || {
        cluster.process(2).err().contains("the logs are set aside").then_some(())
    })
    .await;
    let dir = cluster.data_dir(2);
    let aside = listed(&dir)["stores_set_aside"].clone();
    assert!(aside[0]["path"].as_str().unwrap().ends_with("set-aside/1-discarded"), "{aside}");
    assert!(dir.join("set-aside/1-discarded/wal").is_dir());
    // The others go on, and count its replicas as lost.
    until("its replicas are lost", SOON, async || {
        let lost = listed(&dir)["lost"].as_array().unwrap().len();
        (lost == 4).then_some(())
    })
    .await;
    read(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_replaced_is_set_aside_and_listed() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    write(&cluster).await;
    // Two of three lose their logs: every shard begins again, with new replicas on all nodes.
    for at in [0, 1] {
        cluster.stop(at).await;
        std::fs::remove_dir_all(cluster.data_dir(at).join("wal")).unwrap();
        cluster.launch(at);
    }
    cluster.all_ready().await;
    let dir = cluster.data_dir(2);
    let aside = until("the survivors are set aside", SOON, async || {
        let aside = listed(&dir)["replicas_set_aside"].clone();
        (aside.as_array().unwrap().len() == 4).then_some(aside)
    })
    .await;
    println!("{aside}");
    assert!(cluster.process(2).err().contains("set aside"), "a warning for each");
    // Nothing of them is served or deleted by another start.
    cluster.stop(2).await;
    cluster.launch(2);
    cluster.ready(2).await;
    assert_eq!(listed(&dir)["replicas_set_aside"], aside);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_survives_in_memory_is_set_aside() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("memory")).await;
    write(&cluster).await;
    for at in [0, 1] {
        cluster.kill(at);
        cluster.launch(at);
    }
    let dir = cluster.data_dir(2);
    let aside = until("the survivors are set aside", SOON, async || {
        let aside = listed(&dir)["replicas_set_aside"].clone();
        (!aside.as_array().unwrap().is_empty()).then_some(aside)
    })
    .await;
    println!("{aside}");
    cluster.all_ready().await;
    for replica in listed(&dir)["replicas_set_aside"].as_array().unwrap() {
        assert!(replica["snapshot_bytes"].as_u64().unwrap() > 0, "{replica}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_another_cluster_or_node_is_refused_in_one_line() {
    let _turn = turn().await;
    let mut first = ProcessCluster::start(Shape { shards: 1, ..Shape::new("wal") }).await;
    let mut second = ProcessCluster::start(Shape { shards: 1, ..Shape::new("wal") }).await;
    first.stop(2).await;
    second.stop(2).await;
    let other = second.data_dir(2);
    let id = listed(&other)["cluster"].as_str().unwrap().to_owned();
    let own = listed(&first.data_dir(2))["cluster"].as_str().unwrap().to_owned();
    first.launch_with(2, &["--data-dir", other.to_str().unwrap()]);
    let began = now();
    let said = refuses(&mut first, 2).await;
    println!("refused after {:?}: {said:?}", now() - began);
    assert_eq!(said.len(), 1, "one line: {said:?}");
    assert!(said[0].contains(&id) && said[0].contains(&own), "both are named: {said:?}");
    // The others name it too.
    for at in [0, 1] {
        let said = first.process(at).err();
        assert!(
            said.contains("a node of another cluster is refused") && said.contains(&id),
            "{said}"
        );
    }

    first.launch_with(2, &["--node-id", "2"]);
    let said = refuses(&mut first, 2).await;
    assert_eq!(said.len(), 1, "one line: {said:?}");
    assert!(said[0].contains("belongs to node 3, but this is node 2"), "{said:?}");
    first.launch(2);
    first.ready(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_the_cluster_does_not_use_are_told_once() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    cluster.stop(2).await;
    cluster.launch_with(2, &["--shards", "8", "--shard-bytes-max", "33554432"]);
    cluster.ready(2).await;
    let text = "cluster.shards is 8 here and is ignored: the cluster was formed with 4";
    let warnings = cluster.status(2).await.status.warnings;
    assert!(warnings.iter().any(|warning| warning == text), "{warnings:?}");
    assert_eq!(warnings.len(), 2, "the rest is as it was: {warnings:?}");
    assert_eq!(cluster.process(2).err().matches(text).count(), 1);
    assert_eq!(cluster.status(2).await.table.shards.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_says_for_what() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(small("wal")).await;
    for at in 0..3 {
        cluster.stop(at).await;
    }
    cluster.launch(1);
    let said = until("a reason", SOON, async || {
        let (code, body) = cluster.page(1, "/ready").await;
        (code == 503 && body.contains("do not answer")).then_some(body)
    })
    .await;
    println!("{said}");
    assert!(said.contains("not registered, waiting for the controller's leader"), "{said}");
    let log = cluster.process(1).err();
    assert!(log.contains("the node waits"), "{log}");
}
