//! A group of three over the simulated network and simulated disks, under virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeats;
use super::lost_replicas::LostReplicas;
use super::replica::{ReplicaDeps, StartError};
use super::settings::RaftSettings;
use super::shard_group::ShardGroup;
use crate::core::machine::MachineConfig;
use crate::core::slot_set::SlotSet;
use crate::storage::health::Reporter;
use crate::storage::sim_files::SimFiles;
use crate::storage::sim_wal::{SimDisk, SimWal};
use crate::storage::snapshot_files::SnapshotFiles;
use crate::storage::wal::Wal;
use crate::transport::sim::SimNetwork;
use crate::transport::{self, FrameKind, Handler, Refusal, SharedTransport, Transport};
use crate::types::clock::{Instant, SimClock, now};
use crate::types::metrics::Metrics;
use crate::types::{
    Answer, Command, Condition, Consistency, Error, Expiry, GroupId, LogKey, NodeId, Query,
    ReplicaId, Set, Value, ValueKind, Write,
};

pub const GROUP: GroupId = GroupId(1);

#[derive(Clone, Default)]
pub struct NodeHandler {
    pub group: Arc<RwLock<Option<ShardGroup>>>,
}

impl Handler for NodeHandler {
    fn handle(
        &self,
        from: NodeId,
        _group: GroupId,
        kind: FrameKind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let group = self.group.read().clone();
        Box::pin(async move {
            let group = group.ok_or_else(|| Refusal("no such group".to_owned()))?;
            group.replica().handle(from, kind, payload).await
        })
    }
}

/// What becomes of a frame on its way out.
pub enum Tapped {
    Pass,
    /// Sent twice; the caller hears the second answer.
    Twice,
    Replace(Bytes),
    /// It is lost: no answer.
    Lose,
}

type Tap = Box<dyn FnMut(NodeId, FrameKind, &Bytes) -> Tapped + Send>;

#[derive(Clone, Copy, Default, Debug)]
pub struct Calls {
    pub calls: u64,
    pub in_flight: u64,
    pub in_flight_max: u64,
}

/// Counts calls by receiver and kind, and lets a test tamper with them.
#[derive(Clone, Default)]
pub struct Wire {
    calls: Arc<Mutex<BTreeMap<(NodeId, u32), Calls>>>,
    tap: Arc<Mutex<Option<Tap>>>,
}

impl Wire {
    pub fn calls(&self, to: NodeId, kind: FrameKind) -> Calls {
        self.calls.lock().get(&(to, kind.tag())).copied().unwrap_or_default()
    }

    pub fn calls_to(&self, to: NodeId) -> u64 {
        self.calls.lock().iter().filter(|((n, _), _)| *n == to).map(|(_, c)| c.calls).sum()
    }

    pub fn tap(&self, tap: impl FnMut(NodeId, FrameKind, &Bytes) -> Tapped + Send + 'static) {
        *self.tap.lock() = Some(Box::new(tap));
    }

    pub fn untap(&self) {
        *self.tap.lock() = None;
    }
}

pub struct WiredTransport {
    pub inner: SharedTransport,
    pub wire: Wire,
}

impl std::fmt::Debug for WiredTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Transport for WiredTransport {
    fn call(
        &self,
        to: NodeId,
        group: GroupId,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        let key = (to, kind.tag());
        {
            let mut calls = self.wire.calls.lock();
            let entry = calls.entry(key).or_default();
            entry.calls += 1;
            entry.in_flight += 1;
            entry.in_flight_max = entry.in_flight_max.max(entry.in_flight);
        }
        let tapped = match self.wire.tap.lock().as_mut() {
            Some(tap) => tap(to, kind, &payload),
            None => Tapped::Pass,
        };
        let answer = match tapped {
            Tapped::Pass => self.inner.call(to, group, kind, payload, deadline),
            Tapped::Replace(payload) => self.inner.call(to, group, kind, payload, deadline),
            Tapped::Twice => {
                let first = self.inner.call(to, group, kind, payload.clone(), deadline);
                let second = self.inner.call(to, group, kind, payload, deadline);
                async move { futures_util::join!(first, second).1 }.boxed()
            }
            Tapped::Lose => async move {
                tokio::time::sleep_until(deadline).await;
                let detail = "lost by the test".to_owned();
                Err(transport::Error::NoAnswer { peer: to, detail })
            }
            .boxed(),
        };
        let counted = InFlight { calls: Arc::clone(&self.wire.calls), key };
        async move {
            let _counted = counted;
            answer.await
        }
        .boxed()
    }

    fn is_connected(&self, peer: NodeId) -> bool {
        self.inner.is_connected(peer)
    }

    fn set_address(&self, peer: NodeId, address: &str) {
        self.inner.set_address(peer, address);
    }

    fn call_address(
        &self,
        address: &str,
        kind: FrameKind,
        payload: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Bytes, transport::Error>> {
        self.inner.call_address(address, kind, payload, deadline)
    }
}

struct InFlight {
    calls: Arc<Mutex<BTreeMap<(NodeId, u32), Calls>>>,
    key: (NodeId, u32),
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(entry) = self.calls.lock().get_mut(&self.key) {
            entry.in_flight -= 1;
        }
    }
}

/// What outlives a crash of a node.
#[derive(Clone)]
pub struct Machinery {
    pub disk: Arc<SimDisk>,
    pub files: Arc<SimFiles>,
    pub clock: Arc<SimClock>,
}

#[derive(Clone)]
pub struct Options {
    pub seed: u64,
    pub settings: RaftSettings,
    pub bytes_max: u64,
    /// With a write-ahead log on a simulated disk, so that nodes can restart.
    pub wal: bool,
    /// How long a flush of that disk takes.
    pub flush_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 7,
            settings: RaftSettings::default(),
            bytes_max: 1 << 20,
            wal: false,
            flush_delay: Duration::from_micros(500),
        }
    }
}

