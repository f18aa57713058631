//! A group under more load than it can take, and one whose tasks panic (INV-8).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::settings::RaftSettings;
use super::shard_group::Fault;
use super::testkit::{Cluster, get, set, soon};
use crate::core::queue_delay::DelayLimits;
use crate::types::clock::now;
use crate::types::{
    Command, Consistency, Expire, ExpireCondition, Expiry, Outcome, Reason, Write, task,
};

/// A group that takes one entry of four operations at a time.
fn narrow() -> RaftSettings {
    RaftSettings {
        batches_in_flight: 1,
        batch_writes_max: 4,
        delay: DelayLimits::from_ms(20, 100),
        ..RaftSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_refused_and_was_not_applied() {
    let cluster = Cluster::start(narrow(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let began = now();
    leader.write(vec![set("warm", "1", Expiry::Never)], soon()).await.unwrap();
    let entry = now() - began;
    let entry_ms = u64::try_from(entry.as_millis()).unwrap().max(1);
    // Enough entries for two seconds, all at once.
    let callers = 4 * 2_000 / usize::try_from(entry_ms).unwrap();
    let began = now();
    let writes = (0..callers).map(|i| {
        let leader = leader.clone();
        async move {
            let answer =
                leader.write(vec![set(&format!("k{i}"), "v", Expiry::Never)], soon()).await;
            (i, answer, now() - began)
        }
    });
    let (mut served, mut refused, mut longest) = (0usize, Vec::new(), Duration::ZERO);
    for (i, answer, took) in join_all(writes).await {
        match answer {
            Ok(_) => {
                served += 1;
                longest = longest.max(took);
            }
            Err(error) => {
                let what = "milliseconds of queueing at the shard";
                assert_eq!(error.reason, Reason::ResourceExhausted { what, limit: 40 });
                assert_eq!(error.outcome(), Outcome::Rejected);
                assert!(error.retry_after.is_some());
                refused.push(i);
            }
        }
    }
    println!("entry {entry:?}: {served} of {callers} served, the last after {longest:?}");
    assert!(served >= 100 / usize::try_from(entry_ms).unwrap(), "{served} served");
    assert!(longest <= Duration::from_millis(160) + 2 * entry, "{longest:?}");
    for i in refused.iter().step_by(97) {
        let read = get(&leader, &format!("k{i}"), Consistency::Linearizable).await.unwrap();
        assert_eq!(read, None, "k{i} was refused (INV-5)");
    }
    // The queue is short again: nobody is refused.
    for i in 0..8 {
        leader.write(vec![set(&format!("k{i}"), "v", Expiry::Never)], soon()).await.unwrap();
    }
}

/// A tick that is refused would cost every read its answer that met a deadline, although it is at most
/// one entry in 50 ms.
#[tokio::test(start_paused = true)]
async fn a_read_of_a_due_key_is_served_while_the_queue_stands() {
    let cluster = Cluster::start(narrow(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    leader.write(vec![set("due", "v", Expiry::AfterMs(150))], soon()).await.unwrap();
    let (done, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let crowd = (0..400).map(|i| {
        let (leader, done, refused) = (leader.clone(), &done, &refused);
        async move {
            while !done.load(Ordering::SeqCst) {
                let write = set(&format!("k{i}"), "v", Expiry::Never);
                if leader.write(vec![write], soon()).await.is_err() {
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
    let read = async {
        // By then the queue stands for longer than its interval, and the key is due.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(refused.load(Ordering::SeqCst) > 100, "the queue refuses writes");
        let read = get(&leader, "due", Consistency::Linearizable).await;
        done.store(true, Ordering::SeqCst);
        read
    };
    let (_, read) = tokio::join!(join_all(crowd), read);
    assert_eq!(read, Ok(None));
}

/// Appends to a large value are few bytes in the log and much work: they are spread over entries.
#[tokio::test(start_paused = true)]
async fn work_on_large_values_is_spread_over_entries() {
    let cluster = Cluster::start(RaftSettings::default(), 256 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let large = "v".repeat(1_000_000);
    leader.write(vec![set("large", &large, Expiry::Never)], soon()).await.unwrap();
    let before = leader.replica().with_applied(|_, _, index| index);
    let expires = (0..64u64).map(|n| {
        let leader = leader.clone();
        let (expiry, condition) = (Expiry::AfterMs(100_000 + n), ExpireCondition::Always);
        let expire = Command::Expire(Expire { key: "large".into(), expiry, condition });
        async move { leader.write(vec![Write { request_id: None, command: expire }], soon()).await }
    });
    assert!(join_all(expires).await.iter().all(Result::is_ok));
    let entries = leader.replica().with_applied(|_, _, index| index) - before;
    assert!((4..20).contains(&entries), "64 MB of work in {entries} entries of 16 MiB");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_by_number_and_by_bytes() {
    let settings = RaftSettings {
        group_queue_max: 8,
        group_queue_bytes_max: 4_000,
        batches_in_flight: 1,
        batch_writes_max: 1,
        ..RaftSettings::default()
    };
    let cluster = Cluster::start(settings, 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let burst = async |value: &str| {
        let writes = (0..50).map(|i| {
            let write = set(&format!("k{i}"), value, Expiry::Never);
            let leader = leader.clone();
            async move { leader.write(vec![write], soon()).await }
        });
        let refused = join_all(writes).await.into_iter().filter_map(Result::err);
        refused.map(|error| error.reason).collect::<Vec<_>>()
    };
    let (what, limit) = ("writes queued at the shard", 8);
    let refused = burst("v").await;
    assert!(refused.len() >= 40, "{}", refused.len());
    assert!(refused.iter().all(|r| *r == Reason::ResourceExhausted { what, limit }));
    let (what, limit) = ("bytes queued at the shard", 4_000);
    let refused = burst(&"v".repeat(1_500)).await;
    assert!(refused.contains(&Reason::ResourceExhausted { what, limit }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_task_of_a_group_hangs_no_caller_and_the_group_goes_on() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let write = |key: &str| {
        let (leader, write) = (leader.clone(), set(key, "v", Expiry::Never));
        async move { leader.write(vec![write], soon()).await }
    };
    write("before").await.unwrap();
    let panics = task::panics();
    for (fault, outcome) in [(Fault::Propose, Outcome::Unknown), (Fault::Answer, Outcome::Unknown)]
    {
        let began = now();
        leader.inject_panic(fault);
        let error = write("during").await.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{fault:?}: {error}");
        assert!(error.retryable(), "{error}");
        assert!(now() - began < Duration::from_secs(1), "{fault:?}: nobody waits for a deadline");
        write("after").await.unwrap();
    }
    leader.inject_panic(Fault::Barrier);
    let error = get(&leader, "before", Consistency::Linearizable).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Rejected);
    let read = get(&leader, "before", Consistency::Linearizable).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"v"[..]));
    assert!(task::panics() >= panics + 3, "each is counted");
    cluster.wait_equal().await;
}
