//! A leader killed around the deadlines of 1,000 keys: none comes back, whatever clocks say.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raftcache::raft::shard_group::ShardGroup;
use raftcache::types::clock::now;
use raftcache::types::{Consistency, Expiry, NodeId, Query};

use crate::shard::{Cluster, NODES, Plan, read, set, within};

const KEYS: u64 = 1_000;
/// Deadlines are 1 ms apart, from here on.
const FIRST_MS: u64 = 2_500;
const STEP: Duration = Duration::from_millis(40);

/// What linearizable reads have proved absent, and since which log index.
struct Seen {
    keys: Vec<Bytes>,
    absent: BTreeMap<Bytes, u64>,
    reads: u64,
    stale_reads: u64,
    case: String,
}

impl Seen {
    /// Reads all keys; one that was absent must be absent. Says whether the read was answered.
    async fn linearizable(&mut self, node: NodeId, group: &ShardGroup) -> bool {
        let queries = self.keys.iter().map(|key| Query::Get { key: key.clone() }).collect();
        let answer = group.read(queries, Consistency::Linearizable, within(2)).await;
        let Ok((found, fresh)) = answer else { return false };
        self.reads += found.len() as u64;
        for (key, found) in self.keys.iter().zip(found) {
            let gone = self.absent.contains_key(key);
            assert!(
                !gone || found.hit() == Some(false),
                "INV-4: {key:?} is back at {node}; {}",
                self.case
            );
            if found.hit() == Some(false) {
                self.absent.entry(key.clone()).or_insert(fresh.index);
            }
        }
        true
    }

    /// A stale read never shows a key that was absent at or before the index it shows.
    async fn stale(&mut self, cluster: &Cluster) {
        for (node, group) in &cluster.groups {
            let queries = self.keys.iter().map(|key| Query::Get { key: key.clone() }).collect();
            let (found, fresh) = group.read(queries, Consistency::Stale, within(2)).await.unwrap();
            self.stale_reads += found.len() as u64;
            for (key, found) in self.keys.iter().zip(found) {
                let gone = self.absent.get(key).is_some_and(|index| *index <= fresh.index);
                assert!(
                    !gone || found.hit() == Some(false),
                    "INV-4: {key:?} shown by {node} at index {}; {}",
                    fresh.index,
                    self.case
                );
            }
        }
    }
}

/// One run: the leader is killed, or cut off, `kill_ms` after the keys were written, and the other
/// clocks are `skew_ms` off.
async fn run(kill_ms: u64, skew_ms: i64, cut_off: bool, by_snapshot: bool) {
    let case = format!(
        "seed 7, kill at {kill_ms} ms, skew {skew_ms} ms, cut off {cut_off}, snapshot {by_snapshot}"
    );
    let cluster = Cluster::start(Plan::simulated(7, 8 << 20)).await;
    let (old, leader) = cluster.leader(&[]).await;
    for node in cluster.others(old) {
        cluster.clocks[&node].jump(skew_ms);
    }
    let keys: Vec<Bytes> = (0..KEYS).map(|i| Bytes::from(format!("key-{i}"))).collect();
    let expiry = |i: usize| Expiry::AfterMs(FIRST_MS + i as u64);
    let writes = keys.iter().enumerate().map(|(i, key)| set(key.clone(), "v", expiry(i)));
    leader.write(writes.collect(), within(5)).await.unwrap();
    let written = now();
    let mut seen = Seen { keys, absent: BTreeMap::new(), reads: 0, stale_reads: 0, case };

    let kill = written + Duration::from_millis(kill_ms);
    while now() + STEP < kill {
        tokio::time::sleep(STEP).await;
        assert!(seen.linearizable(old, &leader).await, "a steady leader answers");
        seen.stale(&cluster).await;
    }
    tokio::time::sleep_until(kill).await;
    let before = seen.absent.len();
    let half_way = (FIRST_MS + 200..FIRST_MS + KEYS).contains(&kill_ms);
    assert!(!half_way || (1..KEYS as usize).contains(&before), "{before} absent; {}", seen.case);
    if !cut_off {
        cluster.network.unregister(old);
    }
    cluster.network.partition(&[&[old], &cluster.others(old)]);
    if cut_off {
        assert!(!seen.linearizable(old, &leader).await, "a leader cut off answers nothing");
    }
    let (new, group) = cluster.leader(&[old]).await;
    let at_once = {
        seen.linearizable(new, &group).await;
        seen.absent.len()
    };
    let deadline = written + Duration::from_secs(40);
    while seen.absent.len() < KEYS as usize {
        assert!(now() < deadline, "{} of {KEYS} expired; {}", seen.absent.len(), seen.case);
        tokio::time::sleep(STEP).await;
        seen.linearizable(new, &group).await;
        seen.stale(&cluster).await;
    }
    let all_gone = now() - written;
    if cut_off {
        rejoin(&cluster, &mut seen, old, &group, by_snapshot).await;
    }
    println!(
        "{}: absent {before} at the kill, {at_once} at the successor's first read, all after {} \
         ms; {} linearizable and {} stale looks, none came back",
        seen.case,
        all_gone.as_millis(),
        seen.reads,
        seen.stale_reads
    );
}

