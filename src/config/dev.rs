//! The nodes of `raftcache dev`: a whole cluster on this machine, in one process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Cluster, Config, Durability, Listen, Node, Problem, Wal};
use crate::types::limits;

/// What `raftcache dev` may be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DevOptions {
    /// Nodes, 1..=64.
    pub nodes: u16,
    /// Shards, 1..=1024.
    pub shards: u16,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Parent of the nodes' directories `node1`, `node2`, ...
    pub data_dir: PathBuf,
    /// gRPC port of the first node; each next one has 2 more.
    pub grpc_port: u16,
    /// HTTP port of the first node; each next one has 2 more.
    pub http_port: u16,
    /// Port for clients of Redis of the first node; each next one has 1 more.
    pub resp_port: u16,
    /// Peer port of the first node; each next one has 1 more.
    pub peer_port: u16,
    /// Logical bytes a shard may hold.
    pub shard_bytes_max: u64,
    /// Whether logs that `durability` would not use are moved aside.
    pub discard_logs: bool,
}

impl DevOptions {
    /// Three nodes in memory on the usual ports, data below `data_dir`.
    pub fn new(data_dir: PathBuf) -> Self {
        DevOptions {
            nodes: 3,
            shards: limits::SHARDS_DEFAULT,
            durability: Durability::Memory,
            data_dir,
            grpc_port: 8080,
            http_port: 8081,
            resp_port: 7001,
            peer_port: 9001,
            shard_bytes_max: limits::SHARD_BYTES_MAX_DEFAULT,
            discard_logs: false,
        }
    }

    /// One configuration a node, checked together.
    pub fn configs(&self) -> Result<Vec<Config>, super::Error> {
        let problem = |key, problem| super::Error::Invalid(vec![Problem { key, problem }]);
        if !(1..=64).contains(&self.nodes) {
            return Err(problem("--nodes", format!("{} is not within 1..=64", self.nodes)));
        }
        let address = |key, first: u16, step: u16, i: u16| {
            let port = first.checked_add(step * i).ok_or_else(|| {
                problem(key, format!("{first} leaves no room for {} ports", self.nodes))
            })?;
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        };
        let mut listens = Vec::new();
        for i in 0..self.nodes {
            listens.push(Listen {
                grpc: address("--grpc-port", self.grpc_port, 2, i)?,
                http: address("--http-port", self.http_port, 2, i)?,
                resp: address("--resp-port", self.resp_port, 1, i)?,
                peer: address("--peer-port", self.peer_port, 1, i)?,
            });
        }
        let mut taken = std::collections::BTreeSet::new();
        for address in listens.iter().flat_map(|l| [l.grpc, l.http, l.resp, l.peer]) {
            if !taken.insert(address) {
                return Err(problem("--grpc-port", format!("{address} is wanted twice")));
            }
        }
        let seeds: Vec<String> = listens.iter().map(|listen| listen.peer.to_string()).collect();
        let configs: Vec<Config> =
            (1..).zip(listens).map(|(id, listen)| self.config(id, listen, &seeds)).collect();
        for config in &configs {
            config.validate()?;
        }
        Ok(configs)
    }

    fn config(&self, id: u64, listen: Listen, seeds: &[String]) -> Config {
        Config {
            node: Node {
                id,
                zone: format!("dev{id}"),
                data_dir: self.data_dir.join(format!("node{id}")),
            },
            listen,
            cluster: Cluster {
                seeds: seeds.to_vec(),
                expected_nodes: self.nodes,
                shards: self.shards,
                // Of fewer than three nodes one replica is the honest number: two are no safer.
                replicas: if self.nodes < 3 { 1 } else { 3 },
                shard_bytes_max: self.shard_bytes_max,
            },
            durability: self.durability,
            wal: Wal { discard_logs: self.discard_logs, ..Wal::default() },
            ..Config::default()
        }
    }
}
