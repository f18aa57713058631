//! Commands beyond set and delete through a group of three, under virtual time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::settings::RaftSettings;
use super::shard_group::ShardGroup;
use super::testkit::{Cluster, get, put, set, soon};
use crate::types::clock::now;
use crate::types::limits::TRANSACTION_OPERATIONS_MAX;
use crate::types::{
    Answer, Command, Condition, Consistency, Delete, Expire, ExpireCondition, Expiry, Increment,
    IncrementFloat, Query, Reply, RequestId, Scan, Step, Transaction, Write,
};

fn write(command: Command) -> Write {
    Write { request_id: None, command }
}

fn increment(key: &'static str, delta: i64) -> Command {
    Command::Increment(Increment { key: Bytes::from_static(key.as_bytes()), delta })
}

fn transaction(steps: Vec<Command>) -> Command {
    let steps = steps.into_iter().map(Step::Write).collect();
    Command::Transaction(Transaction { watches: Vec::new(), steps })
}

async fn ask(group: &ShardGroup, query: Query) -> Answer {
    let (mut answers, _) =
        group.read(vec![query], Consistency::Linearizable, soon()).await.expect("it leads");
    answers.pop().expect("one answer for each query")
}

/// INV-3: a follower that comes back by a snapshot, taken in the middle of it all, ends with the same
/// digest and order as those that applied every command.
#[tokio::test(start_paused = true)]
async fn commands_of_every_kind_leave_replicas_equal() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    let behind = cluster.others(node)[0];
    cluster.isolate(behind);
    for round in 0..30u64 {
        let key = |n: u64| Bytes::from(format!("key-{}", n % 17));
        let value = match set("x", &"v".repeat(200), Expiry::AfterMs(40 + round)).command {
            Command::Set(set) => set,
            other => panic!("{other:?}"),
        };
        let expire = Expire {
            key: key(round),
            expiry: Expiry::AfterMs(25),
            condition: ExpireCondition::IfNone,
        };
        let float = IncrementFloat { key: key(round + 3), delta: Bytes::from_static(b"0.1") };
        let condition = Condition::Always;
        let mut writes: Vec<Write> = [
            Command::GetSet(crate::types::Set { key: key(round), ..value.clone() }),
            Command::GetDelete(Delete { key: key(round + 5), condition }),
            Command::GetExpire(expire.clone()),
            Command::IncrementFloat(float),
            transaction(vec![
                increment("count", 1),
                increment("other", 2),
                Command::Expire(expire),
            ]),
        ]
        .into_iter()
        .map(write)
        .collect();
        // Remembered replies carry values.
        writes[0].request_id = Some(RequestId { session: 3, sequence: round }.into());
        leader.write(writes, soon()).await.expect("a majority is there");
        if round == 12 {
            leader.write(vec![write(Command::Flush)], soon()).await.expect("a majority is there");
        }
        if round == 20 {
            leader.replica().snapshot_now(now() + Duration::from_secs(30)).await.unwrap();
            leader.replica().purge_to_snapshot().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    cluster.network.heal();
    cluster.wait_equal().await;
    assert!(cluster.groups[&behind].replica().progress().snapshot_index > 0, "by a snapshot");
    assert_eq!(cluster.metrics.digest_mismatches.get(), 0);
    let count = get(&leader, "count", Consistency::Linearizable).await.unwrap();
    assert_eq!(count.as_deref(), Some(&b"17"[..]), "since the flush");
}

/// Steps give versions, so units that would give too many wait for the next entry.
#[tokio::test(start_paused = true)]
async fn large_transactions_queued_together_become_several_entries() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let one = || vec![increment("count", 1); TRANSACTION_OPERATIONS_MAX * 2 / 3];
    let units = (0..9).map(|_| leader.write(vec![write(transaction(one()))], soon()));
    for replies in join_all(units).await {
        assert!(matches!(&replies.unwrap()[..], [Reply::Transaction(_)]));
    }
    let count = get(&leader, "count", Consistency::Linearizable).await.unwrap();
    assert_eq!(count, Some(Bytes::from((9 * one().len()).to_string())));
    cluster.wait_equal().await;
}

/// A scan goes on at another replica where it stood at the first.
#[tokio::test(start_paused = true)]
async fn a_scan_goes_on_over_a_change_of_leader() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (old, leader) = cluster.leader(&[]).await;
    for n in 0..300 {
        put(&leader, &format!("key-{n}"), "v").await.unwrap();
    }
    // Places in the slab and the tables differ between replicas from here on.
    cluster.isolate(old);
    let (new, second) = cluster.leader(&[old]).await;
    for n in 0..50 {
        put(&second, &format!("new-{n}"), "v").await.unwrap();
    }
    cluster.network.heal();
    cluster.wait_equal().await;
    let (mut found, mut first, mut calls) = (Vec::new(), Some(0), 0);
    while let Some(position) = first {
        // Any replica: stale reads stand for the leaders that follow each other.
        let node = cluster.groups.keys().nth(calls % 3).copied().unwrap_or(new);
        let scan = Scan { first: position, last: u32::MAX, keys_max: 7, pattern: None };
        let group = &cluster.groups[&node];
        let read = group.read(vec![Query::Scan(scan)], Consistency::Stale, soon()).await;
        let (answers, _) = read.expect("every replica runs");
        let [Answer::Keys(keys)] = &answers[..] else { panic!("{answers:?}") };
        found.extend(keys.keys.clone());
        (first, calls) = (keys.next, calls + 1);
    }
    found.sort();
    let mut expected: Vec<Bytes> = (0..300).map(|n| Bytes::from(format!("key-{n}"))).collect();
    expected.extend((0..50).map(|n| Bytes::from(format!("new-{n}"))));
    expected.sort();
    assert_eq!(found, expected, "each once");
}

/// INV-1, INV-4: what is due by the leader's clock is decided by a tick before it is counted or shown.
#[tokio::test(start_paused = true)]
async fn sizes_and_scans_wait_for_a_tick_as_reads_do() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    leader.write(vec![set("short", "v", Expiry::AfterMs(100))], soon()).await.unwrap();
    put(&leader, "long", "v").await.unwrap();
    let size = Query::Size { slot: None };
    assert_eq!(ask(&leader, size.clone()).await, Answer::Size(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask(&leader, size).await, Answer::Size(1));
    leader.write(vec![set("short", "v", Expiry::AfterMs(100))], soon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let scan = Scan { first: 0, last: u32::MAX, keys_max: 10, pattern: None };
    let Answer::Keys(keys) = ask(&leader, Query::Scan(scan)).await else { panic!("keys") };
    assert_eq!(keys.keys, [Bytes::from_static(b"long")]);
    let inspect = Query::Inspect { key: Bytes::from_static(b"short") };
    assert_eq!(ask(&leader, inspect).await, Answer::Meta(None));
}