/// The old leader comes back; every node leads in turn, and shows nothing.
async fn rejoin(
    cluster: &Cluster,
    seen: &mut Seen,
    old: NodeId,
    leader: &ShardGroup,
    by_snapshot: bool,
) {
    if by_snapshot {
        leader.replica().snapshot_now(within(5)).await.unwrap();
        leader.replica().purge_to_snapshot().await.unwrap();
        leader.write(vec![set("after", "x", Expiry::Never)], within(5)).await.unwrap();
    }
    cluster.network.heal();
    cluster.wait_equal().await;
    let snapshot = cluster.groups[&old].replica().progress().snapshot_index;
    assert_eq!(snapshot > 0, by_snapshot, "the old leader caught up as planned");
    for node in NODES {
        let deadline = within(60);
        while !cluster.groups[&node].replica().is_leader() {
            assert!(now() < deadline, "{node} was not elected");
            let (_, leads) = cluster.leader(&[]).await;
            let target = cluster.groups[&node].replica().key().replica;
            // The successor may lag or the vote be lost: then it is asked again.
            let _ = leads.replica().hand_over_to(Some(target), within(2)).await;
        }
        let (leads, group) = cluster.leader(&cluster.others(node)).await;
        assert!(seen.linearizable(leads, &group).await, "a leader answers");
        seen.stale(cluster).await;
    }
    cluster.wait_equal().await;
    assert_eq!(cluster.digest_mismatches(), 0, "INV-3");
}

#[tokio::test(start_paused = true)]
async fn killed_around_the_deadlines_with_clocks_10_s_behind() {
    for kill_ms in [2_400, 3_000, 3_600] {
        run(kill_ms, -10_000, false, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cut_off_around_the_deadlines_with_clocks_10_s_behind() {
    for (kill_ms, by_snapshot) in [(2_400, false), (3_000, true), (3_000, false), (3_600, true)] {
        run(kill_ms, -10_000, true, by_snapshot).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cut_off_around_the_deadlines_with_clocks_10_s_ahead() {
    run(3_000, 10_000, true, true).await;
    run(2_000, 10_000, false, false).await;
}

/// How long a key lives when its leader goes: at most its time and the skew of the clocks, plus
/// the time without a leader; no less than its time less the skew.
#[tokio::test(start_paused = true)]
async fn skew_moves_a_deadline_by_no_more_than_itself() {
    for skew_ms in [-10_000, 0, 10_000] {
        let cluster = Cluster::start(Plan::simulated(11, 8 << 20)).await;
        let (old, leader) = cluster.leader(&[]).await;
        for node in cluster.others(old) {
            cluster.clocks[&node].jump(skew_ms);
        }
        let key = Bytes::from_static(b"k");
        leader
            .write(vec![set(key.clone(), "v", Expiry::AfterMs(60_000))], within(5))
            .await
            .unwrap();
        let written = now();
        cluster.network.partition(&[&[old], &cluster.others(old)]);
        let (_, group) = cluster.leader(&[old]).await;
        loop {
            let found = read(&group, std::slice::from_ref(&key), Consistency::Linearizable).await;
            if found.unwrap()[0].is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let lived = i64::try_from((now() - written).as_millis()).unwrap();
        println!("seed 11, skew {skew_ms} ms: a key of 60 s lived {lived} ms");
        let error = lived - 60_000;
        assert!((skew_ms.abs() + 500 >= error) && (error >= -skew_ms.abs() - 500), "{error} ms");
    }
}
