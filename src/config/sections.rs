//! Every key of the configuration, with its unit, its default and its range.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bounds::{Limits, Peer};
use super::source::{list, text};
use crate::raft::settings::RaftSettings;
use crate::types::limits;

/// The whole configuration of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// Under which addresses others reach it.
    pub advertise: Addresses,
    /// The cluster it belongs to. Must be the same on every node when the cluster forms.
    pub cluster: Cluster,
    /// What an acknowledged write has survived. Default `wal`.
    pub durability: Durability,
    /// The write-ahead log, where there is one.
    pub wal: Wal,
    /// Timers and choices of the Raft layer. Should be the same on every node.
    pub raft: Raft,
    /// Its connections to other nodes.
    pub peer: Peer,
    /// The port for clients of Redis.
    pub resp: Resp,
    /// Bounds of this node (INV-8). Past them a caller gets a clear error at once.
    pub limits: Limits,
    /// The threads it works with.
    pub runtime: Runtime,
    /// How it stops.
    pub shutdown: Shutdown,
    /// What it says.
    pub log: Log,
}

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Its number: at least 1, unique in the cluster, never given to another machine. 0, the
    /// default, means "not set" and is refused.
    pub id: u64,
    /// Its failure domain, 1..=64 bytes. Three replicas go to three zones where there are three.
    /// Default `default`.
    #[serde(deserialize_with = "text")]
    pub zone: String,
    /// Directory for the logs and snapshots of this node alone. Default `data`.
    pub data_dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Node { id: 0, zone: "default".to_owned(), data_dir: PathBuf::from("data") }
    }
}

/// Where a node listens. Port 0 lets the operating system choose, which is for tests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// gRPC for clients. Default `127.0.0.1:8080`.
    pub grpc: SocketAddr,
    /// HTTP for operators: readiness, metrics, status. Default `127.0.0.1:8081`.
    pub http: SocketAddr,
    /// Clients of Redis. Default `127.0.0.1:7001`.
    pub resp: SocketAddr,
    /// Other nodes. Not authenticated: keep it on a private network. Default `127.0.0.1:9001`.
    pub peer: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Listen { grpc: local(8080), http: local(8081), resp: local(7001), peer: local(9001) }
    }
}

/// Addresses as others reach them, `host:port`. Empty, the default, means "as in `listen`", which
/// needs an address there that others can reach (not `0.0.0.0`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Addresses {
    /// gRPC, for clients that are sent to another node.
    pub grpc: String,
    /// HTTP, for operators.
    pub http: String,
    /// Port for clients of Redis, which `CLUSTER SLOTS` and `MOVED` name.
    pub resp: String,
    /// Peer port, for other nodes.
    pub peer: String,
}

/// The cluster a node belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Peer addresses (`host:port`) of the nodes that form the cluster, the own one among them; at
    /// most 64. Default none, which is only for a cluster of one node. The environment takes
    /// `a:9001,b:9001`.
    #[serde(deserialize_with = "list")]
    pub seeds: Vec<String>,
    /// Nodes to wait for before the cluster forms, 1..=64. Default 3.
    pub expected_nodes: u16,
    /// Shards the keyspace is split into, 1..=1024. 16 to 64 are right for three nodes. Default 16.
    pub shards: u16,
    /// Replicas of each shard: 1, 3 or 5, at most `expected_nodes`. Default 3.
    pub replicas: u16,
    /// Logical bytes a shard may hold when it is created, at least 1 MiB. Every replica needs that
    /// much memory, so a node needs about `shards * replicas / nodes` times this. Later changed
    /// only through the shard's log. Default 64 MiB.
    pub shard_bytes_max: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            seeds: Vec::new(),
            expected_nodes: 3,
            shards: limits::SHARDS_DEFAULT,
            replicas: limits::REPLICAS_DEFAULT,
            shard_bytes_max: limits::SHARD_BYTES_MAX_DEFAULT,
        }
    }
}

