//! One real node in this process.

use std::time::Duration;

use raftcache::config::{Config, Durability};
use raftcache::core::cluster::alarms::{AlarmKind, RaiseAlarm};
use raftcache::core::table::ReplicaPlacement;
use raftcache::front::pb::admin_service_client::AdminServiceClient;
use raftcache::front::pb::cache_service_client::CacheServiceClient;
use raftcache::node::serve::{Served, start};
use raftcache::types::clock::now;
use raftcache::types::{Error, NodeId, ReplicaId, ShardId};
use tonic::transport::Channel;

use crate::caller::Caller;
use crate::ports::free_ports;

pub struct OneNode {
    pub http: Caller,
    pub grpc: CacheServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    served: Served,
    _dir: tempfile::TempDir,
}

impl OneNode {
    pub async fn start() -> OneNode {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(3, 1);
        let addr = |at: usize| std::net::SocketAddr::from(([127, 0, 0, 1], ports[at]));
        let mut config = Config::default();
        config.node.id = 1;
        config.node.data_dir = dir.path().to_owned();
        (config.listen.grpc, config.listen.http, config.listen.peer) = (addr(0), addr(1), addr(2));
        config.cluster.seeds = vec![addr(2).to_string()];
        config.cluster.expected_nodes = 1;
        config.cluster.replicas = 1;
        config.cluster.shards = 4;
        config.durability = Durability::Memory;
        let served = start(&config).await.unwrap();
        let started = now();
        while !served.readiness().0 {
            assert!(now() - started < Duration::from_secs(180), "{:?}", served.readiness());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let grpc = CacheServiceClient::connect(format!("http://{}", addr(0))).await.unwrap();
        let admin = AdminServiceClient::connect(format!("http://{}", addr(0))).await.unwrap();
        OneNode { http: Caller::new(addr(1).to_string()), grpc, admin, served, _dir: dir }
    }

    /// As a part of the node does that found something about one of its replicas.
    pub async fn raise(&self, kind: AlarmKind, shard: u16) -> Result<(), Error> {
        let replica = ReplicaPlacement { replica: ReplicaId(77), node: NodeId(1) };
        let raise = RaiseAlarm { kind, shard: ShardId(shard), replica };
        let deadline = now() + Duration::from_secs(20);
        self.served.node().controller().raise_alarm(raise, deadline).await
    }

    pub async fn stop(self) {
        drop((self.grpc, self.admin));
        self.served.stop().await.unwrap();
    }
}
