//! Fills and waits through a group of three, under virtual time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::settings::RaftSettings;
use super::shard_group::ShardGroup;
use super::testkit::{Cluster, get, set, soon};
use crate::types::clock::now;
use crate::types::{
    Command, Condition, Consistency, Delete, Error, Expiry, Fill, Found, GetOrLease, Leased,
    Reason, Refusal, Reply, RequestId, Value, ValueKind, Write,
};

const KEY: Bytes = Bytes::from_static(b"k");

fn ask(wait_ms: u64, stale_ok: bool) -> GetOrLease {
    GetOrLease { key: KEY, wait_ms, stale_ok, beta_milli: 0 }
}

async fn lease(group: &ShardGroup, wait_ms: u64) -> Result<Leased, Error> {
    group.get_or_lease(&ask(wait_ms, true), soon()).await
}

async fn token(group: &ShardGroup) -> u64 {
    match lease(group, 0).await.expect("it leads") {
        Leased::Fill { token, .. } => token,
        other => panic!("{other:?}"),
    }
}

fn fill(token: u64, value: &str) -> Fill {
    Fill {
        key: KEY,
        value: Value { data: Bytes::from(value.to_owned()), kind: ValueKind::Text },
        soft_ms: Some(1_000),
        expiry: Expiry::AfterMs(3_000),
        cost_ms: 10,
        token,
        since: None,
    }
}

async fn write(group: &ShardGroup, command: Command) -> Reply {
    let writes = vec![Write { request_id: None, command }];
    let mut replies = group.write(writes, soon()).await.expect("a majority is there");
    replies.pop().expect("one reply for each write")
}

fn delete() -> Command {
    Command::Delete(Delete { key: KEY, condition: Condition::Always })
}

fn data(found: &Found) -> &[u8] {
    &found.value.data
}

const OUTDATED: Reply = Reply::Refused(Refusal::OutdatedToken);

