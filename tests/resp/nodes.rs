//! Nodes in this process.

use std::sync::Arc;
use std::time::Duration;

use raftcache::config::{Cluster, Config, Listen, Node};
use raftcache::node::serve::{self, Served};
use raftcache::service::Execute;
use raftcache::types::clock::now;
use raftcache::types::{NodeId, SLOTS, ShardId, Slot};

use crate::client::Client;
use crate::ports::free_ports;

/// How long a cluster may take to form, on a busy machine.
const FORMS: Duration = Duration::from_secs(180);

pub struct Nodes {
    pub served: Vec<Served>,
    /// Where clients of Redis reach them.
    pub resp: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Nodes {
    /// So many nodes, with what `change` makes of their configurations.
    pub async fn start(nodes: u16, change: impl Fn(&mut Config)) -> Nodes {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(4 * usize::from(nodes), 1);
        let address = |port: u16| format!("127.0.0.1:{port}").parse().unwrap();
        let seeds: Vec<String> = ports.chunks(4).map(|p| format!("127.0.0.1:{}", p[2])).collect();
        let (mut served, mut resp) = (Vec::new(), Vec::new());
        for (id, p) in (1..).zip(ports.chunks(4)) {
            let mut config = Config::for_tests();
            config.node =
                Node { id, zone: format!("z{id}"), data_dir: dir.path().join(id.to_string()) };
            config.listen = Listen {
                grpc: address(p[0]),
                http: address(p[1]),
                peer: address(p[2]),
                resp: address(p[3]),
            };
            config.cluster = Cluster {
                seeds: if nodes == 1 { Vec::new() } else { seeds.clone() },
                expected_nodes: nodes,
                replicas: if nodes < 3 { 1 } else { 3 },
                ..config.cluster
            };
            config.shutdown.hand_over_ms = 0;
            // A busy machine is no overload here: `tests/overload` is about that.
            config.limits.door_delay_target_ms = 60_000;
            config.limits.queue_delay_target_ms = 60_000;
            change(&mut config);
            config.validate().unwrap();
            resp.push(config.listen.resp.to_string());
            served.push(serve::start(&config).await.unwrap());
        }
        let nodes = Nodes { served, resp, _dir: dir };
        nodes.until("all nodes are ready", || nodes.served.iter().all(|n| n.readiness().0)).await;
        nodes
    }

    /// One node with the defaults of tests.
    pub async fn one() -> Nodes {
        Nodes::start(1, |_| {}).await
    }

    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = now() + FORMS;
        while !holds() {
            assert!(now() < deadline, "{what}: not within {FORMS:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn client(&self, at: usize) -> Client {
        Client::connect(&self.resp[at]).await
    }

    /// Position of the node that leads the shard of `slot`, once all nodes agree.
    pub async fn leader_at(&self, slot: Slot) -> usize {
        let mut found = None;
        self.until("a leader is agreed on", || {
            let leaders: Vec<_> = self
                .served
                .iter()
                .map(|served| {
                    let service = Arc::new(served.node().service().clone());
                    let shard: Option<ShardId> = service.table().owner(slot);
                    shard.and_then(|shard| service.leader(shard))
                })
                .collect();
            found = leaders[0].filter(|_| leaders.iter().all(|leader| *leader == leaders[0]));
            found.is_some()
        })
        .await;
        let NodeId(id) = found.unwrap();
        usize::try_from(id).unwrap() - 1
    }

    /// Waits until every shard has a leader that all nodes know.
    pub async fn leader_of_each_shard(&self) {
        let table = self.served[0].node().service().table();
        for shard in table.shards.keys() {
            let of_shard = |slot: &u16| table.owner(Slot(*slot)) == Some(*shard);
            let slot = (0..SLOTS).find(of_shard).expect("a shard has slots");
            self.leader_at(Slot(slot)).await;
        }
    }

    pub async fn stop(self) {
        futures_util::future::join_all(self.served.into_iter().map(Served::stop_with_all)).await;
    }
}
