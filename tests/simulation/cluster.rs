//! Whole nodes over a simulated network, simulated disks and clocks of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raftcache::controller::founders::MemoryFounders;
use raftcache::core::slot::slot_of;
use raftcache::node::{Environment, Node, NodeSettings};
use raftcache::raft::settings::RaftSettings;
use raftcache::raft::shard_group::ShardGroup;
use raftcache::service::{Execute, NodeStatus, Options, Service};
use raftcache::storage::disk::{Disk, FileReader, FileWriter};
use raftcache::storage::health::{NodeStorage, StorageHealth};
use raftcache::storage::sim_files::{SimFiles, SimFilesBackup};
use raftcache::storage::sim_wal::{DiskCopy, SimDisk, SimWal};
use raftcache::storage::wal::Wal;
use raftcache::storage::wal_slot::WalSlot;
use raftcache::transport::sim::SimNetwork;
use raftcache::types::clock::{SimClock, now};
use raftcache::types::metrics::Metrics;
use raftcache::types::random::Random;
use raftcache::types::{Command, Generation, GroupId, NodeId, Write, task};
use tokio_util::sync::CancellationToken;

use crate::fills::Leading;
use crate::plan::Plan;

/// A copy of the shards' logs and snapshots of a node.
pub type Backup = (DiskCopy, SimFilesBackup);

/// Where a node keeps the snapshots of shards.
const SNAPSHOTS: &str = "/data/snapshots";

/// Room that a simulated disk must have.
pub const RESERVE_BYTES: u64 = 1 << 20;

/// The plain files of one life of a node: when it dies, what it left running cannot touch them.
#[derive(Debug)]
struct LifeFiles {
    files: Arc<SimFiles>,
    dead: Arc<AtomicBool>,
}

impl LifeFiles {
    fn alive(&self) -> std::io::Result<&SimFiles> {
        match self.dead.load(Ordering::SeqCst) {
            true => Err(std::io::Error::other("the node crashed")),
            false => Ok(&self.files),
        }
    }
}

