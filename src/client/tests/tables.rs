//! The routing table: from whom it is taken.

use super::fakes::{Nodes, eventually};
use crate::client::Options;
use crate::client::router::Router;

/// Whoever is asked first, the table of the epoch that was seen is found.
#[tokio::test]
async fn a_node_that_is_behind_does_not_satisfy() {
    let nodes = Nodes::start().await;
    nodes.pin(1);
    nodes.pin(2);
    nodes.publish(2);
    for first in 0..3 {
        let options = Options { seeds: vec![nodes.addrs[0].clone()], ..nodes.options() };
        let router = Router::new(options).unwrap();
        router.refresh().await.unwrap();
        assert_eq!(router.table().epoch, 1, "the seed is behind, and nothing newer was seen");
        router.take_turns(first);
        router.saw_epoch(2);
        router.refresh().await.unwrap();
        assert_eq!(router.table().epoch, 2, "turn {first}");
    }
}

#[tokio::test]
async fn an_epoch_that_nobody_knows_any_more_is_given_up() {
    let nodes = Nodes::start().await;
    let router = Router::new(nodes.options()).unwrap();
    router.refresh().await.unwrap();
    router.saw_epoch(9);
    let before = router.counts.refreshes.load(std::sync::atomic::Ordering::Relaxed);
    let failure = router.refresh().await.unwrap_err();
    assert!(failure.message.contains("has epoch 1, another had 9"), "{}", failure.message);
    let asked = router.counts.refreshes.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert_eq!(asked, 3, "each node once");
    router.refresh().await.expect("nobody has it: what all have is the newest");
    nodes.publish(9);
    router.saw_epoch(9);
    router.refresh().await.unwrap();
    assert_eq!(router.table().epoch, 9);
}

#[tokio::test]
async fn one_node_that_knows_more_is_enough() {
    let nodes = Nodes::start().await;
    let client = nodes.client().await;
    nodes.pin(2);
    nodes.pin(3);
    nodes.publish(2);
    client.set("k", "v").await.unwrap();
    eventually("the table of the answering node", || client.stats().epoch == 2).await;
}
