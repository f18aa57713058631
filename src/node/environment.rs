//! What a node stands on: swapped as a whole by simulations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::settings::peer_options;
use crate::config::{Config, Durability};
use crate::controller::{FoundersFile, FoundersStore};
use crate::storage::disk::{Disk, RealDisk};
use crate::storage::identity::{DirLock, Identity, boot_id};
use crate::storage::replicas_started::ReplicasStarted;
use crate::storage::sled_wal::{self, FlushMode, SledWal};
use crate::storage::wal::{self, Wal};
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
    /// Plain files.
    pub disk: Arc<dyn Disk>,
    /// Directory of the node's files on `disk`.
    pub data_dir: PathBuf,
    /// Log of the controller's replica: always durable.
    pub control_wal: Arc<dyn Wal>,
    /// Log of the shards' replicas; `None` in `memory` durability.
    pub shard_wal: Option<Arc<dyn Wal>>,
    /// Who founded the cluster.
    pub founders: Arc<dyn FoundersStore>,
    /// Random name of the data directory.
    pub store_id: u128,
    /// Starts of this store so far, this one included.
    pub incarnation: u64,
    /// True if the shards' logs survived the last stop.
    pub logs_survive: bool,
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
    pub(super) identity: Arc<Identity>,
    wals: Vec<Arc<SledWal>>,
    /// Keeps other processes out.
    _lock: DirLock,
}

impl DataDir {
    /// Closes the logs and marks the stop as clean. Blocks on the device.
    pub fn close(self) -> anyhow::Result<()> {
        for wal in &self.wals {
            wal.close().context("cannot close the write-ahead log")?;
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
        let control = open_wal(&dir.join("controller"), &metrics, FlushMode::Always)?;
        let interval = Duration::from_millis(config.wal.flush_interval_ms);
        let mode = match config.durability {
            Durability::Memory => None,
            Durability::Wal => Some(FlushMode::Always),
            Durability::WalAsync => Some(FlushMode::Every(interval)),
        };
        let shard_wal = match mode {
            Some(mode) => Some(open_wal(&dir.join("wal"), &metrics, mode)?),
            None => None,
        };
        if let Some(wal) = &shard_wal {
            note_missing_logs(&identity, &disk, dir, wal.as_ref())?;
        }
        let logs_survive = shard_wal.is_some() && !identity.loss_untold();
        let node = NodeId(config.node.id);
        let transport = TonicTransport::new(node, Arc::clone(&metrics), peer_options(config));
        let environment = Environment {
            transport,
            clock: Arc::new(SystemClock),
            disk,
            data_dir: dir.clone(),
            control_wal: Arc::clone(&control) as Arc<dyn Wal>,
            shard_wal: shard_wal.clone().map(|wal| wal as Arc<dyn Wal>),
            founders: Arc::new(FoundersFile::new(dir)),
            store_id: identity.store_id,
            incarnation: identity.incarnation,
            logs_survive,
            seed: rand::random(),
            session_seed: rand::random(),
            metrics,
        };
        let wals = std::iter::once(control).chain(shard_wal).collect();
        Ok((environment, DataDir { identity: Arc::new(identity), wals, _lock: lock }))
    }
}

/// A replica that ran here and has no log (the store was damaged and moved aside, or somebody
/// removed it) is lost: remembered until the cluster knows.
fn note_missing_logs(
    identity: &Identity,
    disk: &Arc<dyn Disk>,
    dir: &Path,
    wal: &dyn Wal,
) -> anyhow::Result<()> {
    let present = wal.keys()?;
    let started = ReplicasStarted::open(Arc::clone(disk), dir)?;
    let shards = started.keys().filter(|key| key.group != GroupId::CONTROLLER);
    let missing: Vec<String> =
        shards.filter(|key| !present.contains(key)).map(|key| key.to_string()).collect();
    if !missing.is_empty() {
        tracing::error!(?missing, "replicas that ran here have no log any more");
        identity.note_loss()?;
    }
    Ok(())
}

/// Opens a log store. A damaged one is moved aside: the replicas it held must not run under their
/// old ids, and will not, because their logs are gone.
fn open_wal(dir: &Path, metrics: &Arc<Metrics>, mode: FlushMode) -> anyhow::Result<Arc<SledWal>> {
    let open = || SledWal::open(dir, Arc::clone(metrics), mode);
    match open() {
        Ok(wal) => Ok(wal),
        Err(error) if error.is_damage() => {
            let moved = sled_wal::quarantine(dir)
                .with_context(|| format!("cannot move {} aside", dir.display()))?;
            tracing::error!(%error, moved_to = %moved.display(), "write-ahead log is damaged");
            Ok(open().map_err(|e: wal::Error| e)?)
        }
        Err(error) => Err(error).with_context(|| format!("cannot open {}", dir.display())),
    }
}
