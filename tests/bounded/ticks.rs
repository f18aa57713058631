//! Ticks: at most one log entry in 50 ms however many reads meet due keys; none without due keys.

use std::time::Duration;

use bytes::Bytes;
use raftcache::types::clock::now;
use raftcache::types::{Consistency, Expiry, task};

use crate::shard::{Cluster, Plan, read, set, within};

#[tokio::test(start_paused = true)]
async fn no_entries_while_nothing_is_due() {
    let cluster = Cluster::start(Plan::simulated(5, 8 << 20)).await;
    let (_, leader) = cluster.leader(&[]).await;
    let keys: Vec<Bytes> = (0..100).map(|i| Bytes::from(format!("key-{i}"))).collect();
    let far = Expiry::AfterMs(3_600_000);
    let writes = keys.iter().map(|key| set(key.clone(), "v", far)).collect();
    leader.write(writes, within(5)).await.unwrap();
    cluster.wait_equal().await;
    let before = leader.replica().progress().last_index;
    let end = now() + Duration::from_secs(30);
    let mut reads = 0;
    while now() < end {
        let found = read(&leader, &keys, Consistency::Linearizable).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        reads += found.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let entries = leader.replica().progress().last_index - before;
    println!("seed 5: {reads} reads of living keys in 30 s, {entries} log entries");
    assert_eq!(entries, 0);
}

#[tokio::test(start_paused = true)]
async fn one_tick_in_50_ms_for_all_readers() {
    let cluster = Cluster::start(Plan::simulated(5, 8 << 20)).await;
    let (_, leader) = cluster.leader(&[]).await;
    // A key comes due every 2 ms for two seconds, so that nearly every read meets a due one.
    let keys: Vec<Bytes> = (0..1_000).map(|i| Bytes::from(format!("key-{i}"))).collect();
    let writes = keys
        .iter()
        .enumerate()
        .map(|(i, key)| set(key.clone(), "v", Expiry::AfterMs(1_000 + 2 * i as u64)));
    leader.write(writes.collect(), within(5)).await.unwrap();
    let (began, before) = (now(), leader.replica().progress().last_index);
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let (leader, keys) = (leader.clone(), keys.clone());
            task::spawn("reader", async move {
                let mut reads = 0u64;
                loop {
                    let found = read(&leader, &keys, Consistency::Linearizable).await.unwrap();
                    reads += 1;
                    if found.iter().all(Option::is_none) {
                        return reads;
                    }
                }
            })
        })
        .collect();
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap().expect("a reader does not panic");
    }
    let took = now() - began;
    let entries = leader.replica().progress().last_index - before;
    println!("seed 5: {reads} reads, {entries} log entries in {} ms", took.as_millis());
    assert!(entries >= 10, "the deadlines needed ticks");
    assert!(u128::from(entries) <= took.as_millis() / 50 + 1, "at most one in 50 ms");
}
