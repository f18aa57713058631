//! Nothing is lost in silence (INV-7): a shard that lost its majority raises an alarm on every node,
//! and it stays until an operator acknowledges it.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::client::{client, set, within};
use crate::harness::{FORMS, ProcessCluster, Shape};
use crate::process::until;
use crate::turn;

const SHARDS: usize = 4;

fn raftcache(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftcache")).args(args).env_clear().output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

async fn json(cluster: &ProcessCluster, at: usize, path: &str) -> Value {
    let (_, body) = cluster.page(at, path).await;
    // What a node that does not answer shows.
    serde_json::from_str(&body).unwrap_or(Value::Null)
}

/// Alarms that a node shows in its own status.
async fn alarms(cluster: &ProcessCluster, at: usize) -> Vec<Value> {
    let page = json(cluster, at, "/status").await;
    page["table"]["alarms"].as_array().cloned().unwrap_or_default()
}

async fn every_node_shows(cluster: &ProcessCluster, count: usize) {
    for at in cluster.up() {
        let what = format!("node {} shows {count} alarms", at + 1);
        until(&what, FORMS, async || (alarms(cluster, at).await.len() == count).then_some(()))
            .await;
    }
}

/// Kills a node that keeps its shards in memory and starts it again; waits until every node knows of
/// its new life.
async fn restart(cluster: &mut ProcessCluster, at: usize) {
    let before = json(cluster, 2, "/status").await["table"]["epoch"].as_u64();
    cluster.kill(at);
    cluster.launch(at);
    for other in cluster.up() {
        until("the table of the new life", FORMS, async || {
            let page = json(cluster, other, "/status").await;
            (page["table"]["epoch"].as_u64() > before).then_some(())
        })
        .await;
    }
}

/// Stands still for as long as it takes until another node leads the controller.
async fn change_the_controllers_leader(cluster: &mut ProcessCluster) -> usize {
    let leader = async |cluster: &ProcessCluster, asked: usize| {
        let page = json(cluster, asked, "/admin/cluster/status").await;
        page["controller"]["leader"].as_u64().map(|node| node as usize - 1)
    };
    let old = until("a leader of the controller", FORMS, async || leader(cluster, 2).await).await;
    cluster.process(old).signal("STOP");
    let asked = (old + 1) % 3;
    let new = until("another leader", FORMS, async || {
        leader(cluster, asked).await.filter(|new| *new != old)
    })
    .await;
    every_node_shows_but(cluster, old).await;
    cluster.process(old).signal("CONT");
    new
}

async fn every_node_shows_but(cluster: &ProcessCluster, paused: usize) {
    for at in cluster.up().into_iter().filter(|at| *at != paused) {
        assert_eq!(alarms(cluster, at).await.len(), SHARDS, "node {}", at + 1);
    }
}

async fn healthy(cluster: &ProcessCluster, at: usize) -> bool {
    json(cluster, at, "/admin/cluster/status").await["healthy"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_majority_is_told_on_every_node_until_it_is_acknowledged() {
    let _turn = turn().await;
    let shape = Shape { shards: SHARDS as u16, ..Shape::new("memory") };
    let mut cluster = ProcessCluster::start(shape).await;
    let mut writer = client(&cluster.members[2].grpc);
    writer.set(within(set("key", "value"), FORMS)).await.unwrap();
    until("a healthy cluster", FORMS, async || healthy(&cluster, 2).await.then_some(())).await;
    let listed = raftcache(&["alarm", "list", "--addr", &cluster.members[2].http]);
    let before = (listed.status.code(), shown(&listed));

    restart(&mut cluster, 0).await;
    restart(&mut cluster, 1).await;
    cluster.all_ready().await;
    for at in 0..3 {
        let page = json(&cluster, at, "/status").await;
        let shards = page["table"]["shards"].as_array().unwrap();
        assert!(shards.iter().all(|shard| shard["generation"] == 2), "{page:#}");
    }
    every_node_shows(&cluster, SHARDS).await;
    assert_eq!(before, (Some(0), "no alarm is active\n".to_owned()));
    everybody_is_told(&mut cluster).await;

    let new = change_the_controllers_leader(&mut cluster).await;
    every_node_shows(&cluster, SHARDS).await;
    acknowledge(&cluster, (new + 1) % 3).await;
    every_node_shows(&cluster, 0).await;
    for at in 0..3 {
        until("a healthy cluster again", FORMS, async || healthy(&cluster, at).await.then_some(()))
            .await;
        let (_, metrics) = cluster.page(at, "/metrics").await;
        assert!(metrics.contains("alarms_active{kind=\"majority_lost\"} 0"), "{metrics}");
    }
    let status = raftcache(&["status", "--addr", &cluster.members[0].http]);
    assert_eq!(status.status.code(), Some(0), "{}", shown(&status));
}

/// Pages, metrics, log and commands of every node.
async fn everybody_is_told(cluster: &mut ProcessCluster) {
    for at in 0..3 {
        let page = json(cluster, at, "/admin/cluster/status").await;
        assert_eq!(page["healthy"], false, "{page:#}");
        let told = page["alarms"].as_array().unwrap();
        assert_eq!(told.len(), SHARDS, "{page:#}");
        for (shard, alarm) in told.iter().enumerate() {
            assert_eq!(alarm["kind"], "majority_lost");
            assert_eq!(alarm["shard"], shard);
            assert_eq!((&alarm["generation_before"], &alarm["generation"]), (&1.into(), &2.into()));
            assert!(alarm["first_unix_ms"].as_u64().unwrap() > 1_700_000_000_000, "{alarm}");
        }
        let (_, metrics) = cluster.page(at, "/metrics").await;
        assert!(metrics.contains("alarms_active{kind=\"majority_lost\"} 4"), "{metrics}");
        assert!(metrics.contains("shard_generation{shard=\"0\"} 2"), "{metrics}");

        let log = cluster.process(at).err();
        let warned = log.lines().filter(|line| line.contains("\"WARN\"") && line.contains("alarm"));
        let warned: Vec<&str> = warned.filter(|line| line.contains("lost its majority")).collect();
        assert_eq!(warned.len(), SHARDS, "once for each alarm: {warned:#?}");

        let addr = cluster.members[at].http.clone();
        let status = raftcache(&["status", "--addr", &addr]);
        assert_eq!(status.status.code(), Some(1), "an alarm is active");
        assert!(shown(&status).contains("majority_lost"), "{}", shown(&status));
        let listed = raftcache(&["alarm", "list", "--addr", &addr, "--json"]);
        assert_eq!(listed.status.code(), Some(1), "an alarm is active");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["alarms"].as_array().unwrap().len(), SHARDS);
    }
}

/// One by its id, then the others.
async fn acknowledge(cluster: &ProcessCluster, at: usize) {
    let addr = cluster.members[at].http.as_str();
    let ack = |what: &str| raftcache(&["alarm", "ack", what, "--addr", addr]);
    let unknown = ack("99");
    assert_ne!(unknown.status.code(), Some(0), "{}", shown(&unknown));
    let first = alarms(cluster, at).await[0]["id"].to_string();
    for _ in 0..2 {
        let one = ack(&first);
        assert_eq!(one.status.code(), Some(0), "{}", shown(&one));
        assert_eq!(alarms(cluster, at).await.len(), SHARDS - 1, "{}", shown(&one));
    }
    every_node_shows(cluster, SHARDS - 1).await;
    let all = ack("--all");
    assert_eq!((all.status.code(), shown(&all)), (Some(0), "no alarm is active\n".to_owned()));
    let listed = raftcache(&["alarm", "list", "--addr", addr]);
    assert_eq!(listed.status.code(), Some(0), "{}", shown(&listed));
    let deadline = Duration::from_secs(20);
    until("the other nodes", deadline, async || {
        let other = raftcache(&["alarm", "list", "--addr", &cluster.members[(at + 1) % 3].http]);
        (other.status.code() == Some(0)).then_some(())
    })
    .await;
}
