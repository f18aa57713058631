//! Reads that are asked for twice: where, and what becomes of the slower answer.

use std::time::Duration;

use super::fakes::{Act, Nodes, eventually};
use crate::client::{Client, Consistency, Door, GetOptions, Options};
use crate::types::Slot;
use crate::types::clock::now;

/// Every slot is in one shard.
const SLOT: Slot = Slot(0);
const AFTER: Duration = Duration::from_millis(100);
/// So much later that the hedge is sent first, and well within an attempt.
const LATE: Duration = Duration::from_millis(600);

async fn client(nodes: &Nodes, options: Options) -> Client {
    let client = Client::connect(Options { hedge_after: Some(AFTER), ..options }).await.unwrap();
    client.set("k", "v").await.unwrap();
    assert_eq!(nodes.served(), [1, 0, 0]);
    client
}

#[tokio::test]
async fn a_slow_read_is_asked_for_twice_and_a_write_never() {
    let nodes = Nodes::start().await;
    // Longer than this test: the first node answers only when the second has.
    let late = Duration::from_secs(30);
    let client = client(&nodes, Options { attempt: 2 * late, ..nodes.options() }).await;
    nodes.script(1, vec![Act::Late(late)]);
    let started = now();
    assert!(client.get("k").await.unwrap().is_some());
    assert!(now() - started < late, "the second node was faster");
    assert_eq!(client.stats().hedges, 1);
    eventually("the first node was asked as well", || nodes.served()[0] == 2).await;
    nodes.script(1, vec![Act::Late(LATE)]);
    client.set("k", "w").await.unwrap();
    assert_eq!((client.stats().hedges, nodes.world.applied()), (1, 2));
}

/// However the first node is chosen, the second is another: a node that hangs answers neither.
#[tokio::test]
async fn a_hedge_goes_to_another_node() {
    let nodes = Nodes::start().await;
    // Longer than this test: no silence is noted while it goes on.
    let attempt = Duration::from_secs(30);
    let options = Options { breaker_failures: 100, attempt, ..nodes.options() };
    let client = client(&nodes, options).await;
    for round in 1..=20 {
        nodes.script(1, vec![Act::Hang]);
        let started = now();
        assert!(client.get("k").await.unwrap().is_some());
        assert!(now() - started < nodes.options().deadline, "round {round}: the hedge answered");
        // Less where the hedge was faster than the way to the first node.
        assert!(nodes.served()[0] <= 1 + round, "asked once a read");
    }
    assert_eq!(client.stats().hedges, 20);
    // Of any replica: whichever is the first, and hangs, another answers.
    for round in 0..30 {
        (1..=3).for_each(|id| nodes.script(id, vec![]));
        nodes.script(round % 3 + 1, vec![Act::Hang; 2]);
        let stale = GetOptions { consistency: Consistency::Stale };
        let started = now();
        assert!(client.get_with("k", stale).await.unwrap().found.is_some());
        assert!(now() - started < nodes.options().deadline, "round {round}: at one node twice");
    }
}

#[tokio::test]
async fn without_another_node_in_good_standing_there_is_no_hedge() {
    let mut nodes = Nodes::start().await;
    let open = Duration::from_millis(10);
    let options = Options { breaker_open: open, ..nodes.options() };
    let client = client(&nodes, options).await;
    let others: Vec<_> = {
        let stale = |_| client.inner.router.pick(SLOT, true, None).unwrap().node;
        let all = (0..3).map(stale);
        all.filter(|node| node.address != nodes.addrs[0]).collect()
    };
    assert_eq!(others.len(), 2);
    nodes.stop(2).await;
    nodes.stop(3).await;
    let slow = async || {
        nodes.script(1, vec![Act::Late(LATE)]);
        assert!(client.get("k").await.unwrap().is_some());
        client.stats().hedges
    };
    // Nobody listens there: one attempt, of a hedge or for the table, tells it of each.
    let mut hedges = slow().await;
    assert_eq!(hedges, 1);
    while others.iter().any(|node| node.in_good_standing()) {
        hedges = slow().await;
        assert!(hedges <= 2, "at most one for each");
    }
    // Past the longest time that a breaker is open. Each would be allowed a try, which is not spent on
    // a guess.
    tokio::time::sleep(open * 20).await;
    assert_eq!(slow().await, hedges, "nobody is left to be asked");
    assert!(others.iter().all(|node| node.allows()), "the tries are still there");
}

#[tokio::test]
async fn a_node_that_hangs_behind_hedges_is_found_out() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let open = Duration::from_secs(60);
        let options = Options { breaker_failures: 2, breaker_open: open, door, ..nodes.options() };
        let client = client(&nodes, options).await;
        nodes.script(1, vec![Act::Hang; 100]);
        for _ in 0..2 {
            let started = now();
            assert!(client.get("k").await.unwrap().is_some());
            assert!(now() - started < nodes.options().attempt, "{door:?}");
        }
        eventually("asked twice", || nodes.served()[0] == 3).await;
        // Both attempts are heard out; the second to end opens the breaker.
        let node = client.inner.router.pick(SLOT, false, None).unwrap().node;
        assert_eq!(node.address, nodes.addrs[0]);
        eventually("left alone", || !node.in_good_standing()).await;
        let before = nodes.served()[0];
        client.set("k", "w").await.unwrap();
        assert_eq!(nodes.served()[0], before, "{door:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_slower_than_a_hedge_but_answers_is_not_left_alone() {
    for door in [Door::Pipeline, Door::Unary] {
        let nodes = Nodes::start().await;
        let options = Options { breaker_failures: 1, door, ..nodes.options() };
        let client = client(&nodes, options).await;
        for round in 1..=5 {
            nodes.script(1, vec![Act::Late(LATE)]);
            assert!(client.get("k").await.unwrap().is_some());
            assert_eq!(client.stats().hedges, round, "{door:?}");
            let node = client.inner.router.pick(SLOT, false, None).unwrap().node;
            assert_eq!(node.address, nodes.addrs[0], "still the first choice");
            eventually("heard out", || node.heard_out.available_permits() == 1).await;
            assert!(node.in_good_standing(), "{door:?}");
        }
        assert_eq!(nodes.served()[0], 6, "{door:?}");
    }
}