/// What an acknowledged write has survived, and what a node that restarts still has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// In the memory of a majority. A node that restarts does not take its replicas back yet; a
    /// shard whose majority restarted starts again empty, in a new generation.
    Memory,
    /// Flushed to the disks of a majority before it is acknowledged.
    #[default]
    Wal,
    /// Written by a majority, flushed every `wal.flush_interval_ms`: survives a crash of the
    /// process, not of the operating system.
    WalAsync,
}

/// The write-ahead log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wal {
    /// Which engine: `sled` or `raft-engine`, for the shards' log and the controller's. A data
    /// directory stays with the engine that made it. Default `sled`.
    pub engine: WalEngine,
    /// Milliseconds between flushes in `wal-async`, 1..=10000. Default 50.
    pub flush_interval_ms: u64,
    /// Room that stays free on the disk of `node.data_dir`, bytes, at most 1 TiB. With less, the
    /// node hands its leaderships over, and refuses writes where it could not. 0 looks at nothing.
    /// Default 64 MiB.
    pub reserve_bytes: u64,
    /// Start in durability `memory` on a data directory that holds logs, which are then moved to its
    /// subdirectory `set-aside` and served no more. Without it the node refuses to start. Default false.
    pub discard_logs: bool,
    /// Replicas that the cluster has taken off this node and whose logs and snapshots it keeps, 1..=4096.
    /// Past it the oldest are deleted. Default 64.
    pub set_aside_replicas_max: usize,
    /// Whole stores in the subdirectory `set-aside`, damaged ones and those of `wal.discard_logs`, 1..=64.
    /// Past it the oldest are deleted. Default 4.
    pub set_aside_stores_max: usize,
}

impl Default for Wal {
    fn default() -> Self {
        Wal {
            engine: WalEngine::Sled,
            flush_interval_ms: 50,
            reserve_bytes: limits::WAL_RESERVE_BYTES_DEFAULT,
            discard_logs: false,
            set_aside_replicas_max: limits::SET_ASIDE_REPLICAS_DEFAULT,
            set_aside_stores_max: limits::SET_ASIDE_STORES_DEFAULT,
        }
    }
}

/// Engine of the write-ahead log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalEngine {
    /// sled 0.34.7.
    Sled,
    /// raft-engine 0.4.2.
    RaftEngine,
}

/// Timers and choices of the Raft layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    /// Milliseconds between heartbeats of a leader, 10..=10000. Default 150.
    pub heartbeat_ms: u64,
    /// Shortest election time-out, milliseconds: at least 3 heartbeats. Default 750.
    pub election_ms_min: u64,
    /// Longest election time-out, milliseconds: above the shortest (a random spread keeps votes
    /// from splitting), at most 60000. Default 1500.
    pub election_ms_max: u64,
    /// Ask before campaigning, so that a node that was cut off does not disturb a leader when it
    /// returns. Default true.
    pub pre_vote: bool,
    /// Allow reads at consistency `lease`, which trust clocks not to drift by a quarter of the
    /// lease. Default false: such reads are served as linearizable.
    pub lease_reads: bool,
    /// Bytes of log a replica keeps before it takes a snapshot, at least 1 MiB; one whose
    /// state is larger than twice that waits until the log takes half of the state's bytes. Default
    /// 8 MiB.
    pub snapshot_log_bytes: u64,
    /// Raft entries (batches of operations) in flight at one group, 1..=64. Default 8.
    pub batches_in_flight: usize,
    /// Append messages in flight to one follower of one group, 1..=64. Default 4.
    pub appends_in_flight: usize,
}

impl Default for Raft {
    fn default() -> Self {
        let own = RaftSettings::default();
        Raft {
            heartbeat_ms: own.heartbeat_ms,
            election_ms_min: own.election_ms_min,
            election_ms_max: own.election_ms_max,
            pre_vote: own.pre_vote,
            lease_reads: own.lease_reads,
            snapshot_log_bytes: own.snapshot_log_bytes,
            batches_in_flight: own.batches_in_flight,
            appends_in_flight: own.appends_in_flight,
        }
    }
}

