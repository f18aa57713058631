//! What a node stands on: swapped as a whole by simulations.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::settings::peer_options;
use crate::config::{Config, Durability, WalEngine};
use crate::controller::{FoundersFile, FoundersStore};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::health::{NodeStorage, StorageHealth};
use crate::storage::identity::{self, DirLock, Identity, boot_id};
use crate::storage::raft_engine_wal::RaftEngineWal;
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::set_aside;
use crate::storage::sled_wal::SledWal;
use crate::storage::wal::{self, FlushMode, Wal};
use crate::storage::wal_slot::WalSlot;
use crate::transport::SharedTransport;
use crate::transport::tonic_peer::TonicTransport;
use crate::types::clock::{SharedClock, SystemClock};
use crate::types::metrics::Metrics;
use crate::types::{GroupId, NodeId};

/// Transport, disks, clock and identity of a node.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Calls peers.
    pub transport: SharedTransport,
    /// Wall clock.
    pub clock: SharedClock,
    /// Disk, logs and what is known of them.
    pub storage: Arc<NodeStorage>,
    /// Who founded the cluster.
    pub founders: Arc<dyn FoundersStore>,
    /// Random name of the data directory.
    pub store_id: u128,
    /// Starts of this store so far, this one included.
    pub incarnation: u64,
    /// Random: a new cluster draws its hash seeds from it.
    pub seed: u64,
    /// Random, new at every start: the node's own request ids (INV-6).
    pub session_seed: u128,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
}

/// What the real environment holds besides: released when the node has stopped.
#[derive(Debug)]
pub struct DataDir {
    identity: Arc<Identity>,
    storage: Arc<NodeStorage>,
    /// Keeps other processes out.
    _lock: DirLock,
}

impl DataDir {
    /// Closes the logs and marks the stop as clean, unless the disk has failed. Blocks on the device.
    pub fn close(self) -> anyhow::Result<()> {
        if let Some(stall) = self.storage.health.stall() {
            tracing::warn!(why = stall.why, "stopped while the disk takes no writes");
            self.storage.close();
            return Ok(());
        }
        for slot in self.storage.slots() {
            slot.close().context("cannot close the write-ahead log")?;
        }
        self.identity.mark_clean().context("cannot mark the stop as clean")
    }
}

impl Environment {
    /// Opens the data directory of `config` and connects nothing yet. Blocks on the device.
    pub fn open(config: &Config) -> anyhow::Result<(Self, DataDir)> {
        let dir = &config.node.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("node.data_dir: cannot create {}", dir.display()))?;
        let lock = DirLock::acquire(dir)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (node, unflushed) = (NodeId(config.node.id), config.durability == Durability::WalAsync);
        // Before anything is written: what is refused is left as it is.
        identity::look_as(disk.as_ref(), dir, node)?;
        if config.durability == Durability::Memory {
            let held = logs_held(&disk, dir)?;
            check_discard(config, held)?;
        }
        let boot = boot_id();
        let identity =
            Identity::start(Arc::clone(&disk), dir, node, boot, unflushed, rand::random)?;
        let metrics = Metrics::new();
        let health = StorageHealth::new(Arc::clone(&metrics), unflushed);
        // One engine a node: the controller's log is on the same one as the shards'.
        let engine = config.wal.engine;
        let open = |name, mode| open_slot(engine, name, dir, &health, &metrics, mode);
        let control = open("controller", FlushMode::Always)?;
        let interval = Duration::from_millis(config.wal.flush_interval_ms);
        let mode = match config.durability {
            Durability::Memory => None,
            Durability::Wal => Some(FlushMode::Always),
            Durability::WalAsync => Some(FlushMode::Every(interval)),
        };
        let shard_wal = match mode {
            Some(mode) => Some(open(SHARD_LOGS, mode)?),
            None => None,
        };
        set_aside::bound(dir, config.wal.set_aside_stores_max)
            .context("cannot delete the oldest of what was set aside")?;
        let transport = TonicTransport::new(node, Arc::clone(&metrics), peer_options(config));
        let identity = Arc::new(identity);
        let storage = Arc::new(NodeStorage {
            disk,
            data_dir: dir.clone(),
            reserve_bytes: config.wal.reserve_bytes,
            control_wal: control,
            shard_wal,
            identity: Some(Arc::clone(&identity)),
            health,
            set_aside_replicas_max: config.wal.set_aside_replicas_max,
        });
        let environment = Environment {
            transport,
            clock: Arc::new(SystemClock),
            storage: Arc::clone(&storage),
            founders: Arc::new(FoundersFile::new(dir)),
            store_id: identity.store_id,
            incarnation: identity.incarnation,
            seed: rand::random(),
            session_seed: rand::random(),
            metrics,
        };
        Ok((environment, DataDir { identity, storage, _lock: lock }))
    }
}

/// Subdirectory of the shards' log store.
const SHARD_LOGS: &str = "wal";

/// Number of shards' replicas whose logs or snapshots `dir` holds in a log store.
fn logs_held(disk: &Arc<dyn Disk>, dir: &Path) -> anyhow::Result<usize> {
    if !dir.join(SHARD_LOGS).try_exists()? {
        return Ok(0);
    }
    let known = ReplicasStarted::look(Arc::clone(disk), dir)?;
    let shards = known.keys().filter(|key| key.group != GroupId::CONTROLLER);
    Ok(shards.count() + known.set_aside().len())
}

