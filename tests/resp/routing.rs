//! `MOVED` for cluster clients, forwarding for plain ones, and what the cluster says of itself.

use raftcache::core::slot::slot_of;

use crate::client::{Reply, bulk, error, ok};
use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_clients_are_forwarded_and_cluster_clients_are_sent() {
    let nodes = Nodes::start(3, |_| {}).await;
    let key = "routed";
    let slot = slot_of(key.as_bytes());
    let leader = nodes.leader_at(slot).await;
    let elsewhere = (leader + 1) % 3;
    let mut plain = nodes.client(elsewhere).await;
    assert_eq!(plain.call(&["SET", key, "1"]).await, ok());
    assert_eq!(plain.call(&["MSET", "a", "1", "b", "2", "c", "3"]).await, ok());
    let moved = error(&format!("MOVED {} {}", slot.0, nodes.resp[leader]));
    let mut cluster = nodes.client(elsewhere).await;
    let slots = cluster.ask("CLUSTER SLOTS").await;
    covers_every_slot(&slots);
    assert_eq!(cluster.call(&["GET", key]).await, moved);
    let crossed = error("CROSSSLOT Keys in request don't hash to the same slot");
    assert_eq!(cluster.ask("MGET a b").await, crossed);
    assert_eq!(cluster.ask("PING").await, Reply::Simple("PONG".to_owned()));
    // A queued command that belongs elsewhere spoils its transaction.
    assert_eq!(cluster.ask("MULTI").await, ok());
    assert_eq!(cluster.call(&["GET", key]).await, moved);
    assert!(cluster.ask("EXEC").await.text().starts_with("EXECABORT"));
    // The node that it names serves it.
    let mut sent = nodes.client(leader).await;
    assert_eq!(sent.ask("CLIENT REDIRECT MOVED").await, ok());
    assert_eq!(sent.call(&["GET", key]).await, bulk("1"));
    // Each connection may choose.
    assert_eq!(cluster.ask("CLIENT REDIRECT FORWARD").await, ok());
    assert_eq!(cluster.call(&["GET", key]).await, bulk("1"));
    assert_eq!(plain.ask("CLIENT REDIRECT MOVED").await, ok());
    assert_eq!(plain.call(&["GET", key]).await, moved);
    readonly(&nodes, elsewhere, key).await;
    nodes.stop().await;
}

/// A replica answers reads of a connection in READONLY, and nothing else.
async fn readonly(nodes: &Nodes, elsewhere: usize, key: &str) {
    let mut client = nodes.client(elsewhere).await;
    assert_eq!(client.ask("CLIENT REDIRECT MOVED").await, ok());
    assert_eq!(client.ask("READONLY").await, ok());
    assert_eq!(client.call(&["GET", key]).await, bulk("1"));
    assert!(client.call(&["SET", key, "2"]).await.text().starts_with("MOVED "));
    assert_eq!(client.ask("READWRITE").await, ok());
    assert!(client.call(&["GET", key]).await.text().starts_with("MOVED "));
    assert_eq!(client.ask("ASKING").await, ok());
}

/// The ranges lie side by side from the first slot to the last, each with a node that has an address.
fn covers_every_slot(slots: &Reply) {
    let mut next = 0;
    for range in slots.items() {
        let [Reply::Integer(first), Reply::Integer(last), master, ..] = range.items() else {
            panic!("{range:?}")
        };
        assert_eq!(*first, next);
        next = last + 1;
        let [host, Reply::Integer(port), id, _] = master.items() else { panic!("{master:?}") };
        assert_eq!((host.text(), id.text().len()), ("127.0.0.1", 40));
        assert!(*port > 0);
    }
    assert_eq!(next, 16_384);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_tells_who_leads_what() {
    let nodes = Nodes::start(3, |_| {}).await;
    nodes.leader_at(slot_of(b"k")).await;
    let mut client = nodes.client(0).await;
    assert_eq!(
        client.ask("CLUSTER KEYSLOT {user}.x").await,
        Reply::Integer(i64::from(slot_of(b"user").0))
    );
    let id = client.ask("CLUSTER MYID").await;
    let text = client.ask("CLUSTER NODES").await;
    let lines: Vec<&str> = text.text().lines().collect();
    assert_eq!(lines.len(), 3);
    let own = lines.iter().find(|line| line.contains("myself")).unwrap();
    assert!(own.starts_with(id.text()) && own.contains(&nodes.resp[0]), "{own}");
    let slots: usize = lines
        .iter()
        .flat_map(|line| line.split(' ').skip(8))
        .map(|range| match range.split_once('-') {
            Some((first, last)) => {
                last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap()
            }
            None => 1,
        })
        .sum();
    assert_eq!(slots, 16_384);
    let info = client.ask("CLUSTER INFO").await;
    assert!(info.text().contains("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
    assert_eq!(client.ask("CLUSTER SHARDS").await.items().len(), 3);
    assert_eq!(
        client.ask("WAIT 1 0").await,
        Reply::Integer(1),
        "of three, one other surely has it"
    );
    // Keys of a slot, wherever it is led.
    let mut plain = nodes.client(1).await;
    for key in ["{tag}1", "{tag}2"] {
        assert_eq!(plain.call(&["SET", key, "1"]).await, ok());
    }
    let slot = slot_of(b"tag").0.to_string();
    assert_eq!(plain.call(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).await, Reply::Integer(2));
    let keys = plain.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
    let mut found: Vec<&str> = keys.items().iter().map(Reply::text).collect();
    found.sort_unstable();
    assert_eq!(found, ["{tag}1", "{tag}2"]);
    assert_eq!(plain.ask("CLUSTER COUNTKEYSINSLOT 16384").await, error("ERR Invalid slot"));
    nodes.stop().await;
}