/// How a node stops on SIGTERM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Milliseconds between "not ready" and the first step, so that load balancers see it,
    /// 0..=60000. Default 0.
    pub unready_ms: u64,
    /// Milliseconds for handing leaderships over, 0..=60000. Default 5000.
    pub hand_over_ms: u64,
    /// Milliseconds for finishing what is in flight, 0..=600000. Default 10000.
    pub drain_ms: u64,
}

/// The port for clients of Redis.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resp {
    /// What a connection is answered for a key that another node leads: `moved` tells it where to
    /// go, `forward` fetches the answer from there, `auto` does the first for connections that have
    /// asked for the slots of the cluster and the second for all others. Default `auto`.
    pub redirect: Redirect,
    /// How old what a connection in `READONLY` reads may be, milliseconds, 1..=600000. Default 5000.
    pub readonly_staleness_ms: u64,
    /// Whether `DEBUG SLEEP` and its like are served, which is for tests. Default false.
    pub debug_commands: bool,
}

impl Default for Resp {
    fn default() -> Self {
        Resp {
            redirect: Redirect::Auto,
            readonly_staleness_ms: limits::RESP_READONLY_STALENESS_MS,
            debug_commands: false,
        }
    }
}

/// What a client of Redis is answered for a key that another node leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// As the connection behaves.
    Auto,
    /// Where to go.
    Moved,
    /// The answer from there.
    Forward,
}

/// The threads of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Threads that do the work, 0..=1024; 0 stands for one a core. Nodes that share a machine
    /// should share its cores. Default 0.
    pub worker_threads: usize,
    /// Milliseconds without a task that runs after which the process counts as not alive,
    /// 1000..=600000. Default 5000.
    pub watchdog_stall_ms: u64,
    /// Milliseconds after which such a process ends itself, at least `watchdog_stall_ms`, at most
    /// 3600000; 0: never. Default 30000.
    pub watchdog_abort_ms: u64,
}

impl Default for Runtime {
    fn default() -> Self {
        Runtime { worker_threads: 0, watchdog_stall_ms: 5_000, watchdog_abort_ms: 30_000 }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { unready_ms: 0, hand_over_ms: 5_000, drain_ms: limits::SHUTDOWN_GRACE_MS }
    }
}

/// What a node says on standard error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines look. Default `auto`.
    pub format: LogFormat,
    /// Which lines, as directives of `tracing-subscriber`'s `EnvFilter`, for example
    /// `info,raftcache::raft=debug`. Default `info,openraft=error`.
    #[serde(deserialize_with = "text")]
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Auto, filter: "info,openraft=error".to_owned() }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `human` on a terminal, else `json`.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// A valid configuration of a cluster of one node in memory: free ports, four small shards,
    /// short timers. Set `node.data_dir` to a directory of the test.
    pub fn for_tests() -> Config {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Config {
            node: Node { id: 1, ..Node::default() },
            listen: Listen { grpc: any, http: any, resp: any, peer: any },
            cluster: Cluster {
                expected_nodes: 1,
                shards: 4,
                replicas: 1,
                shard_bytes_max: 4 * 1024 * 1024,
                ..Cluster::default()
            },
            durability: Durability::Memory,
            raft: Raft {
                heartbeat_ms: 50,
                election_ms_min: 250,
                election_ms_max: 500,
                ..Raft::default()
            },
            ..Config::default()
        }
    }

    /// Addresses under which others reach this node: `advertise` where set, else `listen`.
    pub fn advertised(&self) -> Addresses {
        let or_listen = |advertised: &str, listen: SocketAddr| {
            if advertised.is_empty() { listen.to_string() } else { advertised.to_owned() }
        };
        Addresses {
            grpc: or_listen(&self.advertise.grpc, self.listen.grpc),
            http: or_listen(&self.advertise.http, self.listen.http),
            resp: or_listen(&self.advertise.resp, self.listen.resp),
            peer: or_listen(&self.advertise.peer, self.listen.peer),
        }
    }
}