impl Disk for LifeFiles {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn FileWriter>> {
        self.alive()?.create(path)
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn FileReader>> {
        self.alive()?.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.alive()?.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.alive()?.remove(path)
    }
    fn create_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.alive()?.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.alive()?.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.alive()?.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> std::io::Result<Option<u64>> {
        self.alive()?.free_bytes(dir)
    }
    fn used_bytes(&self, dir: &Path) -> std::io::Result<u64> {
        self.alive()?.used_bytes(dir)
    }
    fn drop_cached(&self, dir: &Path) -> std::io::Result<()> {
        self.alive()?.drop_cached(dir)
    }
    fn simulated(&self) -> bool {
        true
    }
}

/// What survives a crash of a node.
struct Store {
    store_id: u128,
    shard_disk: Arc<SimDisk>,
    control_disk: Arc<SimDisk>,
    files: Arc<SimFiles>,
    founders: Arc<MemoryFounders>,
    clock: Arc<SimClock>,
    incarnation: u64,
}

/// One life of a node.
pub struct Life {
    pub id: u64,
    pub service: Service<ShardGroup>,
    /// Cancelled at the crash, before anything else: who waits for an answer gets none.
    pub dead: CancellationToken,
    files_dead: Arc<AtomicBool>,
    /// Taken at the crash.
    node: Mutex<Option<Node>>,
}

/// The cluster. Shared by clients and nemesis, all in one thread.
pub struct Cluster {
    pub plan: Plan,
    pub network: SimNetwork,
    /// Both locks are held for moments, never across an await.
    stores: Mutex<BTreeMap<u64, Store>>,
    lives: Mutex<BTreeMap<u64, Arc<Life>>>,
    metrics: Mutex<Vec<Arc<Metrics>>>,
    lost: Mutex<BTreeSet<u64>>,
}

impl Cluster {
    /// Nodes on empty disks, none of which runs yet.
    pub fn new(plan: Plan) -> Arc<Self> {
        let mut random = Random::new(plan.seed ^ 0x0c10_57e4);
        let network = SimNetwork::new(random.bits());
        network.set_delay(plan.delay.clone());
        network.set_drop_probability(plan.drop_probability);
        network.set_reordering(plan.reorder);
        let mut stores = BTreeMap::new();
        for id in 1..=plan.nodes {
            let clock = SimClock::new(1_700_000_000_000);
            let apart = plan.clocks_differ_ms;
            clock.jump((random.bits() % (2 * apart + 1)) as i64 - apart as i64);
            let shard_disk = SimDisk::new(random.bits());
            if plan.bug.skips_fsync() {
                shard_disk.set_skip_fsync(true);
                shard_disk.set_keep_unflushed(false);
            }
            let store = Store {
                store_id: u128::from(random.bits()) << 64 | u128::from(id),
                shard_disk,
                control_disk: SimDisk::new(random.bits()),
                files: SimFiles::new(random.bits()),
                founders: Arc::default(),
                clock,
                incarnation: 0,
            };
            stores.insert(id, store);
        }
        Arc::new(Cluster {
            plan,
            network,
            stores: Mutex::new(stores),
            lives: Mutex::default(),
            metrics: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    pub fn ids(&self) -> Vec<u64> {
        (1..=self.plan.nodes).collect()
    }

    /// Starts a node on what its last life left.
    pub async fn start(&self, id: u64) {
        let (environment, files_dead) = self.environment(id);
        let metrics = Arc::clone(&environment.metrics);
        let node = Node::start(self.settings(id), environment).await.expect("a node starts");
        self.metrics.lock().push(metrics);
        self.network.register(NodeId(id), node.handler());
        let service = node.service().clone();
        let life = Life {
            id,
            service,
            dead: CancellationToken::new(),
            files_dead,
            node: Mutex::new(Some(node)),
        };
        assert!(self.lives.lock().insert(id, Arc::new(life)).is_none(), "n{id} runs already");
    }

    fn environment(&self, id: u64) -> (Environment, Arc<AtomicBool>) {
        let mut stores = self.stores.lock();
        let store = stores.get_mut(&id).expect("a node of this cluster");
        store.incarnation += 1;
        let files_dead = Arc::new(AtomicBool::new(false));
        let disk = LifeFiles { files: Arc::clone(&store.files), dead: Arc::clone(&files_dead) };
        let metrics = Metrics::new();
        let health = StorageHealth::new(Arc::clone(&metrics), false);
        let slot = |name, disk: &Arc<SimDisk>, flush| {
            let (engine, disk) = (SimWal::new(Arc::clone(disk), flush), Arc::clone(disk));
            let again = move || Ok(SimWal::open_on(&disk, flush)? as Arc<dyn Wal>);
            WalSlot::new(name, engine, &health, Box::new(again))
        };
        let control_wal = slot("controller", &store.control_disk, Duration::from_millis(1));
        let shard_wal = self.plan.durable.then(|| slot("wal", &store.shard_disk, self.plan.flush));
        let storage = Arc::new(NodeStorage {
            disk: Arc::new(disk),
            data_dir: PathBuf::from("/data"),
            reserve_bytes: RESERVE_BYTES,
            control_wal,
            shard_wal,
            identity: None,
            health: Arc::clone(&health),
            set_aside_replicas_max: 64,
        });
        let mut random = Random::new(self.plan.seed ^ (id << 40) ^ (store.incarnation << 20));
        let environment = Environment {
            transport: self.network.transport(NodeId(id)),
            clock: store.clock.clone(),
            storage,
            founders: store.founders.clone(),
            store_id: store.store_id,
            incarnation: store.incarnation,
            seed: self.plan.seed,
            session_seed: u128::from(random.bits()) << 64 | u128::from(random.bits()),
            metrics,
        };
        (environment, files_dead)
    }

    fn settings(&self, id: u64) -> NodeSettings {
        NodeSettings {
            node: NodeId(id),
            zone: format!("z{id}"),
            resp_addr: String::new(),
            peer_addr: format!("n{id}"),
            grpc_addr: format!("n{id}:grpc"),
            http_addr: format!("n{id}:http"),
            seeds: (1..=self.plan.nodes).map(|id| format!("n{id}")).collect(),
            expected_nodes: self.plan.nodes as usize,
            shards: self.plan.shards,
            replicas: self.plan.nodes.min(3) as u16,
            shard_bytes_max: 1 << 20,
            raft: RaftSettings {
                snapshot_log_bytes: self.plan.snapshot_log_bytes,
                lease_reads: self.plan.lease_reads,
                ..RaftSettings::default()
            },
            service: Options::default(),
        }
    }

    /// The node loses power: nothing it does from now on reaches a peer, a disk or a client.
    pub fn crash(&self, id: u64) {
        let Some(life) = self.lives.lock().remove(&id) else { return };
        life.dead.cancel();
        self.network.unregister(NodeId(id));
        life.files_dead.store(true, Ordering::SeqCst);
        {
            let stores = self.stores.lock();
            let store = &stores[&id];
            store.shard_disk.crash();
            store.control_disk.crash();
            store.files.crash();
        }
        if !self.plan.durable {
            self.lost.lock().insert(id);
        }
        // What is left is a ghost without hands; it is told to end so that it costs nothing.
        let ghost = life.node.lock().take().expect("a life ends once");
        drop(task::spawn("ghost", ghost.stop()));
    }

    /// Test of the tests: the node's shard logs, and its memory of having had any, are gone.
    pub fn wipe_logs(&self, id: u64) {
        assert!(self.life(id).is_none(), "only of a node that is down");
        let mut stores = self.stores.lock();
        let store = stores.get_mut(&id).expect("a node of this cluster");
        store.shard_disk.wipe();
        store.files = SimFiles::new(self.plan.seed);
    }

    /// What the shards' logs and snapshots of a node hold now.
    pub fn backup(&self, id: u64) -> Backup {
        let stores = self.stores.lock();
        let store = &stores[&id];
        (store.shard_disk.copy(), store.files.backup(Path::new(SNAPSHOTS)))
    }

    /// An operator puts an older copy of them back. The controller's log stays.
    pub fn restore(&self, id: u64, backup: &Backup) {
        assert!(self.life(id).is_none(), "only of a node that is down");
        let stores = self.stores.lock();
        let store = &stores[&id];
        store.shard_disk.put_back(backup.0.clone());
        store.files.restore(&backup.1);
        drop(stores);
        self.lost.lock().insert(id);
    }

    /// Every group begins again: no replica is lost any more.
    pub fn all_begin_again(&self) {
        self.lost.lock().clear();
    }

    /// Nodes whose replicas of shards are lost for good: nobody waits for them.
    pub fn lost(&self) -> BTreeSet<u64> {
        self.lost.lock().clone()
    }

    /// The node's disk answers every change with this error from now on; `None` ends it.
    pub fn set_disk(&self, id: u64, failing: Option<std::io::ErrorKind>) {
        let stores = self.stores.lock();
        let store = &stores[&id];
        store.shard_disk.set_failing(failing);
        store.control_disk.set_failing(failing);
        store.files.set_failing(failing);
    }

    /// Room left on the node's disk; `None` is not known.
    pub fn set_free_bytes(&self, id: u64, bytes: Option<u64>) {
        self.stores.lock()[&id].files.set_free_bytes(bytes);
    }

    pub fn jump_clock(&self, id: u64, delta_ms: i64) {
        self.stores.lock()[&id].clock.jump(delta_ms);
    }

    pub fn life(&self, id: u64) -> Option<Arc<Life>> {
        self.lives.lock().get(&id).cloned()
    }

    pub fn running(&self) -> Vec<u64> {
        self.lives.lock().keys().copied().collect()
    }

    pub fn statuses(&self) -> Vec<NodeStatus> {
        let lives: Vec<_> = self.lives.lock().values().cloned().collect();
        lives.iter().map(|life| life.service.status()).collect()
    }

    /// The shard groups of all running nodes: node and group, in order.
    pub fn groups(&self) -> Vec<(u64, ShardGroup)> {
        let lives: Vec<_> = self.lives.lock().values().cloned().collect();
        let groups = |life: &Arc<Life>| {
            let id = life.id;
            life.service.registry().all().into_iter().map(move |(_, group)| (id, group))
        };
        lives.iter().flat_map(groups).collect()
    }

    /// Has every group write something of no consequence.
    pub async fn tick_everywhere(&self) {
        for (_, group) in self.groups() {
            if group.replica().is_leader() {
                let tick = Write { request_id: None, command: Command::Tick };
                // A leader that is none any more writes nothing; another one does next time.
                drop(group.write(vec![tick], now() + Duration::from_secs(1)).await);
            }
        }
    }

    /// Who leads the group of a key with the highest term, as the nodes believe.
    pub fn leading(&self, key: &[u8]) -> Leading {
        let lives: Vec<_> = self.lives.lock().values().cloned().collect();
        let leader = |life: &Arc<Life>| {
            let shard = life.service.table().owner(slot_of(key))?;
            let group = life.service.registry().get(GroupId::of_shard(shard))?;
            let leader = group.replica().leader().filter(|_| group.replica().is_leader())?;
            Some((leader.term, life.id))
        };
        lives.iter().filter_map(leader).max()
    }

    /// Generation of each shard, as the node with the newest table knows it.
    pub fn generations(&self) -> Vec<Generation> {
        let lives: Vec<_> = self.lives.lock().values().cloned().collect();
        let tables = lives.iter().map(|life| life.service.table());
        let newest = tables.max_by_key(|table| table.epoch);
        newest.map_or_else(Vec::new, |table| table.shards.values().map(|s| s.generation).collect())
    }

    /// Terms of all groups, added up: each is an election, or an attempt at one.
    pub fn terms(&self) -> u64 {
        let mut terms: BTreeMap<GroupId, u64> = BTreeMap::new();
        for replica in self.statuses().into_iter().flat_map(|status| status.replicas) {
            let term = terms.entry(replica.group).or_default();
            *term = replica.term.max(*term);
        }
        terms.values().sum()
    }

    /// INV-3 at run time: replicas that differed from their leader, over all lives.
    pub fn digest_mismatches(&self) -> u64 {
        self.metrics.lock().iter().map(|metrics| metrics.digest_mismatches.get()).sum()
    }
}
