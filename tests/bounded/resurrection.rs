//! What was deleted or evicted stays away over a change of leader and a snapshot installed.

use std::collections::BTreeSet;

use bytes::Bytes;
use raftcache::types::{Command, Condition, Consistency, Delete, Expiry, Write};

use crate::shard::{Cluster, Plan, read, set, within};

fn delete(key: Bytes) -> Write {
    let command = Command::Delete(Delete { key, condition: Condition::Always });
    Write { request_id: None, command }
}

#[tokio::test(start_paused = true)]
async fn deleted_and_evicted_keys_stay_away() {
    let cluster = Cluster::start(Plan::simulated(9, 1 << 20)).await;
    let (old, leader) = cluster.leader(&[]).await;
    let behind = cluster.others(old)[0];
    let keys: Vec<Bytes> = (0..3_000).map(|i| Bytes::from(format!("key-{i}"))).collect();
    let value = Bytes::from(vec![1u8; 1_000]);
    for (i, some) in keys.chunks(100).enumerate() {
        if i == 5 {
            // What this replica holds now, it must not bring back later.
            cluster.network.partition(&[&[behind], &cluster.others(behind)]);
        }
        let writes = some.iter().map(|key| set(key.clone(), value.clone(), Expiry::Never));
        leader.write(writes.collect(), within(5)).await.unwrap();
    }
    let deleted: Vec<Write> = keys.iter().rev().step_by(3).take(150).cloned().map(delete).collect();
    leader.write(deleted, within(5)).await.unwrap();
    let absent = |found: Vec<Option<raftcache::types::Found>>| -> BTreeSet<Bytes> {
        keys.iter().zip(found).filter(|(_, f)| f.is_none()).map(|(key, _)| key.clone()).collect()
    };
    let gone = absent(read(&leader, &keys, Consistency::Linearizable).await.unwrap());
    let stats = leader.replica().with_machine(|m| m.stats());
    assert!(stats.evictions > 1_500, "{stats:?}");
    leader.replica().snapshot_now(within(5)).await.unwrap();
    leader.replica().purge_to_snapshot().await.unwrap();
    cluster.network.heal();
    cluster.wait_equal().await;
    assert!(cluster.groups[&behind].replica().progress().snapshot_index > 0, "by snapshot");
    // The replica that was behind leads now.
    while !cluster.groups[&behind].replica().is_leader() {
        let target = cluster.groups[&behind].replica().key().replica;
        let (_, leads) = cluster.leader(&[]).await;
        // Asked again if the successor was not elected.
        let _ = leads.replica().hand_over_to(Some(target), within(2)).await;
    }
    let (_, group) = cluster.leader(&cluster.others(behind)).await;
    let now_gone = absent(read(&group, &keys, Consistency::Linearizable).await.unwrap());
    println!(
        "seed 9: {} of {} keys absent before, {} after",
        gone.len(),
        keys.len(),
        now_gone.len()
    );
    assert_eq!(gone, now_gone, "INV-4");
}
