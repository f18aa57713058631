//! The client against nodes that do as they are told.

mod batches;
mod fakes;
mod hedges;
mod locks;
mod tables;
mod words;

use std::sync::atomic::Ordering;
use std::time::Duration;

use self::fakes::{ATTEMPT, Act, Nodes, eventually, not_leader};
use super::{Client, Consistency, Door, GetOptions, Options};
use crate::types::clock::now;
use crate::types::{Error, GroupId, Outcome, Reason, ShardId};

#[tokio::test]
async fn operations_go_straight_to_the_leader() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        nodes.world.leader.store(2, Ordering::SeqCst);
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        for i in 0..20 {
            let written = client.set(format!("k{i}"), "v").await.unwrap();
            assert!(written.applied);
        }
        let written = client.set("k3", "w").await.unwrap();
        let found = client.get("k3").await.unwrap().unwrap();
        assert_eq!((found.value.as_bytes(), found.version), (&b"w"[..], written.version));
        assert_eq!(client.get("absent").await.unwrap(), None);
        assert_eq!(nodes.served(), [0, 23, 0], "{door:?}");
        assert_eq!(client.stats().retries, 0);
    }
}

#[tokio::test]
async fn a_hint_is_followed_and_remembered() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.script(1, vec![not_leader(Some(3))]);
    client.set("k", "v").await.unwrap();
    client.set("k", "w").await.unwrap();
    assert_eq!(nodes.served(), [1, 0, 2], "the second goes there at once");
}

#[tokio::test]
async fn a_retry_is_applied_once_and_gets_the_first_answer() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.script(1, vec![Act::DoAndLose, Act::DoAndLose]);
    let written = client.set("k", "v").await.unwrap();
    let found = client.get("k").await.unwrap().unwrap();
    assert_eq!((written.applied, written.version), (true, found.version));
    assert_eq!(nodes.world.entries(), 3, "it came in three times");
    assert_eq!(nodes.world.applied(), 1);
    assert_eq!(client.stats().retries, 2);
}

#[tokio::test]
async fn an_outcome_is_unknown_as_soon_as_one_attempt_was() {
    let nodes = Nodes::start().await;
    let options = Options { attempts_max: 2, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let too_large = Reason::TooLarge { bytes: 2, bytes_max: 1 };
    nodes.script(1, vec![Act::DoAndLose, Act::Refuse(too_large.clone().into())]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.outcome, error.attempts), (Outcome::Unknown, 2), "{error}");
    nodes.script(1, vec![Act::Refuse(too_large.into())]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "too_large"));
    assert_eq!(error.field, "value");
    nodes.script(1, vec![Act::Lose, Act::Lose]);
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Rejected, "a read changes nothing: {error}");
}

#[tokio::test]
async fn a_node_that_hangs_costs_one_attempt_and_is_then_left_alone() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let options = Options { breaker_failures: 1, door, ..nodes.options() };
        let client = Client::connect(options).await.unwrap();
        nodes.script(1, vec![Act::Hang]);
        let started = now();
        client.set("k", "v").await.unwrap();
        assert!(now() - started >= ATTEMPT, "the attempt's time");
        assert_eq!(nodes.served()[0], 1);
        client.set("k", "w").await.unwrap();
        assert_eq!(nodes.served()[0], 1, "left alone for a while: {door:?}");
        assert_eq!(nodes.world.applied(), 2);
    }
}

#[tokio::test]
async fn a_node_that_is_gone_costs_nothing_but_a_retry() {
    for door in [Door::Pipeline, Door::Unary] {
        let mut nodes = Nodes::start().await;
        let client = Client::connect(Options { door, ..nodes.options() }).await.unwrap();
        client.set("before", "v").await.unwrap();
        nodes.stop(1).await;
        nodes.world.leader.store(2, Ordering::SeqCst);
        for i in 0..10 {
            client.set(format!("k{i}"), "v").await.unwrap();
        }
        let retries = client.stats().retries;
        assert!(retries <= 2, "{retries} retries: it is asked again and again");
        assert_eq!(nodes.world.applied(), 11, "{door:?}");
        let late = nodes.client().await;
        late.set("late", "v").await.expect("a seed that is gone is passed over");
    }
}

#[tokio::test]
async fn a_newer_epoch_brings_a_newer_table() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    assert_eq!(client.stats().epoch, 1);
    nodes.publish(2);
    nodes.world.leader.store(3, Ordering::SeqCst);
    client.set("k", "v").await.unwrap();
    eventually("the new table", || client.stats().epoch == 2).await;
    client.set("k", "w").await.unwrap();
    assert_eq!(nodes.served(), [1, 0, 1], "and the leader it names");
}

#[tokio::test]
async fn what_a_node_asks_for_is_waited_for() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    let full = Error::from(Reason::ResourceExhausted { what: "x", limit: 1 });
    let after = Duration::from_millis(200);
    nodes.script(1, vec![Act::Refuse(full.retry_after(after))]);
    let started = now();
    client.set("k", "v").await.unwrap();
    assert!(now() - started >= after, "{:?}", now() - started);
    assert_eq!(nodes.served(), [2, 0, 0], "the leader is asked again, nobody else");
}

#[tokio::test]
async fn stale_reads_are_spread_over_the_replicas() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    for _ in 0..30 {
        client.get_with("k", GetOptions { consistency: Consistency::Stale }).await.unwrap();
    }
    assert_eq!(nodes.served(), [10, 10, 10]);
}

#[tokio::test]
async fn the_deadline_holds_and_says_what_was_seen() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await.within(Duration::from_secs(1));
    let group = GroupId::of_shard(ShardId(0));
    nodes.script(1, vec![Act::Refuse(Reason::NoLeader { group }.into()); 1_000]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "no_leader"));
    assert!(error.message.contains("the deadline passed"), "{error}");
    // Each attempt waits for the one before: what is left of the script was not asked for.
    assert!((2..1_000).contains(&error.attempts), "{}", error.attempts);

    nodes.script(1, vec![Act::Hang]);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown, "it may be under way: {error}");
}

#[tokio::test]
async fn more_callers_than_a_connection_takes_wait_for_their_turn() {
    let nodes = Nodes::start().await;
    let options = Options { connections: 1, in_flight_max: 4, ..nodes.options() };
    let client = Client::connect(options).await.unwrap();
    let sets = (0..500).map(|i| client.set(format!("k{i}"), "v"));
    for written in futures_util::future::join_all(sets).await {
        assert!(written.unwrap().applied);
    }
    assert_eq!(nodes.world.applied(), 500);
    assert_eq!(client.stats().retries, 0);
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once() {
    let options = Options::new(["127.0.0.1:1"]);
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!((error.outcome, error.reason.as_str()), (Outcome::Rejected, "unreachable"));
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
    assert!(Client::connect(Options::new(["not an address"])).await.is_err());
}
