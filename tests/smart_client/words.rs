//! Locks, fills and batches through the client, with real nodes that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use raftcache::client::{
    Batch, Client, Consistency, Done, Ends, FillOptions, LeaseOptions, Leased, Locked, ScanOptions,
    Transacted, Value, Watch,
};
use raftcache::types::task::spawn;

use crate::counting::{kill_leaders, leads_most};
use crate::harness::{ProcessCluster, Shape};
use crate::leaders::client;
use crate::turn;

const MINUTE: Duration = Duration::from_secs(60);
const KEYS: usize = 24;
const CALLERS: usize = 100;

/// A write that is done only while the lock is held under this token.
async fn fenced(client: &Client, token: u64, value: &str) -> Transacted {
    let mut batch = Batch::new();
    batch.set("{job}data", value);
    client.atomic(&batch, &[Watch::new("{job}lock", token)]).await.unwrap()
}

async fn a_lock_outlives_its_leader(cluster: &mut ProcessCluster, client: &Client) {
    let token = client.lock("{job}lock", "a", MINUTE).await.unwrap().token().unwrap();
    let victim = leads_most(cluster).await;
    cluster.kill(victim);
    let other = client.lock("{job}lock", "b", MINUTE).await.unwrap();
    assert!(matches!(other, Locked::ByOther { token: theirs, .. } if theirs == token), "{other:?}");
    let renewed = client.renew("{job}lock", "a", token, MINUTE).await.unwrap();
    assert_eq!(renewed.token(), Some(token));
    assert!(matches!(fenced(client, token, "of a").await, Transacted::Done(_)));
    cluster.launch(victim);
    cluster.all_ready().await;
    assert!(client.unlock("{job}lock", "a", token).await.unwrap().unlocked);
    let newer = client.lock("{job}lock", "b", MINUTE).await.unwrap().token().unwrap();
    assert!(newer > token);
    let late = fenced(client, token, "of a, too late").await;
    assert_eq!(late, Transacted::Aborted { watch: 0, version: newer });
    let found = client.get("{job}data").await.unwrap().unwrap();
    assert_eq!(found.value, Value::from("of a"));
}

/// One of many who miss a key is asked to fill it; the others wait for longer than an attempt takes.
async fn one_of_a_crowd_fills(client: &Client) {
    let wait = Duration::from_secs(20);
    let caller = async || {
        let options = LeaseOptions { wait, ..LeaseOptions::default() };
        match client.get_or_lease("hot", options).await.unwrap() {
            Leased::Fill { token, .. } => {
                // As long as the source takes.
                tokio::time::sleep(Duration::from_secs(2)).await;
                let ends = Some(Ends::After(MINUTE));
                let options = FillOptions { ends, ..FillOptions::default() };
                assert!(client.fill("hot", token, "worked out", options).await.unwrap().applied);
                1
            }
            Leased::Hit(found) => {
                assert_eq!(found.value, Value::from("worked out"));
                0
            }
            other => panic!("{other:?}"),
        }
    };
    let fills = join_all((0..CALLERS).map(|_| caller())).await;
    assert_eq!(fills.iter().sum::<u32>(), 1, "one of {CALLERS} worked it out");
}

fn key(at: usize) -> String {
    format!("batched:{at}")
}

/// Counts all keys up in one batch after the other, as their only writer: each result tells whether
/// every increment before it was applied exactly once.
async fn count(client: Client, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> i64 {
    let mut batch = Batch::new();
    for at in 0..KEYS {
        batch.increment(key(at), 1);
    }
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        rounds += 1;
        for (at, result) in client.batch(&batch).await.into_iter().enumerate() {
            match result {
                Ok(Done::Increment(counted)) => assert_eq!(counted.value, rounds, "{}", key(at)),
                other => panic!("{}: {other:?}", key(at)),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_fills_and_batches_with_nodes_that_are_killed() {
    let _turn = turn().await;
    let mut cluster = ProcessCluster::start(Shape::new("wal")).await;
    let client = client(&cluster, Duration::from_secs(40)).await;
    a_lock_outlives_its_leader(&mut cluster, &client).await;
    one_of_a_crowd_fills(&client).await;

    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let counter = count(client.clone(), Arc::clone(&done), Arc::clone(&stop));
    let counter = spawn("batches", counter);
    kill_leaders(&mut cluster, 2, || done.load(Ordering::Relaxed)).await;
    stop.store(true, Ordering::Relaxed);
    let rounds = counter.await.unwrap().expect("no batch failed");
    for found in client.multi_get((0..KEYS).map(key)).await {
        let value = found.unwrap().expect("it was counted").value;
        assert_eq!(value.as_bytes(), rounds.to_string().as_bytes());
    }
    println!("{rounds} batches of {KEYS}, each applied once; {:?}", client.stats());
    assert!(client.stats().retries > 0, "the kills were not felt: is this test awake?");

    let pattern = Some("batched:*".into());
    let found = client.scan(ScanOptions { pattern, ..ScanOptions::default() }).all().await.unwrap();
    assert_eq!(found.len(), KEYS);
    assert!(client.size(Consistency::Linearizable).await.unwrap() > KEYS as u64);
    client.flush().await.unwrap();
    assert_eq!(client.size(Consistency::Linearizable).await.unwrap(), 0);
}
