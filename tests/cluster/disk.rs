//! A node's disk fills up, becomes read-only and comes back, while clients read and write.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use raftcache::types::clock::now;

use crate::harness::{ProcessCluster, Shape};
use crate::load::{BRIEF, Load};
use crate::process::until;
use crate::turn;

const KEYS: usize = 96;
/// The node with the small disk, by position.
const SMALL: usize = 0;
const SMALL_MEBIBYTES: u32 = 128;
/// As in `FLAGS`.
const RESERVE_BYTES: u64 = 16 << 20;
const FLAGS: &[&str] = &["--set", "wal.reserve_bytes=16777216"];
const SOON: Duration = Duration::from_secs(20);

async fn leads(cluster: &ProcessCluster, at: usize) -> usize {
    let replicas = cluster.status(at).await.status.replicas;
    replicas.iter().filter(|r| r.group.shard().is_some() && r.role == "leader").count()
}

/// Waits until the pages of the node say that its disk failed, with `why`.
async fn says(cluster: &ProcessCluster, why: &str) {
    let began = now();
    until(&format!("/ready says {why}"), SOON, async || {
        let (code, body) = cluster.page(SMALL, "/ready").await;
        (code == 503 && body.contains("disk:") && body.contains(why)).then_some(())
    })
    .await;
    let (_, metrics) = cluster.page(SMALL, "/metrics").await;
    assert!(metrics.contains("storage_stalled 1"), "{metrics}");
    println!("/ready says {why:?} after {:?}", now() - began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_fills_up_steps_back_and_goes_on_without_a_restart() {
    let _turn = turn().await;
    let shape = Shape { flags: FLAGS, ..Shape::new("wal") };
    let mut cluster = ProcessCluster::prepare(shape);
    if !cluster.small_disk(SMALL, SMALL_MEBIBYTES) {
        return;
    }
    (0..3).for_each(|at| cluster.launch(at));
    cluster.all_ready().await;
    let pid = cluster.process(SMALL).id();
    println!("formed with {} bytes free", cluster.mounts[0].free_bytes());
    let load = Load::start(&cluster, "disk", KEYS, (shape.shards, BRIEF)).await;

    // Little room: it gives its leaderships away, in time.
    load.mark();
    let began = now();
    cluster.mounts[0].fill(RESERVE_BYTES / 2);
    until("it leads nothing", SOON, async || (leads(&cluster, SMALL).await == 0).then_some(()))
        .await;
    println!("little room: leads nothing after {:?}", now() - began);
    let (code, body) = cluster.page(SMALL, "/ready").await;
    assert!(code == 200 && body.contains("wal.reserve_bytes"), "{code} {body}");
    load.acknowledged(10).await;
    println!("little room: longest gap {:?}, failed {:?}", load.gap(), load.failures());

    // No room: everything durable on it stops, and it forwards.
    load.mark();
    until("the disk is met", SOON, async || {
        cluster.mounts[0].fill(0);
        (cluster.page(SMALL, "/ready").await.0 == 503).then_some(())
    })
    .await;
    says(&cluster, "No space left on device").await;
    load.acknowledged(10).await;
    println!("no room: longest gap {:?}, failed {:?}", load.gap(), load.failures());

    // Nothing holds a file open for writing there: it can become read-only.
    cluster.mounts[0].read_only(true).await;
    says(&cluster, "Read-only file system").await;
    load.acknowledged(5).await;
    cluster.mounts[0].read_only(false).await;

    // Room again: the same process goes on.
    load.mark();
    let began = now();
    cluster.mounts[0].make_room();
    cluster.ready(SMALL).await;
    println!("ready {:?} after there was room", now() - began);
    load.acknowledged(10).await;
    assert_eq!(cluster.process(SMALL).id(), pid);
    assert!(cluster.process(SMALL).ended().is_none());
    let (_, metrics) = cluster.page(SMALL, "/metrics").await;
    assert!(metrics.contains("storage_stalled 0"), "{metrics}");
    assert!(metrics.contains("storage_errors_total{what="), "{metrics}");
    let taken = metrics.lines().find_map(|line| line.strip_prefix("storage_log_bytes "));
    println!("the logs take {} bytes", taken.unwrap());
    assert!(taken.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    let seen = load.finish(&cluster).await;
    println!("in all: {} writes, {} reads", seen.writes, seen.reads);
    cluster.converged().await;
    let leftovers = std::fs::read_dir(cluster.data_dir(SMALL)).unwrap();
    let leftovers: Vec<_> = leftovers
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tmp") || name.contains("damaged"))
        .collect();
    assert_eq!(leftovers, [""; 0], "half-written files");
    let said = cluster.process(SMALL).err_path();
    cluster.stop(SMALL).await;
    let said = std::fs::read_to_string(said).unwrap();
    assert!(!said.contains("stopped while the disk takes no writes"), "a stop is no failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_may_not_be_written_is_named() {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for path in [dir.path(), &data] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftcache"));
    command.args(["serve", "--set", "node.id=1", "--set", "cluster.expected_nodes=1"]);
    command.args(["--set", "cluster.replicas=1", "--set"]);
    command.arg(format!("node.data_dir={}", data.display())).env_clear();
    // Permissions do not bind root; nobody is 65534 wherever there is one.
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
    {
        command.uid(65_534);
    }
    let out = match command.output() {
        Ok(out) => out,
        Err(error) => {
            eprintln!("SKIPPED: the binary cannot be run as nobody: {error}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{text}");
    let name = data.display().to_string();
    assert!(text.contains(&name) && text.contains("Permission denied"), "{text}");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}
