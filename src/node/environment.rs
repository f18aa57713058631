//! What a node stands on: swapped as a whole by simulations.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::settings::peer_options;
use crate::config::{Config, Durability, WalEngine};
use crate::controller::{FoundersFile, FoundersStore};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::engine_wal::quarantine;
use crate::storage::health::{NodeStorage, StorageHealth};
use crate::storage::identity::{DirLock, Identity, boot_id};
use crate::storage::raft_engine_wal::RaftEngineWal;
use crate::storage::sled_wal::SledWal;
use crate::storage::wal::{self, FlushMode, Wal};
use crate::storage::wal_slot::WalSlot;
use crate::transport::SharedTransport;
use crate::transport::tonic_peer::TonicTransport;
use crate::types::NodeId;
use crate::types::clock::{SharedClock, SystemClock};
use crate::types::metrics::Metrics;

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
        let unflushed = config.durability == Durability::WalAsync;
        let identity = Identity::start(Arc::clone(&disk), dir, boot_id(), unflushed, rand::random)?;
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
            Some(mode) => Some(open("wal", mode)?),
            None => None,
        };
        let node = NodeId(config.node.id);
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
    let opened = open_wal(engine, &path, metrics, mode)?;
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
    metrics: &Arc<Metrics>,
    mode: FlushMode,
) -> anyhow::Result<Arc<dyn Wal>> {
    let open = || open_engine(engine, dir, metrics, mode);
    match open() {
        Ok(wal) => Ok(wal),
        Err(error) if error.is_damage() => {
            let moved =
                quarantine(dir).with_context(|| format!("cannot move {} aside", dir.display()))?;
            tracing::error!(%error, moved_to = %moved.display(), "write-ahead log is damaged");
            Ok(open()?)
        }
        Err(error) => Err(error).with_context(|| format!("cannot open {}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(names.iter().all(|name| !name.contains("damaged")), "{names:?}");
    }
}