/// Refuses durability `memory` where it would drop logs, unless the operator allows it. Then they are
/// kept, and served no more.
fn check_discard(config: &Config, held: usize) -> anyhow::Result<()> {
    let dir = &config.node.data_dir;
    if held == 0 {
        return Ok(());
    }
    anyhow::ensure!(
        config.wal.discard_logs,
        "node.data_dir {} holds the logs of {held} replicas, which durability memory would drop: \
         start with durability wal, or allow it by --discard-logs (wal.discard_logs), which moves \
         them to {}",
        dir.display(),
        dir.join("set-aside").display()
    );
    let moved = set_aside::set_aside(dir, &["snapshots", SHARD_LOGS], set_aside::Why::Discarded)
        .with_context(|| format!("cannot move the logs in {} aside", dir.display()))?;
    tracing::warn!(
        replicas = held,
        moved_to = %moved.display(),
        "wal.discard_logs: the logs are set aside and served no more"
    );
    Ok(())
}

/// Opens the log store `name` in `dir`, and keeps how to open it again.
fn open_slot(
    engine: WalEngine,
    name: &'static str,
    dir: &Path,
    health: &Arc<StorageHealth>,
    metrics: &Arc<Metrics>,
    mode: FlushMode,
) -> anyhow::Result<Arc<WalSlot>> {
    let path = dir.join(name);
    let opened = open_wal(engine, dir, name, metrics, mode)?;
    let metrics = Arc::clone(metrics);
    let again = move || open_engine(engine, &path, &metrics, mode);
    Ok(WalSlot::new(name, opened, health, Box::new(again)))
}

fn open_engine(
    engine: WalEngine,
    dir: &Path,
    metrics: &Arc<Metrics>,
    mode: FlushMode,
) -> Result<Arc<dyn Wal>, wal::Error> {
    Ok(match engine {
        WalEngine::Sled => SledWal::open(dir, Arc::clone(metrics), mode)?,
        WalEngine::RaftEngine => RaftEngineWal::open(dir, Arc::clone(metrics), mode)?,
    })
}

/// Opens a log store. A damaged one is moved aside: the replicas it held must not run under their
/// old ids, and will not, because their logs are gone. One of another engine is refused.
fn open_wal(
    engine: WalEngine,
    dir: &Path,
    name: &str,
    metrics: &Arc<Metrics>,
    mode: FlushMode,
) -> anyhow::Result<Arc<dyn Wal>> {
    let path = dir.join(name);
    let open = || open_engine(engine, &path, metrics, mode);
    match open() {
        Ok(wal) => Ok(wal),
        Err(error) if error.is_damage() => {
            let moved = set_aside::set_aside(dir, &[name], set_aside::Why::Damaged)
                .with_context(|| format!("cannot move {} aside", path.display()))?;
            tracing::error!(%error, moved_to = %moved.display(), "write-ahead log is damaged");
            Ok(open()?)
        }
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogKey, ReplicaId};

    #[tokio::test]
    async fn logs_that_a_mode_would_drop_are_kept_and_the_flag_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        (config.node.id, config.node.data_dir) = (1, dir.path().join("data"));
        let data_dir = config.node.data_dir.clone();
        let open = |config: &Config| match Environment::open(config) {
            Ok((environment, data)) => {
                let starts = environment.incarnation;
                drop(environment);
                data.close().unwrap();
                Ok(starts)
            }
            Err(error) => Err(format!("{error:#}")),
        };
        config.durability = Durability::Memory;
        assert_eq!(open(&config), Ok(1), "nothing is there to be dropped");
        config.durability = Durability::Wal;
        assert_eq!(open(&config), Ok(2));
        config.durability = Durability::Memory;
        assert_eq!(open(&config), Ok(3), "no replica ran");
        let mut started = ReplicasStarted::open(Arc::new(RealDisk), &data_dir).unwrap();
        started.insert(LogKey { group: GroupId(1), replica: ReplicaId(7) }).unwrap();
        let error = open(&config).unwrap_err();
        for named in ["--discard-logs", "wal.discard_logs", "1 replicas", "durability wal"] {
            assert!(error.contains(named), "{named} in {error}");
        }
        assert!(data_dir.join(SHARD_LOGS).is_dir() && !error.contains('\n'), "{error}");
        for durability in [Durability::Wal, Durability::WalAsync] {
            config.durability = durability;
            open(&config).unwrap();
        }
        (config.durability, config.wal.discard_logs) = (Durability::Memory, true);
        assert_eq!(open(&config), Ok(6), "what was refused did not count as a start");
        assert!(data_dir.join("set-aside/1-discarded/wal").is_dir());
        assert!(!data_dir.join(SHARD_LOGS).exists());
        config.node.id = 2;
        let error = open(&config).unwrap_err();
        assert!(error.contains("belongs to node 1, but this is node 2"), "{error}");
    }

    #[tokio::test]
    async fn a_data_directory_of_another_engine_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.data_dir = dir.path().join("data");
        config.durability = Durability::Wal;
        let engines = [WalEngine::RaftEngine, WalEngine::Sled, WalEngine::RaftEngine];
        for (start, engine) in engines.into_iter().enumerate() {
            config.wal.engine = engine;
            match Environment::open(&config) {
                Ok((_, data)) => {
                    assert_eq!(engine, WalEngine::RaftEngine);
                    data.close().unwrap();
                }
                Err(error) => {
                    assert_eq!((start, engine), (1, WalEngine::Sled));
                    let text = format!("{error:#}");
                    assert!(text.contains("set wal.engine to raft-engine"), "{text}");
                }
            }
        }
        // Nothing was moved aside.
        let names: Vec<_> = std::fs::read_dir(&config.node.data_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|name| !name.contains("set-aside")), "{names:?}");
    }
}