pub struct Cluster {
    pub options: Options,
    pub network: SimNetwork,
    pub groups: BTreeMap<NodeId, ShardGroup>,
    pub clocks: BTreeMap<NodeId, Arc<SimClock>>,
    pub nodes: BTreeMap<NodeId, Machinery>,
    /// Frames of each sender.
    pub wires: BTreeMap<NodeId, Wire>,
    pub metrics: Arc<Metrics>,
    /// What the nodes found out, in one list.
    pub lost: LostReplicas,
    pub cancel: CancellationToken,
}

impl Cluster {
    pub async fn start(settings: RaftSettings, bytes_max: u64) -> Self {
        Cluster::with(Options { settings, bytes_max, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let seed = options.seed;
        super::runtime::seed_thread(seed);
        let mut cluster = Cluster {
            options,
            network: SimNetwork::new(seed),
            groups: BTreeMap::new(),
            clocks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            metrics: Metrics::new(),
            lost: LostReplicas::default(),
            cancel: CancellationToken::new(),
        };
        for id in 1..=3u64 {
            let clock = SimClock::new(1_000_000_000);
            cluster.clocks.insert(NodeId(id), Arc::clone(&clock));
            let disk = SimDisk::new(seed ^ id);
            let files = SimFiles::new(seed ^ id);
            cluster.nodes.insert(NodeId(id), Machinery { disk, files, clock });
            cluster.wires.insert(NodeId(id), Wire::default());
            cluster.start_node(NodeId(id), false).await.unwrap();
        }
        let members: Vec<_> = (1..=3).map(|id| (ReplicaId(id), NodeId(id))).collect();
        cluster.groups[&NodeId(1)].replica().initialize(&members).await.unwrap();
        cluster
    }

    /// Starts a node on what its disk holds.
    pub async fn start_node(&mut self, node: NodeId, ran_before: bool) -> Result<(), StartError> {
        let machinery = self.nodes[&node].clone();
        let settings = self.options.settings.clone();
        let wal: Option<Arc<dyn Wal>> = if self.options.wal {
            Some(SimWal::new(machinery.disk, self.options.flush_delay))
        } else {
            None
        };
        let handler = NodeHandler::default();
        self.network.register(node, Arc::new(handler.clone()));
        let transport =
            WiredTransport { inner: self.network.transport(node), wire: self.wires[&node].clone() };
        let interval = Duration::from_millis(settings.heartbeat_ms);
        let deps = ReplicaDeps {
            transport: Arc::new(transport),
            wal,
            files: Arc::new(SnapshotFiles::new(machinery.files, "/snapshots").unwrap()),
            storage: Reporter::unwatched(Arc::clone(&self.metrics)),
            lost: self.lost.clone(),
            heartbeats: Heartbeats::start(interval, self.cancel.clone()),
            settings,
            metrics: Arc::clone(&self.metrics),
        };
        let bytes_max = self.options.bytes_max;
        let machine =
            MachineConfig { bytes_max, hash_seed: 3, versions_from: 0, owned: SlotSet::all() };
        let key = LogKey { group: GROUP, replica: ReplicaId(node.0) };
        let group =
            ShardGroup::start(key, node, machine, ran_before, deps, machinery.clock).await?;
        *handler.group.write() = Some(group.clone());
        self.groups.insert(node, group);
        Ok(())
    }

    /// The node loses power.
    pub async fn crash(&mut self, node: NodeId) {
        self.network.unregister(node);
        self.nodes[&node].disk.crash();
        self.nodes[&node].files.crash();
        if let Some(group) = self.groups.remove(&node) {
            group.shutdown().await;
        }
    }

    pub fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.keys().copied().filter(|n| *n != node).collect()
    }

    /// Cuts a node off from all others.
    pub fn isolate(&self, node: NodeId) {
        self.network.partition(&[&[node], &self.others(node)]);
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
            let seed = self.options.seed;
            assert!(now() < deadline, "no leader within a minute (seed {seed})");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = now() + Duration::from_secs(60);
        while !condition(self) {
            let seed = self.options.seed;
            assert!(now() < deadline, "not within a minute: {what} (seed {seed})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn wait_equal(&self) {
        let deadline = now() + Duration::from_secs(60);
        loop {
            let states: Vec<_> = self
                .groups
                .values()
                .map(|g| g.replica().with_applied(|m, _, i| (i, m.digest(), m.recency_digest())))
                .collect();
            if states.windows(2).all(|w| w[0] == w[1]) {
                return;
            }
            let seed = self.options.seed;
            assert!(now() < deadline, "replicas did not become equal: {states:?} (seed {seed})");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub fn set(key: &str, value: &str, expiry: Expiry) -> Write {
    Write {
        request_id: None,
        command: Command::Set(Set {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Value { data: Bytes::copy_from_slice(value.as_bytes()), kind: ValueKind::Text },
            expiry,
            condition: Condition::Always,
        }),
    }
}

pub fn soon() -> Instant {
    now() + Duration::from_secs(5)
}

pub async fn put(group: &ShardGroup, key: &str, value: &str) -> Result<(), Error> {
    group.write(vec![set(key, value, Expiry::Never)], soon()).await.map(|_| ())
}

pub async fn get(
    group: &ShardGroup,
    key: &str,
    consistency: Consistency,
) -> Result<Option<Bytes>, Error> {
    let query = Query::Get { key: Bytes::copy_from_slice(key.as_bytes()) };
    let (answers, _) = group.read(vec![query], consistency, soon()).await?;
    Ok(answers.into_iter().next().and_then(Answer::into_found).map(|f| f.value.data))
}
