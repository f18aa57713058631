//! Disks that fill up, refuse and come back, under whole nodes that go on running.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftcache::raft::runtime::seed_thread;
use raftcache::service::{Execute, NodeStatus, Operation, Request, Response};
use raftcache::types::clock::now;
use raftcache::types::{
    Command, Condition, Consistency, Error, Expiry, GroupId, NodeId, Outcome, Query, Set, Value,
    ValueKind,
};

use crate::book::Book;
use crate::cluster::{Cluster, RESERVE_BYTES};
use crate::plan::{Bug, Plan};
use crate::run::{equal, formed};

/// How long a caller waits here.
const DEADLINE: Duration = Duration::from_secs(5);
/// "At once": far below the deadline, above a few round trips and pauses.
const AT_ONCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

fn simulate<F: Future<Output = ()>>(durable: bool, test: impl FnOnce(Arc<Cluster>) -> F) {
    seed_thread(5);
    let plan = Plan {
        nodes: 3,
        shards: 3,
        durable,
        drop_probability: 0.0,
        reorder: false,
        ..Plan::new(5, Bug::None)
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().unwrap().block_on(async {
        let cluster = Cluster::new(plan);
        for id in cluster.ids() {
            cluster.start(id).await;
        }
        formed(&cluster).await.unwrap();
        test(cluster).await;
    });
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let began = now();
    while !met() {
        assert!(now() - began < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(cluster: &Cluster, id: u64, operation: Operation) -> Result<Response, Error> {
    let service = cluster.life(id).unwrap().service.clone();
    let (arrived, deadline) = (now(), now() + DEADLINE);
    let request = Request { operation, request_id: None, arrived, deadline, trace: 0 };
    service.execute(request).await
}

async fn put(cluster: &Cluster, id: u64, key: &str, value: &str) -> Result<Response, Error> {
    let set = Set {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Value { data: Bytes::copy_from_slice(value.as_bytes()), kind: ValueKind::Text },
        expiry: Expiry::Never,
        condition: Condition::Always,
    };
    ask(cluster, id, Operation::Write(Command::Set(set))).await
}

async fn get(cluster: &Cluster, id: u64, key: &str) -> Result<Option<Bytes>, Error> {
    let query = Query::Get { key: Bytes::copy_from_slice(key.as_bytes()) };
    let get = Operation::Read { query, consistency: Consistency::Linearizable };
    match ask(cluster, id, get).await? {
        Response::Read { answer, .. } => Ok(answer.into_found().map(|found| found.value.data)),
        other => panic!("{other:?}"),
    }
}

fn status(cluster: &Cluster, id: u64) -> NodeStatus {
    cluster.life(id).unwrap().service.status()
}

fn because(cluster: &Cluster, id: u64, text: &str) -> bool {
    status(cluster, id).not_ready_because.iter().any(|why| why.contains(text))
}

/// Shards led by a node.
fn leads(cluster: &Cluster, id: u64) -> usize {
    let replicas = status(cluster, id).replicas;
    replicas.iter().filter(|r| r.group.shard().is_some() && r.role == "leader").count()
}

async fn write_keys(cluster: &Cluster, prefix: &str) {
    for i in 0..12 {
        let id = 1 + i % 3;
        put(cluster, id, &format!("{prefix}{i}"), &format!("value {i}")).await.unwrap();
    }
}

async fn read_keys(cluster: &Cluster, prefix: &str) {
    for i in 0..12 {
        for id in cluster.ids() {
            let found = get(cluster, id, &format!("{prefix}{i}")).await.unwrap();
            assert_eq!(found, Some(Bytes::from(format!("value {i}"))), "{prefix}{i} at n{id}");
        }
    }
}

#[test]
fn one_full_disk_stops_one_node_which_forwards_and_comes_back_by_itself() {
    simulate(true, |cluster| async move {
        write_keys(&cluster, "before").await;
        let victim = cluster.ids().into_iter().max_by_key(|id| leads(&cluster, *id)).unwrap();
        assert!(leads(&cluster, victim) > 0);
        cluster.set_disk(victim, Some(ErrorKind::StorageFull));
        // Through all doors, the failed node's own among them.
        write_keys(&cluster, "during").await;
        until("the node says why", || because(&cluster, victim, "disk: ")).await;
        let status = status(&cluster, victim);
        assert!(!status.ready && status.replicas.is_empty(), "{status:?}");
        assert!(because(&cluster, victim, "4 replicas stopped"), "{status:?}");
        write_keys(&cluster, "stopped").await;
        read_keys(&cluster, "before").await;

        cluster.set_disk(victim, Some(ErrorKind::ReadOnlyFilesystem));
        until("the new reason", || because(&cluster, victim, "read-only")).await;
        cluster.set_disk(victim, None);
        formed(&cluster).await.unwrap();
        for prefix in ["before", "during", "stopped"] {
            read_keys(&cluster, prefix).await;
        }
        equal(&cluster, &Book::new()).await.unwrap();
        assert_eq!(cluster.digest_mismatches(), 0);
    });
}

#[test]
fn every_disk_full_is_told_at_once_and_nothing_acknowledged_is_lost() {
    simulate(true, |cluster| async move {
        write_keys(&cluster, "before").await;
        for id in cluster.ids() {
            cluster.set_disk(id, Some(ErrorKind::StorageFull));
        }
        // Whatever becomes of this one, the disks are met.
        drop(put(&cluster, 1, "met", "x").await);
        for id in cluster.ids() {
            let key = format!("met{id}");
            until("the disk is met", || because(&cluster, id, "disk: ")).await;
            let began = now();
            let error = put(&cluster, id, &key, "x").await.unwrap_err();
            assert_eq!(error.reason.name(), "storage_failed", "{error}");
            assert_eq!(error.outcome(), Outcome::Rejected);
            assert!(error.retry_after.is_some() && now() - began < AT_ONCE, "{:?}", now() - began);
        }
        for id in cluster.ids() {
            cluster.set_disk(id, None);
        }
        formed(&cluster).await.unwrap();
        read_keys(&cluster, "before").await;
        for id in cluster.ids() {
            let found = get(&cluster, id, &format!("met{id}")).await.unwrap();
            assert_eq!(found, None, "what was rejected is not there");
        }
        write_keys(&cluster, "after").await;
        equal(&cluster, &Book::new()).await.unwrap();
    });
}

#[test]
fn in_memory_the_shards_outlive_the_disk_of_the_controller() {
    simulate(false, |cluster| async move {
        write_keys(&cluster, "before").await;
        for id in cluster.ids() {
            cluster.set_disk(id, Some(ErrorKind::StorageFull));
        }
        // A new leader of the controller has to note its vote.
        let leader = cluster.ids().into_iter().find(|id| {
            let replicas = status(&cluster, *id).replicas;
            replicas.iter().any(|r| r.group == GroupId::CONTROLLER && r.role == "leader")
        });
        let leader = leader.unwrap();
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let beyond: Vec<NodeId> = others.iter().copied().map(NodeId).collect();
        cluster.network.partition(&[&[NodeId(leader)], &beyond]);
        let stalled = |id: &u64| because(&cluster, *id, "disk: ");
        until("a controller's replica stops", || others.iter().any(stalled)).await;
        cluster.network.heal();
        write_keys(&cluster, "during").await;
        read_keys(&cluster, "before").await;
        for id in cluster.ids() {
            let replicas = status(&cluster, id).replicas;
            let shards = replicas.iter().filter(|r| r.group.shard().is_some()).count();
            assert_eq!(shards, 3, "every shard's replica of n{id} runs");
        }
        for id in cluster.ids() {
            cluster.set_disk(id, None);
        }
        formed(&cluster).await.unwrap();
        read_keys(&cluster, "during").await;
        equal(&cluster, &Book::new()).await.unwrap();
    });
}

#[test]
fn a_disk_with_little_room_gives_its_leaderships_away_and_takes_none() {
    simulate(true, |cluster| async move {
        write_keys(&cluster, "before").await;
        let victim = cluster.ids().into_iter().max_by_key(|id| leads(&cluster, *id)).unwrap();
        cluster.set_free_bytes(victim, Some(RESERVE_BYTES - 1));
        until("it leads nothing", || leads(&cluster, victim) == 0).await;
        let seen = status(&cluster, victim);
        assert!(seen.ready, "it serves and follows: {seen:?}");
        assert!(seen.warnings.iter().any(|w| w.contains("wal.reserve_bytes")), "{seen:?}");
        write_keys(&cluster, "low").await;
        // Longer than leaderships are left with those the table does not prefer.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(leads(&cluster, victim), 0, "none is given back meanwhile");
        write_keys(&cluster, "still low").await;
        cluster.set_free_bytes(victim, Some(RESERVE_BYTES * 2));
        until("room again", || status(&cluster, victim).warnings.is_empty()).await;
        until("it leads again", || leads(&cluster, victim) > 0).await;
        write_keys(&cluster, "after").await;
        equal(&cluster, &Book::new()).await.unwrap();
    });
}

#[test]
fn with_little_room_everywhere_writes_are_refused_by_name_and_reads_go_on() {
    simulate(true, |cluster| async move {
        write_keys(&cluster, "before").await;
        for id in cluster.ids() {
            cluster.set_free_bytes(id, Some(0));
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let leaders: usize = cluster.ids().iter().map(|id| leads(&cluster, *id)).sum();
        assert_eq!(leaders, 3, "every shard keeps its leader");
        for id in cluster.ids() {
            let began = now();
            let error = put(&cluster, id, "refused", "x").await.unwrap_err();
            assert_eq!(error.reason.name(), "resource_exhausted", "{error}");
            let text = error.to_string();
            assert!(text.contains("wal.reserve_bytes"), "{text}");
            assert!(text.contains(&RESERVE_BYTES.to_string()), "{text}");
            assert_eq!(error.outcome(), Outcome::Rejected);
            assert!(error.retry_after.is_some() && now() - began < AT_ONCE, "{:?}", now() - began);
        }
        read_keys(&cluster, "before").await;
        for id in cluster.ids() {
            cluster.set_free_bytes(id, None);
        }
        until("room again", || status(&cluster, 1).warnings.is_empty()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(get(&cluster, 1, "refused").await.unwrap(), None);
        write_keys(&cluster, "after").await;
        equal(&cluster, &Book::new()).await.unwrap();
    });
}
