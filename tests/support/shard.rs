//! A shard's group of three replicas in one process over the simulated network.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use raftcache::core::machine::MachineConfig;
use raftcache::core::slot_set::SlotSet;
use raftcache::raft::heartbeat::Heartbeats;
use raftcache::raft::lost_replicas::LostReplicas;
use raftcache::raft::replica::ReplicaDeps;
use raftcache::raft::runtime::seed_thread;
use raftcache::raft::settings::RaftSettings;
use raftcache::raft::shard_group::ShardGroup;
use raftcache::storage::disk::{Disk, RealDisk};
use raftcache::storage::health::Reporter;
use raftcache::storage::sim_files::SimFiles;
use raftcache::storage::snapshot_files::SnapshotFiles;
use raftcache::storage::wal::Wal;
use raftcache::transport::sim::SimNetwork;
use raftcache::transport::{FrameKind, Handler, Refusal};
use raftcache::types::clock::{Clock, Instant, SimClock, SystemClock, now};
use raftcache::types::metrics::Metrics;
use raftcache::types::{
    Answer, Command, Condition, Consistency, Error, Expiry, Found, GroupId, LogKey, NodeId, Query,
    ReplicaId, Set, Value, ValueKind, Write,
};
use tokio_util::sync::CancellationToken;

pub const GROUP: GroupId = GroupId(1);
pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

#[derive(Clone, Default)]
struct Door(Arc<RwLock<Option<ShardGroup>>>);

impl Handler for Door {
    fn handle(
        &self,
        from: NodeId,
        _group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let group = self.0.read().clone();
        Box::pin(async move {
            let group = group.ok_or_else(|| Refusal("no such group".to_owned()))?;
            group.replica().handle(from, kind, payload).await
        })
    }
}

/// How to build a cluster.
pub struct Plan<'a> {
    pub seed: u64,
    pub bytes_max: u64,
    pub settings: RaftSettings,
    /// Real snapshot files below this directory, and the machine's clock; else all is simulated.
    pub dir: Option<&'a Path>,
    /// One write-ahead log a node.
    pub wals: Vec<Arc<dyn Wal>>,
}

pub struct Cluster {
    pub network: SimNetwork,
    pub groups: BTreeMap<NodeId, ShardGroup>,
    pub clocks: BTreeMap<NodeId, Arc<SimClock>>,
    pub metrics: BTreeMap<NodeId, Arc<Metrics>>,
    cancel: CancellationToken,
}

impl Plan<'_> {
    pub fn simulated(seed: u64, bytes_max: u64) -> Self {
        Plan { seed, bytes_max, settings: RaftSettings::default(), dir: None, wals: Vec::new() }
    }
}

impl Cluster {
    pub async fn start(plan: Plan<'_>) -> Self {
        if plan.dir.is_none() {
            seed_thread(plan.seed);
        }
        let network = SimNetwork::new(plan.seed);
        let cancel = CancellationToken::new();
        let mut cluster = Cluster {
            network,
            groups: BTreeMap::new(),
            clocks: BTreeMap::new(),
            metrics: BTreeMap::new(),
            cancel,
        };
        for node in NODES {
            cluster.start_node(node, &plan).await;
        }
        let members: Vec<_> = NODES.iter().map(|node| (ReplicaId(node.0), *node)).collect();
        cluster.groups[&NODES[0]].replica().initialize(&members).await.unwrap();
        cluster
    }

    async fn start_node(&mut self, node: NodeId, plan: &Plan<'_>) {
        let door = Door::default();
        self.network.register(node, Arc::new(door.clone()));
        let disk: Arc<dyn Disk> = match plan.dir {
            Some(_) => Arc::new(RealDisk),
            None => SimFiles::new(node.0),
        };
        let dir = plan.dir.unwrap_or(Path::new("/snapshots")).join(node.to_string());
        let mut files = SnapshotFiles::new(disk, dir).unwrap();
        if plan.wals.is_empty() {
            files = files.without_sync();
        }
        let metrics = Metrics::new();
        let beat = Duration::from_millis(plan.settings.heartbeat_ms);
        let deps = ReplicaDeps {
            transport: self.network.transport(node),
            wal: plan.wals.get(self.groups.len()).cloned(),
            files: Arc::new(files),
            storage: Reporter::unwatched(Arc::clone(&metrics)),
            lost: LostReplicas::default(),
            heartbeats: Heartbeats::start(beat, self.cancel.clone()),
            settings: plan.settings.clone(),
            metrics: Arc::clone(&metrics),
        };
        let machine = MachineConfig {
            bytes_max: plan.bytes_max,
            hash_seed: 3,
            versions_from: 0,
            owned: SlotSet::all(),
        };
        let key = LogKey { group: GROUP, replica: ReplicaId(node.0) };
        let sim = SimClock::new(1_000_000_000);
        let clock: Arc<dyn Clock> =
            if plan.dir.is_some() { Arc::new(SystemClock) } else { sim.clone() };
        let group = ShardGroup::start(key, node, machine, false, deps, clock).await.unwrap();
        *door.0.write() = Some(group.clone());
        self.groups.insert(node, group);
        self.clocks.insert(node, sim);
        self.metrics.insert(node, metrics);
    }

    /// A leader that a majority acknowledges, among those not in `without`.
    pub async fn leader(&self, without: &[NodeId]) -> (NodeId, ShardGroup) {
        let deadline = now() + Duration::from_secs(60);
        loop {
            for (node, group) in &self.groups {
                if !without.contains(node)
                    && group.replica().is_leader()
                    && group.replica().barrier(now() + Duration::from_secs(2)).await.is_ok()
                {
                    return (*node, group.clone());
                }
            }
            assert!(now() < deadline, "no leader within a minute");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn others(&self, node: NodeId) -> Vec<NodeId> {
        NODES.iter().copied().filter(|n| *n != node).collect()
    }

    /// Waits until all replicas stand at one index; their digests must then agree (INV-3).
    pub async fn wait_equal(&self) -> u64 {
        let deadline = now() + Duration::from_secs(60);
        loop {
            let states: Vec<(u64, u64)> = self
                .groups
                .values()
                .map(|g| g.replica().with_applied(|m, _, index| (index, m.digest())))
                .collect();
            if states.windows(2).all(|w| w[0].0 == w[1].0) {
                assert!(states.windows(2).all(|w| w[0] == w[1]), "INV-3: {states:?}");
                return states[0].1;
            }
            assert!(now() < deadline, "replicas did not reach one index: {states:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn digest_mismatches(&self) -> u64 {
        self.metrics.values().map(|m| m.digest_mismatches.get()).sum()
    }

    pub async fn shutdown(&self) {
        for group in self.groups.values() {
            group.shutdown().await;
        }
        self.cancel.cancel();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>, expiry: Expiry) -> Write {
    let value = Value { data: value.into(), kind: ValueKind::Bytes };
    let set = Set { key: key.into(), value, expiry, condition: Condition::Always };
    Write { request_id: None, command: Command::Set(set) }
}

pub fn within(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}

pub async fn read(
    group: &ShardGroup,
    keys: &[Bytes],
    consistency: Consistency,
) -> Result<Vec<Option<Found>>, Error> {
    let queries = keys.iter().map(|key| Query::Get { key: key.clone() }).collect();
    let (answers, _) = group.read(queries, consistency, within(5)).await?;
    Ok(answers.into_iter().map(Answer::into_found).collect())
}

/// SplitMix64, Steele et al. 2014.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