/// Done-when: 1,000 callers that miss one key, one fill.
#[tokio::test(start_paused = true)]
async fn a_thousand_callers_that_miss_make_one_fill() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let callers = (0..1_000).map(|_| {
        let leader = leader.clone();
        async move {
            match lease(&leader, 5_000).await.expect("it leads") {
                Leased::Fill { token, found: None, .. } => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let filled = write(&leader, Command::Fill(fill(token, "v"))).await;
                    assert!(matches!(filled, Reply::Set { .. }), "{filled:?}");
                    true
                }
                Leased::Hit(found) => {
                    assert_eq!(data(&found), b"v");
                    false
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let fills = join_all(callers).await.into_iter().filter(|filled| *filled).count();
    assert_eq!(fills, 1);
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_the_key_outdates_the_token() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    // A delete of a key that is absent: what the caller read from its source may be older.
    let first = token(&leader).await;
    assert_eq!(write(&leader, delete()).await, Reply::NotFound);
    assert_eq!(write(&leader, Command::Fill(fill(first, "old"))).await, OUTDATED);
    // A set.
    let second = token(&leader).await;
    assert_ne!(first, second);
    write(&leader, set("k", "new", Expiry::Never).command).await;
    assert_eq!(write(&leader, Command::Fill(fill(second, "old"))).await, OUTDATED);
    write(&leader, delete()).await;
    // In one entry with the fill, and in front of it: seen when it is applied.
    let third = token(&leader).await;
    let both = [delete(), Command::Fill(fill(third, "old"))];
    let both = both.map(|command| Write { request_id: None, command }).to_vec();
    let replies = leader.write(both, soon()).await.expect("a majority is there");
    assert_eq!(replies, [Reply::NotFound, OUTDATED]);
    // Twice, and one that nobody was given.
    let fourth = token(&leader).await;
    let twice = vec![Write { request_id: None, command: Command::Fill(fill(fourth, "v")) }; 2];
    let replies = leader.write(twice, soon()).await.expect("a majority is there");
    assert!(matches!(replies[..], [Reply::Set { .. }, OUTDATED]), "{replies:?}");
    assert_eq!(write(&leader, Command::Fill(fill(12345, "old"))).await, OUTDATED);
    let read = get(&leader, "k", Consistency::Linearizable).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"v"[..]));
    cluster.wait_equal().await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_while_one_caller_fills_it_again() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let first = token(&leader).await;
    write(&leader, Command::Fill(fill(first, "v1"))).await;
    let Leased::Hit(found) = lease(&leader, 0).await.unwrap() else { panic!("it is fresh") };
    assert_eq!(data(&found), b"v1");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let Leased::Fill { token, found: Some(found), .. } = lease(&leader, 0).await.unwrap() else {
        panic!("it is stale")
    };
    assert_eq!(data(&found), b"v1");
    let Leased::Stale { found, age_ms } = lease(&leader, 5_000).await.unwrap() else {
        panic!("another caller fills it")
    };
    assert_eq!(data(&found), b"v1");
    assert!((150..1_000).contains(&age_ms), "{age_ms}");
    // Who takes no stale value waits for the fill.
    let strict = ask(5_000, false);
    let strict = leader.get_or_lease(&strict, soon());
    let refill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        write(&leader, Command::Fill(fill(token, "v2"))).await
    };
    let (strict, refilled) = tokio::join!(strict, refill);
    assert!(matches!(refilled, Reply::Set { .. }), "{refilled:?}");
    let Leased::Hit(found) = strict.unwrap() else { panic!("it was filled") };
    assert_eq!(data(&found), b"v2");
    // At its end it is gone for everybody.
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let leased = lease(&leader, 0).await.unwrap();
    assert!(matches!(leased, Leased::Fill { found: None, .. }), "{leased:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_time_and_a_token_with_its_own() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let first = token(&leader).await;
    let began = now();
    assert_eq!(lease(&leader, 700).await, Ok(Leased::Busy));
    let took = now() - began;
    assert!((Duration::from_millis(700)..Duration::from_secs(1)).contains(&took), "{took:?}");
    // Who was to fill it does not: the next waiter is asked to, after 10 s.
    let deadline = now() + Duration::from_secs(60);
    let leased = leader.get_or_lease(&ask(30_000, true), deadline).await.unwrap();
    let Leased::Fill { token, .. } = leased else { panic!("{leased:?}") };
    let took = now() - began;
    assert!((Duration::from_secs(9)..Duration::from_secs(12)).contains(&took), "{took:?}");
    assert_eq!(write(&leader, Command::Fill(fill(first, "late"))).await, OUTDATED);
    assert!(matches!(write(&leader, Command::Fill(fill(token, "v"))).await, Reply::Set { .. }));
}

/// A new leader knows no tokens: those who wait are told, and get a new one there.
#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_leaves_nobody_waiting() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    let old = token(&leader).await;
    let waiting = (0..20).map(|_| lease(&leader, 20_000));
    let hand_over = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        leader.replica().hand_over(soon()).await
    };
    let (waited, handed) = tokio::join!(join_all(waiting), hand_over);
    handed.expect("there are two others");
    for answer in waited {
        let error = answer.expect_err("it leads no more");
        assert!(matches!(error.reason, Reason::NotLeader { .. }), "{error}");
    }
    let (_, next) = cluster.leader(&[node]).await;
    let new = token(&next).await;
    assert_eq!(write(&next, Command::Fill(fill(old, "old"))).await, OUTDATED);
    assert!(matches!(write(&next, Command::Fill(fill(new, "v"))).await, Reply::Set { .. }));
    cluster.wait_equal().await;
}

/// INV-6: a retry of a fill that was applied gets its answer, and not that its token is outdated, at
/// the same leader and at the next.
#[tokio::test(start_paused = true)]
async fn a_retry_of_a_fill_gets_its_first_answer() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (node, leader) = cluster.leader(&[]).await;
    let command = Command::Fill(fill(token(&leader).await, "v"));
    let request_id = Some(RequestId { session: 5, sequence: 1 }.into());
    let once = || vec![Write { request_id, command: command.clone() }];
    let first = leader.write(once(), soon()).await.expect("a majority is there");
    assert!(matches!(first[..], [Reply::Set { .. }]), "{first:?}");
    assert_eq!(leader.write(once(), soon()).await.expect("it leads"), first);
    leader.replica().hand_over(soon()).await.expect("there are two others");
    let (_, next) = cluster.leader(&[node]).await;
    assert_eq!(next.write(once(), soon()).await.expect("it leads"), first);
}

/// A value that may be filled early is so, by one caller, the more likely the nearer its end.
#[tokio::test(start_paused = true)]
async fn an_early_refresh_asks_one_caller() {
    let cluster = Cluster::start(RaftSettings::default(), 1 << 20).await;
    let (_, leader) = cluster.leader(&[]).await;
    let costly = Fill { cost_ms: 1_000_000, ..fill(token(&leader).await, "v") };
    write(&leader, Command::Fill(costly)).await;
    let eager = GetOrLease { beta_milli: 100_000, ..ask(0, true) };
    let (mut fills, mut hits) = (0, 0);
    for _ in 0..50 {
        match leader.get_or_lease(&eager, soon()).await.unwrap() {
            Leased::Fill { found: Some(found), .. } => {
                assert_eq!(data(&found), b"v");
                fills += 1;
            }
            Leased::Hit(_) => hits += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((fills, hits), (1, 49));
}
